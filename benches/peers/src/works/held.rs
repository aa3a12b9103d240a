//! Readers and writers beside each other, and what a reader that stays costs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::commits::Committer;
use super::settle::settle_room;
use super::{Ground, Values, rate, values};
use crate::Result;
use crate::engine::{Engine, Pages, Promise, Reader, missing};
use crate::measure::{Random, percentile};
use crate::pages::{PAGE, first_word};
use crate::process::{disk_bytes, memory_bytes};

/// Pages in each transaction of a writer beside readers.
const PAGES: usize = 16;

/// Buffered commits of one writer and reads of one reader: each alone, then together.
pub(super) fn beside<E: Engine>(ground: &Ground<E>, time: Duration, seed: u64) -> Result<Values> {
    ground.engine.promise(Promise::Buffered)?;
    let mut writer = Committer::new(ground, PAGES, Promise::Buffered, seed)?;
    let reader = ground.engine.reader()?;
    let lasts = |start: Instant| start.elapsed() < time;
    let writes_alone = write_while(&mut writer, &lasts)?;
    let reads_alone = read_while::<E>(ground, &reader, seed, &lasts)?;
    let stops = AtomicBool::new(false);
    let (writes, reads) = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let reader = ground.engine.reader()?;
            read_while::<E>(ground, &reader, seed, &|_| !stops.load(Ordering::Relaxed))
        });
        let writes = write_while(&mut writer, &lasts);
        stops.store(true, Ordering::Relaxed);
        let reads = thread.join().map_err(|_| "the reader panicked")??;
        Ok::<_, crate::Fault>((writes?, reads))
    })?;
    ground.engine.promise(Promise::Durable)?;
    Ok(values([
        ("pages_per_s", writes),
        ("reads_per_s", reads),
        ("writer_kept", writes / writes_alone),
        ("reader_kept", reads / reads_alone),
    ]))
}

fn write_while<E: Engine>(writer: &mut Committer<'_, E>, lasts: &dyn Fn(Instant) -> bool) -> Result<f64> {
    let (start, mut count) = (Instant::now(), 0);
    while count == 0 || lasts(start) {
        writer.commit()?;
        count += PAGES as u64;
    }
    Ok(rate(count, start.elapsed()))
}

/// Whole pages, 64 for each pin.
fn read_while<E: Engine>(
    ground: &Ground<E>,
    reader: &E::Reader,
    seed: u64,
    lasts: &dyn Fn(Instant) -> bool,
) -> Result<f64> {
    let (mut random, start, mut count, mut sum) = (Random::new(seed), Instant::now(), 0, 0_u64);
    while count == 0 || lasts(start) {
        let view = reader.pin()?;
        for _ in 0..64 {
            sum = sum.wrapping_add(view.read(random.below(ground.oracle.pages()), crate::pages::sum)?);
        }
        count += 64;
    }
    std::hint::black_box(sum);
    Ok(rate(count, start.elapsed()))
}

/// Pages in each transaction while a reader stays.
const BATCH: usize = 64;
/// Most pages that are overwritten: 64 MiB.
const HOT: u64 = 16 << 10;

/// Times that they are overwritten without a reader, and beside one: a rate is the median of so many, since what one burst takes depends
/// most on what else the disk does.
const TIMES: u64 = 3;

/// A sixteenth of all pages is overwritten again and again: without a reader, beside one, and after it is gone. A
/// perfect store keeps one copy of those that differ, and gives it back. All in all it is eight times as many pages;
/// more, and the slowest peers take minutes.
pub(super) fn long_reader<E: Engine>(ground: &Ground<E>, seed: u64) -> Result<Values> {
    if !E::HAS_SNAPSHOTS {
        return missing("it has no snapshots");
    }
    let seed = seed.wrapping_mul(16);
    let hot = (ground.oracle.pages() / 16).clamp(BATCH as u64, HOT);
    let overwrite = |seed: u64| -> Result<f64> {
        ground.engine.promise(Promise::Buffered)?;
        let mut writer = Committer::new(ground, BATCH, Promise::Buffered, seed)?.below(hot);
        let (start, count) = (Instant::now(), hot.div_ceil(BATCH as u64));
        for _ in 0..count {
            writer.commit()?;
        }
        ground.engine.sync()?;
        ground.engine.promise(Promise::Durable)?;
        Ok(rate(count * BATCH as u64, start.elapsed()))
    };
    let weigh = || -> Result<(f64, f64)> {
        // What is done in the background to give room back gets its time.
        settle_room(ground)?;
        Ok((
            disk_bytes(&ground.store)? as f64 / f64::from(1 << 20),
            memory_bytes()? as f64 / f64::from(1 << 20),
        ))
    };
    let overwrite_often = |seed: u64| -> Result<f64> {
        let mut rates = (0..TIMES).map(|time| overwrite(seed + time)).collect::<Result<Vec<f64>>>()?;
        rates.sort_by(f64::total_cmp);
        Ok(percentile(&rates, 0.5))
    };
    overwrite(seed)?;
    let free = overwrite_often(seed + 1)?;
    let (disk, memory) = weigh()?;
    let snapshot = ground.engine.snapshot()?;
    let words: Vec<u64> = (0..hot).map(|id| ground.oracle.word(id)).collect();
    check(&snapshot, &words)?;
    let beside = overwrite_often(seed + 1 + TIMES)?;
    let (disk_held, memory_held) = weigh()?;
    check(&snapshot, &words)?;
    let differ = (0..hot).zip(&words).filter(|&(id, word)| ground.oracle.word(id) != *word).count();
    drop(snapshot);
    overwrite(seed + 1 + 2 * TIMES)?;
    let (disk_after, memory_after) = weigh()?;
    let copy = (differ * PAGE) as f64 / f64::from(1 << 20);
    Ok(values([
        ("disk_copies", (disk_held - disk) / copy),
        ("disk_copies_after", (disk_after - disk) / copy),
        ("memory_mib", memory_held - memory),
        ("memory_mib_after", memory_after - memory),
        ("writer_kept", beside / free),
    ]))
}

/// A snapshot shows what it was taken of: the first pages' words.
fn check(snapshot: &impl Pages, words: &[u64]) -> Result {
    for (id, word) in (0..).zip(words) {
        if snapshot.read(id, first_word)? != *word {
            return Err(Box::new(crate::pages::Wrong(format!("page {id} of a snapshot has changed"))));
        }
    }
    Ok(())
}

pub(super) fn hold<E: Engine>(
    ground: &Ground<E>,
    held: &mut Vec<E::Snapshot>,
    count: u32,
    changes: u32,
    seed: u64,
) -> Result<Values> {
    if !E::HAS_SNAPSHOTS {
        return missing("it has no snapshots");
    }
    ground.engine.promise(Promise::Buffered)?;
    let mut writer = Committer::new(ground, changes as usize, Promise::Buffered, seed)?;
    for _ in 0..count {
        if changes > 0 {
            writer.commit()?;
        }
        held.push(ground.engine.snapshot()?);
    }
    ground.engine.promise(Promise::Durable)?;
    Ok(Values::new())
}
