//! How long operations report what they do, and how they are stopped.

use std::ops::ControlFlow;

use crate::error::{Error, Result};

/// How far a long operation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done: "export", "import", "verify", "load".
    pub task: &'static str,
    /// Pages done so far.
    pub pages_done: u64,
    /// Pages to do in all, where it is known.
    pub pages_total: Option<u64>,
    /// Bytes of pages done so far.
    pub bytes_done: u64,
}

/// Watches a long operation. It is called every few hundred pages; `ControlFlow::Break(())` stops the operation
/// with [`Error::Cancelled`] and leaves nothing half-made.
///
/// Any closure of the right form is an observer, and `()` is the one that only lets things run.
///
/// ```
/// use std::ops::ControlFlow;
/// use vellum::{Observer, Progress};
/// let mut seen = 0;
/// let mut observer = |progress: Progress| {
///     seen = progress.pages_done;
///     ControlFlow::Continue(())
/// };
/// let _ = observer.progress(Progress { task: "export", pages_done: 3, pages_total: None, bytes_done: 12288 });
/// assert_eq!(seen, 3);
/// ```
pub trait Observer {
    /// Takes note of `progress` and says whether to go on.
    fn progress(&mut self, progress: Progress) -> ControlFlow<()>;
}

impl<F: FnMut(Progress) -> ControlFlow<()>> Observer for F {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        self(progress)
    }
}

impl Observer for () {
    fn progress(&mut self, _progress: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Counts pages and calls the observer now and then.
pub(crate) struct Meter<'a> {
    observer: &'a mut dyn Observer,
    progress: Progress,
    reported: u64,
}

impl<'a> Meter<'a> {
    /// Pages between two calls of the observer.
    const STEP: u64 = 256;

    pub(crate) fn new(task: &'static str, pages_total: Option<u64>, observer: &'a mut dyn Observer) -> Self {
        Meter {
            observer,
            progress: Progress { task, pages_done: 0, pages_total, bytes_done: 0 },
            reported: 0,
        }
    }

    /// Sets the total, where it becomes known only on the way.
    pub(crate) fn expect(&mut self, pages_total: u64) {
        self.progress.pages_total = Some(pages_total);
    }

    /// Counts `pages` more.
    pub(crate) fn add(&mut self, pages: u64, bytes: u64) -> Result<()> {
        self.progress.pages_done += pages;
        self.progress.bytes_done += bytes;
        if self.progress.pages_done - self.reported >= Self::STEP { self.report() } else { Ok(()) }
    }

    /// Calls the observer now; to be called once at the start and once at the end.
    pub(crate) fn report(&mut self) -> Result<()> {
        self.reported = self.progress.pages_done;
        match self.observer.progress(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }
}
