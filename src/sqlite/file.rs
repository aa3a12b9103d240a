//! A connection's database file: reads at one snapshot, writes into a transaction of its own, and commits it whole.
//!
//! SQLite's locks become versions. SHARED pins the current version, and everything is read there until the lock is dropped; so
//! readers see one state and nobody waits for them. RESERVED takes the one slot for writers; it is refused with
//! `SQLITE_BUSY_SNAPSHOT` if the pinned version is no longer the current one. EXCLUSIVE waits for nobody.
//!
//! What SQLite writes stays in a [`WriteTxn`], which is the overlay that is read through, also for pages that a small cache
//! spills in the middle of a transaction. It is committed, once, when SQLite says that the transaction is complete: at the end
//! of a batch of atomic writes if it was built for those, and else when it has the file synced. `SQLITE_FCNTL_SYNC` is sent even
//! with `synchronous=OFF`. What is left when the lock is dropped was never completed and is forgotten.
//!
//! After a failure everything that writes fails with the same code until the lock is dropped: SQLite would otherwise try
//! again through a journal, say "done", and could not know that the store had refused.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use libsqlite3_sys as ffi;

use super::database::{Database, Identity, identity_of};
use super::error::{Doing, code_of, tell};
use super::header::{CHANGE_MARK, FORMATS, Header};
use crate::error::{Error, Result};
use crate::id::{PageId, Version};
use crate::options::{Durability, Isolation};
use crate::snapshot::{Lender, Snapshot};
use crate::txn::WriteTxn;

/// Files are numbered, for the writer's slot.
static FILES: AtomicU64 = AtomicU64::new(1);

pub(super) struct MainFile {
    pub(super) database: Arc<Database>,
    number: u64,
    page_size: u64,
    /// The named snapshot that the file was opened at, if it was.
    fixed: Option<Snapshot>,
    is_read_only: bool,
    /// Whether SQLite may hand over batches of atomic writes.
    pub(super) has_batches: bool,
    lock: c_int,
    /// What is read, from SHARED on.
    snapshot: Option<Snapshot>,
    /// What was written and not committed, and the file's length then.
    txn: Option<(WriteTxn, u64)>,
    failed: Option<c_int>,
    /// Somebody else changed pages right behind a commit, so that no version has what SQLite's cache now holds.
    is_overtaken: bool,
    pub(super) durability: Durability,
    /// The contents that SQLite's page cache is true for, as far as it is known.
    cached: Option<Identity>,
    /// Pages that SQLite has pointers to, and what keeps them.
    lenders: Vec<Lender>,
    lent: u64,
    pub(super) lend_limit: i64,
    /// Why the file failed last.
    pub(super) message: Option<String>,
}

impl MainFile {
    pub(super) fn new(
        database: Arc<Database>,
        fixed: Option<Snapshot>,
        is_read_only: bool,
        has_batches: bool,
    ) -> Self {
        let page_size = database.store.page_size() as u64;
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        MainFile {
            database,
            number,
            page_size,
            is_read_only: is_read_only || fixed.is_some(),
            fixed,
            has_batches,
            lock: ffi::SQLITE_LOCK_NONE,
            snapshot: None,
            txn: None,
            failed: None,
            is_overtaken: false,
            durability: Durability::Sync,
            cached: None,
            lenders: Vec::new(),
            lent: 0,
            lend_limit: 0,
            message: None,
        }
    }

    /// Tells of an error; gives its code.
    fn note(&mut self, error: &Error, doing: Doing) -> c_int {
        let (code, message) = (code_of(error, doing), error.to_string());
        self.message = Some(message);
        tell(code, self.message.as_deref().unwrap_or_default())
    }

    /// Ends the transaction that is being written, and everything else that it still tries.
    fn fail(&mut self, error: &Error, doing: Doing) -> c_int {
        let code = self.note(error, doing);
        self.txn = None;
        self.failed = Some(code);
        code
    }

    /// The snapshot that the connection reads, or the current version.
    pub(super) fn reading(&self) -> Snapshot {
        match self.snapshot.as_ref().or(self.fixed.as_ref()) {
            Some(snapshot) => snapshot.clone(),
            None => self.database.store.snapshot(),
        }
    }

