//! Buffered commits of one page, one after the other: how many a second.
//!
//! Two stores, because it matters what is written over. Random commits to the large one leave no segment wholly dead for
//! long, so the log goes to fresh files, and a system that must first find (and, in a virtual machine, back) memory for
//! them is most of what is measured. The small one writes its few segments again and again.

use std::fs::File;
use std::io::Write;
use std::time::Instant;

use vellum::{Durability, Options, PageId, Store};

use crate::Result;
use crate::floor::{RECORD, Recycled};
use crate::ground::{Ground, PAGE, commit_one};
use crate::measure::{Random, pair, rate};
use crate::report::{Report, Target};

/// Commits in a round.
const COMMITS: u32 = 8 << 10;
/// Pages of the small store, and commits before its segments go round.
const SMALL: u64 = 4096;
const WARM_UP: u64 = 64 << 10;

pub(crate) fn buffered(ground: &Ground, report: &mut Report) -> Result {
    let (store, pages) = (&ground.store, ground.scale.pages);
    let mut random = Random::new(4);
    let mut commit = || commit_one(store, random.below(pages), random.next(), Durability::Buffered);
    let mut fresh = File::create_new(ground.dir().join("floor-fresh"))?;
    let mebibyte = vec![0xC3; 1 << 20];
    // Rounds begin with nothing left to write, so that neither pays for what the other left to the disk.
    let large = pair(
        ground.scale.rounds,
        &mut || {
            store.sync()?;
            time(&mut commit)
        },
        &mut || {
            let start = Instant::now();
            for _ in 0..COMMITS as usize * PAGE / mebibyte.len() {
                fresh.write_all(&mebibyte)?;
            }
            let rate = rate(COMMITS, start.elapsed());
            fresh.sync_data()?;
            Ok(rate)
        },
    )?;
    let figure = "buffered one-page commits (floor: the pages alone, 1 MiB a write, to a fresh file)";
    report.pair(figure, "/s", &large, Target::AtLeast(200_000.0));
    // On and on, what counts is how fast checkpoints get it to the disk.
    store.sync()?;
    let before = store.stats().checkpoints;
    let start = Instant::now();
    for _ in 0..ground.scale.rounds {
        time(&mut commit)?;
    }
    store.sync()?;
    let all = COMMITS * u32::try_from(ground.scale.rounds)?;
    let checkpoints = store.stats().checkpoints - before;
    let figure = format!("  {all} on end and a sync, {checkpoints} checkpoints among them");
    report.figure(figure, "/s", rate(all, start.elapsed()), Target::None);
    small(ground, report)
}

fn small(ground: &Ground, report: &mut Report) -> Result {
    let floor = Recycled::create(&ground.dir().join("floor-buffered"))?;
    let record = vec![0xC3; RECORD];
    let store = Store::open(ground.dir().join("small"), Options::new())?;
    let mut txn = store.begin()?;
    txn.truncate(SMALL)?;
    for id in 0..SMALL {
        txn.write(PageId(id), &[1; PAGE])?;
    }
    txn.commit()?;
    let mut random = Random::new(9);
    let mut commit = || commit_one(&store, random.below(SMALL), random.next(), Durability::Buffered);
    (0..WARM_UP).try_for_each(|_| commit())?;
    let pair = pair(
        ground.scale.rounds,
        &mut || {
            store.sync()?;
            time(&mut commit)
        },
        &mut || {
            let rate = time(&mut || floor.write(&record))?;
            floor.sync()?;
            Ok(rate)
        },
    )?;
    let stats = store.stats();
    let figure =
        format!("  same, {SMALL} pages, {} segments going round (floor: bare 8 KiB writes)", stats.segments);
    report.pair(figure, "/s", &pair, Target::AtLeast(200_000.0));
    Ok(())
}

/// The rate of a round of buffered calls.
fn time(call: &mut dyn FnMut() -> Result) -> Result<f64> {
    let start = Instant::now();
    (0..COMMITS).try_for_each(|_| call())?;
    Ok(rate(COMMITS, start.elapsed()))
}
