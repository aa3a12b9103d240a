//! What is in a directory, before it is opened: so that a command that is going to fail touches nothing.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use vellum::{Error, Options, Store};

use crate::args::Show;
use crate::error::Failure;
use crate::progress::Waiting;

/// What a directory holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It isn't there.
    Missing,
    /// Nothing, or a store whose creation was cut short.
    Free,
    Store,
    /// Something of that name that isn't a store's.
    Foreign(String),
    /// No directory at all.
    File,
}

/// Whether a store has files of this name (the head of the library's `format` tells which).
fn is_ours(name: &str) -> bool {
    let is_segment =
        |number: &str| number.len() == 8 && number.bytes().all(|digit| digit.is_ascii_hexdigit());
    matches!(name, "LOCK" | "creating" | "catalog-a" | "catalog-b")
        || name.strip_prefix("segment-").is_some_and(is_segment)
        || name.starts_with("packed-")
        || name.starts_with("waiting-")
}

/// Looks without touching.
pub(crate) fn look(dir: &Path) -> Result<Place, Failure> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::Missing),
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(Place::File),
        Err(error) => return Err(Failure::file("look at", dir, error)),
    };
    let (mut is_store, mut is_unfinished, mut foreign) = (false, false, None);
    for entry in entries {
        let entry = entry.map_err(|error| Failure::file("look at", dir, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        is_unfinished |= name == "creating";
        is_store |= is_ours(&name) && (name.starts_with("catalog-") || name.starts_with("segment-"));
        if !is_ours(&name) {
            foreign = Some(name);
        }
    }
    Ok(match foreign {
        _ if is_store && !is_unfinished => Place::Store,
        Some(name) => Place::Foreign(name),
        None => Place::Free,
    })
}

/// Refuses a directory that holds no store, and touches nothing.
pub(crate) fn check_store(dir: &Path) -> Result<(), Failure> {
    match look(dir)? {
        Place::Foreign(name) => {
            Err(Error::NotAStore { dir: dir.to_owned(), reason: format!("it holds {name}") }.into())
        }
        Place::Missing | Place::Free => Err(Error::NotFound { dir: dir.to_owned() }.into()),
        // Which part of the path is no directory, the library tells.
        Place::Store | Place::File => Ok(()),
    }
}

/// Opens the store that is in `dir`.
pub(crate) fn open(dir: &Path, options: Options, show: Show) -> Result<Store, Failure> {
    // The library would lock a foreign directory first, and leave its LOCK there.
    check_store(dir)?;
    // After a crash there may be much to recover.
    let _waiting = Waiting::new("open", show);
    Ok(Store::open(dir, options.create(false))?)
}

/// Opens the store that is in `dir` for a command that only reads. There is no read-only opening: this locks the store.
pub(crate) fn open_to_read(dir: &Path, show: Show) -> Result<Store, Failure> {
    open(dir, Options::new().background(false), show)
}

/// A store that is being created: removed again when this is dropped, unless it is kept.
///
/// To be declared before the store, so that it is dropped after it.
pub(crate) struct Fresh {
    dir: PathBuf,
    was_missing: bool,
    is_kept: bool,
}

impl Fresh {
    /// Checks that a store can be created in `dir`, and touches nothing.
    pub(crate) fn new(dir: &Path) -> Result<Fresh, Failure> {
        let place = look(dir)?;
        let was_missing = place == Place::Missing;
        match place {
            Place::Store => Err(Failure::StoreExists { dir: dir.to_owned() }),
            Place::Foreign(_) => Err(Error::AlreadyExists { dir: dir.to_owned() }.into()),
            Place::File => Err(Error::NotADirectory { path: dir.to_owned() }.into()),
            Place::Missing | Place::Free => Ok(Fresh { dir: dir.to_owned(), was_missing, is_kept: false }),
        }
    }

    /// Creates the store.
    pub(crate) fn create(&mut self, options: Options) -> Result<Store, Failure> {
        let opened = Store::open(&self.dir, options.create(true));
        // If somebody else came between (it's locked, or filled, or foreign by now), nothing there is ours to remove.
        self.is_kept = match &opened {
            Ok(store) => store.version().get() > 0,
            Err(error) => !matches!(error, Error::Full { .. } | Error::Io { .. }),
        };
        Ok(opened?)
    }

    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        // As far as it goes: the command has failed already, and says why.
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if is_ours(&entry.file_name().to_string_lossy()) {
                let _ = fs::remove_file(entry.path());
            }
        }
        if self.was_missing {
            let _ = fs::remove_dir(&self.dir);
        }
    }
}
