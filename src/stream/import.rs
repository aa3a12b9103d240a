//! A stream into a new store: in a staging place, everything checked, then one atomic switch.

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::read::StreamReader;
use crate::commit::whole::{Whole, commit_whole};
use crate::error::{Error, Result};
use crate::id::{Fingerprint, Version};
use crate::options::Options;
use crate::progress::{Meter, Observer};
use crate::storage::FileStorage;
use crate::store::Store;

impl Store {
    /// Makes a new store in `dir` from an export stream. The store stands at the exported version, with its
    /// fingerprint, meta bytes and time, under an identity of its own.
    ///
    /// The store is built beside `dir` and moved there in one step, after the whole stream was checked. If anything fails,
    /// `dir` is as it was.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] if `dir` holds anything, [`Error::BadStream`], [`Error::Unsupported`] and
    /// [`Error::Stream`] for the stream, [`Error::Full`] and [`Error::Io`] for the disk.
    pub fn import(r: &mut dyn Read, dir: impl AsRef<Path>) -> Result<Store> {
        Store::import_with(r, dir, Options::new(), &mut ())
    }

    /// As [`Store::import`], with options for the new store (the page size is the stream's) and watched.
    ///
    /// # Errors
    /// As [`Store::import`], [`Error::PageSizeMismatch`] if the options ask for another page size, and
    /// [`Error::Cancelled`].
    pub fn import_with(
        r: &mut dyn Read,
        dir: impl AsRef<Path>,
        options: Options,
        observer: &mut dyn Observer,
    ) -> Result<Store> {
        options.check()?;
        let dir = &named(dir.as_ref())?;
        refuse_occupied(dir)?;
        let staging = Staging::new(dir);
        fs::metadata(&staging.parent).map_err(|error| Error::io("look at", staging.parent.clone(), error))?;
        let mut reader = StreamReader::begin(r, Meter::new("import", None, observer))?;
        load(&mut reader, &staging.path, &options)?;
        staging.become_store(dir)?;
        Store::open(dir, options)
    }
}

/// The path with a last name: "." and the like have none that could be switched.
fn named(dir: &Path) -> Result<PathBuf> {
    match dir.file_name() {
        Some(_) => Ok(dir.to_owned()),
        None => fs::canonicalize(dir).map_err(|error| Error::io("look at", dir.to_owned(), error)),
    }
}

/// A path that may become a store: nothing, or an empty directory.
fn refuse_occupied(dir: &Path) -> Result<()> {
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
struct Staging {
    path: PathBuf,
    parent: PathBuf,
}

impl Staging {
    fn new(dir: &Path) -> Staging {
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut name = OsString::from(".");
        name.push(dir.file_name().unwrap_or_default());
        name.push(format!(".importing-{}-{:x}", std::process::id(), crate::open::random128()));
        Staging { path: parent.join(name), parent }
    }

    /// The switch: from here on the store is there.
    fn become_store(self, dir: &Path) -> Result<()> {
        fs::rename(&self.path, dir).map_err(|error| match error.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists => {
                Error::AlreadyExists { dir: dir.to_owned() }
            }
            _ => Error::io("move the imported store to", dir.to_owned(), error),
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

/// Makes a store of a stream, and closes it.
fn load(reader: &mut StreamReader<'_>, staging: &Path, options: &Options) -> Result<()> {
    let header = reader.header().clone();
    if let Some(asked) = options.asked_page_size().filter(|asked| *asked != header.page_size) {
        return Err(Error::PageSizeMismatch { asked, found: header.page_size });
    }
    if let Some(base) = header.base {
        // A delta is for a store that stands at its base, and here is none.
        return Err(Error::WrongBase { expected: base.fingerprint, found: Fingerprint::EMPTY });
    }
    let options = options.clone().page_size(header.page_size).create(true).background(false);
    options.check()?;
    let storage = FileStorage::open(staging, true)?;
    let (core, _) = crate::open::open(Arc::new(storage), options)?;
    // An empty store stands at version 0 already.
    if header.version > Version(0) {
        let whole = Whole {
            version: header.version,
            created_at_ms: header.created_at_ms,
            truncate_to: None,
            freed: Vec::new(),
            page_count: header.page_count,
            meta: Some(header.meta.into()).filter(|meta: &Arc<[u8]>| !meta.is_empty()),
            fingerprint: header.fingerprint,
        };
        commit_whole(&core, &mut core.log.lock(), &whole, false, &mut |put| reader.each_page(put))?;
    }
    while reader.next()?.is_some() {}
    core.sync()?;
    core.write_checkpoint()
}
