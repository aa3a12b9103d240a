//! sled. It has no snapshots: a read sees the newest page, and atomic batches are all there is. On Linux its flush is a
//! `sync_file_range`, which leaves the disk's own cache alone: no durable commit as the others mean it.

use std::path::Path;

use sled::{Batch, Config, Db, Mode};

use super::cache_bytes;
use crate::Result;
use crate::engine::{Engine, Pages, Promise, Reader, Writer, lost, missing};
use crate::pages::Page;

pub(crate) struct Sled(Db);

pub(crate) struct Newest<'a>(&'a Db);

impl Pages for Newest<'_> {
    fn read<R>(&self, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
        match self.0.get(id.to_be_bytes())? {
            Some(bytes) => Ok(see(&bytes)),
            None => Err(lost(id)),
        }
    }
}

impl Pages for Db {
    fn read<R>(&self, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
        Newest(self).read(id, see)
    }
}

impl Reader for Db {
    type View<'a> = Newest<'a>;

    fn pin(&self) -> Result<Newest<'_>> {
        Ok(Newest(self))
    }
}

impl Writer for Db {
    fn commit(&mut self, pages: &[Page], promise: Promise) -> Result {
        let mut batch = Batch::default();
        for page in pages {
            batch.insert(&page.id.to_be_bytes(), &page.bytes[..]);
        }
        self.apply_batch(batch)?;
        if promise == Promise::Durable {
            self.flush()?;
        }
        Ok(())
    }
}

impl Engine for Sled {
    const IS_IN_FILES: bool = false;
    const SETTINGS: &'static str = "HighThroughput, a cache for all pages; no snapshots, no durable commits (its flush is sync_file_range)";
    const HAS_SNAPSHOTS: bool = false;
    const HAS_SYNC: bool = false;

    type Reader = Db;
    type Writer = Db;
    type Snapshot = Db;

    fn open(dir: &Path, pages: u64) -> Result<Sled> {
        Ok(Sled(
            Config::new().path(dir).mode(Mode::HighThroughput).cache_capacity(cache_bytes(pages)).open()?,
        ))
    }

    fn reader(&self) -> Result<Db> {
        Ok(self.0.clone())
    }

    fn writer(&self) -> Result<Db> {
        Ok(self.0.clone())
    }

    fn snapshot(&self) -> Result<Db> {
        missing("it has no snapshots")
    }

    fn sync(&self) -> Result {
        self.0.flush()?;
        Ok(())
    }
}
