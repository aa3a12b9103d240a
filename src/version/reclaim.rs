//! The end of versions: what no live version sees is freed, exactly once, and nothing else is.
//!
//! # The protocol: grace, then scan
//! 1. A commit publishes version d and retires what d no longer reaches: each item has a birth b and is visible to the
//!    versions in [b, d). It asks for a grace period.
//! 2. When that has passed, every view that was pinned before the publish is gone, and every snapshot that was being
//!    taken then stands in its registry slot. Only now are the slots scanned: they hold every version below d that can
//!    ever be seen again (a slot is only filled at the current version, inside a guard: invariant 6).
//! 3. An item is freed if no live version lies in [b, d). Otherwise it is forgotten: it is found again when the last
//!    of those versions goes.
//! 4. When a version s has gone from the slots, what only it saw is what the walk of two roots finds in s and not in
//!    the next live version, born after the previous live one: a diff, no lists, no counts.
//! 5. Freed items wait for one further grace period before their memory or their slots are used again (invariant 7).
//!
//! `settled` is the version up to which step 3 is done. It counts as live, whether or not anybody pins it: what died
//! after it is judged later, by step 3, and by nobody else. That is why each item is freed exactly once (invariant 5).
//!
//! Called under the reclaimer's lock, by whoever commits or maintains; never by a reader.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use super::epoch::Epoch;
use super::grace::Grace;
use super::held::HeldRoot;
use super::registry::{Registry, SlotId};
use crate::id::Version;
use crate::log::segment::Segments;
use crate::sync::{Planted, has_planted};
use crate::table::diff;
use crate::table::edit::Dead;
use crate::table::node::NodePointer;
use crate::table::root::Root;
use crate::table::slab::{Slab, memory_size};

/// What one commit retired.
struct Retired {
    version: Version,
    /// The root that the commit published.
    root: HeldRoot,
    dead: Vec<Dead>,
    ticket: u64,
}

/// Judged dead; waits for its further grace period.
struct Released {
    ticket: u64,
    dead: Vec<Dead>,
    roots: Vec<HeldRoot>,
    bytes: u64,
}

/// Copies that no word leads to any more; they wait for a grace period.
struct Evicted {
    ticket: u64,
    copies: Vec<NodePointer>,
}

/// Copies that one pass frees at most, so that commits don't wait for a whole table to go.
const COPIES_A_PASS: usize = 4096;

/// See the head of this file.
pub(crate) struct Reclaimer {
    slab: Arc<Slab>,
    segments: Arc<Segments>,
    /// Versions up to `settled` that the last scan found in slots.
    live: BTreeMap<Version, HeldRoot>,
    settled: HeldRoot,
    retired: VecDeque<Retired>,
    released: VecDeque<Released>,
    /// Copies of nodes that were evicted.
    evicted: VecDeque<Evicted>,
    /// Pins that were revoked and whose handles are not gone yet.
    revoked: Vec<(SlotId, HeldRoot)>,
    /// Roots of dead versions that such handles lead to.
    dead_but_asked: HashSet<HeldRoot>,
    limbo_bytes: u64,
    /// Items whose subtree couldn't be read: they stay allocated until the store is opened again.
    leaks: u64,
}

/// The memory that the list entry of a dead item takes, beside the item itself.
const ITEM_BYTES: u64 = size_of::<Dead>() as u64;

fn limbo_size(dead: &[Dead]) -> u64 {
    dead.iter()
        .map(|item| match item {
            Dead::Node { pointer, .. } => memory_size(pointer.is_leaf()) + ITEM_BYTES,
            Dead::Page { .. } | Dead::Stored { .. } => ITEM_BYTES,
        })
        .sum::<u64>()
        + size_of::<Root>() as u64
}

impl Reclaimer {
    /// Starts with `settled` as the newest version; older live ones are found in the registry by the first scan if
    /// they are given as `live`.
    pub(crate) fn new(
        slab: Arc<Slab>,
        segments: Arc<Segments>,
        settled: HeldRoot,
        live: Vec<HeldRoot>,
    ) -> Reclaimer {
        let live = live.into_iter().map(|root| (root.root().version, root)).collect();
        Reclaimer {
            slab,
            segments,
            live,
            settled,
            retired: VecDeque::new(),
            released: VecDeque::new(),
            evicted: VecDeque::new(),
            revoked: Vec::new(),
            dead_but_asked: HashSet::new(),
            limbo_bytes: 0,
            leaks: 0,
        }
    }

    /// Bytes of memory that wait for grace.
    pub(crate) fn limbo_bytes(&self) -> u64 {
        self.limbo_bytes
    }

    /// The oldest version that anybody may still read from, as of the last pass.
    pub(crate) fn oldest_live(&self) -> Version {
        self.live.keys().next().copied().unwrap_or(self.settled.root().version)
    }

    pub(crate) fn leaks(&self) -> u64 {
        self.leaks
    }

