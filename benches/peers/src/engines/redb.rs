//! redb.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;

use redb::{Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, TableDefinition};

use super::cache_bytes;
use crate::Result;
use crate::engine::{Engine, Pages, Promise, Reader, Writer, lost};
use crate::pages::{PAGE, Page};

const TABLE: TableDefinition<'_, u64, &[u8; PAGE]> = TableDefinition::new("pages");

#[derive(Clone)]
pub(crate) struct Redb(Arc<Database>);

/// The table is opened at the first read: a pin alone doesn't need it.
pub(crate) struct View {
    table: OnceCell<ReadOnlyTable<u64, &'static [u8; PAGE]>>,
    txn: ReadTransaction,
}

impl View {
    fn table(&self) -> Result<&ReadOnlyTable<u64, &'static [u8; PAGE]>> {
        if let Some(table) = self.table.get() {
            return Ok(table);
        }
        let table = self.txn.open_table(TABLE)?;
        Ok(self.table.get_or_init(|| table))
    }
}

impl Pages for View {
    #[inline]
    fn read<R>(&self, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
        match self.table()?.get(id)? {
            Some(page) => Ok(see(&page.value()[..])),
            None => Err(lost(id)),
        }
    }
}

impl Reader for Redb {
    type View<'a> = View;

    #[inline]
    fn pin(&self) -> Result<View> {
        Ok(View { table: OnceCell::new(), txn: self.0.begin_read()? })
    }
}

impl Writer for Redb {
    fn commit(&mut self, pages: &[Page], promise: Promise) -> Result {
        let mut txn = self.0.begin_write()?;
        txn.set_durability(match promise {
            Promise::Durable => Durability::Immediate,
            Promise::Buffered => Durability::None,
        })?;
        let mut table = txn.open_table(TABLE)?;
        for page in pages {
            table.insert(page.id, &*page.bytes)?;
        }
        drop(table);
        Ok(txn.commit()?)
    }
}

impl Engine for Redb {
    const IS_IN_FILES: bool = false;
    const SETTINGS: &'static str = "a cache for all pages; buffered: Durability::None";

    type Reader = Redb;
    type Writer = Redb;
    type Snapshot = View;

    fn open(dir: &Path, pages: u64) -> Result<Redb> {
        std::fs::create_dir_all(dir)?;
        let cache = usize::try_from(cache_bytes(pages))?;
        Ok(Redb(Arc::new(Database::builder().set_cache_size(cache).create(dir.join("pages.redb"))?)))
    }

    fn reader(&self) -> Result<Redb> {
        Ok(self.clone())
    }

    fn writer(&self) -> Result<Redb> {
        Ok(self.clone())
    }

    fn snapshot(&self) -> Result<View> {
        self.pin()
    }

    fn sync(&self) -> Result {
        // A durable commit takes those before it along.
        Ok(self.0.begin_write()?.commit()?)
    }
}
