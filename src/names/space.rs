//! What named snapshots cost, and what dropping some of them would give back.
//!
//! A page version is visible in the versions from its birth to its death, so each has one last pinned version that sees it.
//! What would come back if some versions went is what one of them sees last, and what no version before them that stays
//! sees: a walk of differences between neighbours (`table/diff.rs`), whatever the store's size.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;

use crate::core::Core;
use crate::error::Result;
use crate::id::Version;
use crate::names::table::Named;
use crate::pins::PinKind;
use crate::space::Held;
use crate::store::Store;
use crate::version::held::HeldRoot;
use crate::version::registry::SlotId;

/// What a named snapshot costs.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotSpace {
    /// The snapshot's name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Bytes of its pages, shared ones included.
    pub page_bytes: u64,
    /// Bytes of pages and of table nodes on disk that nobody else sees: what dropping this one snapshot would give back.
    pub unique_bytes: u64,
}

/// The versions that are pinned by anything but the durable checkpoint and the store's own work.
struct PinnedVersions<'a> {
    newest: HeldRoot,
    /// The root of each, and how many pins it has.
    versions: BTreeMap<Version, (HeldRoot, usize)>,
    /// Slots of names that nobody has open.
    closed: HashSet<SlotId>,
    /// Keeps them all.
    _held: Held<'a>,
}

impl<'a> PinnedVersions<'a> {
    fn of(core: &'a Core) -> PinnedVersions<'a> {
        let mut held = Held::new(core);
        let newest = held.hold_current();
        let mut leaving: HashSet<SlotId> = core.names.lock().leaving().collect();
        leaving.extend(core.history.lock().leaving());
        let mut versions = BTreeMap::new();
        let mut closed = HashSet::new();
        held.hold_live(|slot, root| {
            let kind = PinKind::of(core.registry.note(slot));
            if matches!(kind, PinKind::Checkpoint | PinKind::Maintenance) {
                return;
            }
            // A dropped name, or what left the history window, that nobody has open goes by itself, when catalogs without it were written. (The slot's own count, and
            // the one of this look.)
            if leaving.contains(&slot) && core.registry.holders(slot) <= 2 {
                return;
            }
            versions.entry(root.root().version).or_insert((root, 0)).1 += 1;
            // The name's own count, and the one of this look.
            if kind == PinKind::Named && core.registry.holders(slot) <= 2 {
                closed.insert(slot);
            }
        });
        PinnedVersions { newest, versions, closed, _held: held }
    }

    /// As [`PinnedVersions::of`], when no checkpoint has the names in hand, which would look as if they were open.
    fn beside_no_checkpoint(core: &'a Core) -> PinnedVersions<'a> {
        let _state = core.checkpoint.lock();
        PinnedVersions::of(core)
    }

    /// Bytes that no pinned version but those that `goes` sees.
    fn freed_with(&self, core: &Core, goes: &BTreeSet<Version>) -> Result<u64> {
        let Some(first) = goes.first() else { return Ok(0) };
        let mut freed = 0;
        // The last one before that stays.
        let mut previous = self.versions.range(..first).next_back().map(|(version, _)| *version);
        for (version, (root, _)) in self.versions.range(*first..self.newest.root().version) {
            if !goes.contains(version) {
                previous = Some(*version);
                continue;
            }
            let next =
                self.versions.range(version.next()..).next().map_or(self.newest, |(_, (root, _))| *root);
            freed += core.bytes_only_in(root.root(), previous, next.root())?.values().sum::<u64>();
        }
        Ok(freed)
    }
}

impl Core {
    /// Bytes on disk that would come back if all these versions went.
    pub(crate) fn freed_with(&self, versions: &BTreeSet<Version>) -> Result<u64> {
        PinnedVersions::of(self).freed_with(self, versions)
    }

    /// Bytes on disk that only old versions see, of those that are pinned by more than the durable checkpoint.
    pub(crate) fn kept_by_old_versions(&self) -> Result<u64> {
        let pinned = PinnedVersions::of(self);
        let all = pinned.versions.keys().copied().collect();
        pinned.freed_with(self, &all)
    }
}

impl Store {
    /// The named snapshots with what each costs, the oldest version first.
    ///
    /// Costs in proportion to what differs between neighbouring pinned versions.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) or [`Error::Io`](crate::Error::Io) if a part of the page table can't be read.
    pub fn snapshot_space(&self) -> Result<Vec<SnapshotSpace>> {
        let core = self.core();
        let pinned = PinnedVersions::beside_no_checkpoint(core);
        let mut found = Vec::new();
        // Roots are only looked at while the names are locked, or where `pinned` has them.
        let look = |(name, named): (&String, &Named)| {
            (name.clone(), named.pin, named.root.root().version, named.root.root().live_pages)
        };
        let names: Vec<_> = core.names.lock().iter().map(look).collect();
        for (name, slot, version, live_pages) in names {
            let is_alone = pinned.versions.get(&version).is_some_and(|(_, pins)| *pins == 1);
            let unique_bytes = match is_alone && pinned.closed.contains(&slot) {
                true => pinned.freed_with(core, &BTreeSet::from([version]))?,
                false => 0,
            };
            let page_bytes = live_pages * core.page_size() as u64;
            found.push(SnapshotSpace { name, version, page_bytes, unique_bytes });
        }
        found.sort_by_key(|space| space.version);
        Ok(found)
    }

    /// Bytes on disk that would come back if all these named snapshots were dropped: exactly what the store frees when they
    /// are, provided that nothing else is pinned or dropped meanwhile. A snapshot that is open somewhere gives nothing
    /// back before it is closed there. What only the durable checkpoint still keeps counts as given back, since the
    /// next checkpoints give it back.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`](crate::Error::SnapshotNotFound), and as [`Store::snapshot_space`].
    pub fn would_free(&self, names: &[&str]) -> Result<u64> {
        let core = self.core();
        let pinned = PinnedVersions::beside_no_checkpoint(core);
        let mut going: BTreeMap<Version, HashSet<SlotId>> = BTreeMap::new();
        {
            let known = core.names.lock();
            for name in names {
                let named = known.get(name)?;
                going.entry(named.root.root().version).or_default().insert(named.pin);
            }
        }
        // A version goes if all that pins it goes.
        let goes = |(version, slots): &(&Version, &HashSet<SlotId>)| {
            slots.iter().all(|slot| pinned.closed.contains(slot))
                && pinned.versions.get(version).is_some_and(|(_, pins)| *pins == slots.len())
        };
        let goes = going.iter().filter(goes).map(|(version, _)| *version).collect();
        pinned.freed_with(core, &goes)
    }
}
