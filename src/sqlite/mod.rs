//! SQLite on vellum: databases that live in stores.
//!
//! SQLite reads and writes pages of a file; here they are pages of a store. Nothing else of SQLite changes: the SQL, the language
//! bindings, the file format. What is gained:
//! - readers read one version each, for as long as they like; they never wait for a writer, nor a writer for them;
//! - `SELECT vellum_snapshot('nightly')` keeps the state of now, `?snapshot=nightly` opens it, `vellum_rollback('nightly')` goes back;
//! - a consistent copy at the speed of the disk, and a writable clone in milliseconds: one for each test case, with [`Template`].
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use rusqlite::Connection;
//! use vellum::{Options, Store, sqlite};
//!
//! let store = Store::in_memory(Options::new())?;              // or Store::open(dir, Options::new())
//! sqlite::register(&store, "app.db")?;
//! let db = Connection::open("file:app.db?vfs=vellum")?;
//! db.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)")?;
//! db.query_row("SELECT vellum_snapshot('before')", [], |_| Ok(()))?;
//! db.execute("UPDATE t SET x = 2", [])?;                      // one transaction, one durable commit
//!
//! let old = Connection::open("file:app.db?vfs=vellum&snapshot=before")?;
//! assert_eq!(old.query_row("SELECT x FROM t", [], |row| row.get::<_, i64>(0))?, 1);
//! assert_eq!(db.query_row("SELECT x FROM t", [], |row| row.get::<_, i64>(0))?, 2);
//! # drop((old, db)); sqlite::unregister("app.db");
//! # Ok(()) }
//! ```
//!
//! # Which file is which store
//! One store holds one database. A file name that was [`register`]ed means that store; any other is the path of a store's
//! directory, which is opened, or created, with the connection (after [`use_paths`], or where the extension is loaded) and shared by
//! all connections of the process. `ATTACH` works the same way. Parameters of the URI:
//! - `vfs=vellum`: this file lives in a store;
//! - `snapshot=NAME`: read-only, at a named snapshot;
//! - `mode=ro`: read-only, the names of snapshots too;
//! - `page_size=BYTES`: of a store that is created. Best equal to SQLite's `page_size` (4,096 both, if nothing is said); others
//!   work, at the price of copying.
//!
//! # What to know
//! - A transaction becomes durable as with a WAL: `synchronous=FULL` (the default) or `EXTRA` syncs each, with `NORMAL` or `OFF` a
//!   power cut may cost the last ones, never the order or the consistency.
//! - `journal_mode` is SQLite's own affair, for `ROLLBACK` within a process: journals stay in memory. `WAL` answers with another
//!   mode, since there is nothing for it to do.
//! - A writer that read an older version gets `SQLITE_BUSY_SNAPSHOT`, as with a WAL; `BEGIN IMMEDIATE` waits for its turn with the busy
//!   handler. `BEGIN EXCLUSIVE` is the same: readers go on. `PRAGMA locking_mode=EXCLUSIVE` keeps the turn from the first read on (of an
//!   attached database if its schema is named in the pragma).
//! - A commit over several attached databases is atomic in each, not over all of them; as with a WAL. To write ordinary files in the
//!   same transaction, open one of them first and attach the databases on vellum: the other way round it is refused.
//! - A commit that fails (a full disk, say) leaves the store as it was, and SQLite with the error.
//! - A transaction's pages are in memory until it commits, `VACUUM` included: see
//!   [`Options::transaction_memory`](crate::Options::transaction_memory).
//! - Change pages of a store through SQLite only while connections are open (names, exports, clones are free).
//! - `PRAGMA mmap_size` lends SQLite pages where they lie, without copying them into its cache.
//! - A SQLite that was built with `SQLITE_ENABLE_BATCH_ATOMIC_WRITE` skips its journal's bookkeeping; any other works as well.
//!
//! # In SQL
//! | | |
//! |---|---|
//! | `vellum_snapshot(name)`, `vellum_drop_snapshot(name)` | names the committed state; gives the name up |
//! | `vellum_rollback(name)` | makes that state the current one; the state before stays, as `before-rollback-VERSION` |
//! | `vellum_export(file [, snapshot])` | an ordinary SQLite file |
//! | `vellum_clone(dir [, snapshot])` | a store of its own, without copying |
//! | `vellum_version()`, `vellum_error()` | the version that is read; why the last failure was |
//! | `vellum_snapshots`, `vellum_stats` | tables |
//!
//! Each takes the name of an attached schema as a further, last argument.

mod api;
mod database;
mod error;
mod extension;
mod file;
mod functions;
mod header;
mod journal;
mod lending;
mod methods;
mod registry;
mod tables;
mod template;
mod vfs;

pub use error::last_error;
pub use extension::{load, use_paths};
pub use functions::export_file;
pub use template::{ClonedDatabase, Database, Template, uri_of};
pub use vfs::VFS_NAME;

use crate::error::Result;
use crate::store::Store;

/// Lets SQLite open the store as `file:NAME?vfs=vellum`, from any number of connections and threads, until
/// [`unregister`] is called with the name. The store is kept open until then, and by open connections.
///
/// # Errors
/// [`Error::InvalidName`](crate::Error::InvalidName) if the name is taken or can't stand in a URI,
/// [`Error::Sqlite`](crate::Error::Sqlite) if SQLite takes no VFS.
pub fn register(store: &Store, name: &str) -> Result<()> {
    use_paths()?;
    registry::add(store, name)
}

/// Takes a name away that was given with [`register`]; whether there was one. Connections that are open go on, and keep
/// their store open.
#[must_use = "false: no store was registered under the name"]
pub fn unregister(name: &str) -> bool {
    registry::remove(name)
}
