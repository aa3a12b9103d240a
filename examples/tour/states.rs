//! One SQLite commit, one vellum version; and threads that hold on to earlier ones meanwhile.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use vellum::{PageId, Snapshot, Store};
use xxhash_rust::xxh3::xxh3_64;

use crate::exports::{self, Export};
use crate::report::Report;
use crate::sqlite::{Database, Random, Summary};
use crate::{CHANGES, Outcome, PAGE};

/// Every so many states, somebody takes a snapshot and keeps it.
const HOLD_EVERY: usize = 4;
/// Pages that a holder looks at again and again.
const SAMPLES: usize = 256;
/// Pages that are compared under one view: views are for short work.
const BLOCK: usize = 256;

/// Carries the states of a SQLite file into a store: page i of the file is page i of the store.
pub(crate) struct Mirror {
    /// Open all the time: closing a file drops the locks that SQLite, in this same process, has on it.
    file: File,
    pub(crate) store: Store,
}

/// A state of the file that the store holds now.
pub(crate) struct Committed {
    pub(crate) snapshot: Snapshot,
    /// What was different from the version before, in ascending order; `false` for pages that were cut off.
    pub(crate) changes: Vec<(PageId, bool)>,
}

impl Mirror {
    pub(crate) fn new(database: &Path, store: Store) -> Outcome<Mirror> {
        Ok(Mirror { file: File::open(database)?, store })
    }

    /// Commits the file as it is: the pages that differ from the current version, and the length.
    pub(crate) fn commit_state(&self) -> Outcome<Committed> {
        let before = self.store.snapshot();
        let mut txn = self.store.begin()?;
        let page_count = self.page_count()?;
        if page_count != txn.page_count() {
            txn.truncate(page_count)?;
        }
        let mut changes = Vec::new();
        self.differences(&before, |id, bytes| {
            txn.write(id, bytes)?;
            changes.push((id, true));
            Ok(())
        })?;
        changes.extend((page_count..before.page_count()).map(|id| (PageId(id), false)));
        let version = txn.commit()?;

        let snapshot = self.store.snapshot();
        ensure!(
            snapshot.version() == version,
            "{version} was committed, but {} is there",
            snapshot.version()
        );
        ensure!(snapshot.page_count() == page_count, "{snapshot:?} should have {page_count} pages");
        self.differences(&snapshot, |id, _| Err(format!("{id} of {version} is not the file's").into()))?;
        // The store's own account of what changed must be the same as ours.
        ensure!(snapshot.diff(&before)? == changes, "diff to {version} doesn't name the pages that changed");
        Ok(Committed { snapshot, changes })
    }

    fn page_count(&self) -> Outcome<u64> {
        let length = self.file.metadata()?.len();
        ensure!(length % PAGE as u64 == 0, "the database is {length} bytes long: not whole pages");
        Ok(length / PAGE as u64)
    }

    /// Calls `each` with the pages of the file that are not the same in the snapshot.
    fn differences(
        &self,
        snapshot: &Snapshot,
        mut each: impl FnMut(PageId, &[u8]) -> Outcome<()>,
    ) -> Outcome<()> {
        let mut block = vec![0; BLOCK * PAGE];
        let page_count = self.page_count()?;
        for first in (0..page_count).step_by(BLOCK) {
            let view = snapshot.view();
            let pages = usize::try_from(page_count - first)?.min(BLOCK);
            let block = &mut block[..pages * PAGE];
            self.file.read_exact_at(block, first * PAGE as u64)?;
            for (id, bytes) in (first..).map(PageId).zip(block.chunks(PAGE)) {
                let stored = if id.get() < view.page_count() { view.page(id)? } else { None };
                if stored != Some(bytes) {
                    each(id, bytes)?;
                }
            }
        }
        Ok(())
    }

    /// The digests of some pages of the file, as it is now.
    fn sample(&self, random: &mut Random) -> Outcome<Vec<(PageId, u64)>> {
        let page_count = usize::try_from(self.page_count()?)?;
        let mut page = vec![0; PAGE];
        let mut take = || {
            let id = random.below(page_count) as u64;
            self.file.read_exact_at(&mut page, id * PAGE as u64)?;
            Ok((PageId(id), xxh3_64(&page)))
        };
        (0..SAMPLES).map(|_| take()).collect()
    }
}