    pub(super) fn is_writing(&self) -> bool {
        self.lock >= ffi::SQLITE_LOCK_RESERVED
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn lock_level(&self) -> c_int {
        self.lock
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    // ---- locks -------------------------------------------------------------------------------------------------------

    pub(super) fn lock(&mut self, level: c_int) -> c_int {
        if self.lock == ffi::SQLITE_LOCK_NONE {
            let pinned = match &self.fixed {
                Some(snapshot) => Ok(snapshot.clone()),
                None => self.database.store.try_snapshot(),
            };
            match pinned {
                Ok(snapshot) => self.snapshot = Some(snapshot),
                Err(error) => return self.note(&error, Doing::Locking),
            }
            self.lock = ffi::SQLITE_LOCK_SHARED;
        }
        if level > ffi::SQLITE_LOCK_SHARED && !self.is_writing() {
            let done = self.reserve();
            if done != ffi::SQLITE_OK {
                return done;
            }
        }
        self.lock = self.lock.max(level);
        ffi::SQLITE_OK
    }

    /// Takes the writer's slot, if what this connection read is still the current version.
    fn reserve(&mut self) -> c_int {
        if self.is_read_only {
            return ffi::SQLITE_READONLY;
        }
        if !self.database.take_writer(self.number) {
            return ffi::SQLITE_BUSY;
        }
        let done = match self.refresh() {
            Ok(true) => return ffi::SQLITE_OK,
            Ok(false) => ffi::SQLITE_BUSY_SNAPSHOT,
            Err(error) => self.note(&error, Doing::Locking),
        };
        self.database.leave_writer(self.number);
        done
    }

    /// Moves to the current version if its contents are those that were read; a new name makes a version too.
    fn refresh(&mut self) -> Result<bool> {
        self.database.store.core().check_poison()?;
        self.database.pay()?;
        let current = self.database.store.snapshot();
        let is_same = self.snapshot.as_ref().is_some_and(|mine| {
            mine.version() == current.version() || identity_of(mine) == identity_of(&current)
        });
        if is_same {
            self.snapshot = Some(current);
        }
        Ok(is_same)
    }

    pub(super) fn unlock(&mut self, level: c_int) -> c_int {
        if level < ffi::SQLITE_LOCK_RESERVED && self.is_writing() {
            self.txn = None;
            self.database.leave_writer(self.number);
        }
        if level < ffi::SQLITE_LOCK_RESERVED {
            self.failed = None;
        }
        if level == ffi::SQLITE_LOCK_NONE {
            self.snapshot = None;
            self.is_overtaken = false;
        }
        self.lock = self.lock.min(level);
        ffi::SQLITE_OK
    }

    // ---- reading -----------------------------------------------------------------------------------------------------

    /// Bytes of the file as it is seen now.
    pub(super) fn len(&self) -> Result<u64> {
        match &self.txn {
            Some((_, len)) => Ok(*len),
            None => self.len_of(&self.reading()),
        }
    }

    fn len_of(&self, snapshot: &Snapshot) -> Result<u64> {
        let len = snapshot.page_count() * self.page_size;
        // SQLite's pages may be smaller than the store's: then the header tells how much of the last one counts.
        let header = match len {
            0 => None,
            _ => snapshot.view().page(PageId(0))?.and_then(Header::read),
        };
        Ok(match header.and_then(|header| header.file_len()) {
            Some(file_len) if file_len <= len && len - file_len < self.page_size => file_len,
            _ => len,
        })
    }

    pub(super) fn file_size(&mut self) -> std::result::Result<u64, c_int> {
        self.len().map_err(|error| self.note(&error, Doing::Reading))
    }

    pub(super) fn read(&mut self, buf: &mut [u8], offset: u64) -> c_int {
        if self.is_overtaken {
            buf.fill(0);
            return ffi::SQLITE_BUSY_SNAPSHOT;
        }
        match self.try_read(buf, offset) {
            Ok(true) => ffi::SQLITE_OK,
            Ok(false) => ffi::SQLITE_IOERR_SHORT_READ,
            Err(error) => {
                buf.fill(0);
                self.note(&error, Doing::Reading)
            }
        }
    }

    /// Fills `buf`; whether the file had that much.
    fn try_read(&mut self, buf: &mut [u8], offset: u64) -> Result<bool> {
        let (end, is_whole) = match &self.txn {
            Some((txn, len)) => {
                let have = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
                let (head, rest) = buf.split_at_mut(have);
                rest.fill(0);
                read_txn(txn, self.page_size, head, offset)?;
                (offset + have as u64, rest.is_empty())
            }
            None => {
                let current;
                let snapshot = match self.snapshot.as_ref().or(self.fixed.as_ref()) {
                    Some(snapshot) => snapshot,
                    None => {
                        current = self.database.store.snapshot();
                        &current
                    }
                };
                read_snapshot(snapshot, self.page_size, buf, offset)?
            }
        };
        if offset < FORMATS.end && end > FORMATS.start {
            hide_wal(buf, offset);
        }
        if offset == CHANGE_MARK.start && end == CHANGE_MARK.end {
            self.mark_change(buf);
        } else if offset == 0 && buf.len() >= 512 && self.txn.is_none() {
            self.cached = self.snapshot.as_ref().map(identity_of);
        }
        Ok(is_whole)
    }

    /// SQLite asks whether its cache is still true, by comparing these bytes with those that it remembers. They hold counters,
    /// which a rollback to an older version can bring back to where they were; versions don't repeat.
    fn mark_change(&mut self, buf: &mut [u8]) {
        let Some(snapshot) = self.snapshot.as_ref().filter(|_| self.txn.is_none()) else { return };
        let now = identity_of(snapshot);
        if self.cached.is_some_and(|cached| cached != now) {
            for byte in buf.iter_mut() {
                *byte = !*byte;
            }
        }
        self.cached = Some(now);
    }

    // ---- writing -----------------------------------------------------------------------------------------------------

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> c_int {
        if let Some(code) = self.failed {
            return code;
        }
        if !self.is_writing() {
            return self.refuse_unlocked();
        }
        match self.try_write(bytes, offset) {
            Ok(()) => ffi::SQLITE_OK,
            Err(error) => self.fail(&error, Doing::Writing),
        }
    }

    /// Somebody writes without a lock (`nolock=1`), and couldn't be told from another writer.
    fn refuse_unlocked(&mut self) -> c_int {
        if self.is_read_only {
            return ffi::SQLITE_READONLY;
        }
        self.message =
            Some("a database on vellum is written under a lock: open it without nolock=1".to_owned());
        tell(ffi::SQLITE_IOERR_WRITE, self.message.as_deref().unwrap_or_default())
    }

    fn txn(&mut self) -> Result<&mut (WriteTxn, u64)> {
        if self.txn.is_none() {
            let snapshot = self.reading();
            let len = self.len_of(&snapshot)?;
            self.txn = Some((WriteTxn::new(snapshot, Isolation::Snapshot), len));
        }
        let closed =
            Error::InvalidOption { option: "transaction", value: "none".into(), expected: "one is".into() };
        self.txn.as_mut().ok_or(closed)
    }

    fn try_write(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        let page_size = self.page_size;
        let (txn, len) = self.txn()?;
        let end = offset + bytes.len() as u64;
        if end > *len {
            if end.div_ceil(page_size) > txn.page_count() {
                txn.truncate(end.div_ceil(page_size))?;
            }
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

    pub(super) fn truncate(&mut self, len: u64) -> c_int {
        if let Some(code) = self.failed {
            return code;
        }
        if !self.is_writing() {
            return self.refuse_unlocked();
        }
        match self.try_truncate(len) {
            Ok(()) => ffi::SQLITE_OK,
            Err(error) => self.fail(&error, Doing::Writing),
        }
    }

    fn try_truncate(&mut self, len: u64) -> Result<()> {
        if self.len()? == len {
            return Ok(());
        }
        let page_size = self.page_size;
        let (txn, old) = self.txn()?;
        let pages = len.div_ceil(page_size);
        if pages != txn.page_count() {
            txn.truncate(pages)?;
        }
        *old = len;
        Ok(())
    }

    // ---- committing --------------------------------------------------------------------------------------------------

    /// The transaction is complete: commits it, if anything was written.
    pub(super) fn commit(&mut self) -> c_int {
        if let Some(code) = self.failed {
            return code;
        }
        match self.try_commit() {
            Ok(()) => ffi::SQLITE_OK,
            Err(error) => self.fail(&error, Doing::Committing),
        }
    }

    fn try_commit(&mut self) -> Result<()> {
        let Some((mut txn, len)) = self.txn.take() else { return Ok(()) };
        let first = txn.written(PageId(0));
        // The file is cut only after SQLite's own commit; the header tells already, and so it is one commit here.
        let header = first.and_then(Header::read).and_then(|header| header.file_len());
        if let Some(file_len) = header.filter(|file_len| *file_len < len) {
            txn.truncate(file_len.div_ceil(self.page_size))?;
        }
        // A rollback writes back what was there. Only a completed transaction changes page 1 for sure.
        if !txn.differs()? {
            return Ok(());
        }
        let touched = txn.touched();
        let page_count = txn.page_count();
        let version = txn.commit_with(self.durability)?;
        let before = self.snapshot.replace(self.database.store.snapshot());
        if let (Some(before), Some(now)) = (before, &self.snapshot) {
            if now.version() != version && !is_only_change(&before, now, version, &touched, page_count)? {
                let message =
                    "pages were changed beside SQLite, behind a commit: end the transaction and begin again";
                self.message = Some(message.to_owned());
                self.is_overtaken = true;
                self.failed = Some(tell(ffi::SQLITE_BUSY_SNAPSHOT, message));
            }
            self.cached = Some(identity_of(now));
        }
        Ok(())
    }

    /// A batch of atomic writes was given up: so is the whole transaction.
    pub(super) fn give_up(&mut self) -> c_int {
        if self.failed.is_none() {
            self.txn = None;
            self.failed = Some(ffi::SQLITE_ABORT_ROLLBACK);
        }
        ffi::SQLITE_OK
    }

    // ---- lending -----------------------------------------------------------------------------------------------------

    /// Lends bytes of a page where they lie, until [`MainFile::take_back`]; `None`: read them instead.
    pub(super) fn lend(&mut self, offset: u64, len: usize) -> Option<*const u8> {
        let end = offset.checked_add(len as u64)?;
        if end > u64::try_from(self.lend_limit).ok()? || self.is_overtaken {
            return None;
        }
        let (id, start) = (PageId(offset / self.page_size), usize::try_from(offset % self.page_size).ok()?);
        if start as u64 + len as u64 > self.page_size || id.0 == 0 {
            return None;
        }
        if let Some((txn, len)) = &self.txn
            && (txn.written(id).is_some() || end > *len)
        {
            return None;
        }
        let snapshot = self.snapshot.as_ref()?;
        if self.lenders.last().is_none_or(|lender| lender.version() != snapshot.version()) {
            self.lenders.push(Lender::new(snapshot).ok()?);
        }
        // What can't be had is found out again, and told, when it is read.
        let page = self.lenders.last()?.page(id).ok()??;
        let bytes = page.get(start..start + len)?.as_ptr();
        self.lent += 1;
        Some(bytes)
    }

    /// One that was lent is no longer used.
    pub(super) fn take_back(&mut self) {
        self.lent = self.lent.saturating_sub(1);
        if self.lent == 0 {
            self.lenders.clear();
        }
    }
}

impl Drop for MainFile {
    fn drop(&mut self) {
        self.database.leave_writer(self.number);
    }
}

/// Whether what differs from `before` is what `version` changed and nothing else. After a commit the current version may be
/// another's: that can be a new name, which changes no page; or a change of pages, which SQLite's cache would know nothing of.
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

/// Reads what lies before the file's end; tells up to where, and whether that was all.
fn read_snapshot(snapshot: &Snapshot, page_size: u64, buf: &mut [u8], offset: u64) -> Result<(u64, bool)> {
    let view = snapshot.view();
    let whole = (offset + buf.len() as u64, true);
    // A whole page is by far the most frequent.
    if buf.len() as u64 == page_size
        && offset.is_multiple_of(page_size)
        && offset / page_size < view.page_count()
    {
        match view.page(PageId(offset / page_size))? {
            Some(page) => buf.copy_from_slice(page),
            None => buf.fill(0),
        }
        return Ok(whole);
    }
    for (id, start, part) in parts(page_size, offset, buf.len()) {
        if id.0 >= view.page_count() {
            buf[part.start..].fill(0);
            return Ok((offset + part.start as u64, false));
        }
        let buf = &mut buf[part];
        match view.page(id)? {
            Some(page) => buf.copy_from_slice(&page[start..start + buf.len()]),
            None => buf.fill(0),
        }
    }
    Ok(whole)
}

fn read_txn(txn: &WriteTxn, page_size: u64, buf: &mut [u8], offset: u64) -> Result<()> {
    for (id, start, part) in parts(page_size, offset, buf.len()) {
        let buf = &mut buf[part];
        if let Some(page) = txn.written(id) {
            buf.copy_from_slice(&page[start..start + buf.len()]);
        } else if buf.len() as u64 == page_size {
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

/// A file that was last used with a WAL says so, and would not be opened without one. Its pages are the same.
fn hide_wal(buf: &mut [u8], offset: u64) {
    for at in FORMATS {
        if let Some(byte) = at.checked_sub(offset).and_then(|at| buf.get_mut(usize::try_from(at).ok()?))
            && *byte == 2
        {
            *byte = 1;
        }
    }
}
