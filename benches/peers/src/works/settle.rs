//! Waiting until a store has nothing left to do, so that one work doesn't pay for another.

use std::time::{Duration, Instant};

use super::Ground;
use crate::Result;
use crate::engine::Engine;
use crate::process::{dirtied_bytes, disk_bytes, is_one_thread};

/// So long nothing is written by a store that is done: one that puts its own work off until nobody commits does so for less.
const QUIET: Duration = Duration::from_millis(600);
/// The same for a store that is to give room back, which some put off for longer.
const QUIET_ROOM: Duration = Duration::from_secs(8);
/// Who isn't done by then pays in the next work.
const MOST: Duration = Duration::from_secs(20);
/// The same of a store that is to give room back.
const MOST_ROOM: Duration = Duration::from_mins(1);

/// Makes everything durable, and waits until the store stands still.
pub(super) fn settle<E: Engine>(ground: &Ground<E>) -> Result {
    ground.engine.sync()?;
    ground.engine.settle()?;
    if is_one_thread()? {
        // There is nobody who could do anything in the background.
        return Ok(());
    }
    if !stands_still(dirtied_bytes, QUIET, MOST)? {
        eprintln!(
            "  {} still writes after {} s: it isn't waited for any longer",
            ground.store.display(),
            MOST.as_secs()
        );
    }
    Ok(())
}

/// The same, and until its files have taken the same room for a while: what is no longer needed is given back by then, or stays.
pub(super) fn settle_room<E: Engine>(ground: &Ground<E>) -> Result {
    settle(ground)?;
    stands_still(|| disk_bytes(&ground.store), QUIET_ROOM, MOST_ROOM).map(drop)
}

/// Waits until `count` hasn't changed for as long as `quiet`; tells whether that was before `most` had gone by.
fn stands_still(mut count: impl FnMut() -> Result<u64>, quiet: Duration, most: Duration) -> Result<bool> {
    let start = Instant::now();
    let (mut last, mut since) = (count()?, start);
    while since.elapsed() < quiet {
        if start.elapsed() >= most {
            return Ok(false);
        }
        std::thread::sleep(quiet / 20);
        let now = count()?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    //! Goal: who works on is waited for, and not for ever. Method: a number that changes for a while, and one that
    //! always does.

    use super::*;

    #[test]
    fn what_stands_still_is_noticed_and_what_never_does_is_given_up() {
        let mut counted = 0;
        let ends = || {
            counted += 1;
            Ok(counted.min(30))
        };
        assert!(stands_still(ends, Duration::from_millis(20), Duration::from_mins(5)).unwrap());
        assert!(counted > 30, "{counted}");
        let mut counted = 0;
        let never_ends = || {
            counted += 1;
            Ok(counted)
        };
        assert!(!stands_still(never_ends, Duration::from_hours(1), Duration::ZERO).unwrap());
    }
}
