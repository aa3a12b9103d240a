//! A storage in front of another one: it passes every call on, but for those that a test takes in hand.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vellum::storage::{Mapping, Storage, StorageFile};

/// What a test does with the calls that it takes in hand. As it stands, each goes on to where it was going.
pub(crate) trait Interposer: Send + Sync + fmt::Debug + 'static {
    fn create(&self, storage: &dyn Storage, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        storage.create(name, len)
    }

    fn available(&self, storage: &dyn Storage) -> io::Result<Option<u64>> {
        storage.available()
    }

    fn link(&self, storage: &dyn Storage, name: &str, to: &Path) -> io::Result<()> {
        storage.link(name, to)
    }

    fn reflink(&self, storage: &dyn Storage, name: &str, to: &Path) -> io::Result<()> {
        storage.reflink(name, to)
    }

    fn sync(&self, file: &dyn StorageFile) -> io::Result<()> {
        file.sync()
    }
}

#[derive(Debug)]
pub(crate) struct Interposed<I, S> {
    pub(crate) storage: S,
    pub(crate) interposer: Arc<I>,
}

#[derive(Debug)]
struct InterposedFile<I> {
    file: Arc<dyn StorageFile>,
    interposer: Arc<I>,
}

impl<I: Interposer, S: Storage> Interposed<I, S> {
    /// Between a store and `storage`.
    pub(crate) fn before(storage: S, interposer: I) -> Arc<Interposed<I, S>> {
        Arc::new(Interposed { storage, interposer: Arc::new(interposer) })
    }

    fn file(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(InterposedFile { file, interposer: self.interposer.clone() })
    }
}

impl<I: Interposer, S: Storage> Storage for Interposed<I, S> {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.storage.open(name).map(|file| self.file(file))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        self.interposer.create(&self.storage, name, len).map(|file| self.file(file))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.storage.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.storage.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.storage.rename(from, to)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.storage.sync_dir()
    }

    fn available(&self) -> io::Result<Option<u64>> {
        self.interposer.available(&self.storage)
    }

    fn link(&self, name: &str, to: &Path) -> io::Result<()> {
        self.interposer.link(&self.storage, name, to)
    }

    fn reflink(&self, name: &str, to: &Path) -> io::Result<()> {
        self.interposer.reflink(&self.storage, name, to)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.storage.path(name)
    }
}

impl<I: Interposer> StorageFile for InterposedFile<I> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.reserve(offset, len)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bufs, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.interposer.sync(&*self.file)
    }

    fn links(&self) -> io::Result<u64> {
        self.file.links()
    }

    fn map(&self, len: usize) -> io::Result<Mapping> {
        self.file.map(len)
    }
}
