//! A place beside a directory, where a store is built before it gets its name.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The path with a last name: "." and the like have none that could be switched.
pub(crate) fn named(dir: &Path) -> Result<PathBuf> {
    match dir.file_name() {
        Some(_) => Ok(dir.to_owned()),
        None => fs::canonicalize(dir).map_err(|error| Error::io("look at", dir.to_owned(), error)),
    }
}

/// A path that may become a store: nothing, or an empty directory.
pub(crate) fn refuse_occupied(dir: &Path) -> Result<()> {
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Error::AlreadyExists { dir: dir.to_owned() }),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            Err(Error::NotADirectory { path: dir.to_owned() })
        }
        Err(error) => Err(Error::io("look at", dir.to_owned(), error)),
    }
}

/// The place beside the target where the store is built; removed unless it becomes the store.
pub(crate) struct Staging {
    pub(crate) path: PathBuf,
    parent: PathBuf,
}

impl Staging {
    /// A place beside `dir`, whose name tells what it is for.
    pub(crate) fn new(dir: &Path, purpose: &str) -> Staging {
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut name = OsString::from(".");
        name.push(dir.file_name().unwrap_or_default());
        name.push(format!(".{purpose}-{}-{:x}", std::process::id(), crate::open::random128()));
        Staging { path: parent.join(name), parent }
    }

    /// Refuses to begin where there is no place.
    pub(crate) fn check_parent(&self) -> Result<()> {
        fs::metadata(&self.parent).map(drop).map_err(|error| Error::io("look at", self.parent.clone(), error))
    }

    /// The switch: from here on the store is there.
    pub(crate) fn become_store(self, dir: &Path) -> Result<()> {
        fs::rename(&self.path, dir).map_err(|error| match error.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists => {
                Error::AlreadyExists { dir: dir.to_owned() }
            }
            _ => Error::io("move the new store to", dir.to_owned(), error),
        })?;
        fs::File::open(&self.parent)
            .and_then(|parent| parent.sync_all())
            .map_err(|error| Error::io("sync", self.parent.clone(), error))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After the switch there is nothing under this name any more; before it, nobody needs what is.
        let _ = fs::remove_dir_all(&self.path);
    }
}
