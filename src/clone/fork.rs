//! A fork: a store in memory on top of a snapshot's files, which it only reads.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use super::child;
use super::files::Piece;
use crate::error::Result;
use crate::open::found;
use crate::pins::PinKind;
use crate::snapshot::{Forked, Snapshot};
use crate::storage::{Mapping, MemoryStorage, Storage, StorageFile};
use crate::store::Store;
use crate::sync::Mutex;

impl Snapshot {
    /// A writable child of the snapshot, in this process: what it writes lives in memory and is gone with it, what it doesn't
    /// write is read from the parent's files. A store like any other, which can be forked, exported and cloned in turn.
    ///
    /// Costs in proportion to the number of segment files, and a checkpoint's writing (without a sync) of what isn't in them yet;
    /// later forks of the same snapshot don't pay for that. It begins without names and without a history window. The child keeps the snapshot, and with it the parent's store open. Its
    /// options are the parent's, without a thread of its own.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use vellum::{Options, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// let mut txn = store.begin()?;
    /// let id = txn.allocate()?;
    /// txn.write(id, &[1; 4096])?;
    /// txn.commit()?;
    ///
    /// let child = store.snapshot().fork()?;
    /// let mut txn = child.begin()?;
    /// txn.write(id, &[2; 4096])?;
    /// txn.commit()?;
    /// assert_eq!(store.view().page(id)?.unwrap()[0], 1);
    /// assert_eq!(child.view().page(id)?.unwrap()[0], 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::SnapshotRevoked`](crate::Error::SnapshotRevoked), [`Error::Full`](crate::Error::Full) if the parent's disk has no
    /// room for its table, and what writing that gives.
    pub fn fork(&self) -> Result<Store> {
        let _in_use = self.in_use_by(PinKind::Clone, "fork")?;
        let core = self.core();
        let (root, pieces) = core.with_pieces(self, false, &mut |_| Ok(()))?;
        let (header, catalog) = child(core, root, &pieces);
        let held = Arc::new(self.clone().forked());
        let shared = |piece: Piece| {
            let Piece { name, file, reader, .. } = piece;
            (name, Arc::new(SharedFile { file, _reader: reader, _held: held.clone() }))
        };
        let storage = ForkStorage {
            shared: Mutex::new(pieces.into_iter().map(shared).collect()),
            own: MemoryStorage::new(),
            path: PathBuf::from(format!("(fork of {})", core.path().display())),
        };
        storage
            .own
            .create(crate::open::CREATING, 0)
            .map_err(|error| crate::Error::io("create", storage.path(crate::open::CREATING), error))?;
        found(&storage, &header, &catalog)?;
        Store::open_on(Arc::new(storage), core.options.clone().without_history().without_thread())
    }
}

/// A file of the parent's.
#[derive(Debug)]
struct SharedFile {
    file: Arc<dyn StorageFile>,
    /// Keep the file's bytes as they are.
    _reader: Arc<()>,
    _held: Arc<Forked>,
}

impl StorageFile for SharedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn reserve(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, _bufs: &[IoSlice<'_>], _offset: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn sync(&self) -> io::Result<()> {
        // What a fork has doesn't outlive the process.
        Ok(())
    }

    fn links(&self) -> io::Result<u64> {
        Ok(2)
    }

    fn map(&self, len: usize) -> io::Result<Mapping> {
        self.file.map(len)
    }
}

/// A file that is the parent's is never written to: it has several names.
fn read_only() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "the file belongs to the store that this one was forked from",
    )
}

/// The parent's files, and files in memory.
#[derive(Debug)]
struct ForkStorage {
    shared: Mutex<BTreeMap<String, Arc<SharedFile>>>,
    own: MemoryStorage,
    path: PathBuf,
}

impl Storage for ForkStorage {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        match self.shared.lock().get(name) {
            Some(file) => Ok(file.clone()),
            None => self.own.open(name),
        }
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        match self.shared.lock().contains_key(name) {
            true => Err(io::ErrorKind::AlreadyExists.into()),
            false => self.own.create(name, len),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.own.list()?;
        names.extend(self.shared.lock().keys().cloned());
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match self.shared.lock().remove(name) {
            Some(_) => Ok(()),
            None => self.own.remove(name),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut shared = self.shared.lock();
        match shared.remove(from) {
            Some(file) => drop(shared.insert(to.to_owned(), file)),
            None => {
                self.own.rename(from, to)?;
                shared.remove(to);
            }
        }
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.own.sync_dir()
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }
}
