//! A copy of everything while a writer goes on: our export against `cp`.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vellum::{Durability, Store, verify_stream};

use crate::Result;
use crate::ground::{Ground, PAGE, commit_one};
use crate::measure::{Random, median, pair, rate};
use crate::report::{Report, Target};

/// How long the writer rests after each commit.
const REST: Duration = Duration::from_millis(1);

/// Of the store as it was loaded: pages lie in the order of their ids.
pub(crate) fn beside_writer(ground: &Ground, report: &mut Report) -> Result {
    compare(
        ground,
        report,
        "export beside a writer (floor: cp, without fsync both)",
        Target::RatioAtLeast(0.85),
    )?;
    for (kind, durability) in [("buffered", Durability::Buffered), ("durable", Durability::Sync)] {
        let target = ground.dir().join("copy");
        let alone = || {
            std::thread::sleep(ALONE);
            Ok(())
        };
        let beside = || export(&ground.store, &target).map(drop);
        let name = format!("  {kind} one-page commits beside an export (floor: alone)");
        let pair =
            pair(ground.scale.copies, &mut || commits_during(ground, durability, beside), &mut || {
                commits_during(ground, durability, alone)
            })?;
        report.pair(name, "/s", &pair, Target::RatioAtLeast(0.8));
        let beside_cp = || copy(&ground.plain, &target).map(drop);
        let rates: Result<Vec<f64>> =
            (0..ground.scale.copies).map(|_| commits_during(ground, durability, beside_cp)).collect();
        report.figure("    beside cp", "/s", median(rates?), Target::None);
    }
    Ok(())
}

/// How long commits are counted when nothing else goes on.
const ALONE: Duration = Duration::from_millis(600);

/// One-page commits a second, one after the other, while something else is done.
fn commits_during(
    ground: &Ground,
    durability: Durability,
    work: impl FnOnce() -> Result + Send,
) -> Result<f64> {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let done = work().map_err(|error| error.to_string());
            is_done.store(true, Ordering::Relaxed);
            done
        });
        let (mut random, mut count, start) = (Random::new(12), 0u32, Instant::now());
        while !is_done.load(Ordering::Relaxed) {
            commit_one(&ground.store, random.below(4096), random.next(), durability)?;
            count += 1;
        }
        let took = start.elapsed();
        worker.join().map_err(|_| "the other thread panicked")??;
        Ok(rate(count, took))
    })
}

/// Of the store after the figures before this one, which have written most pages again in random order.
pub(crate) fn scattered(ground: &Ground, report: &mut Report) -> Result {
    let mut random = Random::new(10);
    for _ in 0..ground.scale.pages {
        commit_one(&ground.store, random.below(ground.scale.pages), random.next(), Durability::Buffered)?;
    }
    crate::ground::touch(&ground.store.snapshot())?;
    compare(
        ground,
        report,
        "export beside a writer, pages written again in random order before (floor: cp)",
        Target::None,
    )
}

fn compare(ground: &Ground, report: &mut Report, figure: &str, target: Target) -> Result {
    let (store, pages) = (&ground.store, ground.scale.pages);
    store.sync()?;
    let stops = AtomicBool::new(false);
    let pair = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(store, pages, &stops));
        let bytes = f64::from(u32::try_from(pages)?) * f64::from(u32::try_from(PAGE)?);
        let target = ground.dir().join("copy");
        let pair = pair(
            ground.scale.copies,
            &mut || Ok(bytes / 1e6 / export(store, &target)?.as_secs_f64()),
            &mut || Ok(bytes / 1e6 / copy(&ground.plain, &target)?.as_secs_f64()),
        );
        stops.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| "the writer panicked")??;
        pair
    })?;
    report.pair(figure, "MB/s", &pair, target);
    Ok(())
}

/// What was exported becomes a store again: read, verified, written and synced.
pub(crate) fn import(ground: &Ground, report: &mut Report) -> Result {
    let (stream, target) = (ground.dir().join("stream"), ground.dir().join("imported"));
    ground.store.snapshot().export(&mut File::create_new(&stream)?)?;
    let bytes = f64::from(u32::try_from(ground.scale.pages)?) * f64::from(u32::try_from(PAGE)?);
    let copied = ground.dir().join("copy");
    let pair = pair(
        ground.scale.copies,
        &mut || {
            let start = Instant::now();
            let store = Store::import(&mut File::open(&stream)?, &target)?;
            let took = start.elapsed();
            drop(store);
            std::fs::remove_dir_all(&target)?;
            Ok(bytes / 1e6 / took.as_secs_f64())
        },
        &mut || Ok(bytes / 1e6 / copy_durably(&ground.plain, &copied)?.as_secs_f64()),
    )?;
    report.pair("import and verify (floor: cp, with fsync both)", "MB/s", &pair, Target::RatioAtLeast(0.5));
    let mut took = Vec::new();
    for _ in 0..ground.scale.copies {
        let start = Instant::now();
        verify_stream(&mut File::open(&stream)?, &mut ())?;
        took.push(bytes / 1e6 / start.elapsed().as_secs_f64());
    }
    report.figure("  verify without importing", "MB/s", median(took), Target::None);
    std::fs::remove_file(&stream)?;
    Ok(())
}

fn copy_durably(source: &Path, target: &Path) -> Result<Duration> {
    let start = Instant::now();
    let status = Command::new("/bin/cp").args([source, target]).status()?;
    File::open(target)?.sync_all()?;
    let took = start.elapsed();
    if !status.success() {
        return Err(format!("cp ended with {status}").into());
    }
    std::fs::remove_file(target)?;
    Ok(took)
}

/// Commits a page a millisecond until told to stop.
fn write(store: &Store, pages: u64, stops: &AtomicBool) -> Result {
    let mut random = Random::new(8);
    while !stops.load(Ordering::Relaxed) {
        commit_one(store, random.below(pages), random.next(), Durability::Buffered)?;
        std::thread::sleep(REST);
    }
    Ok(())
}

fn export(store: &Store, target: &Path) -> Result<Duration> {
    let snapshot = store.snapshot();
    let start = Instant::now();
    snapshot.export(&mut File::create_new(target)?)?;
    let took = start.elapsed();
    std::fs::remove_file(target)?;
    Ok(took)
}

fn copy(source: &Path, target: &Path) -> Result<Duration> {
    let start = Instant::now();
    // As anybody would call it. (On a file system that can share blocks, this copies nothing: not a fair floor.)
    let status = Command::new("/bin/cp").args([source, target]).status()?;
    let took = start.elapsed();
    if !status.success() {
        return Err(format!("cp ended with {status}").into());
    }
    std::fs::remove_file(target)?;
    Ok(took)
}