/// A moment that is remembered: the store's snapshot of it, and what we know about it from elsewhere.
pub(crate) struct Held {
    pub(crate) number: usize,
    pub(crate) snapshot: Snapshot,
    pub(crate) summary: Summary,
    samples: Vec<(PageId, u64)>,
}

impl Held {
    /// Reads the samples over and over until told to stop. Returns how many pages it read.
    fn keep_checking(&self, stops: &AtomicBool) -> Outcome<u64> {
        let (fingerprint, mut page, mut reads) = (self.snapshot.fingerprint(), vec![0; PAGE], 0);
        // Once more after the last commit, so that everybody has seen the end.
        for is_last in std::iter::repeat_with(|| stops.load(Ordering::Acquire)) {
            for &(id, digest) in &self.samples {
                let is_same = self.snapshot.read(id, &mut page)? && xxh3_64(&page) == digest;
                ensure!(is_same, "{id} changed under a snapshot of state {}", self.number);
                reads += 1;
            }
            ensure!(self.snapshot.fingerprint() == fingerprint, "state {} changed", self.number);
            if is_last {
                break;
            }
            // Two cores must do for everything.
            thread::sleep(Duration::from_millis(5));
        }
        Ok(reads)
    }
}

/// What is left when the changes are over: snapshots, two exports, and what should be in them.
pub(crate) struct Story {
    pub(crate) held: Vec<Held>,
    pub(crate) exported: Summary,
    pub(crate) stream: Export,
    pub(crate) raw: Export,
}

/// Says stop when it is dropped, even by a panic: the scope would wait for the holders forever.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Changes the database and commits every state, while holders check theirs and two exports are under way.
pub(crate) fn change_and_hold(
    database: &mut Database,
    mirror: &Mirror,
    loaded: Committed,
    dir: &Path,
    report: &mut Report,
) -> Outcome<Story> {
    let stops = &AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = Stop(stops);
        let mut random = Random(11);
        let mut hold = |number, summary, snapshot: Snapshot| -> Outcome<_> {
            let held = Held { number, snapshot, summary, samples: mirror.sample(&mut random)? };
            Ok(scope.spawn(move || held.keep_checking(stops).map(|reads| (held, reads))))
        };
        let mut holders = vec![hold(0, database.summary(), loaded.snapshot)?];
        let mut exports = None;
        for number in 1..=CHANGES {
            let kind = database.change(number)?;
            let committed = mirror.commit_state()?;
            report.state(number, kind, &committed);
            if number % HOLD_EVERY == 0 {
                holders.push(hold(number, database.summary(), committed.snapshot.clone())?);
            }
            if number == CHANGES / 2 {
                report.say("two exports of this state begin, and the changes go on");
                let (stream, raw) = (committed.snapshot.clone(), committed.snapshot);
                let (stream_path, raw_path) = (dir.join("exported.stream"), dir.join("exported-raw.db"));
                let stream = scope.spawn(move || exports::stream(&stream, &mirror.store, stream_path));
                let raw = scope.spawn(move || exports::raw(&raw, &mirror.store, raw_path));
                exports = Some((database.summary(), stream, raw));
            }
        }
        let (exported, stream, raw) = exports.ok_or("no export was begun")?;
        let stream = stream.join().map_err(|_| "the stream export panicked")??;
        let raw = raw.join().map_err(|_| "the raw export panicked")??;
        drop(stop);
        let mut held = Vec::new();
        let mut reads = 0;
        for holder in holders {
            let (state, its_reads) = holder.join().map_err(|_| "a holder panicked")??;
            held.push(state);
            reads += its_reads;
        }
        report.held(held.len(), reads);
        report.exports([("stream export during commits", &stream), ("raw export during commits", &raw)]);
        Ok(Story { held, exported, stream, raw })
    })
}
