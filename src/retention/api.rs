//! Plans made and carried out.

use std::time::SystemTime;

use serde::Serialize;

use super::{Retention, RetentionPlan};
use crate::error::{Error, Result};
use crate::format::names::DROPS_MAX;
use crate::names::NamedSnapshot;
use crate::store::Store;

/// How often a plan is made anew because the names changed under it, before that is told.
const TRIES_MAX: usize = 16;

/// What pruning did.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// The names of the snapshots that were dropped, the oldest version first.
    pub dropped: Vec<String>,
    /// Bytes on disk that come back for it, as [`Store::would_free`] told just before.
    pub freed_bytes: u64,
    /// Snapshots that the policy is about and that stay.
    pub kept: usize,
}

impl Store {
    /// What [`Store::prune`] would do: each snapshot that the policy is about, with the reasons to keep it, and the bytes that would
    /// come back. `now` is what expiries are held against; holds are held against the store's clock.
    ///
    /// Costs a walk of what differs between neighbouring pinned versions, for those that go.
    ///
    /// # Errors
    /// As [`Store::would_free`].
    pub fn plan_retention(&self, policy: &Retention, now: SystemTime) -> Result<RetentionPlan> {
        self.retrying(|| {
            let decisions = policy.decide(self.snapshots(), now);
            let plan = RetentionPlan { decisions, freed_bytes: 0 };
            let names: Vec<&str> = plan.dropped().map(|snapshot| &*snapshot.name).collect();
            let freed_bytes = if names.is_empty() { 0 } else { self.would_free(&names)? };
            Ok(RetentionPlan { freed_bytes, ..plan })
        })
    }

    /// Drops the named snapshots that the policy doesn't keep: up to 1,000 of them in one commit, and so on; each commit takes
    /// effect whole or not at all, a crash between two of them leaves what the next call drops. Never one that is held, also if
    /// the hold is taken meanwhile.
    ///
    /// The space comes back as after [`Store::drop_snapshot`].
    ///
    /// # Errors
    /// As [`Store::plan_retention`], and what a commit gives. [`Error::SnapshotHeld`] or [`Error::SnapshotNotFound`] only if others
    /// change the same names all the time.
    pub fn prune(&self, policy: &Retention, now: SystemTime) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        loop {
            let is_done = self.retrying(|| {
                let decisions = policy.decide(self.snapshots(), now);
                pruned.kept = decisions.iter().filter(|decision| decision.is_kept()).count();
                let going: Vec<&NamedSnapshot> = decisions
                    .iter()
                    .filter(|decision| !decision.is_kept())
                    .map(|decision| &decision.snapshot)
                    .take(DROPS_MAX)
                    .collect();
                if going.is_empty() {
                    return Ok(true);
                }
                let names: Vec<&str> = going.iter().map(|snapshot| &*snapshot.name).collect();
                let freed_bytes = self.would_free(&names)?;
                self.drop_versions(going.iter().map(|snapshot| snapshot.version).collect())?;
                pruned.freed_bytes += freed_bytes;
                pruned.dropped.extend(names.into_iter().map(str::to_owned));
                Ok(going.len() < DROPS_MAX)
            })?;
            if is_done {
                return Ok(pruned);
            }
        }
    }

    /// Tries again where the names changed between the look at them and their use.
    fn retrying<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let mut tries = 1;
        loop {
            match attempt() {
                Err(Error::SnapshotNotFound { .. } | Error::SnapshotHeld { .. }) if tries < TRIES_MAX => {
                    tries += 1;
                }
                done => return done,
            }
        }
    }
}
