//! Snapshots made by the clock: the caller ticks, and what is due is made.
//!
//! # What holds
//! - A schedule's runs are moments on a grid: every so often from 1970 (UTC) on, moved by an offset, and each by its own jitter, which a
//!   seed determines. Whoever asks finds the same moments.
//! - What was done is told by the snapshots themselves: each carries the schedule's name and the moment that it was made for as labels.
//!   Nothing else is stored, so nothing can disagree, and a schedule goes on where it was after a crash, a restart, a restore.
//! - A moment is run once at most: the snapshot and the word that it was made are one commit.
//! - No thread and no clock of its own: the time is given with each tick. A clock that went back makes nothing twice; one that
//!   ran ahead and came back holds nothing up.

mod grid;

use std::time::{Duration, SystemTime};

use serde::Serialize;

use self::grid::Grid;
use crate::calendar::stamp;
use crate::error::{Error, Result};
use crate::names::{Naming, check_name, millis_of, time_of};
use crate::retention::{Pruned, Retention};
use crate::store::Store;

/// The label that says which schedule made a snapshot.
const SCHEDULE: &str = "schedule";
/// The label that says for which moment, in milliseconds since 1970.
const DUE: &str = "due";
/// The label that says how many moments before it were missed.
const MISSED: &str = "missed";
/// What stands for the moment in a pattern.
const TIME: &str = "{time}";

/// What to do about moments that nobody ticked at.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// One run, for the last of them, however late.
    #[default]
    Once,
    /// Only if the last of them is no longer ago than this; otherwise the next moment is waited for.
    IfWithin(Duration),
}

/// When snapshots are made, what they are called, and which of them stay: see [`Store::tick`].
///
/// ```
/// use std::time::Duration;
/// use vellum::{Retention, Schedule};
/// // Five minutes past every hour, give or take a minute; a day by the hour is kept, and a month by the day.
/// let hourly = Schedule::every("hourly", Duration::from_secs(3600))
///     .at(Duration::from_secs(5 * 60))
///     .jitter(Duration::from_secs(60), 42)
///     .keep(Retention::new().keep_hourly(24).keep_daily(31));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    name: String,
    grid: Grid,
    catch_up: CatchUp,
    pattern: String,
    naming: Naming,
    expires_in: Option<Duration>,
    retention: Option<Retention>,
}

/// What a tick did.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tick {
    /// The snapshot that was made; `None` if nothing was due.
    pub snapshot: Option<String>,
    /// The moment that it was made for.
    pub due: Option<SystemTime>,
    /// Moments since the last run that have passed without one of their own.
    pub missed: u64,
    /// The next moment.
    pub next: SystemTime,
    /// What the schedule's retention dropped.
    pub pruned: Pruned,
    /// Whether there are runs of moments that are yet to come: the clock was ahead then, or is behind now. Those of the next moment
    /// count as done, later ones don't.
    pub is_clock_behind: bool,
}

impl Schedule {
    /// A schedule of this name that runs every `interval` (at least a second), counted from 1970 (UTC): every hour on the hour, every
    /// 24 hours at midnight.
    pub fn every(name: impl Into<String>, interval: Duration) -> Schedule {
        let name = name.into();
        Schedule {
            pattern: format!("{name}-{TIME}"),
            name,
            grid: Grid::every(interval),
            catch_up: CatchUp::default(),
            naming: Naming::new(),
            expires_in: None,
            retention: None,
        }
    }

    /// Moves every moment by this, less than the interval: every hour at 5 minutes past.
    #[must_use]
    pub fn at(mut self, offset: Duration) -> Schedule {
        self.grid.move_by(offset);
        self
    }

    /// Moves each moment by an amount of its own, up to `most` (less than the interval), that `seed` determines: so that many
    /// stores on one disk don't all work at once.
    #[must_use]
    pub fn jitter(mut self, most: Duration, seed: u64) -> Schedule {
        self.grid.scatter(most, seed);
        self
    }

    /// What to do about moments that nobody ticked at. Default [`CatchUp::Once`].
    #[must_use]
    pub fn catch_up(mut self, rule: CatchUp) -> Schedule {
        self.catch_up = rule;
        self
    }

    /// What the snapshots are called; `{time}` stands for the moment, as `2026-11-27T02-05-00Z`. Default: the schedule's name,
    /// a dash and the moment.
    #[must_use]
    pub fn pattern(mut self, pattern: impl Into<String>) -> Schedule {
        self.pattern = pattern.into();
        self
    }

