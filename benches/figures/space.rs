//! What a store keeps on disk and in memory, what giving it back costs, and whether size makes opening slow.
//!
//! These figures have stores of their own, with segments of 4 MiB, so that the pool and the log's own segments don't hide
//! what is measured.

use std::path::Path;
use std::time::{Duration, Instant};

use vellum::{Budget, Durability, Options, PageId, Snapshot, Store};

use crate::Result;
use crate::ground::{Ground, PAGE, commit_one};
use crate::measure::{Random, median, pair, rate};
use crate::reopen;
use crate::report::{Report, Target};
use crate::sparse;

/// Pages that are overwritten again and again.
const HOT: u64 = 4096;
const MIB: f64 = 1_048_576.0;
const SEGMENT: u64 = 4 << 20;
const POOL: u32 = 4;

fn options() -> Options {
    Options::new().segment_size(SEGMENT).checkpoint_bytes(8 << 20).pool_segments(POOL)
}

fn filled(path: &Path, options: Options, pages: u64) -> Result<Store> {
    let store = Store::open(path, options)?;
    let mut txn = store.begin()?;
    txn.truncate(pages)?;
    txn.commit_with(Durability::Buffered)?;
    for from in (0..pages).step_by(256) {
        let mut txn = store.begin()?;
        for id in from..pages.min(from + 256) {
            txn.write(PageId(id), &[0xA5; PAGE])?;
        }
        txn.commit_with(Durability::Buffered)?;
    }
    Ok(store)
}

/// The bytes of the store's directory, as `ls` tells them.
fn directory(path: &Path) -> Result<f64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(path)? {
        // A file may be removed while the directory is read.
        sum += entry?.metadata().map_or(0, |file| file.len());
    }
    mib(sum)
}

fn mib(bytes: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(bytes >> 10)?) * 1024.0 / MIB)
}

/// Overwrites hot pages one by one, and returns the most that directory and table memory were, in MiB.
fn overwrite(store: &Store, path: &Path, commits: u64, random: &mut Random) -> Result<(f64, f64)> {
    let (mut disk, mut memory) = (0.0_f64, 0.0_f64);
    for step in 0..commits {
        commit_one(store, random.below(HOT), random.next(), Durability::Buffered)?;
        if step % 1024 == 0 && step > commits / 4 {
            disk = disk.max(directory(path)?);
            let stats = store.stats();
            memory = memory.max(mib(stats.table_memory_bytes + stats.limbo_bytes)?);
        }
    }
    Ok((disk, memory))
}

