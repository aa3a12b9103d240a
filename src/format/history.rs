//! What the log and the catalog say of the history window.
//!
//! The policy travels as a change of the names ([`super::names::NameChange::History`]); the catalog lists it with the versions
//! that it kept when the catalog was begun ([`HistorySection`]). Both are written by [`super::code`].

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::Flaw;
use super::control::RootRecord;
use crate::id::Version;

/// Most versions that the window keeps.
pub(crate) const KEPT_MAX: usize = 16_384;

/// How far back the window reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Span {
    /// So many versions, from 1 to [`KEPT_MAX`].
    Versions(u64),
    /// So many milliseconds before the newest version.
    Millis(u64),
}

/// Which versions are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct HistoryRecord {
    pub(crate) span: Span,
    /// Of each stretch of so many milliseconds (counted from 1970) the newest version; 0: every version.
    pub(crate) interval_ms: u64,
}

impl HistoryRecord {
    pub(crate) fn is_sane(&self) -> bool {
        match self.span {
            Span::Versions(count) => (1..=KEPT_MAX as u64).contains(&count),
            Span::Millis(_) => true,
        }
    }
}

/// What a catalog of a store with a history window says of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct HistorySection {
    pub(crate) policy: Option<HistoryRecord>,
    /// In ascending order of the versions.
    pub(crate) kept: Vec<RootRecord>,
}

impl HistorySection {
    pub(crate) fn is_empty(&self) -> bool {
        self.policy.is_none() && self.kept.is_empty()
    }

    /// What a digest can't tell: whether the values make sense beside the catalog's other roots.
    pub(crate) fn check<'a>(
        &'a self,
        known: &mut HashMap<Version, &'a RootRecord>,
        newest: Version,
    ) -> Result<(), Flaw> {
        let wrong = |found: String| Err(Flaw::damage(40, "a history window within its limits", found));
        if self.kept.len() > KEPT_MAX || self.kept.windows(2).any(|pair| pair[0].version >= pair[1].version) {
            return wrong(format!("{} versions, or another order", self.kept.len()));
        }
        if self.policy.is_some_and(|policy| !policy.is_sane())
            || (self.policy.is_none() && !self.kept.is_empty())
        {
            return wrong(format!("the policy {:?}", self.policy));
        }
        self.kept.iter().try_for_each(|root| {
            root.check()?;
            match root.fits(known, newest) {
                true => Ok(()),
                false => wrong(root.version.to_string()),
            }
        })
    }
}
