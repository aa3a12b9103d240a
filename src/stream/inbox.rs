//! Where a stream arrives that may be cut on the way: its bytes are kept as far as they were checked, and the rest is asked for.

use std::io::{self, IoSlice, Read};
use std::path::Path;
use std::sync::Arc;

use super::StreamSummary;
use super::options::ImportOptions;
use super::point::ResumePoint;
use super::read::StreamReader;
use crate::error::{Error, Result};
use crate::log::backing::disk_error;
use crate::progress::{Meter, Observer};
use crate::storage::{FileStorage, Storage, StorageFile};

/// The file of the bytes that arrived.
const NAME: &str = "stream";
/// Bytes that are written at a time, and between two syncs.
const WRITE_BYTES: usize = 1 << 20;
const SYNC_BYTES: u64 = 64 << 20;

/// A directory in which one export stream arrives, in as many pieces as it takes. What is there is checked from end to end whenever it is
/// gone on with, so neither a crash nor a cut can leave anything that is taken for more than it is; behind the last mark
/// ([`ExportOptions::mark_every`](crate::ExportOptions::mark_every)) everything is received again.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// # let home = tempfile::tempdir().unwrap();
/// use vellum::{ImportOptions, Inbox, Options, Store};
/// let store = Store::in_memory(Options::new())?;
/// let mut stream = Vec::new();
/// store.snapshot().export(&mut stream)?;
///
/// let inbox = Inbox::open(home.path().join("inbox"))?;
/// let options = ImportOptions::new();
/// // Cut short: the inbox keeps what it has, and says from where on it needs the rest.
/// assert!(inbox.receive(&mut &stream[..stream.len() / 2], &options, &mut ()).is_err());
/// let from = inbox.resume_point(&options, &mut ())?.map_or(0, |point| point.offset());
/// inbox.receive(&mut &stream[from as usize..], &options, &mut ())?;
/// let copy = Store::import(&mut inbox.reader()?, home.path().join("copy"))?;
/// assert_eq!(copy.snapshot().fingerprint(), store.snapshot().fingerprint());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Inbox {
    storage: Arc<dyn Storage>,
    file: Arc<dyn StorageFile>,
}

impl Inbox {
    /// Opens the inbox in `dir`, or makes one there. One handle at a time.
    ///
    /// # Errors
    /// [`Error::NotADirectory`], [`Error::ReadOnly`], [`Error::Locked`], [`Error::Io`]; [`Error::NotAStore`] if the directory holds
    /// anything else.
    pub fn open(dir: impl AsRef<Path>) -> Result<Inbox> {
        Inbox::open_on(Arc::new(FileStorage::open(dir.as_ref(), true)?))
    }

    /// As [`Inbox::open`], on any storage.
    ///
    /// # Errors
    /// As [`Inbox::open`].
    pub fn open_on(storage: Arc<dyn Storage>) -> Result<Inbox> {
        let failed = |operation, error| Error::io(operation, storage.path(NAME), error);
        let names = storage.list().map_err(|error| failed("list", error))?;
        if let Some(other) = names.iter().find(|name| *name != NAME) {
            let reason = format!("it holds {other}, and an inbox holds nothing but a stream");
            return Err(Error::NotAStore { dir: storage.path(""), reason });
        }
        let file = match names.iter().any(|name| name == NAME) {
            true => storage.open(NAME).map_err(|error| failed("open", error))?,
            false => {
                let file = storage.create(NAME, 0).map_err(|error| failed("create", error))?;
                storage.sync_dir().map_err(|error| failed("sync the directory of", error))?;
                file
            }
        };
        Ok(Inbox { storage, file })
    }

    /// Bytes that are there, checked or not.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn len(&self) -> Result<u64> {
        self.file.len().map_err(|error| self.failed("look at", error))
    }

    /// Whether nothing has arrived.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn is_empty(&self) -> Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// From where on the rest of the stream is needed; `None`: from its beginning. Checks all that is there.
    ///
    /// # Errors
    /// As [`resume_point`].
    pub fn resume_point(
        &self,
        options: &ImportOptions,
        observer: &mut dyn Observer,
    ) -> Result<Option<ResumePoint>> {
        resume_point(&mut self.reader()?, options, observer)
    }

    /// Receives the stream, or the rest of it from [`Inbox::resume_point`] on, up to its end, checking it on the way. If it returns
    /// well, the whole stream is there, durably, and [`Inbox::reader`] gives it to whoever imports or applies it. If the whole stream
    /// is there already, nothing is read.
    ///
    /// # Errors
    /// What [`verify_stream_as`](crate::verify_stream_as) gives: [`Error::BadStream`] where the stream was cut, or isn't the rest of
    /// the one that is there. [`Error::Full`] and [`Error::Io`] for the disk. What was checked up to the last mark is kept after any of
    /// them.
    pub fn receive(
        &self,
        r: &mut dyn Read,
        options: &ImportOptions,
        observer: &mut dyn Observer,
    ) -> Result<StreamSummary> {
        options.check()?;
        let mut kept = self.reader()?;
        let mut tee = Tee { inbox: self, from: r, gathered: Vec::new(), offset: 0, synced: 0, failure: None };
        let done = tee.receive(&mut kept, options, observer);
        // A failure of the disk shows to the reader as one of its source.
        match tee.failure.take() {
            Some(failure) => Err(failure),
            None => done,
        }
    }

    /// Reads what is there from the beginning. It is checked by whoever takes it for a stream.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn reader(&self) -> Result<impl Read + use<>> {
        Ok(FileReader { file: self.file.clone(), offset: 0, end: self.len()? })
    }

    /// Throws away what is there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn clear(&self) -> Result<()> {
        let done = self.file.set_len(0).and_then(|()| self.file.sync());
        done.map_err(|error| self.failed("empty", error))
    }

    fn failed(&self, operation: &'static str, error: io::Error) -> Error {
        Error::io(operation, self.storage.path(NAME), error)
    }
}

