//! SQL functions: snapshots, rollback, export and clone, from any connection.
//!
//! They are for statements only, not for schemas (`SQLITE_DIRECTONLY`): a view or trigger of a database that came from elsewhere
//! can't write files with them. Each takes the schema's name (`main`, or what `ATTACH` gave) as a last argument, if it is another.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use libsqlite3_sys as ffi;

use super::api::{Api, api};
use super::error::{Doing, code_of, tell};
use super::file::MainFile;
use super::methods::{CALL, Call, guarded, is_in_transaction, is_main};
use super::tables::{self, Value};
use crate::error::{Error, Result};
use crate::snapshot::Snapshot;

/// A function: its name, the greatest number of arguments, the schema's among them, and what it does.
struct Function {
    name: &'static CStr,
    arguments: (usize, usize),
    run: fn(&mut MainFile, &[Option<String>]) -> Result<Value, Failure>,
}

/// A code and a message, as SQLite takes them.
pub(super) struct Failure {
    pub(super) code: c_int,
    pub(super) message: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        // After these SQLite ends the transaction around the statement too, which has nothing to do with it.
        let code = match code_of(&error, Doing::Asking) {
            code if matches!(code & 0xff, ffi::SQLITE_FULL | ffi::SQLITE_IOERR) => ffi::SQLITE_ERROR,
            code => code,
        };
        Failure { code, message: error.to_string() }
    }
}

fn refuse<T>(code: c_int, message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { code, message: message.into() })
}

static FUNCTIONS: [Function; 7] = [
    Function { name: c"vellum_snapshot", arguments: (1, 2), run: create_snapshot },
    Function { name: c"vellum_drop_snapshot", arguments: (1, 2), run: drop_snapshot },
    Function { name: c"vellum_version", arguments: (0, 1), run: version },
    Function { name: c"vellum_rollback", arguments: (1, 2), run: roll_back },
    Function { name: c"vellum_export", arguments: (1, 3), run: export },
    Function { name: c"vellum_clone", arguments: (1, 3), run: clone },
    Function { name: c"vellum_error", arguments: (0, 1), run: last_error },
];

/// Adds the functions and tables to a connection; SQLite's result code.
///
/// # Safety
/// `db` is an open connection.
pub(super) unsafe fn add(api: &'static Api, db: *mut ffi::sqlite3) -> c_int {
    for function in &FUNCTIONS {
        let data = std::ptr::from_ref(function).cast_mut().cast();
        let kind = ffi::SQLITE_UTF8 | ffi::SQLITE_DIRECTONLY;
        // SAFETY: an open connection, a C string, and a function that lives forever.
        let code = unsafe {
            (api.create_function_v2)(db, function.name.as_ptr(), -1, kind, data, Some(call), None, None, None)
        };
        if code != ffi::SQLITE_OK {
            return code;
        }
    }
    // SAFETY: as the caller promises.
    unsafe { tables::add(api, db) }
}

unsafe extern "C" fn call(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    let Some(api) = api() else { return };
    let done = guarded(ffi::SQLITE_INTERNAL, || {
        // SAFETY: the data is one of `FUNCTIONS` (see `add`), the values are as many as SQLite says.
        let (function, arguments, db) = unsafe {
            let function = &*(api.user_data)(context).cast::<Function>().cast_const();
            let arguments: Vec<Option<String>> =
                (0..usize::try_from(count).unwrap_or(0)).map(|at| text(api, *values.add(at))).collect();
            (function, arguments, (api.context_db_handle)(context))
        };
        // SAFETY: the context's connection.
        match unsafe { run(api, db, function, arguments) } {
            Ok(value) => set_result(api, context, &value),
            Err(failure) => {
                let message = CString::new(failure.message.replace('\0', " ")).unwrap_or_default();
                // SAFETY: SQLite copies the message, and leaves it where a code follows.
                unsafe {
                    (api.result_error)(context, message.as_ptr(), -1);
                    (api.result_error_code)(context, failure.code);
                }
            }
        }
        ffi::SQLITE_OK
    });
    if done != ffi::SQLITE_OK {
        // SAFETY: the context is still that of this call.
        unsafe { (api.result_error_code)(context, done) };
    }
}

