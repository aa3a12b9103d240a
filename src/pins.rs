//! Who keeps old versions, for how long, and what that costs.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Serialize;

use crate::core::Core;
use crate::error::Result;
use crate::id::Version;
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::sync::Mutex;
use crate::version::held::HeldRoot;
use crate::version::registry::{Note, SlotId};

/// What pins a version.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum PinKind {
    /// A [`Snapshot`], with its clones.
    Snapshot,
    /// An open write transaction: the snapshot that it reads.
    Transaction,
    /// A thread's open view, the oldest: `owner` is the thread's name. A view keeps memory, not space on disk, so its bytes
    /// are 0, and its age is counted from when it was first noticed.
    View,
    /// A named snapshot: `owner` is its name.
    Named,
    /// The durable catalog, from which an opening would start. It goes with the next checkpoints but one.
    Checkpoint,
    /// The store's own work, for a moment.
    Maintenance,
    /// The history window: see [`Store::set_history`].
    History,
    /// A running export: `owner` tells which kind. It reads through a pin that is told too, and keeps what that keeps: its
    /// own bytes are 0, as are those of the kinds below.
    Export,
    /// A running [`Snapshot::clone_to`].
    Clone,
    /// A running drill.
    Drill,
    /// A fork, as long as its store is open.
    Fork,
}

impl PinKind {
    const ALL: [PinKind; 11] = [
        PinKind::Snapshot,
        PinKind::Transaction,
        PinKind::View,
        PinKind::Named,
        PinKind::Checkpoint,
        PinKind::Maintenance,
        PinKind::History,
        PinKind::Export,
        PinKind::Clone,
        PinKind::Drill,
        PinKind::Fork,
    ];

    /// What the registry is told of a pin that is taken now.
    #[inline]
    pub(crate) fn note(self) -> Note {
        Note::new(self as u8, coarse_ms())
    }

    pub(crate) fn of(note: Note) -> PinKind {
        PinKind::ALL.get(usize::from(note.kind())).copied().unwrap_or(PinKind::Maintenance)
    }
}

/// Milliseconds on a clock that never goes back, from no point in particular. Some nanoseconds to read; a few milliseconds
/// coarse.
#[inline]
pub(crate) fn coarse_ms() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::MonotonicCoarse;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(clock);
    let millis = now.tv_sec.wrapping_mul(1000).wrapping_add(now.tv_nsec / 1_000_000);
    u64::try_from(millis).unwrap_or(0)
}

/// A version that is kept, and by whom.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pin {
    /// The version that is pinned.
    pub version: Version,
    /// What pins it.
    pub kind: PinKind,
    /// For how long, to a few milliseconds.
    pub age: Duration,
    /// The label given to [`Store::snapshot_labelled`].
    pub owner: Option<String>,
    /// Bytes of pages and table nodes that would come back if this pin alone went: what no other pinned version sees. 0
    /// if others pin the same version.
    pub retained_bytes: u64,
    /// Bytes that would come back if all pins of this version went.
    pub version_bytes: u64,
}

/// Labels of pins by slot. A label dies with the last clone of its snapshot.
#[derive(Debug, Default)]
pub(crate) struct Labels(Mutex<Vec<(SlotId, Weak<str>)>>);

impl Labels {
    pub(crate) fn add(&self, slot: SlotId, label: &Arc<str>) {
        let mut labels = self.0.lock();
        labels.retain(|(_, label)| label.strong_count() > 0);
        labels.push((slot, Arc::downgrade(label)));
    }

    fn of(&self, slot: SlotId) -> Option<String> {
        let labels = self.0.lock();
        let mut own = labels.iter().filter(|(other, _)| *other == slot);
        own.find_map(|(_, label)| label.upgrade()).map(|label| label.to_string())
    }
}

impl Store {
    /// Pins the current version, as [`Store::snapshot`] does, and says who does: the label shows in [`Store::pins`]. Takes a
    /// lock for a moment, which the unlabelled form does not.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use vellum::{Options, PinKind, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// let _report = store.snapshot_labelled("nightly report");
    /// let pins = store.pins()?;
    /// let mine = pins.iter().find(|pin| pin.kind == PinKind::Snapshot).unwrap();
    /// assert_eq!(mine.owner.as_deref(), Some("nightly report"));
    /// # Ok(()) }
    /// ```
    pub fn snapshot_labelled(&self, label: &str) -> Snapshot {
        Snapshot::current(self.core(), PinKind::Snapshot).labelled(label)
    }

    /// Every pin, the oldest version first, and what each keeps.
    ///
    /// Costs in proportion to the differences between neighbouring pinned versions.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) or [`Error::Io`](crate::Error::Io) if a part of the page table can't be read.
    pub fn pins(&self) -> Result<Vec<Pin>> {
        self.core().pins()
    }
}

impl Core {
    pub(crate) fn pins(&self) -> Result<Vec<Pin>> {
        let mut held = crate::space::Held::new(self);
        let newest = held.hold_current();
        let mut found: Vec<(SlotId, HeldRoot)> = Vec::new();
        held.hold_live(|slot, root| found.push((slot, root)));
        let now = coarse_ms();
        let mut versions: BTreeMap<Version, (HeldRoot, u64)> = BTreeMap::new();
        for (slot, root) in &found {
            // The one that was just taken for this look isn't worth telling.
            if !held.is_own(*slot) {
                versions.entry(root.root().version).or_insert((*root, 0)).1 += 1;
            }
        }
        let mut bytes: BTreeMap<Version, u64> = BTreeMap::new();
        let mut previous = None;
        for (version, (root, _)) in &versions {
            let next = versions.range(version.next()..).next().map_or(newest, |(_, (root, _))| *root);
            let kept = match *version == newest.root().version {
                true => 0,
                false => self.bytes_only_in(root.root(), previous, next.root())?.values().sum(),
            };
            bytes.insert(*version, kept);
            previous = Some(*version);
        }
        let names = self.names.lock().by_slot();
        let tell = |(slot, root): &(SlotId, HeldRoot)| {
            let (version, note) = (root.root().version, self.registry.note(*slot));
            let version_bytes = bytes.get(&version).copied().unwrap_or(0);
            let is_alone = versions.get(&version).is_some_and(|(_, pins)| *pins == 1);
            Pin {
                version,
                kind: PinKind::of(note),
                age: Duration::from_millis(now.saturating_sub(note.at_ms())),
                owner: names.get(slot).cloned().or_else(|| self.labels.of(*slot)),
                retained_bytes: if is_alone { version_bytes } else { 0 },
                version_bytes,
            }
        };
        let mut pins: Vec<Pin> = found.iter().filter(|(slot, _)| !held.is_own(*slot)).map(tell).collect();
        pins.extend(self.names.lock().work().map(|work| {
            let version = work.root.root().version;
            Pin {
                version,
                kind: work.kind,
                age: Duration::from_millis(now.saturating_sub(work.since_ms)),
                owner: Some(work.owner.clone()),
                retained_bytes: 0,
                version_bytes: bytes.get(&version).copied().unwrap_or(0),
            }
        }));
        pins.extend(self.epoch.open_views().into_iter().map(|view| Pin {
            version: view.version,
            kind: PinKind::View,
            age: view.age,
            owner: Some(view.thread),
            retained_bytes: 0,
            version_bytes: 0,
        }));
        pins.sort_by(|a, b| (a.version, b.age).cmp(&(b.version, a.age)));
        Ok(pins)
    }
}
