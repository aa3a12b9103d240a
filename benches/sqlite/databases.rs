//! The same database twice: in a store, and in a file with a WAL.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rusqlite::{Connection, params};
use vellum::{Options, Store, sqlite};

use crate::Result;
use crate::frame::scratch;

/// Where a database lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Vellum,
    File,
}

pub(crate) struct Databases {
    home: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) rows: i64,
    pub(crate) mebibytes: u64,
    /// See [`slack`].
    _slack: Mutex<Connection>,
}

/// Bytes of a row's body: four rows a page, less what SQLite needs.
const BODY: usize = 960;

impl Databases {
    pub(crate) fn prepare(is_quick: bool) -> Result<Databases> {
        let mebibytes = if is_quick { 64 } else { 1024 };
        let home = scratch()?;
        let store = Store::open(home.path().join("store"), Options::new())?;
        sqlite::register(&store, "bench.db")?;
        let rows = i64::try_from(mebibytes * 1024)?;
        let slack = slack(&home.path().join("slack.db"))?;
        let databases = Databases { home, store, rows, mebibytes, _slack: Mutex::new(slack) };
        for on in [On::Vellum, On::File] {
            eprintln!("filling {mebibytes} MiB");
            fill(&databases.open(on, "NORMAL")?, rows)?;
        }
        Ok(databases)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir().join("stock.db")
    }

    pub(crate) fn open(&self, on: On, synchronous: &str) -> Result<Connection> {
        let db = match on {
            On::Vellum => Connection::open("file:bench.db?vfs=vellum")?,
            On::File => {
                let db = Connection::open(self.file())?;
                db.execute_batch("PRAGMA journal_mode=WAL")?;
                db
            }
        };
        db.execute_batch(&format!("PRAGMA synchronous={synchronous}"))?;
        db.busy_timeout(std::time::Duration::from_mins(1))?;
        Ok(db)
    }
}

/// A connection that is there for the room of its page cache, which it doesn't use. The SQLite that is bundled here has all connections of a
/// process share what their caches may take (`SQLITE_ENABLE_MEMORY_MANAGEMENT`, pcache1.c): without room to spare the two that are
/// measured in turn take pages from each other, one of them all. Seen were 4 MiB in one and two pages in the other, which
/// then read its root for every row. Nobody has the two in one process but this program.
fn slack(file: &Path) -> Result<Connection> {
    let db = Connection::open(file)?;
    db.execute_batch("PRAGMA cache_size=-262144; CREATE TABLE slack (n)")?;
    Ok(db)
}

fn fill(db: &Connection, rows: i64) -> Result {
    db.execute_batch(
        "CREATE TABLE big (id INTEGER PRIMARY KEY, n INTEGER, body BLOB);
         CREATE TABLE small (id INTEGER PRIMARY KEY, n INTEGER, body TEXT)",
    )?;
    let mut insert = db.prepare("INSERT INTO big VALUES (?1, ?2, ?3)")?;
    let mut body = vec![0; BODY];
    let mut random = crate::measure::Random::new(3);
    for first in (1..=rows).step_by(4096) {
        db.execute_batch("BEGIN")?;
        for id in first..(first + 4096).min(rows + 1) {
            body[..8].copy_from_slice(&random.next().to_le_bytes());
            insert.execute(params![id, id % 1000, body])?;
        }
        db.execute_batch("COMMIT")?;
    }
    Ok(())
}
