//! A copy of everything while a writer goes on: our export against `cp`.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vellum::{Durability, Store};

use crate::Result;
use crate::ground::{Ground, PAGE, commit_one};
use crate::measure::{Random, pair};
use crate::report::{Report, Target};

/// How long the writer rests after each commit.
const REST: Duration = Duration::from_millis(1);

pub(crate) fn beside_writer(ground: &Ground, report: &mut Report) -> Result {
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
    let figure = "export beside a writer (floor: cp, without fsync both)";
    report.pair(figure, "MB/s", &pair, Target::RatioAtLeast(0.7));
    Ok(())
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
    // Real bytes, and not a second name for the same blocks where the file system could give one.
    let status = Command::new("/bin/cp").arg("--reflink=never").args([source, target]).status()?;
    let took = start.elapsed();
    if !status.success() {
        return Err(format!("cp ended with {status}").into());
    }
    std::fs::remove_file(target)?;
    Ok(took)
}
