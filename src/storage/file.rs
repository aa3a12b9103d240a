//! The storage trait over a directory.
#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::{Mapping, Storage, StorageFile};
use crate::error::{Error, Result};

/// The file whose lock tells that the directory is in use.
const LOCK: &str = "LOCK";
/// Most buffers that one pwritev takes (IOV_MAX).
const BUFFERS_MAX: usize = 1024;

/// A directory, locked as long as the value lives.
#[derive(Debug)]
pub struct FileStorage {
    dir: PathBuf,
    handle: File,
    _lock: File,
}

impl FileStorage {
    /// Opens and locks `dir`, creating it (but not its parents) if `create` says so.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::NotADirectory`], [`Error::ReadOnly`], [`Error::NotFound`] or [`Error::Io`].
    pub fn open(dir: &Path, create: bool) -> Result<FileStorage> {
        match fs::metadata(dir) {
            Ok(found) if !found.is_dir() => return Err(Error::NotADirectory { path: dir.to_owned() }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && create => make_dir(dir)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound { dir: dir.to_owned() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(Error::NotADirectory { path: dir.to_owned() });
            }
            Err(error) => return Err(Error::io("look at", dir.to_owned(), error)),
        }
        let lock_path = dir.join(LOCK);
        if !create && !lock_path.exists() {
            return Err(Error::NotFound { dir: dir.to_owned() });
        }
        if !lock_path.exists() {
            refuse_foreign(dir)?;
        }
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|error| refused(dir, "open", lock_path.clone(), error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", lock_path, error)),
        }
        let handle = File::open(dir).map_err(|error| Error::io("open", dir.to_owned(), error))?;
        Ok(FileStorage { dir: dir.to_owned(), handle, _lock: lock })
    }

    fn file(&self, name: &str, options: &mut OpenOptions) -> io::Result<File> {
        if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." || name == LOCK {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file name"));
        }
        options.read(true).write(true).open(self.dir.join(name))
    }
}

/// A directory with something in it and no lock file of ours is somebody else's: nothing is put there.
fn refuse_foreign(dir: &Path) -> Result<()> {
    let mut entries = fs::read_dir(dir).map_err(|error| Error::io("list", dir.to_owned(), error))?;
    match entries.next() {
        None => Ok(()),
        Some(Ok(entry)) => {
            let reason = format!("it holds {}", entry.file_name().display());
            Err(Error::NotAStore { dir: dir.to_owned(), reason })
        }
        Some(Err(error)) => Err(Error::io("list", dir.to_owned(), error)),
    }
}

fn refused(dir: &Path, operation: &'static str, file: PathBuf, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::ReadOnly { dir: dir.to_owned(), source: Arc::new(error) }
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::Full { needed: 0, file, source: Arc::new(error) }
        }
        _ => Error::io(operation, file, error),
    }
}

fn make_dir(dir: &Path) -> Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir(dir).map_err(|error| refused(parent, "create", dir.to_owned(), error))?;
    // The new directory's name is durable before anything in it is.
    File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(|error| Error::io("sync", parent.to_owned(), error))
}

impl Storage for FileStorage {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(DirFile(self.file(name, &mut OpenOptions::new())?)))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.file(name, OpenOptions::new().create_new(true))?;
        if len > 0
            && let Err(error) = file.set_len(len)
        {
            // Nobody knows of the file yet; a leftover would only be in the way.
            let _ = fs::remove_file(self.dir.join(name));
            return Err(error);
        }
        Ok(Arc::new(DirFile(file)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != LOCK {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.dir.clone() } else { self.dir.join(name) }
    }
}

/// One file of the directory.
#[derive(Debug)]
struct DirFile(File);

impl StorageFile for DirFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::KEEP_SIZE, offset, len) {
            // A file system without it can't promise room; a write then finds out.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, bufs: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        let mut owned: Vec<IoSlice<'_>> = bufs.iter().map(|buf| IoSlice::new(buf)).collect();
        let mut rest = &mut owned[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(BUFFERS_MAX)];
            match rustix::io::pwritev(&self.0, batch, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn map(&self, len: usize) -> io::Result<Mapping> {
        if (len as u64) > self.len()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: the file is only written by this store, under the rules told in `mapping`.
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(&self.0) }?;
        let base = map.as_ptr();
        // SAFETY: the mapping keeps its address as long as it lives.
        Ok(unsafe { Mapping::new(base, len, true, Box::new(map)) })
    }
}
