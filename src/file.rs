//! A store's pages as the bytes of one file: [`StoreFile`], for engines that keep what they have in one file.
//!
//! Byte b of the file lies in page b / `page_size`, so that a raw export is the file. What is written stays in a [`WriteTxn`], which is
//! also read through, until the engine says that it is complete; then it is committed whole. SQLite's VFS is made of it
//! (`sqlite/file.rs`), and redb's storage (`examples/redb`).

use crate::error::{Error, Result};
use crate::id::{PageId, Version};
use crate::options::{Durability, Isolation};
use crate::pins::PinKind;
use crate::snapshot::Snapshot;
use crate::txn::WriteTxn;

/// The pages of a version as the bytes of a file, and what was written to it since.
///
/// An engine that reads and writes one file, and says when what it wrote is complete, needs nothing else to live in a store: its
/// sync is [`StoreFile::commit`]. Nothing of what it writes is in the store before, and all of it is then, so that every version of
/// the store is a file that the engine left in order. Any snapshot can be read as that file, and [`Snapshot::export_raw`]
/// writes it out.
///
/// The file reads one version, its own writes over it. A commit moves it to the next one; others' commits never do: if they
/// changed a page, its own is refused ([`Error::Conflict`]), since the engine knows nothing of theirs. So at most one file of a store
/// is of use for writing at a time; names and exports are free.
///
/// A version keeps whole pages. A file whose length isn't a multiple of the store's page size ends with zeros in its last page, and
/// these count from the next opening on: take a page size that the engine's lengths are multiples of.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// use vellum::{Durability, Options, Store, StoreFile};
/// let store = Store::in_memory(Options::new())?;
/// let mut file = StoreFile::new(store.snapshot());
/// file.write_at(b"hello", 10_000)?;                       // into the third page; before it are zeros
/// assert_eq!(store.snapshot().page_count(), 0);
/// file.commit(Durability::Sync)?;
/// assert_eq!(store.snapshot().page_count(), 3);
///
/// let before = StoreFile::new(store.create_snapshot("before")?);
/// file.write_at(b"world", 10_000)?;
/// file.commit(Durability::Sync)?;
/// let mut bytes = [0; 5];
/// assert_eq!(before.read_at(&mut bytes, 10_000)?, 5);
/// assert_eq!(&bytes, b"hello");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct StoreFile {
    /// What is read where nothing was written.
    snapshot: Snapshot,
    page_size: u64,
    /// What was written since, and the file's length then.
    written: Option<(WriteTxn, u64)>,
    /// The version of somebody who changed pages right behind a commit, so that no version has what the engine knows.
    overtaken_by: Option<Version>,
}

impl StoreFile {
    /// The file as the snapshot has it. To write, begin with the current version: [`Store::snapshot`](crate::Store::snapshot).
    pub fn new(snapshot: Snapshot) -> StoreFile {
        StoreFile { page_size: snapshot.page_size() as u64, snapshot, written: None, overtaken_by: None }
    }

    /// The version that is read where nothing was written.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Bytes of the file, with what was written.
    pub fn len(&self) -> u64 {
        match &self.written {
            Some((_, len)) => *len,
            None => self.snapshot.page_count() * self.page_size,
        }
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether anything was written that was neither committed nor discarded.
    pub fn is_changed(&self) -> bool {
        self.written.is_some()
    }

    /// Fills `buf` with the bytes from `offset` on; how many of them lie before the file's end. The rest are zeros.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`] or [`Error::SnapshotRevoked`] if a page can't be had; [`Error::Conflict`] after a commit that
    /// others' pages came right behind of (see [`StoreFile::commit`]).
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.check_overtaken()?;
        match &self.written {
            Some((txn, len)) => {
                let (head, rest) = split_at_end(buf, offset, *len);
                rest.fill(0);
                self.read_written(txn, head, offset)?;
                Ok(head.len())
            }
            None => self.snapshot.read_at(buf, offset),
        }
    }

