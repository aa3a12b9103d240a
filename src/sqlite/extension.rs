//! How SQLite gets to know of all this: linked into the program, or as an extension that a program loads.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};

use libsqlite3_sys as ffi;

use super::api::{self, Api, api, sqlite_string};
use super::{functions, vfs};
use crate::error::{Error, Result};

/// Registers the VFS, so that `file:DIRECTORY?vfs=vellum` opens or creates a store, and gives the SQL functions to every
/// connection that is opened from now on. [`register`](super::register) does it too; once is enough.
///
/// # Errors
/// [`Error::Sqlite`].
pub fn use_paths() -> Result<()> {
    let api = api::use_linked();
    vfs::ensure(api)?;
    every_connection(api)
}

fn every_connection(api: &Api) -> Result<()> {
    // SAFETY: the function lives forever. SQLite keeps it once, however often it is given.
    match unsafe { (api.auto_extension)(Some(opened)) } {
        ffi::SQLITE_OK => Ok(()),
        code => Err(Error::Sqlite {
            operation: "add functions to connections",
            code,
            message: "sqlite3_auto_extension failed".to_owned(),
        }),
    }
}

/// SQLite calls this with each connection that is opened.
unsafe extern "C" fn opened(
    db: *mut ffi::sqlite3,
    _message: *mut *mut c_char,
    _routines: *const ffi::sqlite3_api_routines,
) -> c_int {
    match api() {
        // SAFETY: SQLite's new connection.
        Some(api) => unsafe { functions::add(api, db) },
        None => ffi::SQLITE_OK,
    }
}

/// The entry point of a loadable extension: registers the VFS with the program that loads it, for good, and gives the SQL
/// functions to this connection and to all later ones.
///
/// A `cdylib` exports it under the name that SQLite looks for (`sqlite3_extension_init`), as `examples/sqlite_extension` does. The
/// extension calls the SQLite of the program that loads it, never one of its own.
///
/// # Safety
/// The arguments are those that SQLite gave to the extension's entry point, unchanged.
pub unsafe fn load(
    db: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    routines: *const ffi::sqlite3_api_routines,
) -> c_int {
    // SAFETY: as the caller promises.
    let loaded = unsafe { api::use_host(routines) }.and_then(|api| {
        vfs::ensure(api)?;
        every_connection(api)?;
        Ok(api)
    });
    match loaded {
        // SAFETY: the connection that loads the extension.
        Ok(api) => match unsafe { functions::add(api, db) } {
            ffi::SQLITE_OK => ffi::SQLITE_OK_LOAD_PERMANENTLY,
            code => code,
        },
        Err(error) => {
            if let Some(api) = api()
                && !message.is_null()
            {
                // SAFETY: SQLite takes a message there, and frees it.
                unsafe { *message = sqlite_string(api, &error.to_string()) };
            }
            ffi::SQLITE_ERROR
        }
    }
}
