//! The names of a store, and the slots that they keep filled.

use std::collections::{BTreeMap, HashMap};

use super::departed::Departed;
use crate::error::{Error, Result};
use crate::format::names::{BookmarkRecord, HoldRecord, NameChange, NameInfo, NamedRecord};
use crate::id::Version;
use crate::pins::{PinKind, coarse_ms};
use crate::snapshot::Snapshot;
use crate::table::root::Root;
use crate::version::held::HeldRoot;
use crate::version::registry::{Registry, SlotId};

/// A named version.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) info: NameInfo,
    pub(crate) holds: Vec<HoldRecord>,
    /// Goes with its last hold.
    pub(crate) is_leaving: bool,
    pub(crate) pin: SlotId,
    pub(crate) root: HeldRoot,
    /// Whether a catalog on disk may list it.
    is_listed: bool,
}

impl Named {
    /// Holds that count at this time.
    pub(crate) fn holds_at(&self, now_ms: u64) -> impl Iterator<Item = &HoldRecord> {
        self.holds.iter().filter(move |hold| hold.expires_at_ms.is_none_or(|end| end > now_ms))
    }
}

/// A list of the names as a checkpoint took it, each held by one more count.
#[derive(Debug)]
pub(crate) struct NameList {
    number: u64,
    pub(crate) snapshots: Vec<(NamedRecord, HeldRoot)>,
    pub(crate) bookmarks: Vec<BookmarkRecord>,
    pins: Vec<SlotId>,
}

/// An operation that reads the version of a slot and keeps its name from being dropped, while it runs.
#[derive(Debug)]
pub(crate) struct Running {
    number: u64,
    pin: SlotId,
    /// Stays as long as the slot is filled.
    pub(crate) root: HeldRoot,
    pub(crate) kind: PinKind,
    pub(crate) owner: String,
    /// On the clock of [`coarse_ms`].
    pub(crate) since_ms: u64,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Names {
    named: BTreeMap<String, Named>,
    bookmarks: BTreeMap<String, BookmarkRecord>,
    departed: Departed,
    /// Holds that no record tells of: they end with the process at the latest.
    running: Vec<Running>,
    /// How many operations have begun.
    begun: u64,
}

fn not_found(name: &str) -> Error {
    Error::SnapshotNotFound { name: name.to_owned() }
}

impl Names {
    pub(crate) fn new(bookmarks: Vec<BookmarkRecord>) -> Names {
        let bookmarks = bookmarks.into_iter().map(|bookmark| (bookmark.name.clone(), bookmark)).collect();
        let (named, departed, running) = (BTreeMap::new(), Departed::default(), Vec::new());
        Names { named, bookmarks, departed, running, begun: 0 }
    }

    /// Holds the name of a slot, if it has one, until [`Names::end`] is told the number that is returned.
    pub(crate) fn begin(&mut self, (pin, root): (SlotId, HeldRoot), kind: PinKind, owner: String) -> u64 {
        self.begun += 1;
        let (number, since_ms) = (self.begun, coarse_ms());
        self.running.push(Running { number, pin, root, kind, owner, since_ms });
        number
    }

    /// Whatever runs on any version.
    pub(crate) fn work(&self) -> impl Iterator<Item = &Running> {
        self.running.iter()
    }

    /// Ends what [`Names::begin`] began.
    pub(crate) fn end(&mut self, number: u64) {
        self.running.retain(|running| running.number != number);
    }

    /// Who runs on the version of a slot and needs its name; a fork needs the version only.
    pub(crate) fn running_on(&self, pin: SlotId) -> impl Iterator<Item = &str> {
        let holds = move |running: &&Running| running.pin == pin && running.kind != PinKind::Fork;
        self.running.iter().filter(holds).map(|running| running.owner.as_str())
    }

