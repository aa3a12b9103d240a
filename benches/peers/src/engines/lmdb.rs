//! LMDB, by way of heed.

use std::path::Path;

use heed::byteorder::NativeEndian;
use heed::types::{Bytes, U64};
use heed::{
    CommitOrAbort, CompactionOption, Database, Env, EnvFlags, EnvOpenOptions, FlagSetMode, IntegerComparator,
    RoTxn, WithoutTls,
};

use super::{MAP_BYTES, fresh};
use crate::Result;
use crate::engine::{Engine, Pages, Promise, Reader, Writer, lost};
use crate::pages::Page;

type Table = Database<'static, U64<NativeEndian>, Bytes, IntegerComparator>;

#[derive(Clone)]
pub(crate) struct Lmdb {
    env: &'static Env<WithoutTls>,
    table: Table,
}

pub(crate) struct View<'a> {
    txn: RoTxn<'a, WithoutTls>,
    table: Table,
}

impl Pages for View<'_> {
    #[inline]
    fn read<R>(&self, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
        match self.table.get(&self.txn, &id)? {
            Some(bytes) => Ok(see(bytes)),
            None => Err(lost(id)),
        }
    }
}

impl Reader for Lmdb {
    type View<'a> = View<'a>;

    #[inline]
    fn pin(&self) -> Result<View<'_>> {
        Ok(View { txn: self.env.read_txn()?, table: self.table })
    }
}

impl Writer for Lmdb {
    fn commit(&mut self, pages: &[Page], _promise: Promise) -> Result {
        let mut txn = self.env.write_txn()?;
        for page in pages {
            self.table.put(&mut txn, &page.id, &page.bytes[..])?;
        }
        Ok(txn.commit()?)
    }
}

impl Engine for Lmdb {
    const IS_IN_FILES: bool = true;
    const SETTINGS: &'static str = "integer keys, NORDAHEAD; buffered: NOSYNC";

    type Reader = Lmdb;
    type Writer = Lmdb;
    type Snapshot = View<'static>;

    fn open(dir: &Path, _pages: u64) -> Result<Lmdb> {
        std::fs::create_dir_all(dir)?;
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP_BYTES).max_readers(20_000).max_dbs(1);
        // SAFETY: the files are this run's own, opened once, by this process alone.
        let env = unsafe { options.flags(EnvFlags::NO_READ_AHEAD).open(dir)? };
        // Lives as long as the process: its databases borrow from it.
        let env: &'static Env<WithoutTls> = Box::leak(Box::new(env));
        let created = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
            let options = opener.database_options().types::<U64<NativeEndian>, Bytes>();
            let created = options.key_comparator::<IntegerComparator>().name("pages").create(txn);
            created.map(CommitOrAbort::<_, ()>::Commit)
        })?;
        Ok(Lmdb { env, table: created.commit().ok_or("the table wasn't made")? })
    }

    fn reader(&self) -> Result<Lmdb> {
        Ok(self.clone())
    }

    fn writer(&self) -> Result<Lmdb> {
        Ok(self.clone())
    }

    fn snapshot(&self) -> Result<View<'static>> {
        Ok(View { txn: self.env.clone().static_read_txn()?, table: self.table })
    }

    fn promise(&self, promise: Promise) -> Result {
        let mode = match promise {
            Promise::Durable => FlagSetMode::Disable,
            Promise::Buffered => FlagSetMode::Enable,
        };
        // SAFETY: what is at stake is what a power cut leaves, and there is none here; no transaction is open.
        unsafe { self.env.set_flags(EnvFlags::NO_SYNC, mode)? };
        Ok(())
    }

    fn sync(&self) -> Result {
        Ok(self.env.force_sync()?)
    }

    fn export(&self, dir: &Path, _pages: u64) -> Result {
        self.env.copy_to_path(fresh(dir, "copy"), CompactionOption::Disabled)?;
        Ok(())
    }

    fn clone_to(&self, dir: &Path) -> Result {
        Ok(self.env.copy_to_path(fresh(dir, "clone"), CompactionOption::Disabled)?.sync_all()?)
    }
}
