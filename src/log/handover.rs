//! Full groups on their way to the system: written by the store's own thread, so that committing threads don't wait for
//! the copy into the page cache, which costs more than all the rest of a buffered commit.
//!
//! Jobs are few (`JOBS_MAX`) and done in order, one at a time, by whoever comes first: the thread, or an appender that
//! needs the file to be complete (`drain`) or finds the queue full. Readers are not concerned: they read the tail. A job that
//! fails is remembered in the same breath in which it ends, and every later call gives its error: else a drain could find
//! nothing left to do and call a file complete that isn't. The job's batches are published, so that is fatal.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::storage::{Mapping, StorageFile};
use crate::sync::{Condvar, Mutex, Planted, has_planted};

/// Most jobs that wait: with the open group, what a killed process may lose of its buffered commits.
const JOBS_MAX: usize = 2;

/// Bytes of the tail that belong into a file.
pub(crate) struct Job {
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) path: PathBuf,
    /// The tail, whose bytes at `start` are as long as `len` and change no more.
    pub(crate) tail: Mapping,
    pub(crate) start: usize,
    pub(crate) len: usize,
}

impl Job {
    fn run(&self) -> Result<()> {
        let bytes = self.tail.slice(self.start, self.len).unwrap_or_default();
        self.file.write_all_at(&[IoSlice::new(bytes)], self.start as u64).map_err(|error| {
            super::backing::disk_error("write to", self.path.clone(), self.len as u64, error)
        })
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    is_writing: bool,
    failed: Option<Error>,
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Handover {
    state: Mutex<State>,
    changed: Condvar,
}

impl Handover {
    /// Leaves a job for the thread, after making room for it.
    pub(crate) fn push(&self, job: Job) -> Result<()> {
        while self.state.lock().waiting.len() >= JOBS_MAX {
            self.step(true)?;
        }
        self.state.lock().waiting.push_back(job);
        Ok(())
    }

    /// Returns when nothing waits and nothing is being written, helping on the way.
    pub(crate) fn drain(&self) -> Result<()> {
        while self.step(true)? {}
        Ok(())
    }

    /// Writes what waits, until nothing does or somebody else writes: for the store's thread. Errors are left for the
    /// next appender.
    pub(crate) fn work(&self) {
        while matches!(self.step(false), Ok(true)) {}
    }

    /// Does one job, or waits for the one that somebody else is doing if the caller wants that. `false`: there was none.
    fn step(&self, waits: bool) -> Result<bool> {
        let mut state = self.state.lock();
        if state.is_writing && !has_planted(Planted::TwoWriters) {
            if waits {
                drop(self.changed.wait(state));
            }
            return Ok(waits);
        }
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        let Some(job) = state.waiting.pop_front() else { return Ok(false) };
        state.is_writing = true;
        drop(state);
        let mut writing = Writing { handover: self, done: None };
        let done = job.run();
        if has_planted(Planted::LateFailure) {
            writing.done = Some(Ok(()));
            drop(writing);
            self.state.lock().failed = done.as_ref().err().cloned();
        } else {
            writing.done = Some(done.clone());
            drop(writing);
        }
        done.map(|()| true)
    }
}

/// Ends a job, also one that panics.
struct Writing<'a> {
    handover: &'a Handover,
    /// How the job ended; nothing if it panicked.
    done: Option<Result<()>>,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let failed = match self.done.take() {
            Some(done) => done.err(),
            None => {
                let panic = std::io::Error::other("a panic while a group was written");
                Some(Error::io("write to", PathBuf::new(), panic))
            }
        };
        let mut state = self.handover.state.lock();
        state.is_writing = false;
        if state.failed.is_none() {
            state.failed = failed;
        }
        drop(state);
        self.handover.changed.notify_all();
    }
}

impl std::fmt::Debug for Handover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handover").field("waiting", &self.state.lock().waiting.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::storage::{MemoryStorage, Storage};

    /// A file without room.
    #[derive(Debug)]
    struct Full;

    impl StorageFile for Full {
        fn len(&self) -> std::io::Result<u64> {
            Ok(0)
        }

        fn set_len(&self, _: u64) -> std::io::Result<()> {
            Err(std::io::ErrorKind::StorageFull.into())
        }

        fn reserve(&self, _: u64, _: u64) -> std::io::Result<()> {
            Err(std::io::ErrorKind::StorageFull.into())
        }

        fn read_exact_at(&self, _: &mut [u8], _: u64) -> std::io::Result<()> {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        }

        fn write_all_at(&self, _: &[IoSlice<'_>], _: u64) -> std::io::Result<()> {
            Err(std::io::ErrorKind::StorageFull.into())
        }

        fn sync(&self) -> std::io::Result<()> {
            Ok(())
        }

        fn map(&self, _: usize) -> std::io::Result<Mapping> {
            Err(std::io::ErrorKind::Unsupported.into())
        }
    }

    fn job(file: &Arc<dyn StorageFile>, tail: &Arc<dyn StorageFile>, start: usize) -> Job {
        let tail = tail.map(1 << 16).expect("in memory");
        Job { file: file.clone(), path: PathBuf::from("file"), tail, start, len: 512 }
    }

    #[test]
    fn every_job_is_done_before_a_drain_returns() {
        let storage = MemoryStorage::new();
        let (file, tail) =
            (storage.create("file", 1 << 16).unwrap(), storage.create("tail", 1 << 16).unwrap());
        let bytes: Vec<u8> = (0..1u32 << 16).map(|at| (at / 512 + 1).to_le_bytes()[0]).collect();
        tail.write_all_at(&[IoSlice::new(&bytes)], 0).unwrap();
        let handover = Handover::default();
        let stops = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stops.load(std::sync::atomic::Ordering::Relaxed) {
                    handover.work();
                    std::thread::yield_now();
                }
            });
            for round in 0..128 {
                handover.push(job(&file, &tail, round * 512)).unwrap();
                if round % 5 == 0 {
                    handover.drain().unwrap();
                    let mut found = vec![0; (round + 1) * 512];
                    file.read_exact_at(&mut found, 0).unwrap();
                    assert_eq!(found, bytes[..found.len()]);
                }
            }
            stops.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn a_failure_is_what_everybody_gets_from_then_on() {
        let tail = MemoryStorage::new().create("tail", 1 << 16).unwrap();
        let full = Job { file: Arc::new(Full), ..job(&tail, &tail, 0) };
        let handover = Handover::default();
        handover.push(full).unwrap();
        handover.work();
        for _ in 0..2 {
            assert!(handover.drain().is_err());
        }
    }
}
