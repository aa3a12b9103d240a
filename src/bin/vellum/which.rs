//! Which version a command is about.

use vellum::{Error, Snapshot, Store};

use crate::args::Which;

impl Which {
    /// The version that was asked for, pinned.
    pub(crate) fn open(&self, store: &Store) -> Result<Snapshot, Error> {
        match &self.snapshot {
            Some(name) => store.open_snapshot(name),
            None => Ok(store.snapshot()),
        }
    }
}