/// One snapshot, then many, held over commits that overwrite the same few pages.
pub(crate) fn held(ground: &Ground, report: &mut Report) -> Result {
    let path = ground.dir().join("held");
    let store = filled(&path, options(), HOT)?;
    let mut random = Random::new(11);
    let commits = ground.scale.overwrites;
    overwrite(&store, &path, commits, &mut random)?;
    // The most of a round depends on when its checkpoints come, hence the medians of several.
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        without.push(overwrite(&store, &path, commits, &mut random)?);
        let snapshot = store.snapshot();
        with.push(overwrite(&store, &path, commits, &mut random)?);
        drop(snapshot);
    }
    let middle = |rounds: &[(f64, f64)]| {
        let (disk, memory): (Vec<f64>, Vec<f64>) = rounds.iter().copied().unzip();
        (median(disk), median(memory))
    };
    let ((disk, memory), (disk_held, memory_held)) = (middle(&without), middle(&with));
    // One more copy of the pages and of the nodes above them; the pool; what a checkpoint more or less makes.
    let copy = mib(HOT * PAGE as u64)? + 1.0;
    let most = copy + f64::from(POOL + 2) * mib(SEGMENT)?;
    let figure = format!("directory: growth by one snapshot held over {commits} one-page commits");
    report.figure(figure, "MiB", disk_held - disk, Target::AtMost(most));
    report.figure("  its most without the snapshot", "MiB", disk, Target::None);
    report.figure("  memory of table and limbo: growth", "MiB", memory_held - memory, Target::AtMost(copy));
    store.maintain(Budget::unlimited())?;
    report.figure("  directory after the drop", "MiB", directory(&path)?, Target::AtMost(most + copy));

    let mut many: Vec<Snapshot> = Vec::new();
    for _ in 0..100 {
        many.push(store.snapshot());
        overwrite(&store, &path, commits / 100, &mut random)?;
    }
    store.maintain(Budget::unlimited())?;
    let stats = store.stats();
    let retained = mib(stats.allocated_bytes - stats.live_bytes)?;
    // Each differs from the next in at most so many pages as were committed between, and the nodes above them.
    let between = (commits / 100).min(HOT);
    let most = 100.0 * mib(between * (PAGE as u64 + 1200))? + 16.0;
    report.figure(
        "100 snapshots spread over as many commits: bytes retained",
        "MiB",
        retained,
        Target::AtMost(most),
    );
    let before = store.stats().allocated_bytes;
    let mut said = 0;
    while let Some(one) = many.pop() {
        let version = one.version();
        let pins = store.pins()?;
        said +=
            pins.iter().filter(|pin| pin.version == version).map(|pin| pin.retained_bytes).max().unwrap_or(0);
        drop(one);
        store.maintain(Budget::unlimited())?;
    }
    let stats = store.stats();
    let off = mib(said.abs_diff(before - stats.allocated_bytes))?;
    report.figure(
        "  bytes said to come back, one after the other, less those that did",
        "MiB",
        off,
        Target::AtMost(0.0),
    );
    let left = mib(stats.allocated_bytes - stats.live_bytes)?;
    report.figure("  after they were dropped", "MiB", left, Target::AtMost(0.5));
    report.figure("  directory then", "MiB", directory(&path)?, Target::None);
    drop(store);
    std::fs::remove_dir_all(&path)?;
    Ok(())
}

/// Random overwrites of a store that is kept 70% full: what is written for each page, and at which rate.
pub(crate) fn steady(ground: &Ground, report: &mut Report) -> Result {
    let pages = ground.scale.pages;
    let path = |name: &str| ground.dir().join(name);
    let kept = filled(&path("steady"), options().waste_percent(25), pages)?;
    // Never rewritten, and its dead segments never removed: what it writes, it only writes.
    let free = filled(&path("free"), options().waste_percent(1000).pool_segments(1 << 20), pages)?;
    let mut random = Random::new(12);
    let mut round = |store: &Store| -> Result<f64> {
        let (start, commits) = (Instant::now(), u32::try_from(pages / 128)?);
        for _ in 0..commits {
            let mut txn = store.begin()?;
            for _ in 0..16 {
                txn.write(PageId(random.below(pages)), &[0x3C; PAGE])?;
            }
            txn.commit_with(Durability::Buffered)?;
        }
        store.sync()?;
        Ok(rate(commits, start.elapsed()))
    };
    // Three times over, until it goes on and on alike.
    for _ in 0..12 {
        round(&kept)?;
    }
    let before = kept.stats();
    let (mut most, mut least) = (0.0_f64, f64::MAX);
    let rounds = 12;
    let mut kept_round = || {
        let rate = round(&kept);
        let stats = kept.stats();
        let share = mib(stats.live_bytes)? / mib(stats.disk_bytes)?;
        (most, least) = (most.max(share), least.min(share));
        rate
    };
    let mut random = Random::new(13);
    let mut free_round = || {
        let (start, commits) = (Instant::now(), u32::try_from(pages / 128)?);
        for _ in 0..commits {
            let mut txn = free.begin()?;
            for _ in 0..16 {
                txn.write(PageId(random.below(pages)), &[0x3C; PAGE])?;
            }
            txn.commit_with(Durability::Buffered)?;
        }
        free.sync()?;
        Ok(rate(commits, start.elapsed()))
    };
    let rates = pair(rounds, &mut kept_round, &mut free_round)?;
    let after = kept.stats();
    let written = (after.appended_bytes - before.appended_bytes)
        + (after.prepared_bytes - before.prepared_bytes)
        + (after.packed_bytes - before.packed_bytes);
    let asked = (after.pages_written - before.pages_written) * PAGE as u64;
    let amplification = mib(written)? / mib(asked)?;
    report.figure(
        "random overwrites at 70% utilisation: write amplification",
        "x",
        amplification,
        Target::AtMost(2.5),
    );
    let packed = mib(after.packed_bytes - before.packed_bytes)? / mib(asked)?;
    report.figure("  of it by rewriting segments", "x", packed, Target::None);
    report.figure("  utilisation, least", "%", least * 100.0, Target::None);
    report.figure("  utilisation, most", "%", most * 100.0, Target::None);
    report.pair("  16-page commits (floor: nothing given back)", "/s", &rates, Target::RatioAtLeast(0.75));
    drop((kept, free));
    std::fs::remove_dir_all(path("steady"))?;
    std::fs::remove_dir_all(path("free"))?;
    Ok(())
}

