//! Tables to read: `vellum_snapshots` and `vellum_stats`.
//!
//! Both are there in every connection without being created. `SELECT * FROM vellum_stats('other')` asks about an attached
//! database: the schema's name is a hidden column, which SQLite fills from the argument.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::time::{SystemTime, UNIX_EPOCH};

use libsqlite3_sys as ffi;

use super::api::{Api, api, sqlite_string};
use super::file::MainFile;
use super::functions::{Failure, set_result, with_file};
use super::methods::guarded;
use crate::error::Result;

/// A value for SQLite.
pub(super) enum Value {
    Null,
    Integer(i64),
    Text(String),
}

type Row = Vec<Value>;

struct Table {
    name: &'static CStr,
    declaration: &'static CStr,
    /// Which column is the hidden one.
    schema_column: c_int,
    rows: fn(&MainFile) -> Result<Vec<Row>>,
}

static TABLES: [Table; 2] = [
    Table {
        name: c"vellum_snapshots",
        declaration: c"CREATE TABLE x(name TEXT, version INTEGER, created_at INTEGER, expires_at INTEGER, pages INTEGER, \
            unique_bytes INTEGER, fingerprint TEXT, holders TEXT, schema TEXT HIDDEN)",
        schema_column: 8,
        rows: snapshots,
    },
    Table {
        name: c"vellum_stats",
        declaration: c"CREATE TABLE x(name TEXT, value INTEGER, schema TEXT HIDDEN)",
        schema_column: 2,
        rows: stats,
    },
];

