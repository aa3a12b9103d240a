//! A file that appears under its name only when it is whole.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::Failure;

/// `FILE.part`, which becomes `FILE`, or is removed when this is dropped.
///
/// A killed process leaves the part behind. The next one overwrites it: its name is reserved for that.
pub(crate) struct Part {
    target: PathBuf,
    path: PathBuf,
    may_replace: bool,
    /// Whether it stays when it isn't finished.
    is_kept: bool,
}

/// Refuses a name under which something is that must not be replaced.
pub(crate) fn check_target(target: &Path, may_replace: bool) -> Result<(), Failure> {
    match fs::symlink_metadata(target) {
        Ok(found) if !found.is_file() => Err(Failure::NotPlain { file: target.to_owned() }),
        Ok(_) if !may_replace => Err(Failure::FileExists { file: target.to_owned() }),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::file("look at", target, error)),
    }
}

/// Refuses a name in the store's own directory: what lies there is the store's, and the store would be replaced with its own
/// export, or its clone be removed with it.
pub(crate) fn check_outside(store: &Path, target: &Path) -> Result<(), Failure> {
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match (fs::canonicalize(store), fs::canonicalize(parent)) {
        (Ok(store), Ok(parent)) if parent.starts_with(&store) => {
            let target = target.display();
            Err(Failure::Usage(format!("{target} lies in the store's own directory: give another place")))
        }
        // What isn't there is told when it is needed.
        _ => Ok(()),
    }
}

impl Part {
    pub(crate) fn create(target: &Path, may_replace: bool) -> Result<(Part, File), Failure> {
        Part::open(target, may_replace, false)
    }

    /// A part that goes on with what is there, if anything is, and stays if it isn't finished either.
    pub(crate) fn go_on(target: &Path, may_replace: bool) -> Result<(Part, File), Failure> {
        Part::open(target, may_replace, true)
    }

    fn open(target: &Path, may_replace: bool, is_kept: bool) -> Result<(Part, File), Failure> {
        let mut path = OsString::from(target.as_os_str());
        path.push(".part");
        let path = PathBuf::from(path);
        // Something else than a file under the part's name isn't a leftover of ours.
        check_target(&path, true)?;
        let file = File::options().read(true).write(true).create(true).truncate(!is_kept).open(&path);
        let file = file.map_err(|error| Failure::file("create", &path, error))?;
        Ok((Part { target: target.to_owned(), path, may_replace, is_kept }, file))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the part durable and gives it its name.
    pub(crate) fn finish(self, mut file: File) -> Result<(), Failure> {
        let synced = file.flush().and_then(|()| file.sync_all());
        synced.map_err(|error| Failure::file("sync", &self.path, error))?;
        drop(file);
        // Again, since an export may take long.
        check_target(&self.target, self.may_replace)?;
        fs::rename(&self.path, &self.target).map_err(|error| Failure::file("rename", &self.path, error))?;
        let parent = match self.target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(|error| Failure::file("sync", parent, error))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        // After the renaming there is nothing under this name any more.
        let _ = fs::remove_file(&self.path);
    }
}
