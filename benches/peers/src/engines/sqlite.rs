//! SQLite, in WAL mode.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};

use super::fresh;
use crate::Result;
use crate::engine::{Engine, Pages, Promise, Reader, Writer, lost};
use crate::pages::Page;

pub(crate) struct Sqlite(PathBuf);

/// A connection that has one read transaction at a time.
pub(crate) struct ReadConnection(Connection);

pub(crate) struct View<'a>(&'a Connection);

/// A read transaction with a connection of its own.
pub(crate) struct Snapshot(Connection);

pub(crate) struct WriteConnection {
    connection: Connection,
    promise: Cell<Option<Promise>>,
}

fn begin(connection: &Connection) -> Result {
    connection.prepare_cached("BEGIN")?.execute([])?;
    // Only the first read takes the lock that is the snapshot.
    connection.prepare_cached("SELECT 1 FROM sqlite_schema")?.query_row([], |_| Ok(()))?;
    Ok(())
}

fn read<R>(connection: &Connection, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
    let mut statement = connection.prepare_cached("SELECT bytes FROM pages WHERE id = ?1")?;
    let mut rows = statement.query([i64::try_from(id)?])?;
    match rows.next()? {
        Some(row) => Ok(see(row.get_ref(0)?.as_blob()?)),
        None => Err(lost(id)),
    }
}

impl Pages for View<'_> {
    fn read<R>(&self, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
        read(self.0, id, see)
    }
}

impl Pages for Snapshot {
    fn read<R>(&self, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
        read(&self.0, id, see)
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        if let Ok(mut commit) = self.0.prepare_cached("COMMIT") {
            // A reading transaction has nothing that could fail to be kept.
            let _ = commit.execute([]);
        }
    }
}

impl Reader for ReadConnection {
    type View<'a> = View<'a>;

    fn pin(&self) -> Result<View<'_>> {
        begin(&self.0)?;
        Ok(View(&self.0))
    }
}

impl Writer for WriteConnection {
    fn commit(&mut self, pages: &[Page], promise: Promise) -> Result {
        if self.promise.replace(Some(promise)) != Some(promise) {
            let level = if promise == Promise::Durable { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level)?;
        }
        let txn = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for page in pages {
            let mut put = txn.prepare_cached("INSERT OR REPLACE INTO pages (id, bytes) VALUES (?1, ?2)")?;
            put.execute(params![i64::try_from(page.id)?, &page.bytes[..]])?;
        }
        Ok(txn.commit()?)
    }
}

impl Sqlite {
    fn connect(&self) -> Result<Connection> {
        let connection = Connection::open(&self.0)?;
        connection.busy_timeout(Duration::from_mins(1))?;
        connection.pragma_update(None, "mmap_size", 1_i64 << 40)?;
        connection.pragma_update(None, "cache_size", -65_536)?;
        Ok(connection)
    }

    fn vacuum_into(&self, path: &Path) -> Result {
        let connection = self.connect()?;
        connection.execute("VACUUM INTO ?1", [path.to_str().ok_or("the path isn't text")?])?;
        Ok(())
    }
}

impl Engine for Sqlite {
    const IS_IN_FILES: bool = true;
    const SETTINGS: &'static str =
        "WAL, mmap_size, cache of 64 MiB; durable: synchronous=FULL, buffered: NORMAL";

    type Reader = ReadConnection;
    type Writer = WriteConnection;
    type Snapshot = Snapshot;

    fn open(dir: &Path, _pages: u64) -> Result<Sqlite> {
        std::fs::create_dir_all(dir)?;
        let store = Sqlite(dir.join("pages.db"));
        let connection = store.connect()?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection
            .execute("CREATE TABLE IF NOT EXISTS pages (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL)", [])?;
        Ok(store)
    }

    fn reader(&self) -> Result<ReadConnection> {
        Ok(ReadConnection(self.connect()?))
    }

    fn writer(&self) -> Result<WriteConnection> {
        Ok(WriteConnection { connection: self.connect()?, promise: Cell::new(None) })
    }

    fn snapshot(&self) -> Result<Snapshot> {
        let connection = self.connect()?;
        begin(&connection)?;
        Ok(Snapshot(connection))
    }

    fn sync(&self) -> Result {
        let connection = self.connect()?;
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        Ok(())
    }

    fn export(&self, dir: &Path, _pages: u64) -> Result {
        self.vacuum_into(&fresh(dir, "copy"))
    }

    fn clone_to(&self, dir: &Path) -> Result {
        let path = fresh(dir, "clone");
        self.vacuum_into(&path)?;
        Ok(std::fs::File::open(path)?.sync_all()?)
    }
}
