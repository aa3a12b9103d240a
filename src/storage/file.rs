//! The storage of a store on disk: the files of one directory.
//!
//! Durability rests on four calls and what Linux promises for them. A write is `pwritev` into the page cache;
//! `fdatasync` makes a file's bytes durable, and its length as well, since without the length the bytes could not be
//! found again; `fsync` of the directory makes names durable; `fsync` of its parent makes the directory itself durable.
//! A failed sync is reported once and never repeated here: after one the kernel may hold the lost bytes for clean, and a
//! second call would succeed without them (PostgreSQL's fsync lessons of 2018). That goes for EINTR too, which can hide
//! the error of another page; so the syncs don't use std's, which repeat on EINTR.
//!
//! One handle at a time: the file `LOCK` in the directory is locked (flock) for the storage's life. Such a lock belongs
//! to the open file and not to the process, so it also keeps a second handle of the same process out.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, DirEntry, FallocateFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::mapping::beyond_end;
use super::pieces::in_pieces;
use super::{Mapping, Storage, StorageFile, name};
use crate::error::{Error, Result};

/// What a new file's mode is before the user's umask.
const NEW_FILE_MODE: Mode = Mode::from_raw_mode(0o666);

/// The files of a directory, locked against every other handle while it lives.
///
/// Files are reached through the directory's own handle, so neither a change of the working directory nor a renamed
/// directory leads astray.
#[derive(Debug)]
pub struct FileStorage {
    dir: PathBuf,
    handle: File,
    /// Held for its lock. The file itself stays: removing it would let one process lock the removed file and another a new
    /// one.
    lock: File,
}

impl Drop for FileStorage {
    fn drop(&mut self) {
        // Closing the file would do, but for a child process that was forked a moment ago and hasn't got to its exec: it
        // shares the open file, and with it the lock. If this fails, closing still releases it.
        let _ = self.lock.unlock();
    }
}

impl FileStorage {
    /// Opens the directory `dir` and locks it. With `create`, a missing one is made, though not its parents.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no directory, or an empty one, and `create` doesn't ask for it;
    /// [`Error::NotADirectory`] if the path leads to or through something else; [`Error::ReadOnly`] if nothing can be
    /// written there; [`Error::Locked`] if another handle has it, here or in another process; [`Error::Io`] otherwise.
    pub fn open(dir: &Path, create: bool) -> Result<FileStorage> {
        let storage = FileStorage::take(dir, create)?;
        check_writable(dir, &storage.handle)?;
        let is_empty =
            is_empty(&storage.handle).map_err(|source| Error::io("list", dir.to_owned(), source))?;
        // An empty directory may be one that an earlier attempt made without living to sync it.
        if is_empty {
            storage.sync_own_name()?;
        }
        Ok(storage)
    }

    /// Makes and locks a directory that will be moved to its place once it is whole: after a crash before that nobody needs its
    /// name, so no sync makes it durable.
    pub(crate) fn staged(dir: &Path) -> Result<FileStorage> {
        FileStorage::take(dir, true)
    }

    fn take(dir: &Path, create: bool) -> Result<FileStorage> {
        make_dir(dir, create)?;
        let handle = File::open(dir).map_err(|source| Error::io("open", dir.to_owned(), source))?;
        let lock = lock_dir(dir, &handle, create)?;
        Ok(FileStorage { dir: dir.to_owned(), handle, lock })
    }

    /// Makes the directory's own name in its parent durable.
    fn sync_own_name(&self) -> Result<()> {
        let parent = match self.dir.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            // The root is in no directory.
            None => return Ok(()),
        };
        let synced = match File::open(parent) {
            Ok(parent) => rustix::fs::fsync(&parent),
            // A parent that can be passed through but not read (mode 0711): everything on the file system, then.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => rustix::fs::syncfs(&self.handle),
            Err(source) => return Err(Error::io("open", parent.to_owned(), source)),
        };
        synced.map_err(|source| Error::io("sync", parent.to_owned(), source.into()))
    }
}

/// Sees to it that `dir` is a directory.
fn make_dir(dir: &Path, create: bool) -> Result<()> {
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(Error::NotADirectory { path: dir.to_owned() }),
        Err(source) if source.kind() == ErrorKind::NotADirectory => {
            // Name the part of the path that is in the way.
            let is_other = |path: &&Path| fs::metadata(path).is_ok_and(|found| !found.is_dir());
            let path = dir.ancestors().find(is_other).unwrap_or(dir);
            return Err(Error::NotADirectory { path: path.to_owned() });
        }
        Err(source) if source.kind() != ErrorKind::NotFound => {
            return Err(Error::io("open", dir.to_owned(), source));
        }
        Err(_) if !create => return Err(Error::NotFound { dir: dir.to_owned() }),
        Err(_) => {}
    }
    match fs::create_dir(dir) {
        // Somebody else was faster: the lock decides whose it is.
        Err(source) if source.kind() == ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(source) if is_refused(&source) => {
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            Err(Error::ReadOnly {
                dir: parent.unwrap_or(Path::new(".")).to_owned(),
                source: Arc::new(source),
            })
        }
        made => made.map_err(|source| Error::io("create", dir.to_owned(), source)),
    }
}