fn integer(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Seconds since 1970, as SQLite's `datetime(x, 'unixepoch')` takes them.
fn seconds(time: SystemTime) -> Value {
    integer(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

fn snapshots(main: &MainFile) -> Result<Vec<Row>> {
    let store = &main.database.store;
    let space = store.snapshot_space()?;
    let unique = |name: &str| space.iter().find(|space| space.name == name).map(|space| space.unique_bytes);
    let row = |named: crate::NamedSnapshot| {
        let holders: Vec<String> = named.holds.into_iter().map(|hold| hold.owner).collect();
        vec![
            Value::Text(named.name.clone()),
            integer(named.version.0),
            seconds(named.created_at),
            named.expires_at.map_or(Value::Null, seconds),
            integer(named.page_count),
            unique(&named.name).map_or(Value::Null, integer),
            Value::Text(named.fingerprint.to_string()),
            Value::Text(holders.join(", ")),
            Value::Null,
        ]
    };
    Ok(store.snapshots().into_iter().map(row).collect())
}

#[allow(clippy::unnecessary_wraps, reason = "the other table's rows can fail")]
fn stats(main: &MainFile) -> Result<Vec<Row>> {
    let stats = main.database.store.stats();
    let numbers = [
        ("version", stats.version.0),
        ("durable_version", stats.durable_version.0),
        ("page_count", stats.page_count),
        ("page_size", u64::from(stats.page_size)),
        ("live_bytes", stats.live_bytes),
        ("allocated_bytes", stats.allocated_bytes),
        ("retained_bytes", stats.retained_bytes()),
        ("disk_bytes", stats.disk_bytes),
        ("segments", stats.segments),
        ("free_segments", stats.free_segments),
        ("packed_segments", stats.packed_segments),
        ("pins", stats.pins),
        ("transactions", stats.transactions),
        ("conflicts", stats.conflicts),
        ("pages_written", stats.pages_written),
        ("appended_bytes", stats.appended_bytes),
        ("syncs", stats.syncs),
        ("sync_nanos", stats.sync_nanos),
        ("checkpoints", stats.checkpoints),
        ("log_bytes", stats.log_bytes),
        ("table_memory_bytes", stats.table_memory_bytes),
        ("cache_hits", stats.cache_hits),
        ("cache_misses", stats.cache_misses),
        ("limbo_bytes", stats.limbo_bytes),
        ("verified_bytes", stats.verified_bytes),
    ];
    Ok(numbers
        .into_iter()
        .map(|(name, value)| vec![Value::Text(name.to_owned()), integer(value), Value::Null])
        .collect())
}

/// What SQLite keeps for a table in a connection.
#[repr(C)]
struct Connected {
    base: ffi::sqlite3_vtab,
    db: *mut ffi::sqlite3,
    table: &'static Table,
}

/// What SQLite keeps for a scan.
#[repr(C)]
struct Cursor {
    base: ffi::sqlite3_vtab_cursor,
    rows: Vec<Row>,
    at: usize,
}

/// Without `xCreate` a table is there by its module's name alone.
static MODULE: ffi::sqlite3_module = ffi::sqlite3_module {
    iVersion: 1,
    xCreate: None,
    xConnect: Some(connect),
    xBestIndex: Some(best_index),
    xDisconnect: Some(disconnect),
    xDestroy: None,
    xOpen: Some(open),
    xClose: Some(close),
    xFilter: Some(filter),
    xNext: Some(next),
    xEof: Some(eof),
    xColumn: Some(column),
    xRowid: Some(rowid),
    xUpdate: None,
    xBegin: None,
    xSync: None,
    xCommit: None,
    xRollback: None,
    xFindFunction: None,
    xRename: None,
    xSavepoint: None,
    xRelease: None,
    xRollbackTo: None,
    xShadowName: None,
    xIntegrity: None,
};

/// Adds the tables to a connection; SQLite's result code.
///
/// # Safety
/// `db` is an open connection.
pub(super) unsafe fn add(api: &Api, db: *mut ffi::sqlite3) -> c_int {
    for table in &TABLES {
        let data = std::ptr::from_ref(table).cast_mut().cast();
        // SAFETY: an open connection, a C string, and a module and a table that live forever.
        let code = unsafe { (api.create_module_v2)(db, table.name.as_ptr(), &raw const MODULE, data, None) };
        if code != ffi::SQLITE_OK {
            return code;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn connect(
    db: *mut ffi::sqlite3,
    data: *mut c_void,
    _count: c_int,
    _arguments: *const *const c_char,
    out: *mut *mut ffi::sqlite3_vtab,
    _message: *mut *mut c_char,
) -> c_int {
    let Some(api) = api() else { return ffi::SQLITE_ERROR };
    // SAFETY: the data is one of `TABLES` (see `add`); SQLite asks for the table's address.
    unsafe {
        let table = &*data.cast::<Table>().cast_const();
        let code = (api.declare_vtab)(db, table.declaration.as_ptr());
        if code == ffi::SQLITE_OK {
            let base =
                ffi::sqlite3_vtab { pModule: std::ptr::null(), nRef: 0, zErrMsg: std::ptr::null_mut() };
            *out = Box::into_raw(Box::new(Connected { base, db, table })).cast();
        }
        code
    }
}

unsafe extern "C" fn disconnect(table: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: made by `connect`, and given back once.
    drop(unsafe { Box::from_raw(table.cast::<Connected>()) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn best_index(table: *mut ffi::sqlite3_vtab, info: *mut ffi::sqlite3_index_info) -> c_int {
    const EQUALS: u8 = 2;
    // SAFETY: made by `connect`; SQLite's arrays are as long as it says.
    unsafe {
        let schema_column = (*table.cast::<Connected>()).table.schema_column;
        (*info).estimatedCost = 1000.0;
        for at in 0..usize::try_from((*info).nConstraint).unwrap_or(0) {
            let constraint = &*(*info).aConstraint.add(at);
            if constraint.iColumn == schema_column && constraint.op == EQUALS {
                if constraint.usable == 0 {
                    return ffi::SQLITE_CONSTRAINT;
                }
                let usage = &mut *(*info).aConstraintUsage.add(at);
                usage.argvIndex = 1;
                usage.omit = 1;
                (*info).idxNum = 1;
                break;
            }
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn open(_table: *mut ffi::sqlite3_vtab, out: *mut *mut ffi::sqlite3_vtab_cursor) -> c_int {
    let base = ffi::sqlite3_vtab_cursor { pVtab: std::ptr::null_mut() };
    let cursor = Box::new(Cursor { base, rows: Vec::new(), at: 0 });
    // SAFETY: SQLite asks for the cursor's address.
    unsafe { *out = Box::into_raw(cursor).cast() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: made by `open`, and given back once.
    drop(unsafe { Box::from_raw(cursor.cast::<Cursor>()) });
    ffi::SQLITE_OK
}

/// # Safety
/// `cursor` was made by `open`; SQLite uses it from one thread at a time.
unsafe fn cursor<'a>(cursor: *mut ffi::sqlite3_vtab_cursor) -> &'a mut Cursor {
    // SAFETY: as the caller promises.
    unsafe { &mut *cursor.cast::<Cursor>() }
}

unsafe extern "C" fn filter(
    cursor_pointer: *mut ffi::sqlite3_vtab_cursor,
    index: c_int,
    _name: *const c_char,
    _count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) -> c_int {
    let Some(api) = api() else { return ffi::SQLITE_ERROR };
    guarded(ffi::SQLITE_INTERNAL, || {
        // SAFETY: SQLite's cursor, whose table was made by `connect`; one value if `best_index` said so.
        let (cursor, connected, schema) = unsafe {
            let cursor = cursor(cursor_pointer);
            let connected = &mut *cursor.base.pVtab.cast::<Connected>();
            let schema = if index == 1 { super::functions::text(api, *values) } else { None };
            (cursor, connected, schema)
        };
        // SAFETY: the table's own connection, in whose statement this is.
        let rows = unsafe {
            with_file(api, connected.db, schema.as_deref(), |main| {
                (connected.table.rows)(main).map_err(Failure::from)
            })
        };
        cursor.at = 0;
        match rows {
            Ok(rows) => {
                cursor.rows = rows;
                ffi::SQLITE_OK
            }
            Err(failure) => {
                connected.base.zErrMsg = sqlite_string(api, &failure.message);
                failure.code
            }
        }
    })
}

unsafe extern "C" fn next(pointer: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: SQLite's cursor.
    unsafe { cursor(pointer).at += 1 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn eof(pointer: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: SQLite's cursor.
    let cursor = unsafe { cursor(pointer) };
    c_int::from(cursor.at >= cursor.rows.len())
}

unsafe extern "C" fn column(
    pointer: *mut ffi::sqlite3_vtab_cursor,
    context: *mut ffi::sqlite3_context,
    column: c_int,
) -> c_int {
    let Some(api) = api() else { return ffi::SQLITE_ERROR };
    // SAFETY: SQLite's cursor.
    let cursor = unsafe { cursor(pointer) };
    let value = usize::try_from(column).ok().and_then(|column| cursor.rows.get(cursor.at)?.get(column));
    set_result(api, context, value.unwrap_or(&Value::Null));
    ffi::SQLITE_OK
}

unsafe extern "C" fn rowid(pointer: *mut ffi::sqlite3_vtab_cursor, out: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: SQLite's cursor, and a place for the answer.
    unsafe { *out = i64::try_from(cursor(pointer).at).unwrap_or(i64::MAX) };
    ffi::SQLITE_OK
}