    /// The versions that count as live: those that the last pass found in slots, and the one up to which all is judged.
    pub(crate) fn live_roots(&self) -> Vec<HeldRoot> {
        let settled = self.settled.root().version;
        let older = self.live.values().filter(|root| root.root().version != settled);
        older.copied().chain([self.settled]).collect()
    }

    /// What waits to be judged or freed.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &Dead> {
        let retired = self.retired.iter().flat_map(|retired| &retired.dead);
        retired.chain(self.released.iter().flat_map(|released| &released.dead))
    }

    /// How many versions the last pass found pinned.
    pub(crate) fn live_count(&self) -> usize {
        self.live.len()
    }

    /// Batches and evictions that wait to be judged or freed.
    pub(crate) fn waiting(&self) -> usize {
        self.retired.len() + self.released.len() + self.evicted.len()
    }

    /// Takes the copies of nodes on disk out of memory, unless a walk is under way. `tip` is the current version; the
    /// commit lock is held.
    pub(crate) fn evict(&mut self, tip: &Root, grace: &Grace, epoch: &Epoch) {
        let live = self.live.values().chain([&self.settled]);
        let roots = live.chain(self.retired.iter().map(|retired| &retired.root)).map(HeldRoot::root);
        let Some(copies) = self.slab.evict(roots.chain([tip])) else { return };
        // The ticket is issued under a guard that is pinned after the words were changed.
        let ticket = grace.issue(&epoch.pin());
        self.evicted.push_back(Evicted { ticket, copies: copies.into_values().collect() });
    }

    /// Step 1: takes over what the commit that published `root` replaced, under a ticket issued after the publish.
    pub(crate) fn retire(&mut self, root: HeldRoot, dead: Vec<Dead>, ticket: u64) {
        let version = root.root().version;
        debug_assert!(self.retired.back().is_none_or(|last| last.version < version));
        self.limbo_bytes += limbo_size(&dead);
        self.retired.push_back(Retired { version, root, dead, ticket });
    }

    /// Steps 2 to 5, as far as grace periods have passed. Returns whether anything was freed or judged.
    pub(crate) fn pass(&mut self, registry: &Registry<Root>, grace: &Grace, epoch: &Epoch) -> bool {
        let passed = grace.passed();
        let mut has_moved = self.free_released(passed) | self.free_evicted(passed);
        let ready = self.retired.partition_point(|retired| retired.ticket <= passed);
        let settles_at = match ready {
            0 => self.settled,
            _ => self.retired[ready - 1].root,
        };
        // The scan comes after the look at the grace periods; see step 2.
        let mut now = BTreeMap::new();
        registry.scan(|root| {
            let held = HeldRoot::new(root);
            let version = held.root().version;
            if version <= settles_at.root().version {
                now.insert(version, held);
            }
        });
        let mut dead = Vec::new();
        let mut roots = Vec::new();
        self.drop_gone(&now, &mut dead, &mut roots);
        self.judge(ready, settles_at, &now, &mut dead, &mut roots);
        self.live = now;
        if !dead.is_empty() || !roots.is_empty() {
            has_moved = true;
            let bytes = limbo_size(&dead);
            self.limbo_bytes += bytes;
            let guard = epoch.pin();
            let ticket = grace.issue(&guard);
            self.released.push_back(Released { ticket, dead, roots, bytes });
        }
        has_moved
    }

    /// Step 4: versions that were live and no longer are.
    fn drop_gone(
        &mut self,
        now: &BTreeMap<Version, HeldRoot>,
        dead: &mut Vec<Dead>,
        roots: &mut Vec<HeldRoot>,
    ) {
        let settled = self.settled.root().version;
        let gone: Vec<Version> =
            self.live.keys().filter(|version| !now.contains_key(version)).copied().collect();
        for version in gone {
            let Some(root) = self.live.remove(&version) else { continue };
            if version == settled {
                // Still counted as live; its root goes with `judge`.
                continue;
            }
            let previous = self.live.range(..version).next_back().map(|(version, _)| *version);
            let last = match self.retired.back() {
                Some(newest) if has_planted(Planted::NewestNeighbour) => newest.root,
                _ => self.settled,
            };
            let next = self.live.range(version..).next().map_or(last, |(_, root)| *root);
            let found = &mut |item| dead.push(item);
            if diff::only_in(&self.slab, root.root(), previous, next.root(), found).is_err() {
                self.leaks += 1;
            }
            self.give_up(root, roots);
        }
    }

    /// Step 3: the batches whose grace period has passed.
    fn judge(
        &mut self,
        ready: usize,
        settles_at: HeldRoot,
        now: &BTreeMap<Version, HeldRoot>,
        dead: &mut Vec<Dead>,
        roots: &mut Vec<HeldRoot>,
    ) {
        let mut gone = Vec::new();
        for retired in self.retired.drain(..ready) {
            self.limbo_bytes -= limbo_size(&retired.dead);
            let is_visible = |item: &Dead| {
                let died = match has_planted(Planted::DeathSeen) {
                    true => retired.version.next(),
                    false => retired.version,
                };
                let last = now.range(..died).next_back();
                let is_forgotten = has_planted(Planted::ForgottenBirth);
                last.is_some_and(|(version, _)| *version >= item.birth() || is_forgotten)
            };
            for item in retired.dead {
                match item {
                    _ if !is_visible(&item) => dead.push(item),
                    Dead::Node { pointer, .. } => self.slab.unlisted(pointer),
                    Dead::Stored { .. } | Dead::Page { .. } => {}
                }
            }
            let before = std::mem::replace(&mut self.settled, retired.root);
            if !now.contains_key(&before.root().version) {
                gone.push(before);
            }
        }
        debug_assert_eq!(self.settled.root().version, settles_at.root().version);
        for root in gone {
            self.give_up(root, roots);
        }
    }

    /// Step 5.
    fn free_released(&mut self, passed: u64) -> bool {
        let ready = match has_planted(Planted::LimboOrder) {
            true => self.released.len(),
            false => self.released.partition_point(|released| released.ticket <= passed),
        };
        for released in self.released.drain(..ready) {
            self.limbo_bytes -= released.bytes;
            for item in released.dead {
                match item {
                    Dead::Page { location, .. } => {
                        let (segment, _) = self.segments.geometry().split(location);
                        self.segments.account_freed(segment, self.segments.geometry().page_bytes());
                    }
                    Dead::Stored { address, is_leaf, .. } => {
                        let (segment, bytes) = self.segments.node_place(address, is_leaf);
                        self.slab.forget(address);
                        self.segments.account_freed(segment, bytes);
                    }
                    Dead::Node { pointer, .. } => {
                        if let Some(address) = self.slab.head_of(pointer).disk() {
                            let (segment, bytes) = self.segments.node_place(address, pointer.is_leaf());
                            self.slab.forget(address);
                            self.segments.account_freed(segment, bytes);
                        }
                        super::held::free_node(&self.slab, pointer);
                    }
                }
            }
            released.roots.into_iter().for_each(HeldRoot::free);
        }
        ready > 0
    }

    /// Takes a pin of `root` from its holders, of whom the caller is one. They may ask the root, if nothing else, for its
    /// version and the like until the slot is free.
    pub(crate) fn revoke(&mut self, slot: SlotId, root: HeldRoot, registry: &Registry<Root>) -> bool {
        let is_new = registry.revoke(slot);
        if is_new {
            self.revoked.push((slot, root));
        }
        is_new
    }

    /// Takes note that a slot whose pin was revoked is free.
    pub(crate) fn revoked_slot_is_free(&mut self, slot: SlotId, grace: &Grace, epoch: &Epoch) {
        // The slot may have been filled and revoked again meanwhile: the first entry is the one that is through.
        let Some(index) = self.revoked.iter().position(|(other, _)| *other == slot) else { return };
        let (_, root) = self.revoked.remove(index);
        if !self.is_revoked(root) && self.dead_but_asked.remove(&root) {
            let ticket = grace.issue(&epoch.pin());
            let released = Released { ticket, dead: Vec::new(), roots: vec![root], bytes: 0 };
            self.released.push_back(released);
        }
    }

    fn is_revoked(&self, root: HeldRoot) -> bool {
        self.revoked.iter().any(|(_, other)| *other == root)
    }

    /// Lets go of the root of a dead version.
    fn give_up(&mut self, root: HeldRoot, roots: &mut Vec<HeldRoot>) {
        match self.is_revoked(root) {
            true => drop(self.dead_but_asked.insert(root)),
            false => roots.push(root),
        }
    }

    fn free_evicted(&mut self, passed: u64) -> bool {
        match self.evicted.front_mut() {
            Some(evicted) if evicted.ticket <= passed => {
                if self.slab.free_copies(&mut evicted.copies, COPIES_A_PASS) {
                    self.evicted.pop_front();
                }
                true
            }
            _ => false,
        }
    }

    /// Frees everything but `current` itself, whose tree goes too: the store is being dropped and nobody reads any more.
    pub(crate) fn free_all(&mut self, current: HeldRoot) {
        let mut nodes = std::collections::HashSet::new();
        let mut roots = BTreeMap::new();
        let kept = self.live.values().copied().chain([self.settled, current]);
        for root in kept.chain(self.retired.iter().map(|retired| retired.root)) {
            self.slab.list_tree(&root.root().word, &mut nodes);
            roots.insert(root.root().version, root);
        }
        for root in self.released.iter().flat_map(|released| &released.roots) {
            roots.insert(root.root().version, *root);
        }
        let lists = self.retired.drain(..).map(|r| r.dead).chain(self.released.drain(..).map(|r| r.dead));
        for item in lists.flatten() {
            if let Dead::Node { pointer, .. } = item {
                nodes.insert(pointer);
            }
        }
        self.slab.list_copies(&mut nodes);
        nodes.extend(self.evicted.drain(..).flat_map(|evicted| evicted.copies));
        roots.remove(&current.root().version);
        for pointer in nodes {
            super::held::free_node(&self.slab, pointer);
        }
        roots.into_values().for_each(HeldRoot::free);
        self.live.clear();
    }
}
