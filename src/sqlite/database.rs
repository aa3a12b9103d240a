//! A store that holds one database: what all connections to it share.
//!
//! Page i of the database file is what lies at byte i * (SQLite's page size) of the store's pages, one after the other: a raw
//! export is the file. Writers take turns at one slot, as SQLite's do anyway; readers have nothing in common.

use std::sync::atomic::{AtomicU64, Ordering};

use super::header::{HEADER_BYTES, Header};
use crate::error::{Error, Result};
use crate::id::{Fingerprint, PageId};
use crate::options::Durability;
use crate::rollback::RolledBack;
use crate::snapshot::Snapshot;
use crate::store::Store;

/// What a version holds, whatever it is called: equal contents, equal identity.
pub(super) type Identity = (Fingerprint, u64);

pub(super) fn identity_of(snapshot: &Snapshot) -> Identity {
    (snapshot.fingerprint(), snapshot.page_count())
}

pub(super) struct Database {
    pub(super) store: Store,
    /// The number of the connection's file that may write; 0 if none.
    writer: AtomicU64,
    /// The counters that the next version must be above, as `counter << 32 | cookie`; 0 if nothing is owed. See
    /// [`Database::roll_back`].
    owed: AtomicU64,
}

impl Database {
    pub(super) fn new(store: Store) -> Database {
        Database { store, writer: AtomicU64::new(0), owed: AtomicU64::new(0) }
    }

    /// Takes the writer's slot for `file`, if it is free or `file` has it.
    pub(super) fn take_writer(&self, file: u64) -> bool {
        match self.writer.compare_exchange(0, file, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => true,
            Err(writer) => writer == file,
        }
    }

    /// Gives the slot back, if `file` has it.
    pub(super) fn leave_writer(&self, file: u64) {
        let _ = self.writer.compare_exchange(file, 0, Ordering::Release, Ordering::Relaxed);
    }

    pub(super) fn has_writer(&self) -> bool {
        self.writer.load(Ordering::Relaxed) != 0
    }

    /// Makes a named snapshot's contents the current ones. The caller has the writer's slot.
    ///
    /// Other connections tell by two counters in page 1 whether what they know is still true: one for pages, one for the
    /// schema. Both would go back, and could then reach a value again that a connection remembers from before. So they are
    /// raised above what they were: in a commit of its own, which is owed if it fails, and then paid before anybody writes.
    pub(super) fn roll_back(&self, name: &str) -> Result<RolledBack> {
        let target = self.store.open_snapshot(name)?;
        if read_header(&target)?.is_none() {
            return Err(Error::InvalidOption {
                option: "the snapshot",
                value: format!("{name:?}, which holds no SQLite database"),
                expected: "one that was taken after the first table was created is".to_owned(),
            });
        }
        let before = read_header(&self.store.snapshot())?;
        let done = self.store.rollback_to(&target)?;
        if let (Some(before), Some(_)) = (before, &done.head) {
            self.owed.store(before.counters(), Ordering::Relaxed);
            self.pay()?;
        }
        Ok(done)
    }

    /// Raises the counters in page 1, if that is owed; whether it was. The caller has the writer's slot.
    pub(super) fn pay(&self) -> Result<bool> {
        let owed = self.owed.load(Ordering::Relaxed);
        if owed == 0 {
            return Ok(false);
        }
        let mut txn = self.store.begin()?;
        if txn.page_count() > 0
            && let Some(bytes) = txn.page_mut(PageId(0))?.get_mut(..HEADER_BYTES)
            && let Some(header) = Header::read(bytes)
        {
            header.raised_above(owed).write_counters(bytes);
        }
        txn.commit_with(Durability::Sync)?;
        self.owed.store(0, Ordering::Relaxed);
        Ok(true)
    }
}

/// The header of the database, if the store holds one.
pub(super) fn read_header(snapshot: &Snapshot) -> Result<Option<Header>> {
    if snapshot.page_count() == 0 {
        return Ok(None);
    }
    let view = snapshot.view();
    Ok(view.page(PageId(0))?.and_then(Header::read))
}
