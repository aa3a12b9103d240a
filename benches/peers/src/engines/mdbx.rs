//! libmdbx.

use std::borrow::Cow;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libmdbx::{
    Database, DatabaseOptions, Mode, NoWriteMap, RO, ReadWriteOptions, SyncMode, Table, TableFlags,
    Transaction, WriteFlags,
};

use super::{MAP_BYTES, fresh};
use crate::Result;
use crate::engine::{Engine, Pages, Promise, Reader, Writer, lost};
use crate::pages::Page;

/// Its parts live as long as the process: transactions borrow from them.
#[derive(Clone, Copy)]
pub(crate) struct Mdbx {
    env: &'static Database<NoWriteMap>,
    table: &'static Table<'static>,
}

pub(crate) struct View {
    txn: Transaction<'static, RO, NoWriteMap>,
    table: &'static Table<'static>,
}

impl Pages for View {
    fn read<R>(&self, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
        match self.txn.get::<Cow<'_, [u8]>>(self.table, id.to_ne_bytes())? {
            Some(bytes) => Ok(see(&bytes)),
            None => Err(lost(id)),
        }
    }
}

impl Reader for Mdbx {
    type View<'a> = View;

    fn pin(&self) -> Result<View> {
        Ok(View { txn: self.env.begin_ro_txn()?, table: self.table })
    }
}

impl Writer for Mdbx {
    fn commit(&mut self, pages: &[Page], _promise: Promise) -> Result {
        let txn = self.env.begin_rw_txn()?;
        for page in pages {
            txn.put(self.table, page.id.to_ne_bytes(), &page.bytes[..], WriteFlags::empty())?;
        }
        txn.commit()?;
        Ok(())
    }
}

impl Mdbx {
    /// Copies the environment into a file.
    fn copy(&self, to: &Path, flags: mdbx_sys::MDBX_copy_flags_t) -> Result {
        let path = CString::new(to.as_os_str().as_bytes())?;
        // SAFETY: the environment is never closed, and the path ends with a zero.
        let code = unsafe { mdbx_sys::mdbx_env_copy(self.env.ptr().0, path.as_ptr(), flags) };
        succeeded("mdbx_env_copy", code)
    }
}

fn succeeded(what: &str, code: std::ffi::c_int) -> Result {
    if code == mdbx_sys::MDBX_SUCCESS { Ok(()) } else { Err(format!("{what}: {code}").into()) }
}

impl Engine for Mdbx {
    const IS_IN_FILES: bool = true;
    const SETTINGS: &'static str =
        "integer keys, NORDAHEAD, LIFORECLAIM; buffered: SAFE_NOSYNC; export, clone: mdbx_env_copy";

    type Reader = Mdbx;
    type Writer = Mdbx;
    type Snapshot = View;

    fn open(dir: &Path, _pages: u64) -> Result<Mdbx> {
        std::fs::create_dir_all(dir)?;
        let options = DatabaseOptions {
            max_readers: Some(20_000),
            max_tables: Some(1),
            no_rdahead: true,
            liforeclaim: true,
            mode: Mode::ReadWrite(ReadWriteOptions {
                sync_mode: SyncMode::Durable,
                max_size: Some(isize::try_from(MAP_BYTES)?),
                ..ReadWriteOptions::default()
            }),
            ..DatabaseOptions::default()
        };
        let env: &'static Database<NoWriteMap> =
            Box::leak(Box::new(Database::open_with_options(dir, options)?));
        let txn = env.begin_rw_txn()?;
        let table = txn.create_table(Some("pages"), TableFlags::INTEGER_KEY)?;
        txn.prime_for_permaopen(table);
        let (_, mut tables) = txn.commit_and_rebind_open_dbs()?;
        let table = tables.pop().ok_or("the table wasn't opened")?;
        Ok(Mdbx { env, table: Box::leak(Box::new(table)) })
    }

    fn reader(&self) -> Result<Mdbx> {
        Ok(*self)
    }

    fn writer(&self) -> Result<Mdbx> {
        Ok(*self)
    }

    fn snapshot(&self) -> Result<View> {
        self.pin()
    }

    fn promise(&self, promise: Promise) -> Result {
        let is_on = promise == Promise::Buffered;
        // SAFETY: the environment is never closed; it waits for a writing transaction itself.
        let code =
            unsafe { mdbx_sys::mdbx_env_set_flags(self.env.ptr().0, mdbx_sys::MDBX_SAFE_NOSYNC, is_on) };
        succeeded("mdbx_env_set_flags", code)
    }

    fn sync(&self) -> Result {
        self.env.sync(true)?;
        Ok(())
    }

    fn export(&self, dir: &Path, _pages: u64) -> Result {
        self.copy(&fresh(dir, "copy"), mdbx_sys::MDBX_CP_DONT_FLUSH)
    }

    fn clone_to(&self, dir: &Path) -> Result {
        self.copy(&fresh(dir, "clone"), mdbx_sys::MDBX_CP_DEFAULTS)
    }
}
