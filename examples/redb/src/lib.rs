//! redb on vellum: a key-value database whose file lives in a store.
//!
//! redb keeps everything in one file, and lets one bring something else for it: its `StorageBackend`. Here that is
//! [`vellum::StoreFile`], the same adapter that SQLite's databases live in. What is gained:
//! - one commit of redb's is one version of the store: named, exported, cloned, rolled back like any other;
//! - every version is a database. It opens at once, however large, without redb's repair, beside the writer or years later;
//! - every byte that comes back was checked, and a raw export is an ordinary redb file.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use redb::{ReadableDatabase, TableDefinition};
//! use vellum::{Options, Store};
//! use vellum_redb::{RedbStore, open_at};
//!
//! const WORDS: TableDefinition<&str, &str> = TableDefinition::new("words");
//! let store = Store::in_memory(Options::new())?;              // or Store::open(dir, Options::new())
//! let db = RedbStore::new(store.clone())?.open()?;
//! let txn = db.begin_write()?;
//! txn.open_table(WORDS)?.insert("greeting", "hello")?;
//! txn.commit()?;
//!
//! let before = open_at(&store.create_snapshot("before")?)?;
//! let txn = db.begin_write()?;
//! txn.open_table(WORDS)?.insert("greeting", "goodbye")?;
//! txn.commit()?;
//! assert_eq!(db.begin_read()?.open_table(WORDS)?.get("greeting")?.unwrap().value(), "goodbye");
//! assert_eq!(before.begin_read()?.open_table(WORDS)?.get("greeting")?.unwrap().value(), "hello");
//! # Ok(()) }
//! ```
//!
//! # What to know
//! - A commit of redb's waits for the disk, or not, as [`RedbStore::durability`] says. What redb itself commits with
//!   `Durability::None` it keeps in memory until the next commit that isn't, and so it isn't in the store before.
//! - redb's two-phase commit and its quick repair guard against torn and reordered writes, which a store doesn't have. They work, and
//!   make two versions of each commit.
//! - A commit that fails leaves the store as it was. The database then refuses everything, and says why; open it again.
//! - A rollback of the store needs the database to be closed. If it isn't, its next commit is refused, with nothing lost.
//! - What a transaction writes beyond redb's own cache is in memory until it commits: see
//!   [`Options::transaction_memory`](vellum::Options::transaction_memory).

mod live;
mod past;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use redb::{Builder, ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase};
use vellum::{Durability, Error, Snapshot, Store};

pub use live::LiveFile;
pub use past::PastFile;

/// Bytes of redb's pages. Its file's length is always a multiple of them.
const REDB_PAGE_BYTES: usize = 4096;

/// A store that holds one redb database.
pub struct RedbStore {
    store: Store,
    durability: Durability,
    /// Whether a database is open: there is one at a time.
    is_open: Arc<AtomicBool>,
}

impl RedbStore {
    /// Puts a database into a store, or finds the one that is there.
    ///
    /// # Errors
    /// `InvalidInput` if the store's pages are larger than redb's: a version's file would be longer than redb left it.
    pub fn new(store: Store) -> io::Result<RedbStore> {
        let page_size = store.page_size();
        if page_size > REDB_PAGE_BYTES {
            let message = format!(
                "the store's pages have {page_size} bytes: create one with {REDB_PAGE_BYTES} or fewer"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(RedbStore { store, durability: Durability::Sync, is_open: Arc::default() })
    }

    /// What a commit of redb's waits for: the disk, if nothing is said. With [`Durability::Buffered`] a power cut may cost the last commits,
    /// never the order or the consistency; [`Store::sync`] makes durable what was committed.
    #[must_use]
    pub fn durability(self, durability: Durability) -> RedbStore {
        RedbStore { durability, ..self }
    }

    /// Opens the database, or creates it.
    pub fn open(&self) -> Result<Database, DatabaseError> {
        Builder::new().create_with_backend(self.file())
    }

    /// The database's file, for a [`Builder`] of one's own, in redb's default concurrency mode.
    pub fn file(&self) -> LiveFile {
        LiveFile::new(&self.store, self.durability, self.is_open.clone())
    }
}

/// Opens the database as a version has it, read only.
///
/// At once, though nobody may have closed the database in that version: a file that was copied from under a writer would have to be
/// repaired first, by reading all of it.
pub fn open_at(snapshot: &Snapshot) -> Result<ReadOnlyDatabase, DatabaseError> {
    // The mode in which readers share the file with a writer: see `past.rs`.
    Builder::new()
        .set_concurrency_mode(ConcurrencyMode::SingleWriter)
        .open_read_only_with_backend(PastFile::new(snapshot.clone()))
}

/// The store's error, with its text, as redb takes it.
fn io_error(error: Error) -> io::Error {
    let kind = match &error {
        Error::Full { .. } => io::ErrorKind::StorageFull,
        Error::TransactionTooLarge { .. } => io::ErrorKind::OutOfMemory,
        Error::Corrupt { .. } => io::ErrorKind::InvalidData,
        Error::Conflict { .. } | Error::SnapshotRevoked { .. } => io::ErrorKind::ResourceBusy,
        Error::ReadOnly { .. } => io::ErrorKind::ReadOnlyFilesystem,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

/// What reading beyond the end is.
fn beyond_end(offset: u64, asked: usize, len: u64) -> io::Error {
    let message = format!("{asked} bytes at {offset} of a file of {len} bytes");
    io::Error::new(io::ErrorKind::UnexpectedEof, message)
}
