//! A connection's database file: reads at one snapshot, writes into a transaction of its own, and commits it whole.
//!
//! SQLite's locks become versions. SHARED pins the current version, and everything is read there until the lock is dropped; so
//! readers see one state and nobody waits for them. RESERVED takes the one slot for writers; it is refused with
//! `SQLITE_BUSY_SNAPSHOT` if the pinned version is no longer the current one. EXCLUSIVE waits for nobody. With `locking_mode=EXCLUSIVE`
//! SHARED is never dropped, and takes the slot too: a version that others leave behind could never be written to again.
//!
//! Reading and writing the file's bytes is [`StoreFile`]'s part, with what was written laid over the version, also pages that a
//! small cache spills in the middle of a transaction. It is committed, once, when SQLite says that the transaction is complete: at the end
//! of a batch of atomic writes if it was built for those, and else when it has the file synced. `SQLITE_FCNTL_SYNC` is sent even
//! with `synchronous=OFF`. What is left when the lock is dropped was never completed and is forgotten.
//!
//! After a failure everything that writes fails with the same code until the lock is dropped: SQLite would otherwise try
//! again through a journal, say "done", and could not know that the store had refused.

use std::cell::Cell;
use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use libsqlite3_sys as ffi;

use super::database::{Database, Identity, identity_of};
use super::error::{Doing, code_of, tell};
use super::header::{CHANGE_MARK, FORMATS, Header, are_same_but_for_counters, hide_wal};
use super::lending::Lending;
use crate::error::{Error, Result};
use crate::file::StoreFile;
use crate::id::{PageId, Version};
use crate::options::Durability;
use crate::snapshot::Snapshot;

/// Files are numbered, for the writer's slot.
static FILES: AtomicU64 = AtomicU64::new(1);

/// The bytes of [`CHANGE_MARK`].
type Mark = [u8; 16];

/// Bytes of SQLite's smallest pages.
const PAGE_BYTES_MIN: usize = 512;

