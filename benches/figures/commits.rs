//! Commits of one page from one thread: how long, how many, how many bytes.

use std::time::Instant;

use vellum::Durability;

use crate::Result;
use crate::floor::{RECORD, Recycled};
use crate::ground::{Ground, commit_one};
use crate::measure::{Random, p50_micros, pair, rate};
use crate::report::{Report, Target};

/// Commits in a round.
const DURABLE: u32 = 200;
const BUFFERED: u32 = 16 << 10;
/// Commits whose bytes are counted.
const COUNTED: u32 = 1000;

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

pub(crate) fn buffered(ground: &Ground, report: &mut Report) -> Result {
    let (store, pages) = (&ground.store, ground.scale.pages);
    let floor = Recycled::create(&ground.dir().join("floor-buffered"))?;
    let record = vec![0xC3; RECORD];
    let mut random = Random::new(4);
    let pair = pair(
        ground.scale.rounds,
        &mut || {
            let start = Instant::now();
            for _ in 0..BUFFERED {
                commit_one(store, random.below(pages), random.next(), Durability::Buffered)?;
            }
            Ok(rate(BUFFERED, start.elapsed()))
        },
        &mut || {
            let start = Instant::now();
            for _ in 0..BUFFERED {
                floor.write(&record)?;
            }
            Ok(rate(BUFFERED, start.elapsed()))
        },
    )?;
    let figure = "buffered one-page commits (floor: bare 8 KiB writes)";
    report.pair(figure, "/s", &pair, Target::AtLeast(200_000.0));
    store.sync()?;
    Ok(())
}

pub(crate) fn bytes(ground: &Ground, report: &mut Report) -> Result {
    let (store, pages) = (&ground.store, ground.scale.pages);
    let mut random = Random::new(5);
    for (name, durability) in [("durable", Durability::Sync), ("buffered", Durability::Buffered)] {
        let before = store.stats();
        for _ in 0..COUNTED {
            commit_one(store, random.below(pages), random.next(), durability)?;
        }
        store.sync()?;
        let after = store.stats();
        let bytes = after.appended_bytes - before.appended_bytes;
        let checkpoints = after.checkpoints - before.checkpoints;
        let figure = match checkpoints {
            0 => format!("bytes written a {name} one-page commit"),
            _ => format!("bytes written a {name} one-page commit, {checkpoints} checkpoint(s) among them"),
        };
        let each = f64::from(u32::try_from(bytes)?) / f64::from(COUNTED);
        report.figure(figure, "bytes", each, Target::AtMost(8192.0));
    }
    Ok(())
}
