//! The history window: versions that are kept without a name, every one or one an interval, of the last so many or so long.
//!
//! # How a version is kept
//! 1. Each publish lets its version in: a registry slot is filled at the current version, under the commit lock and inside a
//!    guard (invariant 6). So the window's versions are pins like any other, and what is reclaimed is decided by the one
//!    rule: no live version in [birth, death). It costs a commit one slot taken, and as a rule one given back.
//! 2. Which ones go is told by the policy and by the times of the commits alone, never by a clock: what a replay of the log lets in
//!    and what it gives up is what was there before the crash.
//! 3. A checkpoint writes the nodes of the window's versions and its catalog lists them; an opening fills their slots again, and
//!    lets the versions of the log's tail in as they were let in before. A version that left stays readable until
//!    neither catalog slot lists it (`names/departed.rs`).
//! 4. The policy is a part of the store: it travels in a commit's record like a change of the names, and stands in the catalog.
//! 5. Opening a version counts one more holder of its slot, under the window's lock: a pin never moves.
//!
//! The window gives way before anybody is refused or revoked: where old versions keep more than
//! [`Options::retained_limit`](crate::Options::retained_limit) allows, it is shortened from its old end (`govern.rs`).

mod api;
pub(crate) mod window;

use std::fmt;
use std::time::Duration;

pub use api::KeptVersion;

use crate::calendar::millis;
use crate::error::{Error, Result};
use crate::format::history::{HistoryRecord, KEPT_MAX, Span};

/// Which versions a store keeps without a name: see [`Store::set_history`](crate::Store::set_history).
///
/// ```
/// use std::time::Duration;
/// use vellum::History;
/// let every_version_of_an_hour = History::within(Duration::from_secs(3600));
/// let a_week_by_the_minute = History::within(Duration::from_secs(7 * 86_400)).one_per(Duration::from_secs(60));
/// let the_last_hundred = History::versions(100);
/// assert_ne!(the_last_hundred, History::off());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History(Option<HistoryRecord>);

impl History {
    /// Most versions that a window keeps: beyond, the oldest go, however long the window should be.
    pub const VERSIONS_MAX: usize = KEPT_MAX;

    /// Nothing is kept; the default.
    #[must_use]
    pub fn off() -> History {
        History::default()
    }

    /// The newest `count` versions, the current one included; from 1 to [`History::VERSIONS_MAX`].
    #[must_use]
    pub fn versions(count: usize) -> History {
        History(Some(HistoryRecord { span: Span::Versions(count as u64), interval_ms: 0 }))
    }

    /// What is needed to go back by `time` from the newest version: the versions of that time, and the one that was current when it
    /// begins. [`History::VERSIONS_MAX`] of them at most. Counted from the newest version's time, so a store at rest forgets nothing.
    #[must_use]
    pub fn within(time: Duration) -> History {
        History(Some(HistoryRecord { span: Span::Millis(millis(time)), interval_ms: 0 }))
    }

    /// Of each stretch of `interval` (counted from 1970, UTC; at least a millisecond) only the newest version: the store as
    /// it was at the end of each stretch.
    #[must_use]
    pub fn one_per(self, interval: Duration) -> History {
        History(self.0.map(|record| HistoryRecord { interval_ms: millis(interval).max(1), ..record }))
    }

    pub(crate) fn record(self) -> Result<Option<HistoryRecord>> {
        match self.0 {
            Some(record) if !record.is_sane() => Err(Error::InvalidOption {
                option: "history",
                value: format!("{:?}", record.span),
                expected: format!("1 to {KEPT_MAX} versions are"),
            }),
            record => Ok(record),
        }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(record) = self.0 else { return f.write_str("no versions without a name") };
        let time = Duration::from_millis;
        match record.interval_ms {
            0 => f.write_str("each version")?,
            interval => write!(f, "the last version of each {:?}", time(interval))?,
        }
        match record.span {
            Span::Versions(count) => write!(f, ", {count} at most"),
            Span::Millis(span) => write!(f, " within {:?}", time(span)),
        }
    }
}
