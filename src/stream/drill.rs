//! A restore that is only a trial: the whole way that a real one would go, in a scratch place, and then the caller's own check.

use std::io::{self, Cursor, IoSlice, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::options::{ExportOptions, ImportOptions};
use super::staging::Staging;
use crate::error::{Error, Result};
use crate::id::{Fingerprint, Version};
use crate::options::Options;
use crate::pins::PinKind;
use crate::progress::Observer;
use crate::snapshot::Snapshot;
use crate::store::Store;

/// What a check of a restored store says: any error will do.
pub type Checked = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// What a drill has shown.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drilled {
    /// The fingerprint after each link of the chain, as computed from the restored pages' checksums; each was as its stream says.
    pub fingerprints: Vec<Fingerprint>,
    /// The version that was restored.
    pub version: Version,
    /// Its pages, all of which were read back and verified.
    pub pages: u64,
    /// Bytes of the streams.
    pub stream_bytes: u64,
    /// Bytes of the restored pages.
    pub page_bytes: u64,
    /// How long it took until the store stood as it would after a real restore.
    pub restored_in: Duration,
    /// How long reading everything back took.
    pub verified_in: Duration,
    /// How long the caller's check took.
    pub checked_in: Duration,
}

/// Restores a chain (a full stream and the deltas after it, in their order) to a scratch directory made in `scratch`, as a real restore
/// would: imports and applies each link, compares the store's fingerprint with the link's, reads every page back, and then has `check`
/// look at the store. The streams are only read; the scratch directory is removed however it ends.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// # let home = tempfile::tempdir().unwrap();
/// use vellum::{ImportOptions, Options, Store, drill};
/// let store = Store::in_memory(Options::new())?;
/// let mut txn = store.begin()?;
/// let id = txn.allocate()?;
/// txn.write(id, &[7; 4096])?;
/// txn.commit()?;
/// let mut full = Vec::new();
/// store.snapshot().export(&mut full)?;
///
/// let mut check = |restored: &Store| match restored.view().page(id)? {
///     Some(page) if page[0] == 7 => Ok(()),
///     _ => Err("the page isn't what it was".into()),
/// };
/// let done = drill(&mut [&mut &full[..]], home.path(), &ImportOptions::new(), &mut check, &mut ())?;
/// assert_eq!(done.fingerprints, [store.snapshot().fingerprint()]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Error::InvalidOption`] for no stream at all; what [`Store::import_as`] and [`Store::apply_as`] give, [`Error::WrongBase`] where a
/// link doesn't lead where it says; [`Error::CheckFailed`] with what `check` said; [`Error::Cancelled`].
pub fn drill(
    streams: &mut [&mut dyn Read],
    scratch: impl AsRef<Path>,
    options: &ImportOptions,
    check: &mut dyn FnMut(&Store) -> Checked,
    observer: &mut dyn Observer,
) -> Result<Drilled> {
    // Declared before the store that is built in it, and so removed after that is closed, also by a panic of the check.
    let staging = Staging::new(&scratch.as_ref().join("vellum"), "drill");
    staging.check_parent()?;
    let begun = Instant::now();
    let mut restored: Option<Store> = None;
    let (mut fingerprints, mut stream_bytes) = (Vec::new(), 0);
    for stream in streams {
        let mut counted = Counted { from: *stream, bytes: 0 };
        match &restored {
            None => {
                let made = Store::import_as(&mut counted, &staging.path, Options::new(), options, observer)?;
                restored = Some(made);
            }
            Some(store) => drop(store.apply_as(&mut counted, options, observer)?),
        }
        stream_bytes += counted.bytes;
        // An import and an apply refuse a stream that doesn't lead to the fingerprint that it names.
        fingerprints.extend(restored.as_ref().map(|store| store.snapshot().fingerprint()));
    }
    let Some(store) = restored else {
        let (value, expected) = ("none".to_owned(), "one or more are".to_owned());
        return Err(Error::InvalidOption { option: "streams", value, expected });
    };
    let restored_in = begun.elapsed();
    let begun = Instant::now();
    let report = store.verify(observer)?;
    let verified_in = begun.elapsed();
    let begun = Instant::now();
    check(&store)
        .map_err(|source| Error::CheckFailed { version: report.version, source: Arc::from(source) })?;
    Ok(Drilled {
        fingerprints,
        version: report.version,
        pages: report.pages,
        stream_bytes,
        page_bytes: report.bytes,
        restored_in,
        verified_in,
        checked_in: begun.elapsed(),
    })
}

impl Snapshot {
    /// As [`drill`], of this snapshot: it is exported through a pipe and restored at the other end, so nothing but the scratch store is
    /// written. The snapshot's name is held meanwhile.
    ///
    /// # Errors
    /// As [`drill`], and what [`Snapshot::export`] gives.
    pub fn drill(
        &self,
        scratch: impl AsRef<Path>,
        check: &mut dyn FnMut(&Store) -> Checked,
        observer: &mut dyn Observer,
    ) -> Result<Drilled> {
        let _in_use = self.in_use_by(PinKind::Drill, "drill")?;
        let scratch = scratch.as_ref();
        let (mut reader, mut writer) = pipe();
        std::thread::scope(|scope| {
            let named = std::thread::Builder::new().name("vellum-drill".to_owned());
            let export = move || {
                let done = self.export_as(&mut writer, &ExportOptions::new(), &mut ());
                // Now the other end sees that there is no more.
                drop(writer);
                done
            };
            let exporter = named
                .spawn_scoped(scope, export)
                .map_err(|error| Error::io("start a thread for", self.core().path(), error))?;
            let drilled = drill(&mut [&mut reader], scratch, &ImportOptions::new(), check, observer);
            drop(reader);
            let exported = exporter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match (drilled, exported) {
                // An export that failed by itself is why the restore did; one that lost its reader isn't.
                (Err(_), Err(error)) if !matches!(error, Error::Stream { .. }) => Err(error),
                (drilled, _) => drilled,
            }
        })
    }
}

/// Pieces that one end of a pipe may be ahead of the other.
const PIECES_AHEAD: usize = 4;

/// A pipe between two threads. (One of the system's would raise a signal in a process that doesn't ignore it.)
fn pipe() -> (PipeReader, PipeWriter) {
    let (sender, receiver) = sync_channel(PIECES_AHEAD);
    (PipeReader { receiver, piece: Cursor::new(Vec::new()) }, PipeWriter(sender))
}

struct PipeWriter(SyncSender<Vec<u8>>);

impl Write for PipeWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let piece = bufs.iter().map(|buf| &**buf).collect::<Vec<&[u8]>>().concat();
        let len = piece.len();
        match len {
            // Nothing would be taken for the end.
            0 => Ok(0),
            _ => self.0.send(piece).map(|()| len).map_err(|_| io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct PipeReader {
    receiver: Receiver<Vec<u8>>,
    piece: Cursor<Vec<u8>>,
}

impl Read for PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.piece.read(buf)? {
            0 if !buf.is_empty() => match self.receiver.recv() {
                Ok(piece) => {
                    self.piece = Cursor::new(piece);
                    self.piece.read(buf)
                }
                // The other end is closed.
                Err(_) => Ok(0),
            },
            read => Ok(read),
        }
    }
}

/// Counts what is read.
struct Counted<'a> {
    from: &'a mut dyn Read,
    bytes: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buf)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