/// Locks the directory, or says who can't.
fn lock_dir(dir: &Path, handle: &File, create: bool) -> Result<File> {
    let path = || dir.join(name::LOCK);
    let open = |flags| open_at(handle, name::LOCK, flags);
    let lock = match open(OFlags::empty()) {
        // A store that was copied file by file may lack its LOCK, but an empty directory holds no store: leave it so.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let is_empty = is_empty(handle).map_err(|source| Error::io("list", dir.to_owned(), source))?;
            if is_empty && !create {
                return Err(Error::NotFound { dir: dir.to_owned() });
            }
            open(OFlags::CREATE)
        }
        opened => opened,
    };
    let lock = lock.map_err(|source| match source {
        source if is_refused(&source) => Error::ReadOnly { dir: dir.to_owned(), source: Arc::new(source) },
        source => Error::io("open", path(), source),
    })?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(Error::io("lock", path(), source)),
    }
}

/// Refuses a directory in which no file can be created, before anything is begun in it.
fn check_writable(dir: &Path, handle: &File) -> Result<()> {
    // A file that never gets a name asks the kernel exactly the question that creating one would, and leaves nothing.
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match retry_on_intr(|| rustix::fs::openat(handle, ".", flags, NEW_FILE_MODE)).map_err(io::Error::from) {
        Err(source) if is_refused(&source) => {
            Err(Error::ReadOnly { dir: dir.to_owned(), source: Arc::new(source) })
        }
        // Some file systems have no nameless files, and a full disk is not for us to judge: creating will tell.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether the system refuses to let this user write.
fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

/// Opens a file of the directory for reading and writing.
fn open_at(handle: &File, name: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::RDWR | OFlags::CLOEXEC;
    let opened: OwnedFd = retry_on_intr(|| rustix::fs::openat(handle, name, flags, NEW_FILE_MODE))?;
    Ok(opened.into())
}

/// The names of all files but the lock's. Directories are left out: a mount point's `lost+found` is in nobody's way.
fn files(handle: &File) -> io::Result<impl Iterator<Item = io::Result<String>> + '_> {
    let name_of = move |entry: DirEntry| -> io::Result<Option<String>> {
        let file_type = match entry.file_type() {
            // Not every file system says it in the listing.
            FileType::Unknown => {
                match rustix::fs::statat(handle, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => return Ok(None),
                    Err(error) => return Err(error.into()),
                }
            }
            known => known,
        };
        let name = entry.file_name().to_string_lossy();
        Ok((file_type != FileType::Directory && name != name::LOCK).then(|| name.into_owned()))
    };
    let entries = Dir::read_from(handle)?;
    Ok(entries.filter_map(move |entry| entry.map_err(io::Error::from).and_then(name_of).transpose()))
}

fn is_empty(handle: &File) -> io::Result<bool> {
    Ok(files(handle)?.next().transpose()?.is_none())
}

impl Storage for FileStorage {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        name::check(name)?;
        let file = open_at(&self.handle, name, OFlags::empty())?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, format!("{name:?} is not a plain file")));
        }
        Ok(Arc::new(DiskFile { file }))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        name::check(name)?;
        let file = open_at(&self.handle, name, OFlags::CREATE | OFlags::EXCL)?;
        if let Err(error) = file.set_len(len) {
            // Creating failed as a whole: its own file must not stand in the way of the next attempt.
            self.remove(name).ok();
            return Err(error);
        }
        Ok(Arc::new(DiskFile { file }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        files(&self.handle)?.collect()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        name::check(name)?;
        Ok(retry_on_intr(|| rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()))?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        name::check(from)?;
        name::check(to)?;
        Ok(retry_on_intr(|| rustix::fs::renameat(&self.handle, from, &self.handle, to))?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.handle)?)
    }

    fn link(&self, name: &str, to: &Path) -> io::Result<()> {
        name::check(name)?;
        Ok(retry_on_intr(|| rustix::fs::linkat(&self.handle, name, rustix::fs::CWD, to, AtFlags::empty()))?)
    }

    fn reflink(&self, name: &str, to: &Path) -> io::Result<()> {
        name::check(name)?;
        let from = open_at(&self.handle, name, OFlags::empty())?;
        let copy = File::create_new(to)?;
        rustix::fs::ioctl_ficlone(&copy, &from)?;
        copy.sync_all()
    }

    fn available(&self) -> io::Result<Option<u64>> {
        let volume = rustix::fs::fstatvfs(&self.handle)?;
        Ok(Some(volume.f_bavail.saturating_mul(volume.f_frsize)))
    }

    fn path(&self, name: &str) -> PathBuf {
        // Joining an empty name would add a separator at the end.
        if name.is_empty() { self.dir.clone() } else { self.dir.join(name) }
    }
}

/// One file of the directory.
#[derive(Debug)]
struct DiskFile {
    file: File,
}