pub(super) struct MainFile {
    pub(super) database: Arc<Database>,
    number: u64,
    pub(super) page_size: u64,
    /// The named snapshot that the file was opened at, if it was.
    fixed: Option<Snapshot>,
    is_read_only: bool,
    /// Whether SQLite may hand over batches of atomic writes.
    pub(super) has_batches: bool,
    lock: c_int,
    /// Whether SQLite keeps its locks from one transaction to the next (`locking_mode=EXCLUSIVE`).
    pub(super) keeps_locks: bool,
    /// What is read, from SHARED on, and what was written and not committed.
    pub(super) file: Option<StoreFile>,
    failed: Option<c_int>,
    pub(super) durability: Durability,
    /// SQLite's journal mode, as far as its pragmas tell.
    pub(super) journal_mode: &'static str,
    /// Where SQLite notes the connection that uses the file now (`SQLITE_FCNTL_PDB`); null if it never said. For `methods` only.
    pub(super) connection: *const *mut ffi::sqlite3,
    /// The contents that SQLite's page cache is true for, as far as it is known.
    cached: Option<Identity>,
    /// What SQLite remembers of [`CHANGE_MARK`]: as it read or wrote it last.
    mark: Option<Mark>,
    pub(super) lending: Lending,
    /// A version, and the file's length in it: SQLite asks several times in a transaction.
    known_len: Cell<Option<(Version, u64)>>,
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
            keeps_locks: false,
            file: None,
            failed: None,
            durability: Durability::Sync,
            journal_mode: "delete",
            connection: std::ptr::null(),
            cached: None,
            mark: None,
            lending: Lending::default(),
            known_len: Cell::new(None),
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
        self.discard();
        self.failed = Some(code);
        code
    }

    /// The snapshot that the connection reads, or the current version.
    pub(super) fn reading(&self) -> Snapshot {
        match self.snapshot().or(self.fixed.as_ref()) {
            Some(snapshot) => snapshot.clone(),
            None => self.database.store.snapshot(),
        }
    }

    /// The version that is read, from SHARED on.
    pub(super) fn snapshot(&self) -> Option<&Snapshot> {
        self.file.as_ref().map(StoreFile::snapshot)
    }

    fn discard(&mut self) {
        if let Some(file) = &mut self.file {
            file.discard();
        }
    }

    /// Whether somebody else changed pages right behind a commit, so that no version has what SQLite's cache now holds.
    pub(super) fn is_overtaken(&self) -> bool {
        self.file.as_ref().is_some_and(StoreFile::is_overtaken)
    }

    pub(super) fn is_changed(&self) -> bool {
        self.file.as_ref().is_some_and(StoreFile::is_changed)
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
            let is_alone = self.keeps_locks && !self.is_read_only;
            if is_alone && !self.database.take_writer(self.number) {
                return ffi::SQLITE_BUSY;
            }
            let pinned = match &self.fixed {
                Some(snapshot) => Ok(snapshot.clone()),
                None => self.database.store.try_snapshot(),
            };
            match pinned {
                Ok(snapshot) => self.file = Some(StoreFile::new(snapshot)),
                Err(error) => {
                    self.database.leave_writer(self.number);
                    return self.note(&error, Doing::Locking);
                }
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
        if !self.keeps_locks {
            self.database.leave_writer(self.number);
        }
        done
    }

    /// Keeps locks from now on (`locking_mode=EXCLUSIVE`), and with one that is held already the turn to write. `false`: others have written
    /// since, or it is another's turn.
    pub(super) fn keep_locks(&mut self) -> bool {
        let needs_turn = self.lock > ffi::SQLITE_LOCK_NONE && !self.is_read_only && !self.is_writing();
        if needs_turn && self.reserve() != ffi::SQLITE_OK {
            return false;
        }
        self.keeps_locks = true;
        true
    }

    /// Moves to the current version if its contents are those that were read; a new name makes a version too.
    fn refresh(&mut self) -> Result<bool> {
        let core = self.database.store.core();
        core.check_poison()?;
        self.database.pay()?;
        if self.snapshot().is_some_and(|mine| mine.version() == core.current_version()) {
            return Ok(true);
        }
        let current = self.database.store.snapshot();
        let is_same = self.snapshot().is_some_and(|mine| identity_of(mine) == identity_of(&current));
        if is_same {
            self.file = Some(StoreFile::new(current));
        }
        Ok(is_same)
    }

    pub(super) fn unlock(&mut self, level: c_int) -> c_int {
        if level < ffi::SQLITE_LOCK_RESERVED {
            if self.is_writing() {
                self.discard();
            }
            if !self.keeps_locks || level == ffi::SQLITE_LOCK_NONE {
                self.database.leave_writer(self.number);
            }
            self.failed = None;
        }
        if level == ffi::SQLITE_LOCK_NONE {
            self.file = None;
            self.end_lending();
        }
        self.lock = self.lock.min(level);
        ffi::SQLITE_OK
    }

    // ---- reading -----------------------------------------------------------------------------------------------------

    /// Bytes of the file as it is seen now.
    pub(super) fn len(&self) -> Result<u64> {
        match self.file.as_ref().and_then(StoreFile::written) {
            Some((_, len)) => Ok(*len),
            None => self.len_of(&self.reading()),
        }
    }

    fn len_of(&self, snapshot: &Snapshot) -> Result<u64> {
        let version = snapshot.version();
        if let Some((_, len)) = self.known_len.get().filter(|(known, _)| *known == version) {
            return Ok(len);
        }
        let len = self.read_len(snapshot)?;
        self.known_len.set(Some((version, len)));
        Ok(len)
    }

    fn read_len(&self, snapshot: &Snapshot) -> Result<u64> {
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
        if self.is_overtaken() {
            buf.fill(0);
            return self.refuse_overtaken();
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
        if offset == CHANGE_MARK.start
            && let Ok(buf) = <&mut Mark>::try_from(&mut *buf)
            && let Some(mark) = self.answer_mark()
        {
            *buf = mark;
            return Ok(true);
        }
        let have = match &self.file {
            Some(file) => file.read_at(buf, offset)?,
            None => self.reading().read_at(buf, offset)?,
        };
        if offset < FORMATS.end && offset + have as u64 > FORMATS.start {
            hide_wal(buf, offset);
        }
        // Not the header alone, which is read before there is a cache.
        if offset == 0 && buf.len() >= PAGE_BYTES_MIN {
            self.mark = mark_in(buf);
            if !self.is_changed() {
                self.cached = self.snapshot().map(identity_of);
            }
        }
        Ok(have == buf.len())
    }

    /// SQLite asks whether its cache is still true, by comparing these bytes with those that it remembers. They hold counters,
    /// which don't tell: a rollback to an older version can bring them back to where they were, and a commit need not
    /// store them ([`MainFile::try_commit`]). So the answer is what it remembers, or what it surely doesn't. `None`: there is
    /// nothing to compare with.
    fn answer_mark(&mut self) -> Option<Mark> {
        let file = self.file.as_ref().filter(|file| !file.is_changed())?;
        let snapshot = Some(file.snapshot()).filter(|snapshot| snapshot.page_count() > 0)?;
        let (now, mark) = (identity_of(snapshot), self.mark?);
        match self.cached.replace(now)? == now {
            true => Some(mark),
            false => Some(mark.map(|byte| !byte)),
        }
    }

    // ---- writing -----------------------------------------------------------------------------------------------------

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> c_int {
        if let Some(code) = self.failed {
            return code;
        }
        if !self.is_writing() {
            return self.refuse_unlocked();
        }
        if self.is_overtaken() {
            return self.refuse_overtaken();
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

    /// The file, to be written to. Only SQLite's header tells its length.
    fn writing(&mut self) -> Result<&mut StoreFile> {
        let len = match self.is_changed() {
            true => None,
            false => Some(self.len()?),
        };
        let unlocked =
            Error::InvalidOption { option: "lock", value: "none".into(), expected: "one is".into() };
        let file = self.file.as_mut().ok_or(unlocked)?;
        file.begin(len)?;
        Ok(file)
    }

    fn try_write(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        if offset == 0 {
            self.mark = mark_in(bytes);
        }
        self.writing()?.write_at(bytes, offset)
    }

    pub(super) fn truncate(&mut self, len: u64) -> c_int {
        if let Some(code) = self.failed {
            return code;
        }
        if !self.is_writing() {
            return self.refuse_unlocked();
        }
        if self.is_overtaken() {
            return self.refuse_overtaken();
        }
        match self.try_truncate(len) {
            Ok(()) => ffi::SQLITE_OK,
            Err(error) => self.fail(&error, Doing::Writing),
        }
    }

    fn try_truncate(&mut self, len: u64) -> Result<()> {
        match self.len()? == len {
            true => Ok(()),
            false => self.writing()?.set_len(len),
        }
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
        let Some(file) = &mut self.file else { return Ok(()) };
        let (page_size, before) = (self.page_size, identity_of(file.snapshot()));
        let committed = file.commit_prepared(self.durability, |txn, len| {
            let first = txn.written(PageId(0));
            // The file is cut only after SQLite's own commit; the header tells already, and so it is one commit here.
            let header = first.and_then(Header::read).and_then(|header| header.file_len());
            if let Some(file_len) = header.filter(|file_len| *file_len < len) {
                txn.truncate(file_len.div_ceil(page_size))?;
            }
            // A rollback writes back what was there. Only a completed transaction changes page 1 for sure.
            if !txn.differs()? {
                return Ok(false);
            }
            // Most often it is the counter of changes alone that does, which nobody needs: see `answer_mark`.
            txn.spare(PageId(0), are_same_but_for_counters)?;
            Ok(true)
        })?;
        if committed.is_some() {
            self.cached = Some(match file.is_overtaken() {
                // The next transaction finds the cache to be another version's.
                true => before,
                false => identity_of(file.snapshot()),
            });
        }
        Ok(())
    }

    /// Somebody wrote pages beside SQLite: its cache is no version's until the transaction has ended, which is committed.
    fn refuse_overtaken(&mut self) -> c_int {
        let message =
            "pages were written beside SQLite, behind its commit: end the transaction and begin again";
        self.message = Some(message.to_owned());
        tell(ffi::SQLITE_BUSY_SNAPSHOT, message)
    }

    /// A batch of atomic writes was given up: so is the whole transaction.
    pub(super) fn give_up(&mut self) -> c_int {
        if self.failed.is_none() {
            self.discard();
            self.failed = Some(ffi::SQLITE_ABORT_ROLLBACK);
        }
        ffi::SQLITE_OK
    }
}

impl Drop for MainFile {
    fn drop(&mut self) {
        self.database.leave_writer(self.number);
    }
}

/// What a page that begins the file says.
fn mark_in(page: &[u8]) -> Option<Mark> {
    let range = usize::try_from(CHANGE_MARK.start).ok()?..usize::try_from(CHANGE_MARK.end).ok()?;
    page.get(range)?.try_into().ok()
}
