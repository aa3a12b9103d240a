//! The two kinds of export, each straddling commits.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use vellum::{Fingerprint, Observer, Progress, Snapshot, Store, Version};

use crate::Outcome;

/// What came of an export.
pub(crate) struct Export {
    pub(crate) path: PathBuf,
    pub(crate) version: Version,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) bytes: u64,
    /// Without the time spent waiting for commits.
    pub(crate) took: Duration,
    /// Versions that were published between the export's begin and its end.
    pub(crate) commits: u64,
}

/// Stops halfway until two more versions were committed: on a fast machine an export could be over before the next
/// commit, and nothing would be shown. Gives up after a while, so that a commit that waits for the export shows too.
struct Straddle<'a> {
    store: &'a Store,
    since: Version,
    waited: Duration,
    is_over: bool,
}

impl Straddle<'_> {
    const PATIENCE: Duration = Duration::from_secs(30);
}

impl Observer for Straddle<'_> {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        let is_halfway = progress.pages_total.is_some_and(|total| progress.pages_done >= total / 2);
        if self.is_over || !is_halfway {
            return ControlFlow::Continue(());
        }
        self.is_over = true;
        let begun = Instant::now();
        while self.store.version().get() < self.since.get() + 2 {
            if begun.elapsed() > Self::PATIENCE {
                return ControlFlow::Break(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.waited = begun.elapsed();
        ControlFlow::Continue(())
    }
}

/// Runs one export and takes its measure.
fn measure(
    snapshot: &Snapshot,
    store: &Store,
    path: PathBuf,
    run: impl FnOnce(&mut File, &mut dyn Observer) -> Outcome<(Version, u64)>,
) -> Outcome<Export> {
    let since = store.version();
    let mut straddle = Straddle { store, since, waited: Duration::ZERO, is_over: false };
    let begun = Instant::now();
    let mut file = File::create_new(&path)?;
    let (version, bytes) = run(&mut file, &mut straddle)?;
    file.sync_all()?;
    let took = begun.elapsed().saturating_sub(straddle.waited);
    let commits = store.version().get() - since.get();
    let length = file.metadata()?.len();
    ensure!(length == bytes, "{}: {bytes} bytes were reported, {length} are there", path.display());
    ensure!(version == snapshot.version(), "{version} was exported instead of {}", snapshot.version());
    ensure!(commits >= 2, "the export of {version} was alone");
    Ok(Export { path, version, fingerprint: snapshot.fingerprint(), bytes, took, commits })
}

/// The snapshot as a stream with checksums, which `Store::import` reads.
pub(crate) fn stream(snapshot: &Snapshot, store: &Store, path: PathBuf) -> Outcome<Export> {
    measure(snapshot, store, path, |file, observer| {
        let summary = snapshot.export_with(file, observer)?;
        let is_same = summary.fingerprint == snapshot.fingerprint();
        ensure!(is_same, "the stream has fingerprint {} instead of the snapshot's", summary.fingerprint);
        Ok((summary.version, summary.bytes))
    })
}

/// The snapshot as the bare pages: a file that SQLite opens.
pub(crate) fn raw(snapshot: &Snapshot, store: &Store, path: PathBuf) -> Outcome<Export> {
    measure(snapshot, store, path, |file, observer| {
        let summary = snapshot.export_raw(&mut std::io::BufWriter::with_capacity(1 << 20, file), observer)?;
        Ok((summary.version, summary.bytes))
    })
}
