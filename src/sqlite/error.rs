//! What vellum's errors are called in SQLite.
//!
//! SQLite knows numbers only. The message that goes with one is kept for `vellum_error()` and for
//! [`last_error`], and goes to SQLite's log.

use std::cell::RefCell;
use std::ffi::{CString, c_int};

use libsqlite3_sys as ffi;

use super::api::api;
use crate::error::Error;

/// What SQLite was doing when it failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doing {
    Opening,
    Locking,
    Reading,
    Writing,
    Committing,
    /// What a function in a statement was asked for.
    Asking,
}

/// The extended result code for an error.
pub(super) fn code_of(error: &Error, doing: Doing) -> c_int {
    match error {
        Error::Conflict { .. } | Error::SnapshotRevoked { .. } => ffi::SQLITE_BUSY_SNAPSHOT,
        Error::Locked { .. } | Error::RetainedLimit { .. } => ffi::SQLITE_BUSY,
        Error::Corrupt { .. } => ffi::SQLITE_IOERR_DATA,
        Error::Full { .. }
        | Error::LimboFull { .. }
        | Error::TransactionTooLarge { .. }
        | Error::TooManyPages { .. }
        | Error::VersionsExhausted { .. } => ffi::SQLITE_FULL,
        Error::NotAStore { .. } => ffi::SQLITE_NOTADB,
        Error::ReadOnly { .. } => ffi::SQLITE_READONLY_DIRECTORY,
        _ => match doing {
            Doing::Opening => ffi::SQLITE_CANTOPEN,
            Doing::Locking => ffi::SQLITE_IOERR_LOCK,
            Doing::Reading => ffi::SQLITE_IOERR_READ,
            Doing::Writing => ffi::SQLITE_IOERR_WRITE,
            Doing::Committing => ffi::SQLITE_IOERR_FSYNC,
            Doing::Asking => ffi::SQLITE_ERROR,
        },
    }
}

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Why SQLite was last told of a failure in this thread: the message that its result code can't carry. In SQL it is
/// `vellum_error()`; this is for what fails before there is a connection, such as opening.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// vellum::sqlite::use_paths()?;
/// let failed = rusqlite::Connection::open("file:/nowhere/app.db?vfs=vellum");
/// assert!(failed.is_err());
/// assert!(vellum::sqlite::last_error().unwrap().contains("/nowhere"));
/// # Ok(()) }
/// ```
#[must_use]
pub fn last_error() -> Option<String> {
    LAST.with_borrow(Clone::clone)
}

/// Takes note of a failure, for people; gives its code back.
pub(super) fn tell(code: c_int, message: &str) -> c_int {
    LAST.with_borrow_mut(|last| *last = Some(message.to_owned()));
    if let (Some(api), Ok(message)) = (api(), CString::new(format!("vellum: {message}"))) {
        api.write_log(code, &message);
    }
    code
}
