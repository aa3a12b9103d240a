//! Doing something for each member, a limited number at a time.

use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::progress::{Observer, Progress};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Calls `work` with every index below `count`, at most `limit` at a time, and returns the results in order, or the first
/// failure. After a failure nothing further is begun. With a limit of 1 all is done by the caller's thread.
pub(super) fn for_each_limited<T: Send>(
    count: usize,
    limit: usize,
    work: &(dyn Fn(usize) -> Result<T> + Sync),
) -> Result<Vec<T>> {
    if limit <= 1 || count <= 1 {
        return (0..count).map(work).collect();
    }
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Vec<Mutex<Option<Result<T>>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let go = || {
        while !has_failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(place) = results.get(index) else { return };
            let done = work(index);
            if done.is_err() {
                has_failed.store(true, Ordering::Relaxed);
            }
            *place.lock() = Some(done);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..limit.min(count) {
            // Where no thread can be had, fewer do it.
            let _ = std::thread::Builder::new().name("vellum-group".to_owned()).spawn_scoped(scope, go);
        }
        go();
    });
    let mut done: Vec<Option<Result<T>>> = results.iter().map(|result| result.lock().take()).collect();
    // What another's failure has stopped is not what went wrong.
    let is_real =
        |result: &Option<Result<T>>| matches!(result, Some(Err(error)) if !matches!(error, Error::Cancelled));
    if let Some(index) = done.iter().position(is_real)
        && let Some(Err(error)) = done.swap_remove(index)
    {
        return Err(error);
    }
    done.into_iter().map(|result| result.unwrap_or(Err(Error::Cancelled))).collect()
}

/// One observer for what several do at once.
pub(super) struct Shared<'a> {
    observer: Mutex<(&'a mut (dyn Observer + Send), Progress)>,
}

impl<'a> Shared<'a> {
    pub(super) fn new(
        task: &'static str,
        pages_total: Option<u64>,
        observer: &'a mut (dyn Observer + Send),
    ) -> Self {
        let progress = Progress { task, pages_done: 0, pages_total, bytes_done: 0 };
        Shared { observer: Mutex::new((observer, progress)) }
    }

    /// An observer for one of them.
    pub(super) fn part(&self) -> impl FnMut(Progress) -> ControlFlow<()> + '_ {
        let (mut pages, mut bytes) = (0, 0);
        move |progress: Progress| {
            let mut shared = self.observer.lock();
            let (observer, sum) = &mut *shared;
            sum.pages_done += progress.pages_done - pages;
            sum.bytes_done += progress.bytes_done - bytes;
            (pages, bytes) = (progress.pages_done, progress.bytes_done);
            observer.progress(*sum)
        }
    }
}
