//! The file of the database that is open for writing.
//!
//! redb writes pages that nobody reads yet, then the header that leads to them, and then has the file synced: that is the
//! commit. A sync without a new header is one of a file that grew in the middle of a transaction; nothing that anybody could see
//! has changed, and what it wants to be durable will be committed with the header, or not at all. So one commit of redb's is one of
//! the store's. And a header that doesn't begin with redb's mark yet is one of a database that is being created: power that
//! goes then finds an empty file, where redb would refuse what it finds.
//!
//! redb reads from many threads while one writes. They need not wait for it: what wasn't written since the last commit is read
//! from that commit's snapshot. Locks are taken in the order `writing`, `reading`.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use redb::{BackendError, StorageBackend};
use vellum::{Durability, Snapshot, Store, StoreFile};

use crate::{beyond_end, io_error};

/// The page of the store that redb's header lies in.
const HEADER: u64 = 0;

/// The file of a database that is open for writing; see [`RedbStore::file`](crate::RedbStore::file).
pub struct LiveFile {
    store: Store,
    page_size: u64,
    durability: Durability,
    writing: Mutex<Writing>,
    reading: RwLock<Reading>,
    /// Whether a database of the store is open, by this file or another.
    is_open: Arc<AtomicBool>,
    has_opened: AtomicBool,
}

struct Writing {
    file: StoreFile,
    /// Why a commit failed. What redb wrote is gone, pages that it shows to readers among it (it commits without durability): so nothing
    /// more is taken or shown.
    failed: Option<String>,
}

/// What can be read without the lock on what is written.
struct Reading {
    snapshot: Snapshot,
    len: u64,
    /// Pages that were written since.
    written: BTreeSet<u64>,
    /// From this page on the file was cut off since.
    cut_to: u64,
}

impl Reading {
    fn of(writing: &Writing) -> Reading {
        let file = &writing.file;
        // Where the file can't show what redb takes for written, all that is read must hear of it.
        let is_true = writing.failed.is_none() && !file.is_overtaken();
        let cut_to = if is_true { u64::MAX } else { 0 };
        Reading { snapshot: file.snapshot().clone(), len: file.len(), written: BTreeSet::new(), cut_to }
    }

    /// The snapshot, if it has these pages as the file does.
    fn snapshot_of(&self, first: u64, last: u64) -> Option<Snapshot> {
        let is_there = last < self.cut_to.min(self.snapshot.page_count());
        (is_there && self.written.range(first..=last).next().is_none()).then(|| self.snapshot.clone())
    }
}

impl LiveFile {
    pub(crate) fn new(store: &Store, durability: Durability, is_open: Arc<AtomicBool>) -> LiveFile {
        let writing = Writing { file: StoreFile::new(store.snapshot()), failed: None };
        LiveFile {
            store: store.clone(),
            page_size: store.page_size() as u64,
            durability,
            reading: RwLock::new(Reading::of(&writing)),
            writing: Mutex::new(writing),
            is_open,
            has_opened: AtomicBool::new(false),
        }
    }

    /// What is written, whoever panicked with it: a page that was written in part is written again, or never committed.
    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading(&self) -> RwLockWriteGuard<'_, Reading> {
        self.reading.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first and the last page that some bytes lie in.
    fn pages(&self, offset: u64, len: usize) -> (u64, u64) {
        let last = offset.saturating_add(len as u64).saturating_sub(1);
        (offset / self.page_size, last / self.page_size)
    }
}

impl Writing {
    /// Whether the file begins with redb's mark. It has nothing there before.
    fn has_mark(&self) -> io::Result<bool> {
        let mut mark = [0; 4];
        self.file.read_at(&mut mark, 0).map_err(io_error)?;
        Ok(mark != [0; 4])
    }

    fn check(&self) -> io::Result<()> {
        match &self.failed {
            None => Ok(()),
            Some(why) => {
                Err(io::Error::other(format!("an earlier commit failed, open the database again: {why}")))
            }
        }
    }
}

impl StorageBackend for LiveFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.reading.read().unwrap_or_else(PoisonError::into_inner).len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (first, last) = self.pages(offset, out.len());
        let (snapshot, len) = {
            let reading = self.reading.read().unwrap_or_else(PoisonError::into_inner);
            (reading.snapshot_of(first, last), reading.len)
        };
        let have = match snapshot {
            Some(snapshot) => snapshot.read_at(out, offset),
            None => {
                let writing = self.writing();
                writing.check()?;
                writing.file.read_at(out, offset)
            }
        };
        match have.map_err(io_error)? == out.len() {
            true => Ok(()),
            false => Err(beyond_end(offset, out.len(), len)),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut writing = self.writing();
        writing.check()?;
        let (first, last) = self.pages(offset, data.len());
        self.reading().written.extend(first..=last);
        let done = writing.file.write_at(data, offset).map_err(io_error);
        self.reading().len = writing.file.len();
        done
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if !len.is_multiple_of(self.page_size) {
            let message = format!("a length of {len} bytes isn't a number of the store's pages");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut writing = self.writing();
        writing.check()?;
        {
            let mut reading = self.reading();
            reading.cut_to = reading.cut_to.min(len / self.page_size);
        }
        let done = writing.file.set_len(len).map_err(io_error);
        self.reading().len = writing.file.len();
        done
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut writing = self.writing();
        writing.check()?;
        let has_header = self.reading().written.contains(&HEADER);
        if !has_header || !writing.has_mark()? {
            return Ok(());
        }
        // What is refused is gone, and nobody tries it again behind redb's back.
        let done = writing.file.commit(self.durability);
        writing.failed = done.as_ref().err().map(ToString::to_string);
        *self.reading() = Reading::of(&writing);
        done.map(drop).map_err(io_error)
    }

    fn close(&self) -> io::Result<()> {
        if self.has_opened.swap(false, Ordering::AcqRel) {
            self.is_open.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// redb takes the whole file, or nothing.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if !is_whole(start, end) {
            return Err(BackendError::Unsupported);
        }
        if self.is_open.swap(true, Ordering::AcqRel) {
            return Ok(false);
        }
        self.has_opened.store(true, Ordering::Release);
        // Others may have written since the file was made.
        let mut writing = self.writing();
        writing.file = StoreFile::new(self.store.snapshot());
        *self.reading() = Reading::of(&writing);
        Ok(true)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        match is_whole(start, end) {
            true => Ok(self.close()?),
            false => Err(BackendError::Unsupported),
        }
    }
}

fn is_whole(start: Bound<u64>, end: Bound<u64>) -> bool {
    matches!(start, Bound::Unbounded | Bound::Included(0)) && end == Bound::Unbounded
}

impl fmt::Debug for LiveFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveFile").field("store", &self.store).finish_non_exhaustive()
    }
}
