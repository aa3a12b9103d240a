//! The storage of a store without a disk: files in memory, gone with the last handle.
//!
//! It keeps the whole contract of the trait, so a store in memory runs the same code as one on disk; there is just
//! nothing to sync. A file's contents are reserved at creation and cost memory only where they were written. Its locks
//! are std's in every build: loom has no part in them, since a file's writes are made by one thread at a time anyway
//! and the lock only keeps `read_exact_at` and `len` apart from them.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use super::buffer::{Contents, Paging};
use super::{Mapping, Storage, StorageFile, name};

/// Files in memory.
///
/// ```
/// use std::io::IoSlice;
/// use vellum::storage::{MemoryStorage, Storage};
///
/// let storage = MemoryStorage::new();
/// let file = storage.create("numbers", 4)?;
/// file.write_all_at(&[IoSlice::new(&[1, 2]), IoSlice::new(&[3])], 1)?;
/// let mut bytes = [9; 4];
/// file.read_exact_at(&mut bytes, 0)?;
/// assert_eq!(bytes, [0, 1, 2, 3]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct MemoryStorage {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
    path: PathBuf,
    paging: Paging,
}

impl Default for MemoryStorage {
    fn default() -> MemoryStorage {
        MemoryStorage { files: Mutex::default(), path: PathBuf::from("(memory)"), paging: Paging::Huge }
    }
}

impl MemoryStorage {
    /// A storage without files.
    #[must_use]
    pub fn new() -> MemoryStorage {
        MemoryStorage::default()
    }

    /// One that little will be written to, and that errors tell of by the name `path`.
    pub(crate) fn small(path: PathBuf) -> MemoryStorage {
        MemoryStorage { files: Mutex::default(), path, paging: Paging::Small }
    }
}

impl Storage for MemoryStorage {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        name::check(name)?;
        match lock(&self.files).get(name) {
            Some(file) => Ok(Arc::clone(file) as Arc<dyn StorageFile>),
            None => Err(name::not_found(name)),
        }
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        name::check(name)?;
        let mut files = lock(&self.files);
        if files.contains_key(name) {
            return Err(name::already_exists(name));
        }
        let file = Arc::new(MemoryFile::paged(len, self.paging)?);
        files.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.files).keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        name::check(name)?;
        lock(&self.files).remove(name).map(drop).ok_or_else(|| name::not_found(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        name::check(from)?;
        name::check(to)?;
        let mut files = lock(&self.files);
        let file = files.remove(from).ok_or_else(|| name::not_found(from))?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }
}

/// One file; it lives on without a name while a handle or a mapping does.
#[derive(Debug)]
pub(crate) struct MemoryFile {
    contents: Mutex<Contents>,
}

impl MemoryFile {
    /// A file of no storage, `len` zero bytes long. `is_small`: little will be written to it.
    pub(crate) fn alone(len: u64, is_small: bool) -> io::Result<MemoryFile> {
        MemoryFile::paged(len, if is_small { Paging::Small } else { Paging::Huge })
    }

    fn paged(len: u64, paging: Paging) -> io::Result<MemoryFile> {
        Ok(MemoryFile { contents: Mutex::new(Contents::paged(len, paging)?) })
    }

    /// Whether a mapping of it lives. If not, no reader sees what is written next.
    pub(crate) fn is_mapped(&self) -> bool {
        lock(&self.contents).is_mapped()
    }
}

impl StorageFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.contents).len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.contents).set_len(len)
    }

    fn reserve(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        lock(&self.contents).read(buf, offset)
    }

    fn write_all_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut contents = lock(&self.contents);
        let mut offset = Some(offset);
        for buf in bufs {
            // An offset that overflows lies far beyond what can be allocated: the write before it has failed.
            let at = offset.ok_or(io::ErrorKind::FileTooLarge)?;
            contents.write(buf, at)?;
            offset = at.checked_add(buf.len() as u64);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, len: usize) -> io::Result<Mapping> {
        lock(&self.contents).map(len)
    }
}

/// A lock whose holder can't leave anything half done by a panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
