//! RocksDB.

use std::path::Path;

use rocksdb::backup::{BackupEngine, BackupEngineOptions};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Env, Options, Snapshot, WaitForCompactOptions,
    WriteBatch, WriteOptions,
};

use super::{cache_bytes, fresh};
use crate::Result;
use crate::engine::{Engine, Later, Pages, Promise, Reader, Writer, lost};
use crate::pages::Page;

/// Flushes and compactions, and copies of a backup, that run beside each other.
const JOBS: i32 = 2;

/// Lives as long as the process: snapshots borrow from it.
#[derive(Clone, Copy)]
pub(crate) struct Rocks(&'static DB);

impl Pages for Snapshot<'static> {
    fn read<R>(&self, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
        match self.get_pinned(id.to_be_bytes())? {
            Some(bytes) => Ok(see(&bytes)),
            None => Err(lost(id)),
        }
    }

    fn read_together(&self, ids: &[u64], see: impl Fn(&[u8]) -> u64) -> Result<u64> {
        let found = self.multi_get(ids.iter().map(|id| id.to_be_bytes()));
        found
            .into_iter()
            .zip(ids)
            .try_fold(0_u64, |sum, (bytes, id)| Ok(sum.wrapping_add(see(&bytes?.ok_or_else(|| lost(*id))?))))
    }
}

impl Reader for Rocks {
    type View<'a> = Snapshot<'static>;

    fn pin(&self) -> Result<Snapshot<'static>> {
        Ok(self.0.snapshot())
    }
}

impl Writer for Rocks {
    fn commit(&mut self, pages: &[Page], promise: Promise) -> Result {
        let mut batch = WriteBatch::default();
        for page in pages {
            batch.put(page.id.to_be_bytes(), &page.bytes[..]);
        }
        let mut options = WriteOptions::default();
        options.set_sync(promise == Promise::Durable);
        Ok(self.0.write_opt(batch, &options)?)
    }
}

impl Engine for Rocks {
    const IS_IN_FILES: bool = false;
    const SETTINGS: &'static str = "built for this processor; a HyperClockCache for all pages, no compression, bloom filters, bytes_per_sync of 1 MiB; \
         durable: sync, buffered: manual WAL flush; export, delta: BackupEngine, clone: Checkpoint";

    type Reader = Rocks;
    type Writer = Rocks;
    type Snapshot = Snapshot<'static>;

    fn open(dir: &Path, pages: u64) -> Result<Rocks> {
        let mut table = BlockBasedOptions::default();
        // What its header recommends over the LRU cache; 0: it finds out how large entries are.
        table.set_block_cache(&Cache::new_hyper_clock_cache(usize::try_from(cache_bytes(pages))?, 0));
        table.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(DBCompressionType::None);
        options.set_block_based_table_factory(&table);
        options.set_max_background_jobs(JOBS);
        // Its tuning guide's: the disk begins before a file is complete.
        options.set_bytes_per_sync(1 << 20);
        options.set_manual_wal_flush(true);
        Ok(Rocks(Box::leak(Box::new(DB::open(&options, dir)?))))
    }

    fn reader(&self) -> Result<Rocks> {
        Ok(*self)
    }

    fn writer(&self) -> Result<Rocks> {
        Ok(*self)
    }

    fn snapshot(&self) -> Result<Snapshot<'static>> {
        Ok(self.0.snapshot())
    }

    fn sync(&self) -> Result {
        Ok(self.0.flush_wal(true)?)
    }

    fn settle(&self) -> Result {
        Ok(self.0.wait_for_compact(&WaitForCompactOptions::default())?)
    }

    fn export(&self, dir: &Path, _pages: u64) -> Result {
        Ok(backup(&fresh(dir, "backup"), false)?.create_new_backup_flush(self.0, true)?)
    }

    fn delta(&self, dir: &Path) -> Result<Later<'_>> {
        // The second backup in a directory copies only the tables that the first hasn't got.
        let mut engine = backup(&fresh(dir, "backup"), true)?;
        engine.create_new_backup_flush(self.0, true)?;
        Ok(Box::new(move || Ok(engine.create_new_backup_flush(self.0, true)?)))
    }

    fn clone_to(&self, dir: &Path) -> Result {
        Ok(Checkpoint::new(self.0)?.create_checkpoint(fresh(dir, "checkpoint"))?)
    }
}

/// Opens a directory of backups.
fn backup(dir: &Path, is_synced: bool) -> Result<BackupEngine> {
    let mut options = BackupEngineOptions::new(dir)?;
    options.set_max_background_operations(JOBS);
    options.set_sync(is_synced);
    Ok(BackupEngine::open(&options, &Env::new()?)?)
}
