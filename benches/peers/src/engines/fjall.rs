//! fjall.

use std::path::Path;

use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};

use super::cache_bytes;
use crate::Result;
use crate::engine::{Engine, Pages, Promise, Reader, Writer, lost};
use crate::pages::Page;

#[derive(Clone)]
pub(crate) struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

pub(crate) struct View<'a> {
    snapshot: Snapshot,
    keyspace: &'a Keyspace,
}

pub(crate) struct Held {
    snapshot: Snapshot,
    keyspace: Keyspace,
}

fn read<R>(snapshot: &Snapshot, keyspace: &Keyspace, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
    match snapshot.get(keyspace, id.to_be_bytes())? {
        Some(bytes) => Ok(see(&bytes)),
        None => Err(lost(id)),
    }
}

impl Pages for View<'_> {
    fn read<R>(&self, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
        read(&self.snapshot, self.keyspace, id, see)
    }
}

impl Pages for Held {
    fn read<R>(&self, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
        read(&self.snapshot, &self.keyspace, id, see)
    }
}

impl Reader for Fjall {
    type View<'a> = View<'a>;

    fn pin(&self) -> Result<View<'_>> {
        Ok(View { snapshot: self.database.snapshot(), keyspace: &self.keyspace })
    }
}

impl Writer for Fjall {
    fn commit(&mut self, pages: &[Page], promise: Promise) -> Result {
        let mode = match promise {
            Promise::Durable => Some(PersistMode::SyncData),
            Promise::Buffered => None,
        };
        let mut batch = self.database.batch().durability(mode);
        for page in pages {
            batch.insert(&self.keyspace, page.id.to_be_bytes(), &page.bytes[..]);
        }
        Ok(batch.commit()?)
    }
}

impl Engine for Fjall {
    const IS_IN_FILES: bool = false;
    const SETTINGS: &'static str =
        "a cache for all pages, no compression; durable: SyncData, buffered: manual journal persist";

    type Reader = Fjall;
    type Writer = Fjall;
    type Snapshot = Held;

    fn open(dir: &Path, pages: u64) -> Result<Fjall> {
        let database = Database::builder(dir)
            .cache_size(cache_bytes(pages))
            .journal_compression(CompressionType::None)
            .manual_journal_persist(true)
            .open()?;
        let options = || {
            KeyspaceCreateOptions::default()
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
                .expect_point_read_hits(true)
        };
        let keyspace = database.keyspace("pages", options)?;
        Ok(Fjall { database, keyspace })
    }

    fn reader(&self) -> Result<Fjall> {
        Ok(self.clone())
    }

    fn writer(&self) -> Result<Fjall> {
        Ok(self.clone())
    }

    fn snapshot(&self) -> Result<Held> {
        Ok(Held { snapshot: self.database.snapshot(), keyspace: self.keyspace.clone() })
    }

    fn sync(&self) -> Result {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}
