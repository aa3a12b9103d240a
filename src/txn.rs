//! Writing: [`WriteTxn`], private pages on top of a snapshot until they are committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::alloc::SCAN_LIMIT;
use crate::commit::lead::commit_batch;
use crate::commit::request::{ReadSet, Request};
use crate::error::{Error, Result};
use crate::format::checksum::PageChecksum;
use crate::format::control::META_MAX;
use crate::id::{PageId, Version};
use crate::options::{Durability, Isolation};
use crate::snapshot::Snapshot;
use crate::table::lookup::{find_holes, lookup};

/// What the transaction did to a page.
enum Private {
    Written(Box<[u8]>),
    Freed,
}

/// A transaction that reads one snapshot and keeps its writes to itself until it commits.
///
/// Any number may be open at once. Dropping one without [`WriteTxn::commit`] rolls it back.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// use vellum::{Error, Options, Store};
/// let store = Store::in_memory(Options::new())?;
/// let mut txn = store.begin()?;
/// let id = txn.allocate()?;
/// txn.page_mut(id)?[..5].copy_from_slice(b"hello");
/// txn.set_meta(&id.get().to_le_bytes())?;
/// let version = txn.commit()?;
///
/// // Two transactions that write the same page: the first to commit wins, the other is told.
/// let (mut a, mut b) = (store.begin()?, store.begin()?);
/// a.page_mut(id)?[0] = b'H';
/// b.page_mut(id)?[0] = b'J';
/// a.commit()?;
/// assert!(matches!(b.commit(), Err(Error::Conflict { page, .. }) if page == id));
/// # Ok(()) }
/// ```
pub struct WriteTxn {
    snapshot: Snapshot,
    durability: Durability,
    reads: Option<std::cell::RefCell<ReadSet>>,
    pages: BTreeMap<PageId, Private>,
    allocated: Vec<PageId>,
    truncate_to: Option<u64>,
    page_count: u64,
    meta: Option<Arc<[u8]>>,
    memory: u64,
}

/// What an entry of the private pages costs beside its bytes.
const ENTRY_BYTES: u64 = 64;

impl WriteTxn {
    pub(crate) fn new(snapshot: Snapshot, isolation: Isolation) -> WriteTxn {
        let reads = match isolation {
            Isolation::Snapshot => None,
            Isolation::Serializable => Some(std::cell::RefCell::default()),
        };
        WriteTxn {
            durability: snapshot.core().options.default_durability(),
            page_count: snapshot.page_count(),
            snapshot,
            reads,
            pages: BTreeMap::new(),
            allocated: Vec::new(),
            truncate_to: None,
            meta: None,
            memory: 0,
        }
    }

