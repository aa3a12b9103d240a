//! What a snapshot costs that is given a name, cloned, forked, or sent as what changed.

use std::path::Path;
use std::time::Instant;

use vellum::{Durability, Options, PageId, Snapshot, Store};

use crate::Result;
use crate::ground::{Ground, PAGE, commit_one};
use crate::measure::{Random, median, pair};
use crate::report::{Report, Target};
use crate::sparse;

const TIMES: usize = 15;
const FORKS: usize = 300;

/// Names against commits; clones and forks of a store that was just written to, and of one 16 times as large.
pub(crate) fn copies(ground: &Ground, report: &mut Report) -> Result {
    let (store, pages) = (&ground.store, ground.scale.pages);
    store.sync()?;
    let mut random = Random::new(21);
    let mut count = 0;
    let names = pair(
        TIMES * 4,
        &mut || {
            count += 1;
            let start = Instant::now();
            store.create_snapshot(&format!("figure {count}"))?;
            Ok(start.elapsed().as_secs_f64() * 1e6)
        },
        &mut || {
            let start = Instant::now();
            commit_one(store, random.below(pages), 1, Durability::Sync)?;
            Ok(start.elapsed().as_secs_f64() * 1e6)
        },
    )?;
    for snapshot in store.snapshots() {
        store.drop_snapshot(&snapshot.name)?;
    }
    report.pair(
        "naming a snapshot (floor: a durable one-page commit)",
        "us",
        &names,
        Target::RatioAtMost(1.3),
    );
    let mebibytes = (pages * PAGE as u64) >> 20;
    clone_and_fork(ground.dir(), store, (mebibytes, 10.0), report)?;
    let path = ground.dir().join("sparse");
    sparse::fill(&path, 16 * pages)?;
    let large = Store::open(&path, Options::new())?;
    clone_and_fork(ground.dir(), &large, (16 * mebibytes, 30.0), report)?;
    drop(large);
    std::fs::remove_dir_all(&path)?;
    delta(store, pages, report)
}

fn clone_and_fork(dir: &Path, store: &Store, size: (u64, f64), report: &mut Report) -> Result {
    let (mebibytes, most) = size;
    let target = dir.join("clone");
    let mut clones = Vec::new();
    for round in 0..TIMES as u64 {
        // So that there is something that isn't on the disk yet.
        commit_one(store, round, round, Durability::Sync)?;
        let start = Instant::now();
        store.snapshot().clone_to(&target)?;
        clones.push(start.elapsed().as_secs_f64() * 1e3);
        std::fs::remove_dir_all(&target)?;
    }
    report.figure(format!("clone of {mebibytes} MiB"), "ms", median(clones), Target::AtMost(most));
    let snapshot = store.snapshot();
    let same = forks(&mut || Ok(snapshot.clone()))?;
    report.figure(format!("fork of {mebibytes} MiB"), "us", same, Target::AtMost(20.0));
    let mut random = Random::new(23);
    let mut after_commit = |durability| {
        forks(&mut || {
            commit_one(store, random.below(snapshot.page_count()), random.next(), durability)?;
            Ok(store.snapshot())
        })
    };
    let buffered = after_commit(Durability::Buffered)?;
    report.figure("  of a new version each time", "us", buffered, Target::AtMost(20.0));
    let synced = after_commit(Durability::Sync)?;
    report.figure("  the same, synced before, so that caches are cold", "us", synced, Target::None);
    Ok(())
}

/// The median time of a fork, in microseconds.
fn forks(next: &mut dyn FnMut() -> Result<Snapshot>) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..FORKS {
        let snapshot = next()?;
        let start = Instant::now();
        let fork = snapshot.fork()?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
        drop(fork);
    }
    Ok(median(times))
}

/// One page in a hundred, against everything.
fn delta(store: &Store, pages: u64, report: &mut Report) -> Result {
    let base = store.snapshot();
    let mut random = Random::new(22);
    let mut txn = store.begin()?;
    for _ in 0..pages / 100 {
        txn.write(PageId(random.below(pages)), &[0x99; PAGE])?;
    }
    txn.commit()?;
    let snapshot = store.snapshot();
    let changed = snapshot.diff(&base)?.len() as u64;
    let (mut deltas, mut fulls, mut bytes) = (Vec::new(), Vec::new(), 0);
    let timed = |export: &mut dyn FnMut() -> Result<u64>| -> Result<(f64, u64)> {
        let start = Instant::now();
        let bytes = export()?;
        Ok((start.elapsed().as_secs_f64() * 1e3, bytes))
    };
    for _ in 0..5 {
        let (time, len) = timed(&mut || since(&snapshot, &base))?;
        bytes = len;
        deltas.push(time);
        fulls.push(timed(&mut || Ok(snapshot.export(&mut std::io::sink())?.bytes))?.0);
    }
    let pair = crate::measure::Pair {
        ours: median(deltas.clone()),
        floor: median(fulls.clone()),
        ratio: median(deltas) / median(fulls),
    };
    report.pair(
        "a delta of 1% of the pages, to nowhere (floor: a full export)",
        "ms",
        &pair,
        Target::RatioAtMost(0.03),
    );
    let payload = changed * PAGE as u64;
    let more = f64::from(u32::try_from((bytes - payload) * 10_000 / payload)?) / 100.0;
    report.figure("  its bytes beside the changed pages'", "%", more, Target::AtMost(1.0));
    Ok(())
}

fn since(snapshot: &Snapshot, base: &Snapshot) -> Result<u64> {
    Ok(snapshot.export_since(base, &mut std::io::sink())?.bytes)
}