/// What giving a snapshot's pages back costs.
pub(crate) fn dropping(ground: &Ground, report: &mut Report) -> Result {
    let pages = ground.scale.pages / 4;
    let path = ground.dir().join("dropping");
    // The pool takes all segments: removing files is another matter, and the system's.
    let store = filled(&path, options().background(false).pool_segments(1 << 20), pages)?;
    let only_reclaim = Budget::unlimited().time(Duration::ZERO);
    let mut micros = Vec::new();
    for _ in 0..5 {
        let snapshot = store.snapshot();
        for from in (0..pages).step_by(256) {
            let mut txn = store.begin()?;
            for id in from..from + 256 {
                txn.write(PageId(id), &[0x77; PAGE])?;
            }
            txn.commit_with(Durability::Buffered)?;
        }
        // A checkpoint, so that the next call has nothing but the snapshot to do.
        store.maintain(only_reclaim)?;
        let before = store.stats().allocated_bytes;
        drop(snapshot);
        let start = Instant::now();
        store.maintain(only_reclaim)?;
        let freed = (before - store.stats().allocated_bytes) / PAGE as u64;
        micros.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(u32::try_from(freed)?));
    }
    let figure = "dropping a snapshot: time for each page version freed";
    report.figure(figure, "us", median(micros), Target::AtMost(2.0));
    drop(store);
    std::fs::remove_dir_all(&path)?;
    Ok(())
}

/// The same few commits since the checkpoint, in a small store and in ones 16 and 64 times as large.
pub(crate) fn sizes(ground: &Ground, report: &mut Report) -> Result {
    let mut times = Vec::new();
    for pages in [1, 16, 64].map(|times| times * ground.scale.pages) {
        let path = ground.dir().join("sized");
        sparse::fill(&path, pages)?;
        let open = |millis: &mut Vec<f64>| -> Result {
            let start = Instant::now();
            let store = Store::open(&path, Options::new())?;
            store.view().page(PageId(pages / 2))?;
            millis.push(start.elapsed().as_secs_f64() * 1e3);
            Ok(())
        };
        let (mut clean, mut killed) = (Vec::new(), Vec::new());
        for _ in 0..7 {
            open(&mut clean)?;
        }
        for _ in 0..5 {
            reopen::kill_after(&path, reopen::CHILD_GOES_ON, 1000)?;
            open(&mut killed)?;
        }
        let mebibytes = (pages * PAGE as u64) >> 20;
        times.push((mebibytes, median(clean), median(killed)));
        std::fs::remove_dir_all(&path)?;
    }
    let Some(((small, clean, killed), rest)) = times.split_first() else { return Ok(()) };
    for (large, clean_large, killed_large) in rest {
        for (how, less, more) in
            [("a clean close", clean, clean_large), ("SIGKILL after 1000 commits", killed, killed_large)]
        {
            let figure = format!("opening {large} MiB after {how} and reading a page (floor: {small} MiB)");
            let pair = crate::measure::Pair { ours: *more, floor: *less, ratio: more / less };
            report.pair(figure, "ms", &pair, Target::RatioAtMost(2.0));
        }
    }
    Ok(())
}
