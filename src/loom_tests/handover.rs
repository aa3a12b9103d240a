//! Groups on their way to the system: in their order, one at a time, and a failure is told to whoever asks next.

use std::io::IoSlice;
use std::path::PathBuf;

use loom::cell::UnsafeCell;
use loom::sync::Arc;

use super::{explore, explore_planted};
use crate::log::handover::{Handover, Job};
use crate::storage::{Mapping, StorageFile};
use crate::sync::Planted;

/// A file that takes note of the writes, and refuses one.
#[derive(Debug)]
struct Notes {
    written: UnsafeCell<Vec<u64>>,
    refused: Option<u64>,
}

// SAFETY: loom checks that there is one writer at a time; that is the point.
unsafe impl Sync for Notes {}
// SAFETY: as above.
unsafe impl Send for Notes {}

impl StorageFile for Notes {
    fn len(&self) -> std::io::Result<u64> {
        Ok(0)
    }

    fn set_len(&self, _: u64) -> std::io::Result<()> {
        Ok(())
    }

    fn reserve(&self, _: u64, _: u64) -> std::io::Result<()> {
        Ok(())
    }

    fn read_exact_at(&self, _: &mut [u8], _: u64) -> std::io::Result<()> {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }

    fn write_all_at(&self, _: &[IoSlice<'_>], offset: u64) -> std::io::Result<()> {
        // SAFETY: loom checks that nobody else writes meanwhile.
        self.written.with_mut(|written| unsafe { (*written).push(offset) });
        // Others may run while the system writes.
        loom::thread::yield_now();
        match self.refused == Some(offset) {
            true => Err(std::io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn map(&self, _: usize) -> std::io::Result<Mapping> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// An appender that leaves `jobs` and drains, beside the store's own thread.
fn an_appender_beside_the_thread(jobs: u64, refused: Option<u64>) -> impl Fn() + Sync + Send + 'static {
    move || {
        let notes = std::sync::Arc::new(Notes { written: UnsafeCell::new(Vec::new()), refused });
        let handover = Arc::new(Handover::default());
        let thread = {
            let handover = handover.clone();
            loom::thread::spawn(move || handover.work())
        };
        let mut is_told = false;
        for job in 0..jobs {
            let start = usize::try_from(job).expect("few");
            let file: std::sync::Arc<dyn StorageFile> = notes.clone();
            let job = Job { file, path: PathBuf::new(), tail: Mapping::empty(), start, len: 0 };
            is_told |= handover.push(job).is_err();
        }
        is_told |= handover.drain().is_err();
        assert_eq!(is_told, refused.is_some(), "whoever drains is told of a failure before");
        let expected: Vec<u64> = (0..refused.map_or(jobs, |refused| refused + 1)).collect();
        // SAFETY: nothing waits or is being written, or nothing is written any more; loom checks it.
        let written = notes.written.with(|written| unsafe { (*written).clone() });
        assert_eq!(written, expected, "each job is done once, in order, and none after one that failed");
        thread.join().unwrap();
        assert_eq!(handover.drain().is_err(), refused.is_some(), "and so is everybody after");
    }
}

#[test]
fn a_drained_file_is_complete() {
    explore("handover", 3, an_appender_beside_the_thread(2, None));
    explore("handover that is full", 2, an_appender_beside_the_thread(3, None));
    let model = an_appender_beside_the_thread(2, None);
    explore_planted("handover, two writers", 2, Some(Planted::TwoWriters), model);
}

#[test]
fn a_failure_of_the_thread_is_told_to_whoever_drains() {
    explore("handover that fails at last", 3, an_appender_beside_the_thread(1, Some(0)));
    explore("handover that fails before another job", 2, an_appender_beside_the_thread(2, Some(0)));
    let model = an_appender_beside_the_thread(1, Some(0));
    explore_planted("handover, failure remembered late", 2, Some(Planted::LateFailure), model);
}
