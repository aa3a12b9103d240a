//! What SQLite calls on a file that it has opened: the way from C into [`MainFile`] and [`Journal`], and back.
//!
//! SQLite calls the methods of one file from one thread at a time (it holds the connection's mutex, or was promised that the
//! program does, and that of the cache where connections share one), so a `&mut` made here is the only one.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use libsqlite3_sys as ffi;

use super::api::{api, sqlite_string, text_of};
use super::error::tell;
use super::file::MainFile;
use super::journal::{Journal, names_ordinary_file};
use super::registry;
use super::vfs::VFS_NAME;
use crate::options::Durability;

/// What SQLite keeps for an open database.
#[repr(C)]
pub(super) struct OpenFile {
    base: ffi::sqlite3_file,
    main: *mut MainFile,
}

/// What SQLite keeps for an open journal.
#[repr(C)]
pub(super) struct JournalFile {
    base: ffi::sqlite3_file,
    journal: *mut Journal,
    /// Whether it names the journals of a transaction over several files.
    is_super: bool,
}

/// Calls `work`; a panic doesn't go on into C, but becomes `code`.
pub(super) fn guarded(code: c_int, work: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(code)
}

/// Makes `file` an open database.
///
/// # Safety
/// `file` points to `szOsFile` bytes that SQLite gave to `xOpen`.
pub(super) unsafe fn place_main(file: *mut ffi::sqlite3_file, main: MainFile) {
    let open = OpenFile {
        base: ffi::sqlite3_file { pMethods: &raw const MAIN },
        main: Box::into_raw(Box::new(main)),
    };
    // SAFETY: as the caller promises; `szOsFile` is at least the size of this.
    unsafe { file.cast::<OpenFile>().write(open) }
}

/// Makes `file` an open, empty journal.
///
/// # Safety
/// As [`place_main`].
pub(super) unsafe fn place_journal(file: *mut ffi::sqlite3_file, is_super: bool) {
    let journal = Box::into_raw(Box::default());
    let open = JournalFile { base: ffi::sqlite3_file { pMethods: &raw const JOURNAL }, journal, is_super };
    // SAFETY: as above.
    unsafe { file.cast::<JournalFile>().write(open) }
}

/// Whether a file of SQLite's is a database on vellum.
///
/// # Safety
/// `file` is null or an open file.
pub(super) unsafe fn is_main(file: *mut ffi::sqlite3_file) -> bool {
    // SAFETY: an open file begins with its methods; those of `MAIN` are given to files of `place_main` alone.
    !file.is_null() && unsafe { std::ptr::eq((*file).pMethods, &raw const MAIN) }
}

/// The file control by which vellum's SQL functions reach their file; its argument is a [`Call`]. SQLite's own numbers are small.
pub(super) const CALL: c_int = 0x7665_6c6c;

/// What is done with a file as one of its methods, while SQLite keeps everybody else from it.
pub(super) struct Call<'a> {
    pub(super) run: &'a mut dyn FnMut(&mut MainFile),
}

/// # Safety
/// `file` was made by [`place_main`], and nothing else uses it meanwhile: see the head of this file.
unsafe fn main<'a>(file: *mut ffi::sqlite3_file) -> &'a mut MainFile {
    // SAFETY: as the caller promises.
    unsafe { &mut *(*file.cast::<OpenFile>()).main }
}

/// # Safety
/// As [`main`], for [`place_journal`].
unsafe fn journal<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Journal {
    // SAFETY: as the caller promises.
    unsafe { &mut *(*file.cast::<JournalFile>()).journal }
}

static MAIN: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 3,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    // No shared memory: no WAL.
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: Some(fetch),
    xUnfetch: Some(unfetch),
};

