//! The storage trait: the few file operations that vellum asks of whatever keeps its bytes.
//!
//! Three implementations stand behind it: `file` (a directory), `memory` (nothing on disk) and, with the
//! feature `sim`, `sim` (a seeded hostile disk for tests). Everything above calls only this trait, so every
//! I/O of the store can be made to fail, tear or stop.
//!
//! What the store above keeps to, and an implementation may rely on:
//! - a segment file's length is set once, at creation; a mapping is never longer than the file;
//! - bytes that a mapping's reader may look at are never written again until no reader can reach them
//!   (invariants 1, 4, 7 and 8);
//! - writes to one file are made by one thread at a time; reads and syncs may run beside them.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod buffer;
#[cfg(test)]
mod contract;
mod file;
mod mapping;
mod memory;
mod name;
pub(crate) mod pieces;
#[cfg(feature = "sim")]
pub mod sim;

pub use file::FileStorage;
pub use mapping::Mapping;
pub(crate) use mapping::prefetch;
pub(crate) use memory::MemoryFile;
pub use memory::MemoryStorage;

/// A flat directory of files.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Opens an existing file for reading and writing. `NotFound` if there is none.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;

    /// Creates a file of `len` zero bytes; `AlreadyExists` if there is one. Its name is durable only
    /// after [`Storage::sync_dir`].
    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>>;

    /// The names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Removes a file; mappings of it stay valid. Durable after [`Storage::sync_dir`].
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name; a file that has that name loses it. Durable after [`Storage::sync_dir`]; a crash
    /// before may leave either name, or both.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes creations, renamings and removals durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Bytes that further files can take, if that is known.
    fn available(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// Gives a file of this storage a further name, `to`, anywhere: a hard link. An error means that there is none, and that a
    /// copy will have to do. The new name is durable after its own directory was synced.
    fn link(&self, name: &str, to: &Path) -> io::Result<()> {
        let _ = (name, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes `to` a file of the same bytes, whose blocks are shared until either is written to: a reflink. An error means that
    /// there is none, and that a copy will have to do.
    fn reflink(&self, name: &str, to: &Path) -> io::Result<()> {
        let _ = (name, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The name as a person would look for it, for errors.
    fn path(&self, name: &str) -> PathBuf;
}

/// One file of a [`Storage`].
pub trait StorageFile: Send + Sync + fmt::Debug {
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Sets the length; new bytes read as zero. Durable after [`StorageFile::sync`].
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes sure that writing `len` bytes at `offset` won't find the disk full. A file system that
    /// can't promise it does nothing.
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Fills `buf` from `offset`; `UnexpectedEof` where the file is shorter.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bufs`, one after the other, from `offset` on. After an error any part of it may be there.
    fn write_all_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Makes everything written before the call durable (fdatasync).
    fn sync(&self) -> io::Result<()>;

    /// How many names the file has, in any directory. One that has several is never written to.
    fn links(&self) -> io::Result<u64> {
        Ok(1)
    }

    /// Maps the first `len` bytes for reading.
    fn map(&self, len: usize) -> io::Result<Mapping>;
}
