//! Commits of one page from one thread: how long they take, and how many bytes.

use vellum::Durability;

use crate::Result;
use crate::floor::{RECORD, Recycled};
use crate::ground::{Ground, commit_one};
use crate::measure::{Random, median, p50_micros, pair};
use crate::report::{Report, Target};

/// Commits in a round.
const DURABLE: u32 = 200;
/// Commits whose bytes are counted in a round.
const COUNTED: u32 = 500;

pub(crate) fn durable(ground: &Ground, report: &mut Report) -> Result {
    let (store, pages) = (&ground.store, ground.scale.pages);
    let floor = Recycled::create(&ground.dir().join("floor-durable"))?;
    let record = vec![0xC3; RECORD];
    let mut random = Random::new(3);
    let mut commit = || commit_one(store, random.below(pages), random.next(), Durability::Sync);
    let pair = pair(ground.scale.rounds, &mut || p50_micros(DURABLE, &mut commit), &mut || {
        p50_micros(DURABLE, &mut || floor.write_and_sync(&record))
    })?;
    let figure = "durable one-page commit, p50 (floor: 8 KiB write + fdatasync)";
    report.pair(figure, "us", &pair, Target::RatioAtMost(1.3));
    Ok(())
}

pub(crate) fn bytes(ground: &Ground, report: &mut Report) -> Result {
    let (store, pages) = (&ground.store, ground.scale.pages);
    let mut random = Random::new(5);
    for (name, durability) in [("durable", Durability::Sync), ("buffered", Durability::Buffered)] {
        let mut each = Vec::new();
        for _ in 0..ground.scale.rounds {
            let before = store.stats().appended_bytes;
            for _ in 0..COUNTED {
                commit_one(store, random.below(pages), random.next(), durability)?;
            }
            store.sync()?;
            let bytes = store.stats().appended_bytes - before;
            each.push(f64::from(u32::try_from(bytes)?) / f64::from(COUNTED));
        }
        // The median leaves out rounds with a checkpoint's table nodes or a new segment's header; the mean has them.
        let rounds = f64::from(u32::try_from(each.len())?);
        let mean = each.iter().sum::<f64>() / rounds;
        let figure = format!("bytes a {name} one-page commit");
        report.figure(figure, "bytes", median(each), Target::AtMost(8192.0));
        let figure = "  mean, with checkpoints and segment headers";
        report.figure(figure, "bytes", mean, Target::None);
    }
    Ok(())
}
