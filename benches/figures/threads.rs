//! Durable commits of one page from eight threads at once.

use std::sync::{Arc, Barrier};
use std::time::Instant;

use vellum::Durability;

use crate::Result;
use crate::floor::{Group, RECORD, Recycled};
use crate::ground::{Ground, commit_one};
use crate::measure::{Pair, Random, in_turn, rate};
use crate::report::{Report, Target};

const THREADS: u32 = 8;
/// Commits of each thread in a round.
const EACH: u32 = 100;

pub(crate) fn many(ground: &Ground, report: &mut Report) -> Result {
    let (store, pages) = (&ground.store, ground.scale.pages);
    let share = pages / u64::from(THREADS);
    let group = Group::new(Recycled::create(&ground.dir().join("floor-threads"))?);
    let record: Arc<[u8]> = vec![0xC3; RECORD].into();
    let mut random = Random::new(6);
    let batches = |stats: vellum::Stats| (stats.batches, stats.transactions);
    let mut formed = (0, 0);
    let [ours, bare, alone] = in_turn(
        ground.scale.rounds,
        &mut [
            &mut || {
                let before = batches(store.stats());
                let seed = random.next();
                let rate = together(|thread| {
                    let mut random = Random::new(seed.wrapping_add(thread));
                    // Ranges of their own, so that no two write the same page.
                    move || {
                        let id = thread * share + random.below(share);
                        commit_one(store, id, random.next(), Durability::Sync)
                    }
                });
                let after = batches(store.stats());
                formed = (formed.0 + after.0 - before.0, formed.1 + after.1 - before.1);
                rate
            },
            &mut || together(|_| || group.submit(record.clone())),
            &mut || {
                let mut random = Random::new(7);
                let start = Instant::now();
                for _ in 0..EACH {
                    commit_one(store, random.below(pages), random.next(), Durability::Sync)?;
                }
                Ok(rate(EACH, start.elapsed()))
            },
        ],
    )?;
    let scaling = Pair::of(&ours, &alone);
    let figure = "durable one-page commits, 8 threads (floor: 1 thread)";
    report.pair(figure, "/s", &scaling, Target::RatioAtLeast(2.5));
    let against = Pair::of(&ours, &bare);
    let figure = "durable one-page commits, 8 threads (floor: bare group of 8 KiB records)";
    report.pair(figure, "/s", &against, Target::RatioAtLeast(0.75));
    report.figure("  records a batch, bare group", "", group.mean_batch()?, Target::None);
    let size = f64::from(u32::try_from(formed.1)?) / f64::from(u32::try_from(formed.0)?);
    report.figure("  transactions a batch, ours", "", size, Target::None);
    Ok(())
}

/// The rate of eight threads that each call what `make` gives them, from a common start to the end of the last.
fn together<F: FnMut() -> Result>(make: impl Fn(u64) -> F + Sync) -> Result<f64> {
    let barrier = Barrier::new(THREADS as usize + 1);
    let run = |thread: u32| -> Result {
        let mut call = make(u64::from(thread));
        barrier.wait();
        (0..EACH).try_for_each(|_| call())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let run = &run;
                    move || run(thread)
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(rate(THREADS * EACH, start.elapsed()))
    })
}