    fn read_written(&self, txn: &WriteTxn, buf: &mut [u8], offset: u64) -> Result<()> {
        for (id, start, part) in parts(self.page_size, offset, buf.len()) {
            let buf = &mut buf[part];
            if let Some(page) = txn.written(id) {
                buf.copy_from_slice(&page[start..start + buf.len()]);
            } else if buf.len() as u64 == self.page_size {
                if !txn.read(id, buf)? {
                    buf.fill(0);
                }
            } else {
                let mut page = vec![0; txn.page_size()];
                txn.read(id, &mut page)?;
                buf.copy_from_slice(&page[start..start + buf.len()]);
            }
        }
        Ok(())
    }

    /// Writes `bytes` at `offset`; the file grows if it ends before them.
    ///
    /// # Errors
    /// [`Error::TransactionTooLarge`] if more was written than [`Options::transaction_memory`](crate::Options::transaction_memory),
    /// [`Error::TooManyPages`], and as [`StoreFile::read_at`] for a page that is written in part. What came before in `bytes` may be
    /// written then: write again, or discard it all.
    pub fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        if bytes.is_empty() {
            return self.check_overtaken();
        }
        let page_size = self.page_size;
        let end = offset.saturating_add(bytes.len() as u64);
        let (txn, len) = self.begin(None)?;
        if end > *len {
            txn.grow(end.div_ceil(page_size))?;
            *len = end;
        }
        for (id, start, part) in parts(page_size, offset, bytes.len()) {
            let bytes = &bytes[part];
            match bytes.len() as u64 == page_size {
                true => txn.write(id, bytes)?,
                false => txn.page_mut(id)?[start..start + bytes.len()].copy_from_slice(bytes),
            }
        }
        Ok(())
    }

    /// Sets the file's length: what lies beyond it is gone, and what is new is zeros.
    ///
    /// # Errors
    /// As [`StoreFile::write_at`].
    pub fn set_len(&mut self, len: u64) -> Result<()> {
        let page_size = self.page_size;
        if self.len() == len {
            return self.check_overtaken();
        }
        let (txn, old) = self.begin(None)?;
        let pages = len.div_ceil(page_size);
        match pages < txn.page_count() {
            true => txn.truncate(pages)?,
            false => txn.grow(pages)?,
        }
        // Bytes that were cut off must not come back when the file grows again.
        let kept = len % page_size;
        if len < *old && kept > 0 {
            let kept = usize::try_from(kept).unwrap_or(usize::MAX);
            txn.page_mut(PageId(pages - 1))?[kept..].fill(0);
        }
        *old = len;
        Ok(())
    }

    /// Commits what was written, whole, if the store's pages are still those that this file reads; gives the version, or `None` if
    /// nothing differs.
    ///
    /// # Errors
    /// [`Error::Conflict`] if somebody else changed pages: open the file again. Otherwise as
    /// [`WriteTxn::commit`]. After any error what was written is gone, and the file is what it was before. Where others' pages were
    /// committed right *behind* this file's, it can't show what it committed: the commit is done and says so, and whoever reads or writes
    /// the file afterwards gets an [`Error::Conflict`] ([`StoreFile::is_overtaken`]).
    pub fn commit(&mut self, durability: Durability) -> Result<Option<Version>> {
        self.commit_prepared(durability, |txn, _| txn.differs())
    }

    /// As [`StoreFile::commit`]. `prepare` gets the transaction and the file's length, may change the transaction once more, and
    /// tells whether there is anything to commit.
    pub(crate) fn commit_prepared(
        &mut self,
        durability: Durability,
        prepare: impl FnOnce(&mut WriteTxn, u64) -> Result<bool>,
    ) -> Result<Option<Version>> {
        let Some((mut txn, len)) = self.written.take() else { return Ok(None) };
        if !prepare(&mut txn, len)? {
            return Ok(None);
        }
        let (touched, page_count) = (txn.touched(), txn.page_count());
        let core = self.snapshot.core().clone();
        let transactions = core.counters.transactions();
        let version = txn.commit_unchanged(durability)?;
        let now = Snapshot::current(&core, PinKind::Snapshot);
        // It was committed on what was read. Nothing came behind it, and nothing else is in this version?
        let is_alone = now.version() == version && core.counters.transactions() == transactions + 1;
        let before = std::mem::replace(&mut self.snapshot, now);
        if !is_alone
            && !is_only_change(&before, &self.snapshot, version, &touched, page_count).unwrap_or(false)
        {
            self.overtaken_by = Some(self.snapshot.version());
        }
        Ok(Some(version))
    }

    /// Forgets what was written since the last commit.
    pub fn discard(&mut self) {
        self.written = None;
    }

    /// The transaction that is written into, with the file's length; begun if it wasn't, with a length that the caller may know better
    /// than the number of pages.
    pub(crate) fn begin(&mut self, len: Option<u64>) -> Result<&mut (WriteTxn, u64)> {
        self.check_overtaken()?;
        let len = len.unwrap_or_else(|| self.len());
        let begin = || (WriteTxn::new(self.snapshot.clone(), Isolation::Snapshot), len);
        Ok(self.written.get_or_insert_with(begin))
    }

    /// What was written, and the file's length then.
    #[cfg(feature = "sqlite")]
    pub(crate) fn written(&self) -> Option<&(WriteTxn, u64)> {
        self.written.as_ref()
    }

    /// Whether somebody else changed pages right behind a commit, so that no version has what the engine knows: see
    /// [`StoreFile::commit`].
    pub fn is_overtaken(&self) -> bool {
        self.overtaken_by.is_some()
    }

    fn check_overtaken(&self) -> Result<()> {
        match self.overtaken_by {
            None => Ok(()),
            Some(winner) => {
                Err(Error::Conflict { page: PageId(0), winner, snapshot: self.snapshot.version() })
            }
        }
    }
}

