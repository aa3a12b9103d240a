//! Versions: which one is current, who pins which, and when one is over.
//!
//! - `epoch`: guards (epoch-based reclamation), private to each store;
//! - `grace`: tickets that tell when all guards of a moment are gone;
//! - `published`: the one pointer that a commit swings;
//! - `registry`: slots of those who pin a version for longer than a guard;
//! - `held`: roots kept alive by slots and lists;
//! - `reclaim`: the end of versions.

pub(crate) mod epoch;
pub(crate) mod grace;
pub(crate) mod held;
pub(crate) mod published;
pub(crate) mod reclaim;
pub(crate) mod registry;

#[cfg(all(test, not(loom)))]
mod tests;
