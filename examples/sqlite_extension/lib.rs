//! vellum as an extension that SQLite loads: any program with the stock library gets the VFS and the SQL functions.
//!
//! ```sh
//! cargo build --release --features sqlite-bundled --example vellum_sqlite
//! sqlite3 -cmd '.load target/release/examples/libvellum_sqlite' 'file:app.vellum?vfs=vellum'
//! ```
//! The library that is loaded has no SQLite in it: it calls the program's own.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};

/// The name that SQLite looks for.
///
/// # Safety
/// Called by SQLite alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sqlite3_extension_init(
    db: *mut libsqlite3_sys::sqlite3,
    message: *mut *mut c_char,
    routines: *const libsqlite3_sys::sqlite3_api_routines,
) -> c_int {
    // SAFETY: these are SQLite's own arguments.
    unsafe { vellum::sqlite::load(db, message, routines) }
}
