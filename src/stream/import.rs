//! A stream into a new store: in a staging place, everything checked, then one atomic switch.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::options::ImportOptions;
use super::read::{Item, Run, StreamReader};
use super::staging::{Staging, named, refuse_occupied};
use crate::commit::whole::{Put, Whole, commit_whole};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::id::{Fingerprint, Version};
use crate::options::Options;
use crate::progress::{Meter, Observer};
use crate::storage::{FileStorage, Storage};
use crate::store::Store;

impl Store {
    /// Makes a new store in `dir` from an export stream. The store stands at the exported version, with its
    /// fingerprint, meta bytes and time, under an identity of its own.
    ///
    /// The store is built beside `dir` and moved there in one step, after the whole stream was checked. If anything fails,
    /// `dir` is as it was. Costs writing the pages once and a sync, in little memory.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// # let home = tempfile::tempdir().unwrap();
    /// use vellum::{Options, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// let mut txn = store.begin()?;
    /// let id = txn.allocate()?;
    /// txn.write(id, &[7; 4096])?;
    /// txn.commit()?;
    ///
    /// let mut stream = Vec::new();
    /// let written = store.snapshot().export(&mut stream)?;
    /// let copy = Store::import(&mut &stream[..], home.path().join("copy"))?;
    /// assert_eq!(copy.view().page(id)?, Some(&[7; 4096][..]));
    /// assert_eq!((copy.version(), copy.snapshot().fingerprint()), (written.version, written.fingerprint));
    /// # Ok(()) }
    /// ```
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
        Store::import_as(r, dir, options, &ImportOptions::new(), observer)
    }

    /// As [`Store::import_with`], from streams that may be encrypted, and at a rate.
    ///
    /// # Errors
    /// As [`Store::import_with`], and [`Error::WrongKey`].
    pub fn import_as(
        r: &mut dyn Read,
        dir: impl AsRef<Path>,
        options: Options,
        reading: &ImportOptions,
        observer: &mut dyn Observer,
    ) -> Result<Store> {
        options.check()?;
        let dir = &named(dir.as_ref())?;
        refuse_occupied(dir)?;
        let staging = Staging::new(dir, "importing");
        staging.check_parent()?;
        let mut reader = StreamReader::begin(r, reading, Meter::new("import", None, observer))?;
        check_asked(&reader, &options)?;
        load(&mut reader, Arc::new(FileStorage::staged(&staging.path)?), &options)?;
        staging.become_store(dir)?;
        Store::open(dir, options)
    }

    /// As [`Store::import_as`], onto an empty storage of the caller's. A storage has no name that could be switched: after a
    /// failure or a crash it holds no store, an empty one, or the whole version, and never a part of it; clear it before
    /// the next attempt.
    ///
    /// # Errors
    /// As [`Store::import_as`].
    pub fn import_on(
        r: &mut dyn Read,
        storage: Arc<dyn Storage>,
        options: Options,
        reading: &ImportOptions,
        observer: &mut dyn Observer,
    ) -> Result<Store> {
        options.check()?;
        let names = storage.list().map_err(|error| Error::io("list", storage.path(""), error))?;
        if !names.is_empty() {
            return Err(Error::AlreadyExists { dir: storage.path("") });
        }
        let mut reader = StreamReader::begin(r, reading, Meter::new("import", None, observer))?;
        check_asked(&reader, &options)?;
        load(&mut reader, storage.clone(), &options)?;
        Store::open_on(storage, options)
    }
}

/// Refuses, before anything is made, what can't be made of the stream.
fn check_asked(reader: &StreamReader<'_>, options: &Options) -> Result<()> {
    let header = reader.header();
    if let Some(asked) = options.asked_page_size().filter(|asked| *asked != header.page_size) {
        return Err(Error::PageSizeMismatch { asked, found: header.page_size });
    }
    match header.base {
        // A delta is for a store that stands at its base, and here is none.
        Some(base) => Err(Error::WrongBase { expected: base.fingerprint, found: Fingerprint::EMPTY }),
        None => Ok(()),
    }
}

/// How many runs reading may be ahead of writing.
const RUNS_AHEAD: usize = 16;

/// Makes a store of a stream, and closes it.
fn load(reader: &mut StreamReader<'_>, storage: Arc<dyn Storage>, options: &Options) -> Result<()> {
    let header = reader.header().clone();
    let beside = options.has_thread();
    let options = options.clone().page_size(header.page_size).create(true).without_thread();
    options.check()?;
    let (core, _) = crate::open::open(storage, options)?;
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
        match beside {
            true => commit_beside(&core, &whole, reader)?,
            false => {
                commit_whole(&core, &mut core.log.lock(), &whole, false, &mut |put| reader.each_page(put))?;
            }
        }
    }
    while reader.next()?.is_some() {}
    core.sync()?;
    core.write_checkpoint()
}

/// Commits the version in another thread, while this one reads and checks what comes next: each is half of an import's work.
fn commit_beside(core: &Core, whole: &Whole, reader: &mut StreamReader<'_>) -> Result<()> {
    std::thread::scope(|scope| {
        // `None`: the stream has ended as it should. A run goes back to be filled again.
        let (checked, to_append) = sync_channel::<Option<Run>>(RUNS_AHEAD);
        let (appended, to_fill) = sync_channel::<Run>(RUNS_AHEAD + 1);
        let mut take_all = move |put: &mut Put<'_>| {
            loop {
                match to_append.recv() {
                    Ok(Some(run)) => {
                        run.each_page(put)?;
                        // If nobody waits for it any more, nobody needs it.
                        let _ = appended.try_send(run);
                    }
                    Ok(None) => return Ok(()),
                    // The other end tells why.
                    Err(_) => return Err(Error::Cancelled),
                }
            }
        };
        let commit = move || commit_whole(core, &mut core.log.lock(), whole, false, &mut take_all);
        let committer = std::thread::Builder::new()
            .name("vellum-import".to_owned())
            .spawn_scoped(scope, commit)
            .map_err(|error| Error::io("start a thread for", core.path(), error))?;
        let read = (|| {
            while let Some(item) = reader.next()? {
                if let Item::Pages(_) = item {
                    let spare = to_fill.try_recv().unwrap_or_default();
                    // Nobody takes it if the commit has failed: then there is no more to do here either.
                    if checked.send(Some(reader.take_run(spare))).is_err() {
                        return Ok(());
                    }
                }
            }
            let _ = checked.send(None);
            Ok(())
        })();
        drop(checked);
        let committed = committer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        read.and(committed.map(drop))
    })
}
