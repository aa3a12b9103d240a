//! The file of a version that is over: it never changes.

use std::io;
use std::ops::Bound;

use redb::{BackendError, StorageBackend};
use vellum::Snapshot;

use crate::{beyond_end, io_error};

/// The byte that a writer of redb's keeps locked while the file is in order, by the table of lock bytes in redb's design document.
const CONSISTENT_BYTE: u64 = (1 << 62) + 4;

/// A database's file as a snapshot has it.
///
/// While redb has a database open for writing, its header says that it would have to be repaired after a crash. A reader in the mode in
/// which it shares the file with a writer doesn't care, if the writer holds the lock that says "the file is in order". Every
/// version of a store is a file in order, since it was committed whole: so that lock is held here, for ever, and all others
/// are free.
#[derive(Debug)]
pub struct PastFile {
    snapshot: Snapshot,
    len: u64,
}

impl PastFile {
    /// The file as the snapshot has it.
    pub fn new(snapshot: Snapshot) -> PastFile {
        let len = snapshot.page_count() * snapshot.page_size() as u64;
        PastFile { snapshot, len }
    }
}

fn refuse<T>() -> io::Result<T> {
    Err(io::Error::new(
        io::ErrorKind::ReadOnlyFilesystem,
        "a snapshot can't be written to: open the store's database",
    ))
}

impl StorageBackend for PastFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.snapshot.read_at(out, offset).map_err(io_error)? == out.len() {
            true => Ok(()),
            false => Err(beyond_end(offset, out.len(), self.len)),
        }
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        refuse()
    }

    fn write(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
        refuse()
    }

    fn sync_data(&self) -> io::Result<()> {
        refuse()
    }

    fn try_lock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }

    fn try_lock_shared_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_shared_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        let byte = Bound::Included(CONSISTENT_BYTE);
        Ok((start, end) == (byte, byte))
    }
}
