//! The functions of SQLite that are called, as a table: those that are linked in, or those that the program hands to an
//! extension which it loads.
//!
//! An extension must not bring a SQLite of its own: there would be two, with locks and lists that don't know of each other.
//! It is given the addresses of its host's functions instead, in an order that is fixed for all versions (`sqlite3ext.h`).
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use libsqlite3_sys as ffi;

use crate::error::{Error, Result};

/// The first version that has all that is needed here (eponymous tables, functions that schemas can't call).
const VERSION_MIN: c_int = 3_031_000;
/// Where `sqlite3ext.h` has the function that tells the version.
const VERSION_INDEX: usize = 67;

type SqlFunction = unsafe extern "C" fn(*mut ffi::sqlite3_context, c_int, *mut *mut ffi::sqlite3_value);
type Destroy = unsafe extern "C" fn(*mut c_void);
pub(super) type Entry =
    unsafe extern "C" fn(*mut ffi::sqlite3, *mut *mut c_char, *const ffi::sqlite3_api_routines) -> c_int;

macro_rules! api {
    ($($name:ident = $index:literal, $linked:ident: $signature:ty;)*) => {
        /// One field a function, named as in SQLite without its `sqlite3_`.
        pub(super) struct Api {
            $(pub(super) $name: $signature,)*
        }

        impl Api {
            fn linked() -> Api {
                Api { $($name: ffi::$linked,)* }
            }

            /// `None` if one is missing: the program was built without it.
            ///
            /// # Safety
            /// `routines` is the table that a SQLite of at least [`VERSION_MIN`] gave to an extension.
            unsafe fn of_host(routines: *const ffi::sqlite3_api_routines) -> Option<Api> {
                let table = routines.cast::<Option<unsafe extern "C" fn()>>();
                // SAFETY: the table consists of function pointers, and has more of them than the greatest index, since
                // it only ever grows and the version was checked. Each has the signature that `sqlite3ext.h` gives it.
                unsafe {
                    Some(Api {
                        $($name: std::mem::transmute::<unsafe extern "C" fn(), $signature>((*table.add($index))?),)*
                    })
                }
            }
        }
    };
}

api! {
    auto_extension = 192, sqlite3_auto_extension: unsafe extern "C" fn(Option<Entry>) -> c_int;
    context_db_handle = 149, sqlite3_context_db_handle: unsafe extern "C" fn(*mut ffi::sqlite3_context) -> *mut ffi::sqlite3;
    create_function_v2 = 162, sqlite3_create_function_v2: unsafe extern "C" fn(
        *mut ffi::sqlite3, *const c_char, c_int, c_int, *mut c_void,
        Option<SqlFunction>, Option<SqlFunction>, Option<unsafe extern "C" fn(*mut ffi::sqlite3_context)>, Option<Destroy>,
    ) -> c_int;
    create_module_v2 = 119, sqlite3_create_module_v2: unsafe extern "C" fn(
        *mut ffi::sqlite3, *const c_char, *const ffi::sqlite3_module, *mut c_void, Option<Destroy>,
    ) -> c_int;
    declare_vtab = 50, sqlite3_declare_vtab: unsafe extern "C" fn(*mut ffi::sqlite3, *const c_char) -> c_int;
    file_control = 127, sqlite3_file_control: unsafe extern "C" fn(*mut ffi::sqlite3, *const c_char, c_int, *mut c_void) -> c_int;
    get_autocommit = 60, sqlite3_get_autocommit: unsafe extern "C" fn(*mut ffi::sqlite3) -> c_int;
    log = 167, sqlite3_log: unsafe extern "C" fn(c_int, *const c_char, ...);
    malloc = 68, sqlite3_malloc: unsafe extern "C" fn(c_int) -> *mut c_void;
    result_error = 80, sqlite3_result_error: unsafe extern "C" fn(*mut ffi::sqlite3_context, *const c_char, c_int);
    result_error_code = 146, sqlite3_result_error_code: unsafe extern "C" fn(*mut ffi::sqlite3_context, c_int);
    result_int64 = 83, sqlite3_result_int64: unsafe extern "C" fn(*mut ffi::sqlite3_context, ffi::sqlite3_int64);
    result_null = 84, sqlite3_result_null: unsafe extern "C" fn(*mut ffi::sqlite3_context);
    result_text = 85, sqlite3_result_text: unsafe extern "C" fn(*mut ffi::sqlite3_context, *const c_char, c_int, Option<Destroy>);
    uri_parameter = 189, sqlite3_uri_parameter: unsafe extern "C" fn(*const c_char, *const c_char) -> *const c_char;
    user_data = 101, sqlite3_user_data: unsafe extern "C" fn(*mut ffi::sqlite3_context) -> *mut c_void;
    value_bytes = 103, sqlite3_value_bytes: unsafe extern "C" fn(*mut ffi::sqlite3_value) -> c_int;
    value_text = 109, sqlite3_value_text: unsafe extern "C" fn(*mut ffi::sqlite3_value) -> *const u8;
    vfs_find = 141, sqlite3_vfs_find: unsafe extern "C" fn(*const c_char) -> *mut ffi::sqlite3_vfs;
    vfs_register = 142, sqlite3_vfs_register: unsafe extern "C" fn(*mut ffi::sqlite3_vfs, c_int) -> c_int;
}

