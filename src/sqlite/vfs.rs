//! The VFS: how SQLite opens files. Everything that isn't a database or its journal goes to the system's own VFS.
//!
//! There is one, registered once and never freed, because a connection may use its VFS for as long as it lives.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use libsqlite3_sys as ffi;

use super::api::{Api, api, text_of};
use super::error::{Doing, code_of, tell};
use super::file::MainFile;
use super::methods::{self, JournalFile, OpenFile, guarded};
use super::registry;
use crate::error::{Error, Result};

/// The VFS's name, for `?vfs=`.
pub const VFS_NAME: &str = "vellum";
const NAME: &CStr = c"vellum";

/// What was registered; SQLite links its VFSs to each other through it.
struct Registered(*mut ffi::sqlite3_vfs);

// SAFETY: the VFS is written to by SQLite only, under its own lock; what is read here never changes.
unsafe impl Send for Registered {}
// SAFETY: as above.
unsafe impl Sync for Registered {}

static REGISTERED: OnceLock<Registered> = OnceLock::new();

/// Registers the VFS with SQLite, if that wasn't done yet.
pub(super) fn ensure(api: &'static Api) -> Result<()> {
    // SAFETY: looks a VFS up by its name; null is the default one.
    let (default, same) = unsafe { ((api.vfs_find)(std::ptr::null()), (api.vfs_find)(NAME.as_ptr())) };
    if let Some(own) = REGISTERED.get()
        && std::ptr::eq(own.0, same)
    {
        return Ok(());
    }
    let refuse = |message: &str| {
        let (operation, message) = ("register the VFS \"vellum\"", message.to_owned());
        Err(Error::Sqlite { operation, code: ffi::SQLITE_ERROR, message })
    };
    if !same.is_null() {
        return refuse("another copy of vellum has registered it in this process: use that one's");
    }
    if default.is_null() {
        return refuse("there is no default VFS to build on");
    }
    // SAFETY: SQLite's default VFS is never freed.
    let vfs = REGISTERED.get_or_init(|| Registered(Box::into_raw(Box::new(unsafe { describe(default) }))));
    // SAFETY: the VFS is complete and lives forever.
    match unsafe { (api.vfs_register)(vfs.0, 0) } {
        ffi::SQLITE_OK => Ok(()),
        code => Err(Error::Sqlite {
            operation: "register the VFS \"vellum\"",
            code,
            message: "sqlite3_vfs_register failed".to_owned(),
        }),
    }
}

/// # Safety
/// `default` is a registered VFS that is never freed.
unsafe fn describe(default: *mut ffi::sqlite3_vfs) -> ffi::sqlite3_vfs {
    // SAFETY: as the caller promises.
    let base = unsafe { &*default };
    let own = size_of::<OpenFile>().max(size_of::<JournalFile>());
    ffi::sqlite3_vfs {
        iVersion: base.iVersion.min(2),
        szOsFile: base.szOsFile.max(c_int::try_from(own).unwrap_or(c_int::MAX)),
        mxPathname: base.mxPathname,
        pNext: std::ptr::null_mut(),
        zName: NAME.as_ptr(),
        pAppData: default.cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: Some(dl_open),
        xDlError: Some(dl_error),
        xDlSym: Some(dl_sym),
        xDlClose: Some(dl_close),
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(get_last_error),
        xCurrentTimeInt64: Some(current_time_int64),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }
}

/// The system's VFS, and a call of one of its functions; `$otherwise` if it has none of that name.
macro_rules! default {
    ($vfs:expr, $function:ident, $otherwise:expr $(, $argument:expr)*) => {{
        // SAFETY: `pAppData` is the default VFS (see `describe`), which is never freed; the arguments are SQLite's own.
        let default = unsafe { (*$vfs).pAppData.cast::<ffi::sqlite3_vfs>() };
        // SAFETY: as above.
        match unsafe { (*default).$function } {
            // SAFETY: as above.
            Some(function) => unsafe { function(default $(, $argument)*) },
            None => $otherwise,
        }
    }};
}

