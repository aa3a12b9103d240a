//! Copies of everything, of what changed, and children that share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::commits::Committer;
use super::{Ground, Values, millis, rate, values};
use crate::Result;
use crate::engine::{Engine, Promise};

/// Empties the directory for copies.
fn clear<E: Engine>(ground: &Ground<E>) -> Result {
    std::fs::remove_dir_all(&ground.scratch)?;
    Ok(std::fs::create_dir(&ground.scratch)?)
}

/// A copy of everything beside a writer that commits page after page durably; what the writer keeps of its rate.
pub(super) fn export<E: Engine>(ground: &Ground<E>, time: Duration, seed: u64) -> Result<Values> {
    let mut writer = Committer::new(ground, 1, Promise::Durable, seed)?;
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < time * 2 {
        writer.commit()?;
        count += 1;
    }
    let alone = rate(count, start.elapsed());
    let (stops, pages) = (AtomicBool::new(false), ground.oracle.pages());
    let (seconds, beside) = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (start, mut count) = (Instant::now(), 0);
            while !stops.load(Ordering::Relaxed) {
                writer.commit()?;
                count += 1;
            }
            Ok::<_, crate::Fault>(rate(count, start.elapsed()))
        });
        let start = Instant::now();
        let done = ground.engine.export(&ground.scratch, pages);
        let seconds = start.elapsed().as_secs_f64();
        stops.store(true, Ordering::Relaxed);
        let beside = thread.join().map_err(|_| "the writer panicked")??;
        done.map(|()| (seconds, beside))
    })?;
    clear(ground)?;
    Ok(values([("seconds", seconds), ("writer_kept", beside / alone)]))
}

/// One page in a hundred, exported to a file that is synced.
pub(super) fn delta<E: Engine>(ground: &Ground<E>, seed: u64) -> Result<Values> {
    let later = ground.engine.delta(&ground.scratch)?;
    let changes = usize::try_from(ground.oracle.pages() / 100)?;
    Committer::new(ground, changes, Promise::Durable, seed)?.commit()?;
    let start = Instant::now();
    later()?;
    let took = millis(start);
    clear(ground)?;
    Ok(values([("ms", took)]))
}

pub(super) fn clone<E: Engine>(ground: &Ground<E>, seed: u64) -> Result<Values> {
    // So that there is something that no checkpoint has.
    Committer::new(ground, 1, Promise::Durable, seed)?.commit()?;
    let start = Instant::now();
    ground.engine.clone_to(&ground.scratch)?;
    let took = millis(start);
    clear(ground)?;
    Ok(values([("ms", took)]))
}

pub(super) fn fork<E: Engine>(ground: &Ground<E>, seed: u64) -> Result<Values> {
    Committer::new(ground, 1, Promise::Durable, seed)?.commit()?;
    let start = Instant::now();
    ground.engine.fork()?;
    Ok(values([("us", millis(start) * 1e3)]))
}
