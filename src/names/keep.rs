//! Holds on versions: on the name that a version has, or under a name made for the hold, which goes with it.
//!
//! A name for a version that needn't be the current one can't travel in a commit's record, which names the version that the commit
//! makes. It shares the slot of the snapshot that it is made of (invariant 6: the pin doesn't move), and both catalog slots list
//! it before anybody is told: a record of the log that speaks of it is then found with it, from whichever catalog an opening
//! begins.

use std::sync::Arc;

use super::api::check_size;
use super::table::Named;
use crate::commit::lead::commit_batch;
use crate::commit::request::Request;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::names::{HoldRecord, NameChange, NameInfo};
use crate::id::Version;
use crate::options::Durability;
use crate::pins::PinKind;
use crate::snapshot::Snapshot;

/// How many names of one version may be made or dropped by others while a hold is put on them, one after the other.
const TRIES: usize = 8;

impl Core {
    /// Commits a change of the names.
    pub(crate) fn change_names(&self, change: NameChange) -> Result<()> {
        check_size(&change)?;
        self.commit_names(change)
    }

    /// Commits a change of the names that fits into a record, whatever it says.
    pub(crate) fn commit_names(&self, change: NameChange) -> Result<()> {
        let request = Request { names: Some(change), ..Request::nothing(Durability::Sync) };
        let done = self.queue.submit(request, |batch| commit_batch(self, &batch));
        self.after_commit();
        done.map(drop)
    }

    /// Holds a version durably for `hold`'s owner, under the name that it has, or else under `name`, which goes with the
    /// hold.
    pub(crate) fn hold_version(&self, snapshot: &Snapshot, name: &str, hold: &HoldRecord) -> Result<()> {
        for _ in 0..TRIES {
            let named = self.names.lock().name_of_version(snapshot.version()).map(str::to_owned);
            let done = match named {
                Some(name) => self.change_names(NameChange::Hold { name, hold: hold.clone() }),
                None => self.keep_version(snapshot, name, hold.clone()),
            };
            // Its name went meanwhile, or it got one.
            match done {
                Err(Error::SnapshotNotFound { .. } | Error::SnapshotExists { .. }) => {}
                done => return done,
            }
        }
        Err(Error::SnapshotNotFound { name: name.to_owned() })
    }

    /// Gives a pinned version a name that goes with its only hold.
    fn keep_version(&self, snapshot: &Snapshot, name: &str, hold: HoldRecord) -> Result<()> {
        let _in_use = snapshot.in_use()?;
        {
            // Pins are taken from their holders under this lock, and not those of names.
            let _space = self.space.lock();
            if snapshot.is_revoked() {
                return Err(Error::SnapshotRevoked { version: snapshot.version() });
            }
            let info = NameInfo::default();
            self.names.lock().keep(name, info, hold, snapshot, &self.registry)?;
            self.registry.renote(snapshot.slot(), PinKind::Named.note());
        }
        let done = self.write_catalog_anew().and_then(|()| self.write_catalog_anew());
        if done.is_err() {
            self.names.lock().unkeep(name, &self.registry);
            self.registry.renote(snapshot.slot(), PinKind::Snapshot.note());
        }
        done
    }

    /// Opens the version that `owner` holds, however its name was changed since.
    pub(crate) fn held_version(self: &Arc<Core>, owner: &str, version: Version) -> Option<Snapshot> {
        let names = self.names.lock();
        let is_held = |named: &Named| {
            named.root.root().version == version && named.holds.iter().any(|hold| hold.owner == owner)
        };
        let (_, named) = names.iter().find(|(_, named)| is_held(named))?;
        // The name's own count keeps the slot filled while another is added.
        self.registry.retain(named.pin);
        Some(Snapshot::of_slot(self.clone(), named.root, named.pin))
    }

    /// Releases all that `owner` holds; how many holds that were.
    pub(crate) fn release_all(&self, owner: &str) -> Result<usize> {
        let names: Vec<String> = {
            let names = self.names.lock();
            let held = names.iter().filter(|(_, named)| named.holds.iter().any(|hold| hold.owner == owner));
            held.map(|(name, _)| name.clone()).collect()
        };
        for name in &names {
            match self.change_names(NameChange::Release { name: name.clone(), owner: owner.to_owned() }) {
                // Somebody else has ended it.
                Ok(()) | Err(Error::HoldNotFound { .. } | Error::SnapshotNotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(names.len())
    }

    /// Takes a name away that was to go with its last hold, if that has expired meanwhile. Whether there may be more.
    pub(crate) fn drop_expired_name(&self) -> Result<bool> {
        let expired = self.names.lock().expired(self.clock_ms());
        let Some(name) = expired else { return Ok(false) };
        match self.change_names(NameChange::Drop { name, when_released: true }) {
            Ok(()) | Err(Error::SnapshotNotFound { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }
}
