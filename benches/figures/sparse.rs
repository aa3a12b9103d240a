//! A large store on a small disk: pages of zeros are left as holes in the files, which read as zeros.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vellum::storage::{FileStorage, Mapping, Storage, StorageFile};
use vellum::{Durability, Options, PageId, Store};

use crate::Result;
use crate::ground::PAGE;

/// The files of a directory, less the zeros that are written to them.
#[derive(Debug)]
struct Holes(FileStorage);

#[derive(Debug)]
struct HoledFile {
    file: Arc<dyn StorageFile>,
    /// Nothing was ever written from here on.
    end: AtomicU64,
}

impl Storage for Holes {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.0.open(name)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(HoledFile { file: self.0.create(name, len)?, end: AtomicU64::new(0) }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }
}

impl StorageFile for HoledFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn reserve(&self, _offset: u64, _len: u64) -> io::Result<()> {
        // That would fill the holes.
        Ok(())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut at = offset;
        for page in bufs.iter().flat_map(|buf| buf.chunks(PAGE)) {
            let end = at + page.len() as u64;
            if at < self.end.load(Ordering::Relaxed) || page.iter().any(|byte| *byte != 0) {
                self.file.write_all_at(&[IoSlice::new(page)], at)?;
                self.end.fetch_max(end, Ordering::Relaxed);
            }
            at = end;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn map(&self, len: usize) -> io::Result<Mapping> {
        self.file.map(len)
    }
}

/// Leaves a closed store of so many pages of zeros.
pub(crate) fn fill(path: &Path, pages: u64) -> Result {
    let store = Store::open_on(Arc::new(Holes(FileStorage::open(path, true)?)), Options::new())?;
    let mut txn = store.begin()?;
    txn.truncate(pages)?;
    txn.commit_with(Durability::Buffered)?;
    for from in (0..pages).step_by(4096) {
        let mut txn = store.begin()?;
        for id in from..pages.min(from + 4096) {
            txn.write(PageId(id), &[0; PAGE])?;
        }
        txn.commit_with(Durability::Buffered)?;
    }
    store.close()?;
    Ok(())
}