    /// Takes over a name that the catalog lists; its slot is filled.
    pub(crate) fn restore(&mut self, record: NamedRecord, pin: SlotId, root: HeldRoot) {
        let NamedRecord { name, info, holds, is_leaving, root: _ } = record;
        self.named.insert(name, Named { info, holds, is_leaving, pin, root, is_listed: true });
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Named> {
        self.named.get(name).ok_or_else(|| not_found(name))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Named)> {
        self.named.iter()
    }

    pub(crate) fn bookmark(&self, name: &str) -> Result<&BookmarkRecord> {
        self.bookmarks.get(name).ok_or_else(|| not_found(name))
    }

    pub(crate) fn bookmarks(&self) -> impl Iterator<Item = &BookmarkRecord> {
        self.bookmarks.values()
    }

    /// A name of the version.
    pub(crate) fn name_of_version(&self, version: Version) -> Option<&str> {
        let mut named = self.named.iter().filter(|(_, named)| named.root.root().version == version);
        named.next().map(|(name, _)| name.as_str())
    }

    /// Gives a snapshot's version, if it has no name, one that shares its slot and goes with its only hold.
    pub(crate) fn keep(
        &mut self,
        name: &str,
        info: NameInfo,
        hold: HoldRecord,
        snapshot: &Snapshot,
        registry: &Registry<Root>,
    ) -> Result<()> {
        // A version has one name at most.
        if let Some(other) = self.name_of_version(snapshot.version()) {
            return Err(Error::SnapshotExists { name: other.to_owned() });
        }
        self.is_taken(name)?;
        let (pin, root) = (snapshot.slot(), snapshot.held_root());
        registry.retain(pin);
        let named = Named { info, holds: vec![hold], is_leaving: true, pin, root, is_listed: false };
        self.named.insert(name.to_owned(), named);
        Ok(())
    }

    /// Takes back a name that couldn't be written.
    pub(crate) fn unkeep(&mut self, name: &str, registry: &Registry<Root>) {
        self.remove(name, registry);
    }

    /// A name that was to go with its last hold, and whose holds have all expired.
    pub(crate) fn expired(&self, now_ms: u64) -> Option<String> {
        let is_over = |named: &Named| named.is_leaving && named.holds_at(now_ms).next().is_none();
        self.named.iter().find(|(_, named)| is_over(named)).map(|(name, _)| name.clone())
    }

    /// The name of each slot.
    pub(crate) fn by_slot(&self) -> HashMap<SlotId, String> {
        self.named.iter().map(|(name, named)| (named.pin, name.clone())).collect()
    }

    /// Slots that wait for catalogs that don't list them.
    pub(crate) fn leaving(&self) -> impl Iterator<Item = SlotId> {
        self.departed.pins()
    }

    /// Whether slots wait for catalogs that don't list them.
    pub(crate) fn has_leaving(&self) -> bool {
        !self.departed.is_empty()
    }

    fn is_taken(&self, name: &str) -> Result<()> {
        match self.named.contains_key(name) || self.bookmarks.contains_key(name) {
            true => Err(Error::SnapshotExists { name: name.to_owned() }),
            false => Ok(()),
        }
    }

    /// Whether the change can be applied at `now_ms`. What can, can later too, if nothing else changes.
    pub(crate) fn check(&self, change: &NameChange, now_ms: u64) -> Result<()> {
        match change {
            NameChange::Create { name, .. } | NameChange::Bookmark { name, .. } => self.is_taken(name),
            NameChange::Drop { name, when_released } => {
                let named = self.get(name)?;
                let owners = named.holds_at(now_ms).map(|hold| hold.owner.as_str());
                let holders: Vec<String> =
                    owners.chain(self.running_on(named.pin)).map(str::to_owned).collect();
                match holders.is_empty() || *when_released {
                    true => Ok(()),
                    false => Err(Error::SnapshotHeld { name: name.clone(), holders }),
                }
            }
            NameChange::Rename { from, to } => {
                if !self.named.contains_key(from) {
                    self.bookmark(from)?;
                }
                self.is_taken(to)
            }
            NameChange::Describe { name, .. } | NameChange::Hold { name, .. } => self.get(name).map(drop),
            NameChange::Release { name, owner } => {
                match self.get(name)?.holds.iter().any(|hold| hold.owner == *owner) {
                    true => Ok(()),
                    false => Err(Error::HoldNotFound { name: name.clone(), owner: owner.clone() }),
                }
            }
            NameChange::Forget { name } => self.bookmark(name).map(drop),
            NameChange::DropAll { versions } => self.check_drops(versions, now_ms),
            NameChange::History { policy } => match policy.is_none_or(|policy| policy.is_sane()) {
                true => Ok(()),
                false => Err(Error::InvalidOption {
                    option: "history",
                    value: format!("{policy:?}"),
                    expected: "a window within its limits is".to_owned(),
                }),
            },
        }
    }

    /// Whether all these versions have names that may be dropped.
    fn check_drops(&self, versions: &[Version], now_ms: u64) -> Result<()> {
        let names = self.names_by_version();
        versions.iter().try_for_each(|version| match names.get(version) {
            Some(name) => self.check(&NameChange::Drop { name: name.clone(), when_released: false }, now_ms),
            None => Err(not_found(&version.to_string())),
        })
    }

    /// A name makes the version that it names, so each has one name at most.
    fn names_by_version(&self) -> HashMap<Version, String> {
        self.named.iter().map(|(name, named)| (named.root.root().version, name.clone())).collect()
    }

    /// Applies a change that was checked; `tip` is the version that its commit has published and whose slot `take` fills.
    /// Its time is that of the change, so that a replay leads to the same.
    pub(crate) fn apply(
        &mut self,
        change: &NameChange,
        tip: HeldRoot,
        take: impl FnOnce() -> SlotId,
        registry: &Registry<Root>,
    ) {
        match change.clone() {
            NameChange::Create { name, info } => {
                let (pin, holds) = (take(), Vec::new());
                let named = Named { info, holds, is_leaving: false, pin, root: tip, is_listed: false };
                self.named.insert(name, named);
            }
            NameChange::Drop { name, .. } => {
                if let Some(named) = self.named.get_mut(&name) {
                    named.is_leaving = true;
                    if named.holds_at(tip.root().created_at_ms).next().is_none() {
                        self.remove(&name, registry);
                    }
                }
            }
            NameChange::Rename { from, to } => {
                if let Some(named) = self.named.remove(&from) {
                    self.named.insert(to, named);
                } else if let Some(bookmark) = self.bookmarks.remove(&from) {
                    self.bookmarks.insert(to.clone(), BookmarkRecord { name: to, ..bookmark });
                }
            }
            NameChange::Describe { name, info } => {
                if let Some(named) = self.named.get_mut(&name) {
                    named.info = info;
                }
            }
            NameChange::Hold { name, hold } => {
                if let Some(named) = self.named.get_mut(&name) {
                    named.holds.retain(|other| other.owner != hold.owner);
                    named.holds.push(hold);
                }
            }
            NameChange::Release { name, owner } => {
                if let Some(named) = self.named.get_mut(&name) {
                    named.holds.retain(|hold| hold.owner != owner);
                    if named.is_leaving && named.holds_at(tip.root().created_at_ms).next().is_none() {
                        self.remove(&name, registry);
                    }
                }
            }
            NameChange::Bookmark { name, version, fingerprint, created_at_ms } => {
                let record = BookmarkRecord { name: name.clone(), version, fingerprint, created_at_ms };
                self.bookmarks.insert(name, record);
            }
            NameChange::Forget { name } => {
                self.bookmarks.remove(&name);
            }
            NameChange::DropAll { versions } => {
                let names = self.names_by_version();
                versions
                    .iter()
                    .filter_map(|version| names.get(version))
                    .for_each(|name| self.remove(name, registry));
            }
            // Kept beside the names (`history/window.rs`).
            NameChange::History { .. } => {}
        }
    }

    fn remove(&mut self, name: &str, registry: &Registry<Root>) {
        let Some(Named { pin, is_listed, .. }) = self.named.remove(name) else { return };
        self.departed.leave(pin, is_listed, registry);
    }

    /// Lists all names for a catalog that is about to be written.
    pub(crate) fn list(&mut self, registry: &Registry<Root>) -> NameList {
        let number = self.departed.next_list();
        let mut pins = Vec::with_capacity(self.named.len());
        let snapshots = self.named.iter_mut().map(|(name, named)| {
            named.is_listed = true;
            registry.retain(named.pin);
            pins.push(named.pin);
            let record = NamedRecord {
                name: name.clone(),
                info: named.info.clone(),
                holds: named.holds.clone(),
                is_leaving: named.is_leaving,
                root: named.root.root().record(0),
            };
            (record, named.root)
        });
        let (snapshots, bookmarks) = (snapshots.collect(), self.bookmarks.values().cloned().collect());
        NameList { number, snapshots, bookmarks, pins }
    }

    /// Takes note that a catalog with `list` is on the disk, or that writing it failed.
    pub(crate) fn listed(&mut self, list: &NameList, is_written: bool, registry: &Registry<Root>) {
        for pin in &list.pins {
            let _ = registry.release(*pin);
        }
        if is_written {
            self.departed.written(list.number, registry);
        }
    }
}

impl crate::core::Core {
    /// Applies the change that the commit of the current version carries. Under the commit lock.
    pub(crate) fn apply_name_change(&self, change: &NameChange) {
        let _guard = self.epoch.pin();
        let tip = self.current();
        // Filled at the current version, inside the guard (invariant 6): nobody publishes while the commit lock is held.
        let take = || self.registry.take(tip.pointer(), PinKind::Named.note());
        match change {
            NameChange::History { policy } => {
                let take = || self.registry.take(tip.pointer(), PinKind::History.note());
                self.history.lock().set(*policy, tip, take, &self.registry);
            }
            change => self.names.lock().apply(change, tip, take, &self.registry),
        }
    }
}