/// # Safety
/// `db` is an open connection that this thread may use.
unsafe fn run(
    api: &Api,
    db: *mut ffi::sqlite3,
    function: &Function,
    mut arguments: Vec<Option<String>>,
) -> Result<Value, Failure> {
    let (least, most) = function.arguments;
    if arguments.len() < least || arguments.len() > most {
        let name = function.name.to_string_lossy();
        return refuse(
            ffi::SQLITE_ERROR,
            format!("{name}() takes {least} to {most} arguments, the last a schema's name"),
        );
    }
    let schema = match arguments.len() == most {
        true => arguments.pop().flatten(),
        false => None,
    };
    let work = |main: &mut MainFile| {
        (function.run)(main, &arguments).inspect_err(|failure| {
            main.message = Some(failure.message.clone());
            tell(failure.code, &failure.message);
        })
    };
    // SAFETY: as the caller promises.
    unsafe { with_file(api, db, schema.as_deref(), work) }
}

/// Calls `work` with the vellum file behind a schema of a connection. SQLite makes the call, as one of the file's methods: so nobody
/// else uses the file meanwhile, not even a connection in another thread that shares it (`cache=shared`).
///
/// # Safety
/// `db` is an open connection that this thread may use, and no other reference to the file is in use.
pub(super) unsafe fn with_file<T>(
    api: &Api,
    db: *mut ffi::sqlite3,
    schema: Option<&str>,
    work: impl FnOnce(&mut MainFile) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let schema = schema.unwrap_or("main");
    let name = CString::new(schema).unwrap_or_default();
    let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
    // SAFETY: this operation's argument is a place for the file's address.
    let is_ours = unsafe {
        (api.file_control)(db, name.as_ptr(), ffi::SQLITE_FCNTL_FILE_POINTER, (&raw mut file).cast());
        is_main(file)
    };
    if !is_ours {
        return refuse(
            ffi::SQLITE_ERROR,
            format!("{schema} is no database on vellum: open or attach one with vfs=vellum"),
        );
    }
    let (mut work, mut done) = (Some(work), None);
    let mut run = |main: &mut MainFile| done = work.take().map(|work| work(main));
    let mut call = Call { run: &mut run };
    // SAFETY: the file is one of vellum's, so this operation's argument is a call.
    unsafe { (api.file_control)(db, name.as_ptr(), CALL, (&raw mut call).cast()) };
    done.unwrap_or_else(|| refuse(ffi::SQLITE_INTERNAL, "the database file wasn't reached"))
}

/// # Safety
/// `value` is an argument of the function that is being called.
pub(super) unsafe fn text(api: &Api, value: *mut ffi::sqlite3_value) -> Option<String> {
    // SAFETY: the text is as long as SQLite says, asked in this order.
    unsafe {
        let bytes = (api.value_text)(value);
        let len = usize::try_from((api.value_bytes)(value)).unwrap_or(0);
        (!bytes.is_null())
            .then(|| String::from_utf8_lossy(std::slice::from_raw_parts(bytes, len)).into_owned())
    }
}

/// Gives a value back to SQLite.
pub(super) fn set_result(api: &Api, context: *mut ffi::sqlite3_context, value: &Value) {
    match value {
        // SAFETY: the context is that of the call that is going on.
        Value::Null => unsafe { (api.result_null)(context) },
        // SAFETY: as above.
        Value::Integer(value) => unsafe { (api.result_int64)(context, *value) },
        Value::Text(text) => {
            let len = c_int::try_from(text.len()).unwrap_or(c_int::MAX);
            // SAFETY: as above; SQLite copies the text.
            unsafe { (api.result_text)(context, text.as_ptr().cast::<c_char>(), len, Some(transient())) }
        }
    }
}

/// `SQLITE_TRANSIENT`: copy it.
fn transient() -> unsafe extern "C" fn(*mut c_void) {
    // SAFETY: the value -1 is never called: SQLite compares it with this constant.
    unsafe { std::mem::transmute::<isize, unsafe extern "C" fn(*mut c_void)>(-1) }
}