/// A parameter of the URI that a database was opened by.
///
/// # Safety
/// `name` is what SQLite gave to `xOpen` for a main database file.
unsafe fn parameter<'a>(api: &Api, name: *const c_char, key: &CStr) -> Option<&'a str> {
    // SAFETY: as the caller promises; the parameters lie behind the name, and live as long.
    unsafe { text_of((api.uri_parameter)(name, key.as_ptr())) }
}

const JOURNALS: c_int = ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL;

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    guarded(ffi::SQLITE_CANTOPEN, || {
        if flags & JOURNALS != 0 {
            // SAFETY: SQLite gives `szOsFile` bytes for the file.
            unsafe { methods::place_journal(file, flags & ffi::SQLITE_OPEN_SUPER_JOURNAL != 0) };
            return ffi::SQLITE_OK;
        }
        if flags & ffi::SQLITE_OPEN_WAL != 0 {
            // SAFETY: as above; no methods mean that the file isn't open.
            unsafe { (*file).pMethods = std::ptr::null() };
            return tell(
                ffi::SQLITE_CANTOPEN,
                "a database on vellum has no WAL: use journal_mode=MEMORY or DELETE",
            );
        }
        if flags & ffi::SQLITE_OPEN_MAIN_DB == 0 || name.is_null() {
            return default!(vfs, xOpen, ffi::SQLITE_CANTOPEN, name, file, flags, out_flags);
        }
        // SAFETY: as above; `name` is a main database's.
        match unsafe { open_main(name, flags) } {
            Ok(main) => {
                if !out_flags.is_null() {
                    let access = match main.is_read_only() {
                        true => ffi::SQLITE_OPEN_READONLY,
                        false => ffi::SQLITE_OPEN_READWRITE,
                    };
                    let asked = flags & !(ffi::SQLITE_OPEN_READONLY | ffi::SQLITE_OPEN_READWRITE);
                    // SAFETY: SQLite asks for the flags here.
                    unsafe { *out_flags = asked | access };
                }
                // SAFETY: as above.
                unsafe { methods::place_main(file, main) };
                ffi::SQLITE_OK
            }
            Err(error) => {
                // SAFETY: as above.
                unsafe { (*file).pMethods = std::ptr::null() };
                tell(code_of(&error, Doing::Opening), &error.to_string())
            }
        }
    })
}

/// # Safety
/// `name` is what SQLite gave to `xOpen` for a main database file.
unsafe fn open_main(name: *const c_char, flags: c_int) -> Result<MainFile> {
    let refuse = |option, value: &str, expected: &str| {
        Err(Error::InvalidOption { option, value: value.to_owned(), expected: expected.to_owned() })
    };
    let Some(api) = api() else { return refuse("vfs", "vellum", "a registered one is") };
    // SAFETY: as the caller promises.
    let (path, snapshot, page_size, batches) = unsafe {
        let parameter = |key| parameter(api, name, key);
        (text_of(name), parameter(c"snapshot"), parameter(c"page_size"), parameter(c"batches"))
    };
    let Some(path) = path else { return refuse("file name", "(not UTF-8)", "UTF-8 is") };
    let page_size = match page_size.map(str::parse) {
        None => None,
        Some(Ok(bytes)) => Some(bytes),
        Some(Err(_)) => {
            return refuse("page_size", page_size.unwrap_or_default(), "a power of two from 512 to 65536 is");
        }
    };
    let is_read_only = flags & ffi::SQLITE_OPEN_READWRITE == 0;
    let creates = flags & ffi::SQLITE_OPEN_CREATE != 0 && !is_read_only && snapshot.is_none();
    let database = registry::open(path, creates, page_size)?;
    let fixed = snapshot.map(|name| database.store.open_snapshot(name)).transpose();
    match fixed {
        Ok(fixed) => Ok(MainFile::new(database, fixed, is_read_only, batches != Some("0"))),
        Err(error) => {
            registry::close(database);
            Err(error)
        }
    }
}

