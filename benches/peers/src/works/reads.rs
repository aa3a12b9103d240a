//! Pins, and reads at a pinned snapshot.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::{Ground, Values, nanos_each, rate, values};
use crate::Result;
use crate::engine::{Engine, Pages, Reader, missing};
use crate::pages::{Wrong, first_word, sum};
use crate::work::{Choice, Look};

/// Pins between two looks at the clock.
const PINS: u64 = 256;
/// Reads that share a view, between two looks at the clock.
const READS: usize = 1024;

pub(super) fn pin<E: Engine>(ground: &Ground<E>, time: Duration) -> Result<Values> {
    if !E::HAS_SNAPSHOTS {
        return missing("it has no snapshots");
    }
    let reader = ground.engine.reader()?;
    let view = time_pins(time / 2, || {
        drop(black_box(reader.pin()?));
        Ok(())
    })?;
    let snapshot = time_pins(time / 2, || {
        drop(black_box(ground.engine.snapshot()?));
        Ok(())
    })?;
    Ok(values([("view_ns", view), ("snapshot_ns", snapshot)]))
}

fn time_pins(time: Duration, pin: impl Fn() -> Result) -> Result<f64> {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < time {
        for _ in 0..PINS {
            pin()?;
        }
        count += PINS;
    }
    Ok(nanos_each(count, start.elapsed()))
}

pub(super) fn read<E: Engine>(
    ground: &Ground<E>,
    (choice, look): (Choice, Look),
    threads: u32,
    together: usize,
    time: Duration,
    seed: u64,
) -> Result<Values> {
    let ids = ground.ids.chosen(choice);
    let barrier = Barrier::new(threads as usize);
    let one = |thread: u64| -> Result<(u64, Duration)> {
        let reader = ground.engine.reader()?;
        let from = ((seed.wrapping_mul(31) + thread * 7) as usize * READS * 11) % ids.len();
        barrier.wait();
        match look {
            Look::EightBytes => {
                read_some::<E>(ground, &reader, (ids, from, together), time, first_word, |_, word| word)
            }
            Look::WholePage => {
                read_some::<E>(ground, &reader, (ids, from, together), time, sum, |id, word| {
                    ground.contents.sum(id, word)
                })
            }
        }
    };
    let each: Vec<(u64, Duration)> = std::thread::scope(|scope| {
        let all: Vec<_> = (1..u64::from(threads)).map(|thread| scope.spawn(move || one(thread))).collect();
        let first = one(0);
        let others = all.into_iter().map(|thread| thread.join().map_err(|_| "a reader panicked")?);
        std::iter::once(first).chain(others).collect::<Result<_>>()
    })?;
    let all = each.iter().map(|(count, took)| rate(*count, *took)).sum::<f64>();
    let ns = each.iter().map(|(count, took)| nanos_each(*count, *took)).sum::<f64>() / each.len() as f64;
    Ok(values([("ns", ns), ("reads_per_s", all)]))
}

/// Reads until the time is up; what was seen must add up to what the oracle says.
fn read_some<E: Engine>(
    ground: &Ground<E>,
    reader: &E::Reader,
    (ids, from, together): (&[u64], usize, usize),
    time: Duration,
    look: impl Fn(&[u8]) -> u64,
    expect: impl Fn(u64, u64) -> u64,
) -> Result<(u64, Duration)> {
    let (start, mut at, mut count, mut seen) = (Instant::now(), from, 0, 0_u64);
    while start.elapsed() < time {
        let view = reader.pin()?;
        match together {
            1 => {
                for id in &ids[at..at + READS] {
                    seen = seen.wrapping_add(view.read(*id, &look)?);
                }
            }
            _ => {
                for ids in ids[at..at + READS].chunks(together) {
                    seen = seen.wrapping_add(view.read_together(ids, &look)?);
                }
            }
        }
        count += READS;
        at = (at + READS) % ids.len();
    }
    let took = start.elapsed();
    let read = ids.iter().cycle().skip(from).take(count);
    let expected = read.fold(0_u64, |all, id| all.wrapping_add(expect(*id, ground.oracle.word(*id))));
    if seen != expected {
        return Err(Box::new(Wrong(format!("{count} reads came to {seen:x} instead of {expected:x}"))));
    }
    Ok((count as u64, took))
}