    /// The version that the transaction reads from.
    pub fn version(&self) -> Version {
        self.snapshot.version()
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> usize {
        self.snapshot.page_size()
    }

    /// The number of page ids as the transaction sees it, its own changes included.
    pub fn page_count(&self) -> u64 {
        if let Some(reads) = &self.reads {
            reads.borrow_mut().page_count = true;
        }
        self.page_count
    }

    /// The engine's own bytes, as the transaction sees them.
    pub fn meta(&self) -> &[u8] {
        if let Some(meta) = &self.meta {
            return meta;
        }
        if let Some(reads) = &self.reads {
            reads.borrow_mut().meta = true;
        }
        self.snapshot.meta()
    }

    /// Sets the engine's own bytes; they are published with the transaction's version.
    ///
    /// # Errors
    /// [`Error::MetaTooLarge`] beyond 1,024 bytes.
    pub fn set_meta(&mut self, meta: &[u8]) -> Result<()> {
        if meta.len() > META_MAX {
            return Err(Error::MetaTooLarge { limit: META_MAX, found: meta.len() });
        }
        self.meta = Some(meta.into());
        Ok(())
    }

    /// Copies a page, as the transaction sees it, to `buf`. `false`: it holds nothing, and `buf` is untouched.
    ///
    /// # Errors
    /// As [`Snapshot::read`].
    pub fn read(&self, id: PageId, buf: &mut [u8]) -> Result<bool> {
        self.check_length(buf.len())?;
        self.check_range(id)?;
        match self.pages.get(&id) {
            Some(Private::Written(bytes)) => {
                buf.copy_from_slice(bytes);
                Ok(true)
            }
            Some(Private::Freed) => Ok(false),
            None if self.is_cut(id) => Ok(false),
            None => {
                self.note_read(id)?;
                match id.0 < self.snapshot.page_count() {
                    true => self.snapshot.read(id, buf),
                    false => Ok(false),
                }
            }
        }
    }

    /// Sets a whole page.
    ///
    /// # Errors
    /// [`Error::WrongLength`] if `bytes` isn't one page, [`Error::PageOutOfRange`] beyond the page count (allocate the
    /// page, or raise the page count with [`WriteTxn::truncate`]), [`Error::TransactionTooLarge`].
    pub fn write(&mut self, id: PageId, bytes: &[u8]) -> Result<()> {
        self.check_length(bytes.len())?;
        self.check_range(id)?;
        match self.pages.get_mut(&id) {
            Some(Private::Written(page)) => page.copy_from_slice(bytes),
            _ => self.keep(id, self.snapshot.core().buffers.copy_of(bytes))?,
        }
        Ok(())
    }

    /// The page's bytes, to be changed in place; a page that held nothing begins as zeros.
    ///
    /// # Errors
    /// As [`WriteTxn::write`], and [`Error::Corrupt`] or [`Error::Io`] if the page can't be had.
    pub fn page_mut(&mut self, id: PageId) -> Result<&mut [u8]> {
        self.check_range(id)?;
        if !matches!(self.pages.get(&id), Some(Private::Written(_))) {
            let mut page = vec![0; self.page_size()].into_boxed_slice();
            self.read(id, &mut page)?;
            self.keep(id, page)?;
        }
        match self.pages.get_mut(&id) {
            Some(Private::Written(page)) => Ok(page),
            _ => Err(Error::PageNotAllocated { page: id }),
        }
    }

    /// Gives a page id that holds nothing, with a page of zeros under it. Freed ids are used again.
    ///
    /// # Errors
    /// [`Error::TooManyPages`], [`Error::TransactionTooLarge`], or what reading the page table gives.
    pub fn allocate(&mut self) -> Result<PageId> {
        let id = self.find_free()?;
        self.allocated.push(id);
        self.page_count = self.page_count.max(id.0 + 1);
        self.keep(id, vec![0; self.page_size()].into_boxed_slice())?;
        Ok(id)
    }

    fn find_free(&self) -> Result<PageId> {
        let core = self.snapshot.core();
        let mut has_rescanned = false;
        loop {
            let (found, unscanned) = {
                let mut allocator = core.allocator.lock();
                (allocator.take_free(self.version()), allocator.unscanned())
            };
            match (found, unscanned) {
                (Some(id), _) if self.is_free(id)? => return Ok(id),
                (Some(id), _) => core.allocator.lock().settle(&[id]),
                (None, Some((from, end))) => {
                    let holes = find_holes(&core.slab, self.snapshot.root(), from, end, SCAN_LIMIT)?;
                    core.allocator.lock().scanned(holes);
                }
                (None, None) => {
                    let mut allocator = core.allocator.lock();
                    if let Some(id) = allocator.take_next(self.page_count) {
                        return Ok(id);
                    }
                    // The ids are at their end; there may be holes.
                    if has_rescanned {
                        let limit = PageId::MAX.0 + 1;
                        return Err(Error::TooManyPages { asked: limit + 1, limit });
                    }
                    allocator.rescan(self.snapshot.page_count());
                    has_rescanned = true;
                }
            }
        }
    }

    /// Whether the transaction sees nothing under an id that the allocator thinks is free.
    fn is_free(&self, id: PageId) -> Result<bool> {
        Ok(match self.pages.get(&id) {
            Some(_) => false,
            None => self.is_cut(id) || !self.stands(id)?,
        })
    }

    /// Frees a page: it holds nothing from this transaction's version on.
    ///
    /// # Errors
    /// [`Error::PageOutOfRange`] beyond the page count, [`Error::PageNotAllocated`] if it holds nothing already.
    pub fn free(&mut self, id: PageId) -> Result<()> {
        self.check_range(id)?;
        let was_stored = self.is_stored(id)?;
        let holds = match self.pages.get(&id) {
            Some(Private::Written(_)) => true,
            Some(Private::Freed) => false,
            None => was_stored,
        };
        if !holds {
            // The answer tells something about the snapshot's page, so it counts as a read.
            if !self.is_cut(id) && !self.pages.contains_key(&id) {
                self.note_read(id)?;
            }
            return Err(Error::PageNotAllocated { page: id });
        }
        if let Some(Private::Written(bytes)) = self.pages.remove(&id) {
            self.memory -= bytes.len() as u64 + ENTRY_BYTES;
        }
        if was_stored {
            self.memory += ENTRY_BYTES;
            self.pages.insert(id, Private::Freed);
            self.check_memory()?;
        }
        Ok(())
    }

    /// Whether the snapshot holds the page and this transaction didn't cut it off.
    fn is_stored(&self, id: PageId) -> Result<bool> {
        if self.is_cut(id) || id.0 >= self.snapshot.page_count() {
            return Ok(false);
        }
        self.stands(id)
    }

    /// Whether the snapshot holds the page.
    fn stands(&self, id: PageId) -> Result<bool> {
        let core = self.snapshot.core();
        Ok(lookup(&core.slab, self.snapshot.root(), id, &core.epoch.pin())?.is_page())
    }

    /// Sets the page count: pages beyond it are freed, pages up to it hold nothing until they are written.
    ///
    /// # Errors
    /// [`Error::TooManyPages`] beyond 2^40.
    pub fn truncate(&mut self, page_count: u64) -> Result<()> {
        check_page_count(page_count)?;
        for (_, private) in self.pages.split_off(&PageId(page_count)) {
            self.memory -= ENTRY_BYTES;
            if let Private::Written(bytes) = private {
                self.memory -= bytes.len() as u64;
            }
        }
        self.truncate_to = Some(self.truncate_to.map_or(page_count, |cut| cut.min(page_count)));
        self.page_count = page_count;
        Ok(())
    }

    /// Raises the page count: a growth that nobody else's collides with, and that is no change of the end for the log.
    pub(crate) fn grow(&mut self, page_count: u64) -> Result<()> {
        check_page_count(page_count)?;
        self.page_count = self.page_count.max(page_count);
        Ok(())
    }

    /// Commits with the store's durability. Returns the version in which the changes are visible; without changes, the
    /// one that was read.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another transaction was first (begin again), [`Error::Full`] if there is no room,
    /// [`Error::Poisoned`] after a failure of the disk, [`Error::LimboFull`] if a view is held for too long. After any
    /// error the transaction is rolled back.
    pub fn commit(self) -> Result<Version> {
        let durability = self.durability;
        self.commit_with(durability)
    }

    /// Commits with a durability of its own.
    ///
    /// # Errors
    /// As [`WriteTxn::commit`].
    pub fn commit_with(mut self, durability: Durability) -> Result<Version> {
        let is_empty = self.pages.is_empty()
            && self.truncate_to.is_none()
            && self.meta.is_none()
            && self.page_count == self.snapshot.page_count();
        if is_empty {
            // What was read was one version; nothing is left to decide.
            return Ok(self.version());
        }
        let core = self.snapshot.core().clone();
        let (used, unused) = self.allocated.drain(..).partition(|id| self.pages.contains_key(id));
        self.allocated = used;
        core.allocator.lock().give_back(&unused);
        let mut writes = Vec::new();
        let mut freed = Vec::new();
        for (id, private) in std::mem::take(&mut self.pages) {
            match private {
                // Checksums are computed here, in the committing thread, and not by the leader.
                Private::Written(bytes) => writes.push((id, PageChecksum::of(id, &bytes), bytes)),
                Private::Freed => freed.push(id),
            }
        }
        let request = Request {
            snapshot: self.version(),
            reads: self.reads.take().map(std::cell::RefCell::into_inner),
            writes,
            freed,
            truncate_to: self.truncate_to,
            // A transaction that didn't move the end must not bring back one that another has cut.
            page_count: match self.truncate_to.is_some() || self.page_count > self.snapshot.page_count() {
                true => self.page_count,
                false => 0,
            },
            meta: self.meta.take(),
            names: None,
            durability,
        };
        let done = core.queue.submit(request, |batch| {
            let results = commit_batch(&core, &batch);
            let writes = batch.into_iter().flat_map(|request| request.writes);
            core.buffers.give_back(writes.map(|(_, _, bytes)| bytes));
            results
        });
        if done.is_ok() {
            core.allocator.lock().settle(&std::mem::take(&mut self.allocated));
        }
        core.after_commit();
        done
    }

    /// Commits if the store's contents are still those that the transaction read from, whoever changed what in them.
    ///
    /// # Errors
    /// As [`WriteTxn::commit`].
    pub(crate) fn commit_unchanged(mut self, durability: Durability) -> Result<Version> {
        let contents = (self.snapshot.fingerprint(), self.snapshot.page_count());
        self.reads.get_or_insert_default().get_mut().contents = Some(contents);
        self.commit_with(durability)
    }

    /// Takes back what was written to a page, if it is what the snapshot holds as `is_same` sees it, and if that isn't all that the
    /// transaction wrote.
    #[cfg(feature = "sqlite")]
    pub(crate) fn spare(&mut self, id: PageId, is_same: impl Fn(&[u8], &[u8]) -> bool) -> Result<()> {
        let Some(written) = self.written(id) else { return Ok(()) };
        let is_all = self.pages.len() == 1 && !self.moves_end();
        if id.0 >= self.snapshot.page_count() || is_all {
            return Ok(());
        }
        let is_spared = self.snapshot.view().page(id)?.is_some_and(|page| is_same(page, written));
        if is_spared && let Some(Private::Written(bytes)) = self.pages.remove(&id) {
            self.memory -= bytes.len() as u64 + ENTRY_BYTES;
        }
        Ok(())
    }

    /// The transaction's own bytes of a page, if it wrote any.
    pub(crate) fn written(&self, id: PageId) -> Option<&[u8]> {
        match self.pages.get(&id) {
            Some(Private::Written(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// The pages that the transaction wrote or freed.
    pub(crate) fn touched(&self) -> Vec<PageId> {
        self.pages.keys().copied().collect()
    }

    /// Whether any page differs from the snapshot's, or was cut off. Costs a comparison of each page up to the first that does.
    pub(crate) fn differs(&self) -> Result<bool> {
        if self.moves_end() {
            return Ok(true);
        }
        let view = self.snapshot.view();
        for (id, private) in &self.pages {
            match (private, view.page(*id)?) {
                (Private::Written(bytes), Some(page)) if **bytes == *page => {}
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Whether pages were cut off, even if others came in their place, or the page count is another.
    fn moves_end(&self) -> bool {
        let before = self.snapshot.page_count();
        self.truncate_to.is_some_and(|cut| cut < before) || self.page_count != before
    }

    fn keep(&mut self, id: PageId, bytes: Box<[u8]>) -> Result<()> {
        let added = bytes.len() as u64 + ENTRY_BYTES;
        let limit = self.snapshot.core().options.transaction_memory_max();
        if self.memory + added > limit {
            return Err(Error::TransactionTooLarge { limit });
        }
        if let Some(Private::Freed) = self.pages.insert(id, Private::Written(bytes)) {
            self.memory -= ENTRY_BYTES;
        }
        self.memory += added;
        Ok(())
    }

    fn check_memory(&self) -> Result<()> {
        let limit = self.snapshot.core().options.transaction_memory_max();
        if self.memory > limit { Err(Error::TransactionTooLarge { limit }) } else { Ok(()) }
    }

    /// Takes note of what a serializable transaction depends on.
    fn note_read(&self, id: PageId) -> Result<()> {
        let Some(reads) = &self.reads else { return Ok(()) };
        let mut reads = reads.borrow_mut();
        reads.pages.insert(id);
        let limit = self.snapshot.core().options.transaction_memory_max();
        match self.memory + (reads.pages.len() as u64) * 16 > limit {
            true => Err(Error::TransactionTooLarge { limit }),
            false => Ok(()),
        }
    }

    fn is_cut(&self, id: PageId) -> bool {
        self.truncate_to.is_some_and(|page_count| id.0 >= page_count)
    }

    fn check_length(&self, found: usize) -> Result<()> {
        let expected = self.page_size();
        if found == expected { Ok(()) } else { Err(Error::WrongLength { expected, found }) }
    }

    fn check_range(&self, id: PageId) -> Result<()> {
        if id.0 < self.page_count {
            return Ok(());
        }
        // The answer tells where the end is, so a serializable transaction depends on it.
        Err(Error::PageOutOfRange { page: id, page_count: self.page_count() })
    }
}

/// Refuses a store of more pages than there are ids.
fn check_page_count(page_count: u64) -> Result<()> {
    let limit = PageId::MAX.0 + 1;
    match page_count > limit {
        true => Err(Error::TooManyPages { asked: page_count, limit }),
        false => Ok(()),
    }
}

impl Drop for WriteTxn {
    fn drop(&mut self) {
        if !self.allocated.is_empty() {
            self.snapshot.core().allocator.lock().give_back(&self.allocated);
        }
    }
}

impl std::fmt::Debug for WriteTxn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteTxn")
            .field("version", &self.version())
            .field("changed_pages", &self.pages.len())
            .finish_non_exhaustive()
    }
}