    /// A label that each snapshot gets beside the schedule's own, which are `schedule`, `due` and `missed`.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Schedule {
        self.naming = self.naming.label(key, value);
        self
    }

    /// From so long after its moment on, retention may drop a snapshot, and until then it doesn't.
    #[must_use]
    pub fn expires_in(mut self, time: Duration) -> Schedule {
        self.expires_in = Some(time);
        self
    }

    /// After each run, the schedule's own snapshots are pruned by this policy; the newest always stays, since it says what was
    /// run last. Without a policy nothing is dropped.
    #[must_use]
    pub fn keep(mut self, policy: Retention) -> Schedule {
        self.retention = Some(policy);
        self
    }

    fn check(&self) -> Result<()> {
        check_name("a schedule's name", &self.name)?;
        self.grid.check()?;
        if self.pattern.contains(TIME) {
            return Ok(());
        }
        let expected = format!("one with {TIME} in it, so that no two snapshots have the same name, is");
        Err(Error::InvalidOption { option: "pattern", value: self.pattern.clone(), expected })
    }

    /// The moment that should be run at `now_ms`, and how many before it were missed since the run of `last_ms`.
    fn due(&self, now_ms: u64, last_ms: Option<u64>) -> (Option<u64>, u64) {
        let Some(newest) = self.grid.newest(now_ms) else { return (None, 0) };
        let passed = match last_ms.map(|last_ms| self.grid.number(last_ms)) {
            // There is no run yet: the first one isn't late for anything.
            None => 1,
            Some(None) => newest + 1,
            Some(Some(last)) => newest.saturating_sub(last),
        };
        let is_in_time = match self.catch_up {
            CatchUp::Once => true,
            CatchUp::IfWithin(most) => u128::from(now_ms - self.grid.moment(newest)) <= most.as_millis(),
        };
        match passed {
            0 => (None, 0),
            _ if is_in_time => (Some(self.grid.slot(newest)), passed - 1),
            _ => (None, if last_ms.is_some() { passed } else { 0 }),
        }
    }
}

impl Store {
    /// Makes the snapshot that the schedule has due at `now`, if any, and prunes the schedule's older ones. To be called now and then:
    /// the more often, the more punctual. Costs a look at the list of names if nothing is due, and one commit (and what
    /// [`Store::prune`] costs) otherwise.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use vellum::{Options, Retention, Schedule, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// let hourly = Schedule::every("hourly", Duration::from_secs(3600)).keep(Retention::new().keep_last(24));
    /// let now = UNIX_EPOCH + Duration::from_secs(1_795_745_100);
    /// let tick = store.tick(&hourly, now)?;
    /// assert_eq!(tick.snapshot.as_deref(), Some("hourly-2026-11-27T02-00-00Z"));
    /// assert_eq!(store.tick(&hourly, now)?.snapshot, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a schedule that can't be, [`Error::InvalidName`] for one without a name; [`Error::SnapshotExists`] if a snapshot that the schedule didn't make
    /// has the name; as [`Store::create_snapshot_with`] and [`Store::prune`]. If pruning fails the snapshot is there, and
    /// the next run prunes again.
    pub fn tick(&self, schedule: &Schedule, now: SystemTime) -> Result<Tick> {
        schedule.check()?;
        let now_ms = millis_of(now);
        let (mut last_ms, mut is_clock_behind) = (None, false);
        for due_ms in self.runs_of(&schedule.name) {
            is_clock_behind |= due_ms > now_ms;
            // A clock that was put back a little comes to this moment again. One that was far ahead may never.
            if due_ms <= schedule.grid.slot_after(now_ms) {
                last_ms = last_ms.max(Some(due_ms));
            }
        }
        let (due_ms, missed) = schedule.due(now_ms, last_ms);
        let next = time_of(schedule.grid.next(now_ms)).unwrap_or(now);
        let nothing =
            Tick { snapshot: None, due: None, missed, next, pruned: Pruned::default(), is_clock_behind };
        let Some(due_ms) = due_ms else { return Ok(nothing) };
        let name = schedule.pattern.replace(TIME, &stamp(due_ms));
        let mut naming = schedule.naming.clone();
        naming = naming.label(SCHEDULE, &*schedule.name).label(DUE, due_ms.to_string());
        naming = naming.label(MISSED, missed.to_string());
        let due = time_of(due_ms);
        if let Some(end) = due.zip(schedule.expires_in).and_then(|(due, time)| due.checked_add(time)) {
            naming = naming.expires_at(end);
        }
        match self.create_snapshot_with(&name, naming) {
            Ok(_) => {}
            // Somebody else has ticked at the same time.
            Err(Error::SnapshotExists { .. }) if self.runs_of(&schedule.name).contains(&due_ms) => {
                return Ok(Tick { missed: 0, ..nothing });
            }
            Err(error) => return Err(error),
        }
        let pruned = match &schedule.retention {
            Some(policy) => {
                let policy = policy.clone().only_label(SCHEDULE, &*schedule.name).keep_last(1);
                self.prune(&policy, now)?
            }
            None => Pruned::default(),
        };
        Ok(Tick { snapshot: Some(name), due, pruned, ..nothing })
    }

    /// The moments that the schedule of this name has snapshots for.
    fn runs_of(&self, schedule: &str) -> Vec<u64> {
        let value = |labels: &[(String, String)], key: &str| {
            labels.iter().find(|(other, _)| other == key).map(|(_, value)| value.clone())
        };
        let run = |labels: &[(String, String)]| match value(labels, SCHEDULE)? == schedule {
            true => value(labels, DUE)?.parse().ok(),
            false => None,
        };
        self.snapshots().iter().filter_map(|snapshot| run(&snapshot.labels)).collect()
    }
}
