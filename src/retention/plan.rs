//! From rules and a list of snapshots to a decision on each, with its reasons.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::{Retention, Rule};
use crate::calendar::{Period, clock};
use crate::group::{GroupId, group_of};
use crate::names::{NamedSnapshot, millis_of};

/// Why a named snapshot is kept.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum KeepReason {
    /// It is one of the newest `count`.
    Last {
        /// How many the rule keeps.
        count: usize,
    },
    /// It is the newest of a period.
    Newest {
        /// What kind of period.
        period: Period,
        /// Which one: `2026-11-27T02`, `2026-11-27`, `2026-W48`, `2026-11` or `2026`, in UTC.
        of: String,
    },
    /// It is at most so much older than the newest.
    Within {
        /// The time that the rule gives.
        time: Duration,
    },
    /// It has a label that the rule names.
    Label {
        /// The label's key.
        key: String,
        /// The label's value.
        value: String,
    },
    /// It has an expiry, which hasn't come.
    NotExpired {
        /// When it comes.
        until: SystemTime,
    },
    /// Somebody holds it.
    Held {
        /// Who does.
        owners: Vec<String>,
    },
    /// It is one of a group's, which are dropped together: see [`Group::drop_snapshot`](crate::Group::drop_snapshot).
    InGroup {
        /// The group's id.
        group: GroupId,
    },
    /// The policy has no rule.
    NoRule,
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepReason::Last { count: 1 } => write!(f, "the newest"),
            KeepReason::Last { count } => write!(f, "one of the last {count}"),
            KeepReason::Newest { of, .. } => write!(f, "the newest of {of}"),
            KeepReason::Within { time } => write!(f, "within {time:.0?} of the newest"),
            KeepReason::Label { key, value } => write!(f, "labelled {key}={value}"),
            KeepReason::NotExpired { until } => {
                write!(f, "not expired before {}", clock(millis_of(*until)))
            }
            KeepReason::Held { owners } => write!(f, "held by {}", owners.join(", ")),
            KeepReason::InGroup { group } => write!(f, "one of the group {group}, to be dropped with it"),
            KeepReason::NoRule => write!(f, "no rule says otherwise"),
        }
    }
}

/// What a policy makes of one named snapshot. Shown, it says whether the snapshot stays, and why.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetentionDecision {
    /// The snapshot.
    pub snapshot: NamedSnapshot,
    /// Every reason to keep it; without any it goes.
    pub reasons: Vec<KeepReason>,
    /// Whether it has expired.
    pub is_expired: bool,
}

impl RetentionDecision {
    /// Whether the snapshot stays.
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

impl fmt::Display for RetentionDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.reasons[..], self.is_expired) {
            ([], true) => write!(f, "goes: expired"),
            ([], false) => write!(f, "goes: no rule keeps it"),
            ([first, more @ ..], _) => {
                write!(f, "stays: {first}")?;
                more.iter().try_for_each(|reason| write!(f, "; {reason}"))
            }
        }
    }
}

/// What a policy would do now.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RetentionPlan {
    /// One for each snapshot that the policy is about, the oldest version first.
    pub decisions: Vec<RetentionDecision>,
    /// Bytes on disk that would come back: as [`Store::would_free`](crate::Store::would_free) of all that go, exact under the same
    /// conditions.
    pub freed_bytes: u64,
}

impl RetentionPlan {
    /// The snapshots that stay, the oldest version first.
    pub fn kept(&self) -> impl Iterator<Item = &NamedSnapshot> {
        self.decisions.iter().filter(|decision| decision.is_kept()).map(|decision| &decision.snapshot)
    }

    /// The snapshots that go, the oldest version first.
    pub fn dropped(&self) -> impl Iterator<Item = &NamedSnapshot> {
        self.decisions.iter().filter(|decision| !decision.is_kept()).map(|decision| &decision.snapshot)
    }
}

impl Retention {
    /// Decides on each snapshot that the policy is about. They are given, and returned, the oldest version first.
    pub(super) fn decide(&self, snapshots: Vec<NamedSnapshot>, now: SystemTime) -> Vec<RetentionDecision> {
        let has = |snapshot: &NamedSnapshot, key: &str, value: &str| {
            snapshot.labels.iter().any(|label| (label.0.as_str(), label.1.as_str()) == (key, value))
        };
        let is_meant =
            |snapshot: &NamedSnapshot| self.only.iter().all(|(key, value)| has(snapshot, key, value));
        let begin = |snapshot: NamedSnapshot| {
            let is_expired = snapshot.expires_at.is_some_and(|end| end <= now);
            RetentionDecision { snapshot, reasons: Vec::new(), is_expired }
        };
        let mut decisions: Vec<RetentionDecision> =
            snapshots.into_iter().filter(is_meant).map(begin).collect();
        // What has expired, or was dropped and waits for its last hold, doesn't stand for a period.
        let counts =
            |decision: &&mut RetentionDecision| !decision.is_expired && !decision.snapshot.is_leaving;
        let newest =
            decisions.iter_mut().rev().find(counts).map(|decision| millis_of(decision.snapshot.created_at));
        for rule in &self.rules {
            let mut taken = 0;
            let mut last_period = None;
            for decision in decisions.iter_mut().rev().filter(counts) {
                let at_ms = millis_of(decision.snapshot.created_at);
                let reason = match rule {
                    Rule::Last(count) => {
                        taken += 1;
                        (taken <= *count).then_some(KeepReason::Last { count: *count })
                    }
                    Rule::Newest(period, count) => {
                        let number = Some(period.number_of(at_ms));
                        let is_newest = last_period != number;
                        last_period = number;
                        taken += usize::from(is_newest);
                        let of = || KeepReason::Newest { period: *period, of: period.name_of(at_ms) };
                        (is_newest && taken <= *count).then(of)
                    }
                    Rule::Within(time) => {
                        let age = Duration::from_millis(newest.unwrap_or(at_ms).saturating_sub(at_ms));
                        (age <= *time).then_some(KeepReason::Within { time: *time })
                    }
                    Rule::Label(key, value) => has(&decision.snapshot, key, value)
                        .then(|| KeepReason::Label { key: key.clone(), value: value.clone() }),
                };
                decision.reasons.extend(reason);
            }
        }
        for decision in &mut decisions {
            let snapshot = &decision.snapshot;
            if !decision.is_expired && !snapshot.is_leaving {
                if self.rules.is_empty() {
                    decision.reasons.push(KeepReason::NoRule);
                }
                decision.reasons.extend(snapshot.expires_at.map(|until| KeepReason::NotExpired { until }));
                decision
                    .reasons
                    .extend(group_of(&snapshot.labels).map(|group| KeepReason::InGroup { group }));
            }
            if !snapshot.holds.is_empty() {
                let owners = snapshot.holds.iter().map(|hold| hold.owner.clone()).collect();
                decision.reasons.push(KeepReason::Held { owners });
            }
        }
        decisions
    }
}