/// Checks as much of a stream as `r` has, and finds its last mark: from there on the stream can be gone on with, once what is behind it
/// was cut off. `None`: only from its beginning, because there is no mark, or because it was not begun with
/// [`Snapshot::begin_export`](crate::Snapshot::begin_export) or under options of its own (compressed, encrypted,
/// [`mark_every`](crate::ExportOptions::mark_every)).
///
/// # Errors
/// [`Error::Unsupported`], [`Error::WrongKey`], [`Error::Stream`] if reading fails, [`Error::Cancelled`]. That the stream ends, or is
/// damaged, is none.
pub fn resume_point(
    r: &mut dyn Read,
    options: &ImportOptions,
    observer: &mut dyn Observer,
) -> Result<Option<ResumePoint>> {
    let begun = StreamReader::begin(r, options, Meter::new("verify", None, observer));
    match begun.and_then(|mut reader| checked(&mut reader).map(|_| reader.mark())) {
        Err(Error::BadStream { .. }) => Ok(None),
        found => found,
    }
}

/// Reads as far as the stream is as it should be; whether that is its end.
fn checked(reader: &mut StreamReader<'_>) -> Result<bool> {
    loop {
        match reader.next() {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(true),
            Err(Error::BadStream { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Reads a stretch of a file.
struct FileReader {
    file: Arc<dyn StorageFile>,
    offset: u64,
    end: u64,
}

impl Read for FileReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        self.file.read_exact_at(&mut buf[..len], self.offset)?;
        self.offset += len as u64;
        Ok(len)
    }
}

/// Passes bytes on and writes them to the inbox.
struct Tee<'a> {
    inbox: &'a Inbox,
    from: &'a mut dyn Read,
    gathered: Vec<u8>,
    /// Where the gathered bytes belong.
    offset: u64,
    /// Up to where everything was synced.
    synced: u64,
    failure: Option<Error>,
}

impl Tee<'_> {
    fn receive(
        &mut self,
        kept: &mut dyn Read,
        options: &ImportOptions,
        observer: &mut dyn Observer,
    ) -> Result<StreamSummary> {
        // What is there is read as fast as it goes.
        let at_once = options.clone().at_once();
        let mut before = None;
        if !self.inbox.is_empty()? {
            match StreamReader::begin(kept, &at_once, Meter::new("verify", None, &mut *observer)) {
                Ok(mut reader) => {
                    if checked(&mut reader)? {
                        // It may have been written by one who didn't live to sync it.
                        self.write(true)?;
                        return Ok(reader.summary());
                    }
                    before = reader.mark().map(|mark| (reader.into_known(), mark));
                }
                Err(Error::BadStream { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let offset = before.as_ref().map_or(0, |(_, mark)| mark.offset);
        self.inbox.file.set_len(offset).map_err(|error| self.inbox.failed("cut", error))?;
        (self.offset, self.synced) = (offset, offset);
        let meter = Meter::new("receive", None, observer);
        let done = {
            let mut reader = match before {
                Some((known, mark)) => StreamReader::go_on(known, &mark, self, options.rate_max(), meter),
                None => StreamReader::begin(self, options, meter)?,
            };
            loop {
                match reader.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(reader.summary()),
                    Err(error) => break Err(error),
                }
            }
        };
        // After a failure of the disk nothing more is asked of it.
        let written = if self.failure.is_none() { self.write(true) } else { Ok(()) };
        done.and_then(|summary| written.map(|()| summary))
    }

    /// Writes what was gathered, and syncs if asked or if it is time.
    fn write(&mut self, syncs: bool) -> Result<()> {
        let (file, len) = (&self.inbox.file, self.gathered.len() as u64);
        let path = || self.inbox.storage.path(NAME);
        if len > 0 {
            let end = self.offset + len;
            file.set_len(end)
                .and_then(|()| file.write_all_at(&[IoSlice::new(&self.gathered)], self.offset))
                .map_err(|error| disk_error("write to", path(), len, error))?;
            self.offset = end;
            self.gathered.clear();
        }
        if syncs || self.offset - self.synced >= SYNC_BYTES {
            if let Err(error) = file.sync() {
                // The system may hold the lost bytes for clean now, and a later check would find them in its cache: they go,
                // and are received again.
                let _ = file.set_len(self.synced);
                return Err(Error::io("sync", path(), error));
            }
            self.synced = self.offset;
        }
        Ok(())
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.gathered.len() >= WRITE_BYTES
            && let Err(error) = self.write(false)
        {
            let told = io::Error::other(error.to_string());
            self.failure = Some(error);
            return Err(told);
        }
        let read = self.from.read(buf)?;
        self.gathered.extend_from_slice(&buf[..read]);
        Ok(read)
    }
}
