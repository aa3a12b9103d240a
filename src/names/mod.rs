//! Versions that have a name: kept over restarts until the name is dropped.
//!
//! # How a name keeps its version
//! 1. A change of the names travels in a commit's record: the version that the commit makes is the one that is named, so
//!    creating a name costs a commit and nothing else, and recovery finds it where the log tells of it.
//! 2. A name is a registry slot, like a snapshot's. There is no second list that the reclaimer would have to look at in
//!    the right order, and opening a named snapshot counts one more holder of that slot: a pin never moves
//!    (invariant 6).
//! 3. A checkpoint writes the nodes of named versions too, and its catalog lists them; an opening fills their slots again,
//!    before anybody scans.
//! 4. A name that was dropped is gone at once, but its slot stays filled until neither of the two catalog slots on disk
//!    lists it: an opening after a crash begins with what those list, and only then replays the drop.

mod api;
pub(crate) mod departed;
mod keep;
pub(crate) mod kept;
mod labels;
mod space;
pub(crate) mod table;
#[cfg(all(test, feature = "sim", not(loom)))]
mod tests;

pub use api::{Bookmark, Hold, NamedSnapshot};
pub use labels::Naming;
pub(crate) use labels::{check_name, millis_of, time_of};
pub use space::SnapshotSpace;
