//! The reckoning: every remembered state becomes a file, and SQLite is asked what is in it.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use vellum::{Options, Snapshot, Stats, Store};

use crate::Outcome;
use crate::report::Report;
use crate::sqlite::{self, Summary};
use crate::states::Story;

/// Where files go, and whether the remembered states stay there.
pub(crate) struct Files<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) is_kept: bool,
}

/// One file to be checked, exported from a snapshot first unless it is there already.
struct Job {
    path: PathBuf,
    from: Option<Snapshot>,
    expected: Summary,
    /// Whether the file stays when it has been checked: fifteen databases are a lot to leave behind.
    stays: bool,
}

/// Raw exports made, in bytes and time.
#[derive(Default)]
pub(crate) struct Exported {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
}

impl Job {
    fn run(&self, exported: &Mutex<Exported>) -> Outcome<()> {
        if let Some(snapshot) = &self.from {
            let begun = Instant::now();
            let file = File::create_new(&self.path)?;
            let summary = snapshot.export_raw(&mut BufWriter::with_capacity(1 << 20, file), &mut ())?;
            let mut exported = exported.lock().unwrap_or_else(PoisonError::into_inner);
            exported.files += 1;
            exported.bytes += summary.bytes;
            exported.took += begun.elapsed();
        }
        sqlite::check(&self.path, self.expected)?;
        if self.stays { Ok(()) } else { Ok(fs::remove_file(&self.path)?) }
    }
}

/// Imports the stream, exports everything that is held, and checks every file; two at a time.
pub(crate) fn everything(story: Story, files: &Files<'_>, report: &mut Report) -> Outcome<()> {
    let begun = Instant::now();
    let stream = &story.stream;
    let mut reader = BufReader::with_capacity(1 << 20, File::open(&stream.path)?);
    let second = Store::import(&mut reader, files.dir.join("second-store"))?;
    report.say(&format!("the stream became a second store in {} ms", begun.elapsed().as_millis()));
    let imported = second.snapshot();
    let is_same = (imported.version(), imported.fingerprint()) == (stream.version, stream.fingerprint);
    ensure!(is_same, "import gave {imported:?} instead of {} with {}", stream.version, stream.fingerprint);

    let mut jobs = vec![
        Job { path: story.raw.path, from: None, expected: story.exported, stays: false },
        Job {
            path: files.dir.join("imported.db"),
            from: Some(imported),
            expected: story.exported,
            stays: false,
        },
    ];
    jobs.extend(story.held.into_iter().map(|held| Job {
        path: files.dir.join(format!("state-{:02}.db", held.number)),
        from: Some(held.snapshot),
        expected: held.summary,
        stays: files.is_kept,
    }));
    let count = jobs.len();
    report.say(&format!("SQLite checks {count} files: integrity_check, and every column of every row"));
    let (queue, exported) = (Mutex::new(jobs.into_iter()), Mutex::default());
    let work = || -> Outcome<()> {
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(job) = job else { return Ok(()) };
            job.run(&exported)?;
        }
    };
    thread::scope(|scope| {
        let other = scope.spawn(work);
        work().and(other.join().map_err(|_| "a check panicked")?)
    })?;
    report.checked(count, &exported.into_inner().unwrap_or_else(PoisonError::into_inner));
    Ok(())
}

/// Nobody holds an old state any more: their space must come free, and the store must open again as it was left.
pub(crate) fn reopened(
    store: Store,
    dir: &Path,
    expected: Summary,
    held_bytes: u64,
    files: &Files<'_>,
    report: &mut Report,
) -> Outcome<()> {
    let before = store.stats();
    let pages = report.pages_committed();
    ensure!(
        before.pages_written == pages,
        "{} pages counted by the store, {pages} here",
        before.pages_written
    );
    let after = wait_for_space(&store)?;
    report.space(held_bytes, &after);
    let fingerprint = after.fingerprint;
    store.close()?;

    let store = Store::open(dir, Options::new().create(false))?;
    ensure!(store.verify(&mut ())?.fingerprint == fingerprint, "the store has changed by being closed");
    let job = Job { path: files.dir.join("last.db"), from: Some(store.snapshot()), expected, stays: false };
    job.run(&Mutex::default())?;
    report.checked(1, &Exported::default());
    report.say("the store was closed and opened: the last state is there, and old ones' space is free");
    Ok(())
}

/// Waits until little more is allocated than what the current version needs.
fn wait_for_space(store: &Store) -> Outcome<Stats> {
    // The catalog names the last two checkpoints' versions, and both are kept for a crash. Two commits that change no
    // page, each with a checkpoint of its own, make them the same but for a few bytes.
    for note in ["the tour", "is over"] {
        let mut txn = store.begin()?;
        txn.set_meta(note.as_bytes())?;
        txn.commit()?;
        store.maintain(vellum::Budget::unlimited())?;
    }
    // What the last snapshots kept is found when they are dropped, and freed after a grace period or two.
    let begun = Instant::now();
    loop {
        let stats = store.stats();
        if stats.allocated_bytes <= stats.live_bytes + (1 << 20) {
            return Ok(stats);
        }
        let is_patient = begun.elapsed() < Duration::from_secs(10);
        ensure!(is_patient, "{} bytes are allocated, {} are live", stats.allocated_bytes, stats.live_bytes);
        thread::sleep(Duration::from_millis(5));
        store.maintain(vellum::Budget::unlimited())?;
    }
}