static JOURNAL: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(journal_close),
    xRead: Some(journal_read),
    xWrite: Some(journal_write),
    xTruncate: Some(journal_truncate),
    xSync: Some(journal_sync),
    xFileSize: Some(journal_file_size),
    xLock: Some(journal_lock),
    xUnlock: Some(journal_lock),
    xCheckReservedLock: Some(journal_check),
    xFileControl: Some(journal_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(journal_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// SQLite's offsets and lengths are signed and never negative.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// # Safety
/// `bytes` points to `len` bytes to be filled.
unsafe fn target<'a>(bytes: *mut c_void, len: c_int) -> &'a mut [u8] {
    // SAFETY: as the caller promises. SQLite's buffers are allocated and written to before.
    unsafe { std::slice::from_raw_parts_mut(bytes.cast(), usize::try_from(len).unwrap_or(0)) }
}

/// # Safety
/// `bytes` points to `len` bytes.
unsafe fn source<'a>(bytes: *const c_void, len: c_int) -> &'a [u8] {
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts(bytes.cast(), usize::try_from(len).unwrap_or(0)) }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    guarded(ffi::SQLITE_IOERR_CLOSE, || {
        // SAFETY: the file was made by `place_main`; it is given back once, and SQLite calls nothing more on it.
        let main = unsafe { Box::from_raw((*file.cast::<OpenFile>()).main) };
        registry::close(main);
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    bytes: *mut c_void,
    len: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: SQLite's file and buffer.
    guarded(ffi::SQLITE_IOERR_READ, || unsafe { main(file).read(target(bytes, len), unsigned(offset)) })
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    len: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: SQLite's file and buffer.
    guarded(ffi::SQLITE_IOERR_WRITE, || unsafe { main(file).write(source(bytes, len), unsigned(offset)) })
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, len: i64) -> c_int {
    // SAFETY: SQLite's file.
    guarded(ffi::SQLITE_IOERR_TRUNCATE, || unsafe { main(file).truncate(unsigned(len)) })
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: SQLite's file.
    guarded(ffi::SQLITE_IOERR_FSYNC, || unsafe { main(file).commit() })
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    guarded(ffi::SQLITE_IOERR_FSTAT, || {
        // SAFETY: SQLite's file, and a place for the answer.
        match unsafe { main(file).file_size() } {
            Ok(len) => {
                // SAFETY: as above.
                unsafe { *size = i64::try_from(len).unwrap_or(i64::MAX) };
                ffi::SQLITE_OK
            }
            Err(code) => code,
        }
    })
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite's file.
    guarded(ffi::SQLITE_IOERR_LOCK, || unsafe { main(file).lock(level) })
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite's file.
    guarded(ffi::SQLITE_IOERR_UNLOCK, || unsafe { main(file).unlock(level) })
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, answer: *mut c_int) -> c_int {
    guarded(ffi::SQLITE_IOERR_CHECKRESERVEDLOCK, || {
        // SAFETY: SQLite's file, and a place for the answer.
        unsafe { *answer = c_int::from(main(file).database.has_writer()) };
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    // Nothing is torn: pages that lie next to a written one need no journal.
    512
}

unsafe extern "C" fn device_characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    let always = ffi::SQLITE_IOCAP_SAFE_APPEND
        | ffi::SQLITE_IOCAP_SEQUENTIAL
        | ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
        | SUBPAGE_READ;
    // SAFETY: SQLite's file.
    guarded(always, || match unsafe { main(file).has_batches } {
        true => always | ffi::SQLITE_IOCAP_BATCH_ATOMIC,
        false => always,
    })
}

/// `SQLITE_IOCAP_SUBPAGE_READ`, of 3.48.
const SUBPAGE_READ: c_int = 0x8000;

unsafe extern "C" fn fetch(
    file: *mut ffi::sqlite3_file,
    offset: i64,
    len: c_int,
    out: *mut *mut c_void,
) -> c_int {
    guarded(ffi::SQLITE_IOERR_MMAP, || {
        // SAFETY: SQLite's file, and a place for the answer. It only reads what it is lent.
        unsafe {
            let lent = main(file).lend(unsigned(offset), usize::try_from(len).unwrap_or(0));
            *out = lent.map_or(std::ptr::null_mut(), |bytes| bytes.cast_mut().cast());
        }
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn unfetch(file: *mut ffi::sqlite3_file, _offset: i64, bytes: *mut c_void) -> c_int {
    guarded(ffi::SQLITE_IOERR_MMAP, || {
        if !bytes.is_null() {
            // SAFETY: SQLite's file.
            unsafe { main(file).take_back() };
        }
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn file_control(file: *mut ffi::sqlite3_file, op: c_int, argument: *mut c_void) -> c_int {
    guarded(ffi::SQLITE_IOERR, || {
        // SAFETY: SQLite's file.
        let main = unsafe { main(file) };
        match op {
            ffi::SQLITE_FCNTL_SYNC
            | ffi::SQLITE_FCNTL_COMMIT_PHASETWO
            | ffi::SQLITE_FCNTL_COMMIT_ATOMIC_WRITE => main.commit(),
            ffi::SQLITE_FCNTL_BEGIN_ATOMIC_WRITE => ffi::SQLITE_OK,
            ffi::SQLITE_FCNTL_ROLLBACK_ATOMIC_WRITE => main.give_up(),
            ffi::SQLITE_FCNTL_LOCKSTATE => {
                // SAFETY: this operation's argument is an int to be set.
                unsafe { *argument.cast::<c_int>() = main.lock_level() };
                ffi::SQLITE_OK
            }
            ffi::SQLITE_FCNTL_HAS_MOVED => {
                // SAFETY: as above.
                unsafe { *argument.cast::<c_int>() = 0 };
                ffi::SQLITE_OK
            }
            ffi::SQLITE_FCNTL_MMAP_SIZE => {
                // SAFETY: this operation's argument is a 64-bit integer, set to what held before.
                let limit = unsafe { &mut *argument.cast::<i64>() };
                let before = main.lending.limit;
                if *limit >= 0 {
                    main.lending.limit = *limit;
                }
                *limit = before;
                ffi::SQLITE_OK
            }
            ffi::SQLITE_FCNTL_VFSNAME => {
                let Some(api) = api() else { return ffi::SQLITE_NOTFOUND };
                // SAFETY: this operation's argument is a string to be set, which SQLite frees.
                unsafe { *argument.cast::<*mut c_char>() = sqlite_string(api, VFS_NAME) };
                ffi::SQLITE_OK
            }
            ffi::SQLITE_FCNTL_PDB => {
                main.connection = argument.cast_const().cast();
                ffi::SQLITE_OK
            }
            CALL if !argument.is_null() => {
                // SAFETY: this operation's argument is a call, which nobody else uses.
                let call = unsafe { &mut *argument.cast::<Call<'_>>() };
                (call.run)(main);
                ffi::SQLITE_OK
            }
            // SAFETY: this operation's argument is three strings.
            ffi::SQLITE_FCNTL_PRAGMA => unsafe { pragma(main, argument.cast()) },
            _ => ffi::SQLITE_NOTFOUND,
        }
    })
}

/// Whether the connection that uses the file is in a transaction that was begun with `BEGIN`: SQLite refuses some pragmas there.
pub(super) fn is_in_transaction(main: &MainFile) -> bool {
    let Some(api) = api().filter(|_| !main.connection.is_null()) else { return false };
    // SAFETY: the place is a field of the cache that has the file open, so it outlives the file. SQLite sets it before it calls a method
    // on a connection's behalf, and that connection is open.
    unsafe {
        let connection = *main.connection;
        !connection.is_null() && (api.get_autocommit)(connection) == 0
    }
}

/// In the order in which SQLite compares what it is given with the beginning of each.
const JOURNAL_MODES: [&str; 6] = ["delete", "persist", "off", "truncate", "memory", "wal"];

/// Looks at a pragma before SQLite does.
///
/// # Safety
/// `strings` are the three of `SQLITE_FCNTL_PRAGMA`: a place for the answer, the name, and the value or null.
unsafe fn pragma(main: &mut MainFile, strings: *mut *mut c_char) -> c_int {
    // SAFETY: as the caller promises.
    let (name, value) = unsafe { (text_of(*strings.add(1)), text_of(*strings.add(2))) };
    let (Some(name), Some(value)) = (name, value) else { return ffi::SQLITE_NOTFOUND };
    let value = value.to_ascii_lowercase();
    if name.eq_ignore_ascii_case("synchronous") && !is_in_transaction(main) {
        // As with a WAL: with NORMAL a power cut may cost the last transactions, and nothing else.
        main.durability = match value.as_str() {
            "off" | "no" | "false" | "0" | "normal" | "1" => Durability::Buffered,
            _ => Durability::Sync,
        };
    }
    if name.eq_ignore_ascii_case("locking_mode") {
        match value.as_str() {
            "normal" => main.keeps_locks = false,
            "exclusive" if !main.keep_locks() => {
                let message =
                    "others have written since this transaction began to read, or are writing: commit first";
                if let Some(api) = api() {
                    // SAFETY: as above; SQLite frees the message.
                    unsafe { *strings = sqlite_string(api, message) };
                }
                return tell(ffi::SQLITE_BUSY, message);
            }
            _ => {}
        }
    }
    if name.eq_ignore_ascii_case("journal_mode")
        && let Some(mode) = JOURNAL_MODES.into_iter().find(|mode| mode.starts_with(&value))
    {
        if mode != "wal" {
            main.journal_mode = mode;
        } else if let Some(api) = api() {
            // SQLite would note the WAL in the file before it found out that there can be none, if it keeps its locks. It answers
            // with the mode that stays where one can't be had.
            // SAFETY: as above; SQLite frees the answer.
            unsafe { *strings = sqlite_string(api, main.journal_mode) };
            return ffi::SQLITE_OK;
        }
    }
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn journal_close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the file was made by `place_journal`; it is given back once, and SQLite calls nothing more on it.
    drop(unsafe { Box::from_raw((*file.cast::<JournalFile>()).journal) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn journal_read(
    file: *mut ffi::sqlite3_file,
    bytes: *mut c_void,
    len: c_int,
    offset: i64,
) -> c_int {
    guarded(ffi::SQLITE_IOERR_READ, || {
        // SAFETY: SQLite's file and buffer.
        match unsafe { journal(file).read(target(bytes, len), unsigned(offset)) } {
            true => ffi::SQLITE_OK,
            false => ffi::SQLITE_IOERR_SHORT_READ,
        }
    })
}

unsafe extern "C" fn journal_write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    len: c_int,
    offset: i64,
) -> c_int {
    guarded(ffi::SQLITE_IOERR_WRITE, || {
        // SAFETY: SQLite's file, which `place_journal` made, and buffer.
        let (is_super, bytes) = unsafe { ((*file.cast::<JournalFile>()).is_super, source(bytes, len)) };
        if is_super && names_ordinary_file(bytes) {
            return tell(
                ffi::SQLITE_CANTOPEN,
                "a transaction that begins on vellum can't write ordinary files too, which a crash would leave half written: \
                 open the ordinary file first and attach this one, or set `PRAGMA main.journal_mode=MEMORY` if there is one \
                 ordinary file",
            );
        }
        // SAFETY: as above.
        match unsafe { journal(file).write(bytes, unsigned(offset)) } {
            true => ffi::SQLITE_OK,
            false => ffi::SQLITE_NOMEM,
        }
    })
}

unsafe extern "C" fn journal_truncate(file: *mut ffi::sqlite3_file, len: i64) -> c_int {
    // SAFETY: SQLite's file.
    unsafe { journal(file).truncate(unsigned(len)) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn journal_sync(_file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn journal_file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: SQLite's file, and a place for the answer.
    unsafe { *size = i64::try_from(journal(file).len()).unwrap_or(i64::MAX) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn journal_lock(_file: *mut ffi::sqlite3_file, _level: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn journal_check(_file: *mut ffi::sqlite3_file, answer: *mut c_int) -> c_int {
    // SAFETY: a place for the answer.
    unsafe { *answer = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn journal_control(
    _file: *mut ffi::sqlite3_file,
    _op: c_int,
    _argument: *mut c_void,
) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn journal_characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_SAFE_APPEND | ffi::SQLITE_IOCAP_SEQUENTIAL | ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}
