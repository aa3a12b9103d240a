//! The moments of a schedule: numbered slots of equal length, each with a moment in it that a seed determines.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::calendar::millis;
use crate::error::{Error, Result};

/// Shortest interval.
const INTERVAL_MS_MIN: u64 = 1000;

/// See the head of this file. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    interval_ms: u64,
    offset_ms: u64,
    jitter_ms: u64,
    seed: u64,
}

impl Grid {
    pub(super) fn every(interval: Duration) -> Grid {
        Grid { interval_ms: millis(interval), offset_ms: 0, jitter_ms: 0, seed: 0 }
    }

    pub(super) fn move_by(&mut self, offset: Duration) {
        self.offset_ms = millis(offset);
    }

    pub(super) fn scatter(&mut self, most: Duration, seed: u64) {
        (self.jitter_ms, self.seed) = (millis(most), seed);
    }

    pub(super) fn check(&self) -> Result<()> {
        let refuse = |option: &'static str, millis: u64, expected: &str| {
            let value = format!("{:?}", Duration::from_millis(millis));
            Err(Error::InvalidOption { option, value, expected: expected.to_owned() })
        };
        match self.interval_ms {
            // Far below what would overflow in a sum of three.
            interval if !(INTERVAL_MS_MIN..=u64::MAX / 8).contains(&interval) => {
                refuse("interval", interval, "a second or more is")
            }
            interval if self.offset_ms >= interval => {
                refuse("at", self.offset_ms, "less than the interval is")
            }
            interval if self.jitter_ms >= interval => {
                refuse("jitter", self.jitter_ms, "less than the interval is")
            }
            _ => Ok(()),
        }
    }

    /// The number of the slot that a time lies in; `None` before the first.
    pub(super) fn number(&self, at_ms: u64) -> Option<u64> {
        Some(at_ms.checked_sub(self.offset_ms)? / self.interval_ms)
    }

    /// Where a slot begins.
    pub(super) fn slot(&self, number: u64) -> u64 {
        number.saturating_mul(self.interval_ms).saturating_add(self.offset_ms)
    }

    /// Where the next slot begins.
    pub(super) fn slot_after(&self, at_ms: u64) -> u64 {
        self.number(at_ms).map_or(self.offset_ms, |number| self.slot(number.saturating_add(1)))
    }

    /// When a slot is due.
    pub(super) fn moment(&self, number: u64) -> u64 {
        let spread = xxh3_64_with_seed(&number.to_le_bytes(), self.seed) % (self.jitter_ms + 1);
        self.slot(number).saturating_add(spread)
    }

    /// The newest slot whose moment has come.
    pub(super) fn newest(&self, now_ms: u64) -> Option<u64> {
        let number = self.number(now_ms)?;
        if self.moment(number) <= now_ms { Some(number) } else { number.checked_sub(1) }
    }

    /// The next moment.
    pub(super) fn next(&self, now_ms: u64) -> u64 {
        self.moment(self.newest(now_ms).map_or(0, |newest| newest + 1))
    }
}
