//! A stream into a new store: in a staging place, everything checked, then one atomic switch.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::read::StreamReader;
use super::staging::{Staging, named, refuse_occupied};
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
        let staging = Staging::new(dir, "importing");
        staging.check_parent()?;
        let mut reader = StreamReader::begin(r, Meter::new("import", None, observer))?;
        load(&mut reader, &staging.path, &options)?;
        staging.become_store(dir)?;
        Store::open(dir, options)
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
    let options = options.clone().page_size(header.page_size).create(true).without_thread();
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
