//! Which named snapshots stay: rules, a plan that gives the reasons, and the dropping of the others.
//!
//! # What holds
//! - A plan is computed from the store's list of names and the rules alone, so the dry run and the real one decide alike.
//! - Nothing that is held is dropped. Whatever needs a snapshot (an export, a token, a chain, a clone in the making) says so by a hold;
//!   a bookmark needs no pages and keeps nothing. The commit that drops looks again: a hold that came after the plan refuses it, and
//!   the plan is made anew.
//! - Periods are those of the calendar in UTC (`calendar.rs`), told from the time of the commit that made the snapshot. A store's
//!   times never run back, whatever the clock does.
//! - What counts backwards counts from the newest snapshot, not from now: a store of which nobody makes snapshots any more, or
//!   whose clock ran ahead, doesn't lose its last ones to that.

mod api;
mod plan;

use std::time::Duration;

use crate::calendar::Period;

pub use api::Pruned;
pub use plan::{KeepReason, RetentionDecision, RetentionPlan};

/// Which named snapshots to keep: those that any of the rules keeps. Evaluated by
/// [`Store::plan_retention`](crate::Store::plan_retention) and [`Store::prune`](crate::Store::prune).
///
/// Kept beside the rules: what somebody holds, what is one of a group's, and what has an expiry that hasn't come. What has expired goes, whatever
/// the rules say, and doesn't count for them. Without any rule everything stays that hasn't expired. All periods are in UTC.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// use std::time::SystemTime;
/// use vellum::{Naming, Options, Retention, Store};
/// let store = Store::in_memory(Options::new())?;
/// for name in ["one", "two", "three"] {
///     store.create_snapshot_with(name, Naming::new().label("job", "nightly"))?;
/// }
/// let policy = Retention::new().only_label("job", "nightly").keep_last(1).keep_daily(7).keep_monthly(12);
/// let plan = store.plan_retention(&policy, SystemTime::now())?;
/// for decision in &plan.decisions {
///     println!("{}: {decision}", decision.snapshot.name);
/// }
/// println!("{} bytes would come back", plan.freed_bytes);
/// let pruned = store.prune(&policy, SystemTime::now())?;
/// assert_eq!(pruned.dropped, plan.dropped().map(|snapshot| snapshot.name.clone()).collect::<Vec<_>>());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    rules: Vec<Rule>,
    /// Labels that a snapshot must have for the policy to be about it.
    only: Vec<(String, String)>,
}

/// Each keeps some.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Last(usize),
    /// The newest of each of so many periods that have any.
    Newest(Period, usize),
    Within(Duration),
    Label(String, String),
}

impl Retention {
    /// No rule yet: only what has expired goes.
    #[must_use]
    pub fn new() -> Retention {
        Retention::default()
    }

    /// The policy is only about snapshots with this label; the others neither go nor count. Given several times, a snapshot must
    /// have all the labels.
    #[must_use]
    pub fn only_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Retention {
        self.only.push((key.into(), value.into()));
        self
    }

    /// Keeps the newest `count`.
    #[must_use]
    pub fn keep_last(self, count: usize) -> Retention {
        self.rule(Rule::Last(count))
    }

    /// Keeps the newest of each of the last `count` hours that have any.
    #[must_use]
    pub fn keep_hourly(self, count: usize) -> Retention {
        self.rule(Rule::Newest(Period::Hour, count))
    }

    /// Keeps the newest of each of the last `count` days that have any.
    #[must_use]
    pub fn keep_daily(self, count: usize) -> Retention {
        self.rule(Rule::Newest(Period::Day, count))
    }

    /// Keeps the newest of each of the last `count` weeks (from Monday on) that have any.
    #[must_use]
    pub fn keep_weekly(self, count: usize) -> Retention {
        self.rule(Rule::Newest(Period::Week, count))
    }

    /// Keeps the newest of each of the last `count` months that have any.
    #[must_use]
    pub fn keep_monthly(self, count: usize) -> Retention {
        self.rule(Rule::Newest(Period::Month, count))
    }

    /// Keeps the newest of each of the last `count` years that have any.
    #[must_use]
    pub fn keep_yearly(self, count: usize) -> Retention {
        self.rule(Rule::Newest(Period::Year, count))
    }

    /// Keeps all that are at most so much older than the newest.
    #[must_use]
    pub fn keep_within(self, time: Duration) -> Retention {
        self.rule(Rule::Within(time))
    }

    /// Keeps all with this label.
    #[must_use]
    pub fn keep_label(self, key: impl Into<String>, value: impl Into<String>) -> Retention {
        self.rule(Rule::Label(key.into(), value.into()))
    }

    fn rule(mut self, rule: Rule) -> Retention {
        self.rules.push(rule);
        self
    }
}