impl Snapshot {
    /// Reads the version's pages as the bytes of one file, as [`StoreFile`] writes them: fills `buf` with those from `offset` on, and tells
    /// how many of them lie before the end. The rest are zeros, and so is a page that holds nothing.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`] or [`Error::SnapshotRevoked`] if a page can't be had.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let (view, page_size) = (self.view(), self.page_size() as u64);
        // A whole page is by far the most frequent.
        if buf.len() as u64 == page_size
            && offset.is_multiple_of(page_size)
            && offset / page_size < view.page_count()
        {
            match view.page(PageId(offset / page_size))? {
                Some(page) => buf.copy_from_slice(page),
                None => buf.fill(0),
            }
            return Ok(buf.len());
        }
        let (head, rest) = split_at_end(buf, offset, view.page_count() * page_size);
        rest.fill(0);
        for (id, start, part) in parts(page_size, offset, head.len()) {
            let buf = &mut head[part];
            match view.page(id)? {
                Some(page) => buf.copy_from_slice(&page[start..start + buf.len()]),
                None => buf.fill(0),
            }
        }
        Ok(head.len())
    }
}

/// What of `buf`, which is at `offset`, lies before the end of a file of `len` bytes, and what doesn't.
fn split_at_end(buf: &mut [u8], offset: u64, len: u64) -> (&mut [u8], &mut [u8]) {
    let have = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
    buf.split_at_mut(have)
}

/// The pages that `len` bytes at `offset` lie in: each with where they begin in it, and which of the bytes they are.
fn parts(
    page_size: u64,
    offset: u64,
    len: usize,
) -> impl Iterator<Item = (PageId, usize, std::ops::Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= len {
            return None;
        }
        let position = offset + at as u64;
        let start = position % page_size;
        let part = usize::try_from(page_size - start).unwrap_or(usize::MAX).min(len - at);
        let range = at..at + part;
        at += part;
        Some((PageId(position / page_size), usize::try_from(start).unwrap_or(usize::MAX), range))
    })
}

/// Whether what differs from `before` is what `version` changed and nothing else. After a commit the current version may be
/// another's: that can be a new name, which changes no page; or a change of pages, which the engine would know nothing of.
fn is_only_change(
    before: &Snapshot,
    now: &Snapshot,
    version: Version,
    touched: &[PageId],
    page_count: u64,
) -> Result<bool> {
    if now.page_count() != page_count {
        return Ok(false);
    }
    for (id, _) in now.diff(before)?.into_iter().filter(|(id, _)| id.0 < page_count) {
        if touched.binary_search(&id).is_err() || now.birth_of(id)? != version {
            return Ok(false);
        }
    }
    Ok(true)
}
