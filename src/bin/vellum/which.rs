//! Which version a command is about.

use vellum::{Error, Snapshot, Store, Version};

use crate::args::Which;
use crate::moment::At;

impl Which {
    /// Whether another than the current version was asked for.
    pub(crate) fn is_given(&self) -> bool {
        self.snapshot.is_some() || self.at.is_some()
    }

    /// The version that was asked for, pinned.
    pub(crate) fn open(&self, store: &Store) -> Result<Snapshot, Error> {
        match (&self.snapshot, self.at) {
            (Some(name), _) => store.open_snapshot(name),
            (None, Some(At::Version(version))) => store.snapshot_at(Version(version)),
            (None, Some(At::Time(time))) => store.snapshot_at_time(time),
            (None, None) => Ok(store.snapshot()),
        }
    }
}