/// Whether a name is that of a file which is never on a disk.
fn is_journal(name: &str) -> bool {
    let is_super =
        |(_, digits): (&str, &str)| digits.len() == 9 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.ends_with("-journal") || name.ends_with("-wal") || name.rsplit_once("-mj").is_some_and(is_super)
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync_dir: c_int) -> c_int {
    guarded(ffi::SQLITE_IOERR_DELETE, || {
        // SAFETY: SQLite gives a C string.
        match unsafe { text_of(name) } {
            Some(name) if is_journal(name) || registry::is_registered(name) => ffi::SQLITE_OK,
            _ => default!(vfs, xDelete, ffi::SQLITE_IOERR_DELETE, name, sync_dir),
        }
    })
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    found: *mut c_int,
) -> c_int {
    guarded(ffi::SQLITE_IOERR_ACCESS, || {
        // SAFETY: SQLite gives a C string, and a place for the answer.
        let answer = match unsafe { text_of(name) } {
            Some(name) if is_journal(name) => 0,
            Some(name) if registry::is_registered(name) => 1,
            _ => return default!(vfs, xAccess, ffi::SQLITE_IOERR_ACCESS, name, flags, found),
        };
        // SAFETY: as above.
        unsafe { *found = answer };
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn full_pathname(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    len: c_int,
    out: *mut c_char,
) -> c_int {
    guarded(ffi::SQLITE_CANTOPEN, || {
        // SAFETY: SQLite gives a C string, and `len` bytes for the answer.
        let bytes = match unsafe { text_of(name) } {
            Some(text) if registry::is_registered(text) => text.as_bytes(),
            _ => return default!(vfs, xFullPathname, ffi::SQLITE_CANTOPEN, name, len, out),
        };
        if usize::try_from(len).is_ok_and(|len| bytes.len() < len) {
            // SAFETY: it fits, with the zero at the end.
            unsafe {
                out.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                *out.add(bytes.len()) = 0;
            }
            return ffi::SQLITE_OK;
        }
        ffi::SQLITE_CANTOPEN
    })
}

unsafe extern "C" fn dl_open(vfs: *mut ffi::sqlite3_vfs, name: *const c_char) -> *mut c_void {
    default!(vfs, xDlOpen, std::ptr::null_mut(), name)
}

unsafe extern "C" fn dl_error(vfs: *mut ffi::sqlite3_vfs, len: c_int, message: *mut c_char) {
    default!(vfs, xDlError, (), len, message);
}

type Symbol = unsafe extern "C" fn(*mut ffi::sqlite3_vfs, *mut c_void, *const c_char);

unsafe extern "C" fn dl_sym(
    vfs: *mut ffi::sqlite3_vfs,
    handle: *mut c_void,
    symbol: *const c_char,
) -> Option<Symbol> {
    default!(vfs, xDlSym, None, handle, symbol)
}

unsafe extern "C" fn dl_close(vfs: *mut ffi::sqlite3_vfs, handle: *mut c_void) {
    default!(vfs, xDlClose, (), handle);
}

unsafe extern "C" fn randomness(vfs: *mut ffi::sqlite3_vfs, len: c_int, out: *mut c_char) -> c_int {
    default!(vfs, xRandomness, 0, len, out)
}

unsafe extern "C" fn sleep(vfs: *mut ffi::sqlite3_vfs, micros: c_int) -> c_int {
    default!(vfs, xSleep, 0, micros)
}

unsafe extern "C" fn current_time(vfs: *mut ffi::sqlite3_vfs, now: *mut f64) -> c_int {
    default!(vfs, xCurrentTime, ffi::SQLITE_ERROR, now)
}

unsafe extern "C" fn get_last_error(vfs: *mut ffi::sqlite3_vfs, len: c_int, message: *mut c_char) -> c_int {
    default!(vfs, xGetLastError, 0, len, message)
}

unsafe extern "C" fn current_time_int64(vfs: *mut ffi::sqlite3_vfs, now: *mut ffi::sqlite3_int64) -> c_int {
    default!(vfs, xCurrentTimeInt64, ffi::SQLITE_ERROR, now)
}