static API: OnceLock<Api> = OnceLock::new();

/// The table in use; the linked one, unless a host gave another before.
pub(super) fn api() -> Option<&'static Api> {
    API.get()
}

/// Takes the functions that are linked in.
pub(super) fn use_linked() -> &'static Api {
    API.get_or_init(Api::linked)
}

/// Takes the functions of the program that loads the extension.
///
/// # Safety
/// `routines` is null, or what SQLite gave to the extension's entry point.
pub(super) unsafe fn use_host(routines: *const ffi::sqlite3_api_routines) -> Result<&'static Api> {
    if let Some(api) = API.get() {
        return Ok(api);
    }
    let refuse = |found: String| {
        let (what, supported) =
            ("the program's SQLite".to_owned(), "3.31 or newer, with loadable extensions".to_owned());
        Error::Unsupported { what, found, supported }
    };
    if routines.is_null() {
        return Err(refuse("no functions for extensions".to_owned()));
    }
    let table = routines.cast::<Option<unsafe extern "C" fn() -> c_int>>();
    // SAFETY: every version's table has this function, at this place, with this signature.
    let version = unsafe { (*table.add(VERSION_INDEX)).map_or(0, |version| version()) };
    if version < VERSION_MIN {
        return Err(refuse(format!("version {version}")));
    }
    // SAFETY: the version was just checked.
    match unsafe { Api::of_host(routines) } {
        Some(api) => Ok(API.get_or_init(|| api)),
        None => Err(refuse(format!("version {version} without a function that is needed"))),
    }
}

impl Api {
    /// Writes a line to SQLite's log.
    pub(super) fn write_log(&self, code: c_int, message: &CStr) {
        // SAFETY: the format takes one C string, which lives until the call is over.
        unsafe { (self.log)(code, c"%s".as_ptr(), message.as_ptr()) }
    }
}

/// A copy in SQLite's own memory, which SQLite frees; null if there is none left.
pub(super) fn sqlite_string(api: &Api, text: &str) -> *mut c_char {
    let bytes = text.as_bytes();
    let bytes = &bytes[..bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())];
    let Ok(len) = c_int::try_from(bytes.len() + 1) else { return std::ptr::null_mut() };
    // SAFETY: allocates `len` bytes or gives null; what is written below fits them.
    unsafe {
        let copy = (api.malloc)(len).cast::<u8>();
        if !copy.is_null() {
            copy.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            *copy.add(bytes.len()) = 0;
        }
        copy.cast()
    }
}

/// What a C string of SQLite's says; `None` for null and for what isn't UTF-8.
///
/// # Safety
/// `text` is null or a C string that stays as it is meanwhile.
pub(super) unsafe fn text_of<'a>(text: *const c_char) -> Option<&'a str> {
    match text.is_null() {
        true => None,
        // SAFETY: as the caller promises.
        false => unsafe { CStr::from_ptr(text) }.to_str().ok(),
    }
}