fn argument<'a>(arguments: &'a [Option<String>], at: usize, what: &str) -> Result<&'a str, Failure> {
    match arguments.get(at).and_then(Option::as_deref) {
        Some(text) => Ok(text),
        None => refuse(ffi::SQLITE_ERROR, format!("{what} can't be NULL")),
    }
}

/// Refuses a connection that was opened for reading only, be it at a snapshot: what it may not do to pages it may not do to the names
/// that keep them either, and a name would be given to a state that it doesn't read.
fn check_may_change(main: &MainFile) -> Result<(), Failure> {
    match main.is_read_only() {
        true => refuse(ffi::SQLITE_READONLY, "the database was opened for reading only"),
        false => Ok(()),
    }
}

fn integer(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// `vellum_snapshot(name)`: names what was committed last; gives its version.
fn create_snapshot(main: &mut MainFile, arguments: &[Option<String>]) -> Result<Value, Failure> {
    check_may_change(main)?;
    // A lock that is kept says nothing of a transaction.
    if main.is_writing() && (main.is_changed() || !main.keeps_locks || is_in_transaction(main)) {
        return refuse(ffi::SQLITE_BUSY, "a snapshot holds what is committed: commit or roll back first");
    }
    let snapshot = main.database.store.create_snapshot(argument(arguments, 0, "a snapshot's name")?)?;
    Ok(integer(snapshot.version().0))
}

/// `vellum_drop_snapshot(name)`: whoever reads it goes on.
fn drop_snapshot(main: &mut MainFile, arguments: &[Option<String>]) -> Result<Value, Failure> {
    check_may_change(main)?;
    main.database.store.drop_snapshot(argument(arguments, 0, "a snapshot's name")?)?;
    Ok(Value::Null)
}

/// `vellum_version()`: the version that the transaction reads.
#[allow(clippy::unnecessary_wraps, reason = "other functions can fail")]
fn version(main: &mut MainFile, _arguments: &[Option<String>]) -> Result<Value, Failure> {
    Ok(integer(main.reading().version().0))
}

/// `vellum_rollback(name)`: makes a snapshot's contents the current ones; gives the new version.
fn roll_back(main: &mut MainFile, arguments: &[Option<String>]) -> Result<Value, Failure> {
    let name = argument(arguments, 0, "a snapshot's name")?;
    check_may_change(main)?;
    if main.keeps_locks && main.lock_level() > ffi::SQLITE_LOCK_NONE {
        let message = "locking_mode=EXCLUSIVE keeps the version that was read: set it to NORMAL and read something first";
        return refuse(ffi::SQLITE_BUSY, message);
    }
    if main.is_writing() {
        return refuse(ffi::SQLITE_BUSY, "a transaction is being written: commit or roll it back first");
    }
    let database = Arc::clone(&main.database);
    if !database.take_writer(main.number()) {
        return refuse(ffi::SQLITE_BUSY, "another connection is writing: try again when it has finished");
    }
    let done = database.roll_back(name);
    database.leave_writer(main.number());
    Ok(integer(done?.version.0))
}

/// `vellum_error()`: why this database failed last.
#[allow(clippy::unnecessary_wraps, reason = "other functions can fail")]
fn last_error(main: &mut MainFile, _arguments: &[Option<String>]) -> Result<Value, Failure> {
    Ok(main.message.clone().map_or(Value::Null, Value::Text))
}

/// The snapshot that is named, or what the transaction reads.
fn chosen(main: &MainFile, arguments: &[Option<String>], at: usize) -> Result<Snapshot, Failure> {
    Ok(match arguments.get(at).and_then(Option::as_deref) {
        Some(name) => main.database.store.open_snapshot(name)?,
        None => main.reading(),
    })
}

/// Refuses a name in the store's own directory: what lies there is the store's, which would write over it, or not open any more
/// with a segment that isn't one.
fn check_outside(snapshot: &Snapshot, target: &Path) -> Result<()> {
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (snapshot.core().path().canonicalize(), parent.canonicalize()) {
        (Ok(store), Ok(parent)) if parent.starts_with(&store) => Err(Error::InvalidOption {
            option: "the target",
            value: target.display().to_string(),
            expected: "a place outside the store's own directory is".to_owned(),
        }),
        // What isn't there is told when it is needed.
        _ => Ok(()),
    }
}

/// `vellum_clone(dir [, snapshot])`: a store of its own, without copying; gives its version.
fn clone(main: &mut MainFile, arguments: &[Option<String>]) -> Result<Value, Failure> {
    let snapshot = chosen(main, arguments, 1)?;
    let dir = Path::new(argument(arguments, 0, "the clone's directory")?);
    check_outside(&snapshot, dir)?;
    let cloned = snapshot.clone_to(dir)?;
    Ok(integer(cloned.version.0))
}

/// `vellum_export(file [, snapshot])`: an ordinary SQLite file; gives its length. It is there when it is complete, and on the
/// disk.
fn export(main: &mut MainFile, arguments: &[Option<String>]) -> Result<Value, Failure> {
    let snapshot = chosen(main, arguments, 1)?;
    let path = Path::new(argument(arguments, 0, "the file's name")?);
    let len = export_file(&snapshot, path)?;
    Ok(integer(len))
}

/// Writes a snapshot as a file of pages, which is an ordinary SQLite file if SQLite wrote the store. The file appears, whole and
/// synced, under its name at the end. Costs a read of every page, beside writers and readers.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let file = home.path().join("copy.db");
/// use vellum::{Options, Store, sqlite};
/// let store = Store::in_memory(Options::new())?;
/// sqlite::register(&store, "exported.db")?;
/// rusqlite::Connection::open("file:exported.db?vfs=vellum")?.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)")?;
/// sqlite::export_file(&store.snapshot(), &file)?;
/// let copy = rusqlite::Connection::open(&file)?;             // stock SQLite, its own VFS
/// assert_eq!(copy.query_row("SELECT x FROM t", [], |row| row.get::<_, i64>(0))?, 1);
/// # sqlite::unregister("exported.db");
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Error::AlreadyExists`] if there is something of that name, [`Error::InvalidOption`] if it is in the store's own directory,
/// [`Error::Io`], [`Error::Stream`] (a full disk among others), and
/// what reading gives. The file isn't there then; if only its directory couldn't be synced it is there, and whole, but a power cut may
/// take its name.
pub fn export_file(snapshot: &Snapshot, path: impl AsRef<Path>) -> Result<u64> {
    let path = path.as_ref();
    if path.symlink_metadata().is_ok() {
        return Err(Error::AlreadyExists { dir: path.to_owned() });
    }
    check_outside(snapshot, path)?;
    // A name of its own, whoever else exports to the same file, and not longer for a long one.
    let staging = format!(".vellum-exporting-{}-{:x}", std::process::id(), crate::open::random128());
    let staging = path.with_file_name(staging);
    let io = |operation, file: &Path| {
        let file = file.to_owned();
        move |error| Error::io(operation, file, error)
    };
    let done = (|| {
        let file =
            OpenOptions::new().write(true).create_new(true).open(&staging).map_err(io("create", path))?;
        let len = write_pages(snapshot, &file)?;
        file.sync_all().map_err(io("sync", path))?;
        // Fails if somebody else has made a file of that name meanwhile, where a rename would replace it.
        std::fs::hard_link(&staging, path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Error::AlreadyExists { dir: path.to_owned() },
            _ => Error::io("name", path.to_owned(), error),
        })?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync", dir))?;
        Ok(len)
    })();
    // It has its name, or is of no use.
    let _ = std::fs::remove_file(&staging);
    done
}

fn write_pages(snapshot: &Snapshot, file: &File) -> Result<u64> {
    let mut buffered = BufWriter::with_capacity(1 << 20, file);
    let raw = snapshot.export_raw(&mut buffered, &mut ())?;
    buffered.flush().map_err(|error| Error::Stream { operation: "write to", source: Arc::new(error) })?;
    // Pages of SQLite's that are smaller than the store's end where their header says.
    let len = super::database::read_header(snapshot)?.and_then(|header| header.file_len());
    let len = len.filter(|len| *len <= raw.bytes).unwrap_or(raw.bytes);
    file.set_len(len).map_err(|error| Error::Stream { operation: "cut", source: Arc::new(error) })?;
    Ok(len)
}