impl StorageFile for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        // The kernel takes an empty range for an error.
        if len == 0 {
            return Ok(());
        }
        match retry_on_intr(|| rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, offset, len)) {
            // File systems that can't promise room: tmpfs of old, NFS before 4.2, some FUSE ones, ZFS.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        // Where the kernel would refuse to count so far (EINVAL), there are no bytes either.
        if offset.checked_add(buf.len() as u64).is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(beyond_end());
        }
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, offset)
    }

    fn write_all_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut offset = offset;
        in_pieces(&mut bufs.to_vec(), |piece| {
            let written = retry_on_intr(|| rustix::io::pwritev(&self.file, piece, offset))?;
            offset = offset.checked_add(written as u64).ok_or(ErrorKind::FileTooLarge)?;
            Ok(written)
        })
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    fn links(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.file)?.st_nlink)
    }

    fn map(&self, len: usize) -> io::Result<Mapping> {
        Mapping::of_file(&self.file, len)
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    fn refused(dir: &Path, create: bool) -> Error {
        FileStorage::open(dir, create).unwrap_err()
    }

    #[test]
    fn a_missing_directory_is_made_only_on_request_and_without_parents() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("store");
        assert!(matches!(refused(&dir, false), Error::NotFound { dir: found } if found == dir));
        assert!(!dir.exists());
        assert!(matches!(refused(&dir.join("below"), true), Error::Io { operation: "create", .. }));
        assert!(!dir.exists());
        let storage = FileStorage::open(&dir, true).unwrap();
        storage.create("a", 1).unwrap();
        drop(storage);
        let storage = FileStorage::open(&dir, false).unwrap();
        assert_eq!(storage.list().unwrap(), ["a"]);
        assert_eq!(storage.path(""), dir);
    }

    #[test]
    fn an_empty_directory_holds_no_store_and_stays_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(refused(dir.path(), false), Error::NotFound { .. }));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        FileStorage::open(dir.path(), true).unwrap();
    }

    #[test]
    fn a_store_without_its_lock_file_opens() {
        let dir = tempfile::tempdir().unwrap();
        FileStorage::open(dir.path(), true).unwrap().create("a", 1).unwrap();
        fs::remove_file(dir.path().join(name::LOCK)).unwrap();
        assert_eq!(FileStorage::open(dir.path(), false).unwrap().list().unwrap(), ["a"]);
    }

    #[test]
    fn a_path_to_or_through_a_file_is_not_a_directory() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "not a store").unwrap();
        for path in [file.clone(), file.join("store"), file.join("a/b")] {
            for create in [false, true] {
                let error = refused(&path, create);
                assert!(matches!(&error, Error::NotADirectory { path } if *path == file), "{error}");
            }
        }
        assert_eq!(fs::read(&file).unwrap(), b"not a store");
    }

    #[test]
    fn a_directory_is_locked_within_one_process_too() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("store");
        let storage = FileStorage::open(&dir, true).unwrap();
        for create in [false, true] {
            assert!(matches!(refused(&dir, create), Error::Locked { dir: found } if found == dir));
        }
        // Another way to the same directory leads to the same lock.
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        assert!(matches!(refused(&link, true), Error::Locked { .. }));
        drop(storage);
        FileStorage::open(&link, false).unwrap();
    }

    #[test]
    fn a_forked_child_keeps_no_lock() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("store");
        let storage = FileStorage::open(&dir, true).unwrap();
        // What a child has between fork and exec: the same open file.
        let inherited = storage.lock.try_clone().unwrap();
        drop(storage);
        FileStorage::open(&dir, false).unwrap();
        drop(inherited);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_read_only() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("store");
        FileStorage::open(&dir, true).unwrap();
        let set_mode =
            |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set_mode(&dir, 0o555);
        set_mode(parent.path(), 0o555);
        if fs::write(dir.join("probe"), "").is_ok() {
            fs::remove_file(dir.join("probe")).unwrap();
            println!("not checked: root may write everywhere");
        } else {
            assert!(
                matches!(refused(&dir, true), Error::ReadOnly { dir: found, .. } if found == dir),
                "with a LOCK"
            );
            let fresh = parent.path().join("fresh");
            assert!(matches!(refused(&fresh, true), Error::ReadOnly { dir, .. } if dir == parent.path()));
            set_mode(&dir, 0o755);
            fs::remove_file(dir.join(name::LOCK)).unwrap();
            set_mode(&dir, 0o555);
            assert!(
                matches!(refused(&dir, true), Error::ReadOnly { dir: found, .. } if found == dir),
                "without"
            );
        }
        set_mode(parent.path(), 0o755);
        set_mode(&dir, 0o755);
    }

    #[test]
    fn what_is_no_plain_file_is_not_opened_and_directories_are_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        let storage = FileStorage::open(dir.path(), true).unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        assert!(storage.list().unwrap().is_empty());
        assert!(storage.open("lost+found").is_err());
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("zero")).unwrap();
        assert_eq!(storage.open("zero").unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_file_that_cannot_get_its_length_is_not_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let storage = FileStorage::open(dir.path(), true).unwrap();
        assert!(storage.create("a", u64::MAX).is_err());
        assert!(storage.list().unwrap().is_empty());
        storage.create("a", 1).unwrap();
    }
}
