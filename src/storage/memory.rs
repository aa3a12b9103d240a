//! The storage trait over memory: the same store, with nothing on disk.
//!
//! A file's bytes lie in blocks that are allocated zeroed, so that what was never touched costs no memory.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Mapping, Storage, StorageFile};

/// Zeroed bytes at a fixed address that are read and written through raw pointers.
#[derive(Debug)]
pub(super) struct Block {
    base: *mut u8,
    len: usize,
}

// SAFETY: all access goes through `read` and `write` (copies under the file's lock) and through mappings, whose rules are
// told in `mapping`.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    pub(super) fn new(len: usize) -> io::Result<Block> {
        let layout = Self::layout(len)?;
        // SAFETY: the layout has at least one byte.
        let base = unsafe { alloc_zeroed(layout) };
        if base.is_null() {
            handle_alloc_error(layout);
        }
        Ok(Block { base, len })
    }

    fn layout(len: usize) -> io::Result<Layout> {
        Layout::from_size_align(len.max(1), 4096).map_err(io::Error::other)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn read(&self, offset: usize, buf: &mut [u8]) {
        assert!(offset <= self.len && buf.len() <= self.len - offset);
        // SAFETY: in range; `buf` is exclusive, so the two don't overlap.
        unsafe { std::ptr::copy_nonoverlapping(self.base.add(offset), buf.as_mut_ptr(), buf.len()) }
    }

    pub(super) fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset <= self.len && bytes.len() <= self.len - offset);
        // SAFETY: in range; no mapping's slice covers bytes that are still written (see `mapping`).
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(offset), bytes.len()) }
    }

    pub(super) fn map(self: &Arc<Block>, len: usize) -> Mapping {
        assert!(len <= self.len);
        // SAFETY: the block keeps its bytes in place as long as the mapping holds it.
        unsafe { Mapping::new(self.base, len, false, Box::new(self.clone())) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Ok(layout) = Self::layout(self.len) {
            // SAFETY: allocated by `new` with this very layout.
            unsafe { dealloc(self.base, layout) }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size(len: u64) -> io::Result<usize> {
    usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))
}

/// Files in memory.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
}

#[derive(Debug)]
struct MemoryFile {
    block: Mutex<Arc<Block>>,
}

impl MemoryStorage {
    /// No files yet.
    pub fn new() -> MemoryStorage {
        MemoryStorage::default()
    }
}

impl Storage for MemoryStorage {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        match lock(&self.files).get(name) {
            Some(file) => Ok(file.clone()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        let mut files = lock(&self.files);
        if files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemoryFile { block: Mutex::new(Arc::new(Block::new(size(len)?)?)) });
        files.insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.files).keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.files).remove(name).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("memory:").join(name)
    }
}

impl StorageFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.block).len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut block = lock(&self.block);
        if len == block.len() as u64 {
            return Ok(());
        }
        let grown = Block::new(size(len)?)?;
        let mut bytes = vec![0; block.len().min(grown.len())];
        block.read(0, &mut bytes);
        grown.write(0, &bytes);
        // Mappings of the old block stay valid; the store never lengthens a file that it maps.
        *block = Arc::new(grown);
        Ok(())
    }

    fn reserve(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let block = lock(&self.block).clone();
        let offset = size(offset)?;
        if offset > block.len() || buf.len() > block.len() - offset {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        block.read(offset, buf);
        Ok(())
    }

    fn write_all_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut offset = size(offset)?;
        let mut block = lock(&self.block).clone();
        if offset > block.len() || total > block.len() - offset {
            self.set_len((offset + total) as u64)?;
            block = lock(&self.block).clone();
        }
        for buf in bufs {
            block.write(offset, buf);
            offset += buf.len();
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, len: usize) -> io::Result<Mapping> {
        let block = lock(&self.block).clone();
        if len > block.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(block.map(len))
    }
}
