//! Goal: the tree does what a map does, and the walks of two roots find exactly what brute force finds.
//!
//! Method: seeded random edits, several versions kept, compared with maps of entries; nodes and pages listed by walking
//! whole trees.

#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::diff::{for_each_difference, only_in};
use super::edit::{Dead, Edit};
use super::graft::Graft;
use super::lookup::lookup;
use super::node::{Entry, Link, NodeAddress, NodePointer, Word, capacity, height_for};
use super::root::Root;
use super::slab::{NodeImage, NodeRef, NodeSource, Slab};
use crate::error::{Error, Result};
use crate::id::{Location, PageId, Version};
use crate::random::Random;
use crate::version::epoch::Epoch;

struct NoDisk;

impl NodeSource for NoDisk {
    fn read_node(&self, _: NodeAddress, _: u32) -> Result<NodeImage> {
        Err(Error::Cancelled)
    }
}

/// How often something random is tried: under Miri, which is a thousand times slower, hardly.
fn times(count: u64) -> u64 {
    if cfg!(miri) { count.div_ceil(20) } else { count }
}

/// How many versions are made one after the other.
fn versions(count: u64) -> u64 {
    if cfg!(miri) { count / 6 } else { count }
}

/// A version and what it should hold.
struct Made {
    root: Root,
    entries: BTreeMap<u64, (u64, u64)>,
    dead: Vec<Dead>,
}

/// Ids at the edges of leaves, inner nodes and levels.
fn some_id(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.below(5),
        1 => random.below(200),
        2 => [63, 64, 65, 4095, 4096, 4097, 262_143, 262_144][random.below(8) as usize],
        _ => random.below(6000),
    }
}

fn history(slab: &Slab, seed: u64, versions: u64) -> Vec<Made> {
    let mut random = Random(seed);
    let mut made = vec![Made { root: Root::empty(0), entries: BTreeMap::new(), dead: Vec::new() }];
    let mut location = 0;
    for version in 1..=versions {
        let tip = made.last().expect("there is a first");
        let mut entries = tip.entries.clone();
        let mut edit = Edit::new(slab, &tip.root, Version(version), Version(0));
        if random.below(5) == 0 {
            let count = some_id(&mut random);
            edit.truncate(count).expect("all nodes are in memory");
            entries.split_off(&count);
        }
        for _ in 0..random.below(12) {
            let id = some_id(&mut random);
            if random.below(4) == 0 && entries.contains_key(&id) {
                edit.free(PageId(id)).expect("all nodes are in memory");
                entries.remove(&id);
            } else {
                location += 1;
                edit.put(PageId(id), Location(location), location).expect("all nodes are in memory");
                entries.insert(id, (location, version));
            }
        }
        // An edit that is given up leaves the tip alone.
        if random.below(6) == 0 {
            drop(edit);
            let (root, dead) = Edit::new(slab, &tip.root, Version(version), Version(0)).finish(0);
            let entries = tip.entries.clone();
            made.push(Made { root, entries, dead });
            continue;
        }
        let (root, dead) = edit.finish(0);
        made.push(Made { root, entries, dead });
    }
    made
}

fn nodes(
    slab: &Slab,
    word: &Word,
    level: u32,
    found: &mut BTreeMap<u64, NodePointer>,
    seen: &mut HashSet<NodePointer>,
) {
    let Link::Memory(pointer) = word.link() else { return };
    if seen.insert(pointer) {
        found.insert(found.len() as u64, pointer);
        if level > 0 {
            let NodeRef::Inner(inner) = slab.node_of(pointer) else { panic!("a leaf above the leaves") };
            for child in &inner.words {
                nodes(slab, child, level - 1, found, seen);
            }
        }
    }
}

fn reached(slab: &Slab, root: &Root) -> HashSet<NodePointer> {
    let mut seen = HashSet::new();
    if root.height > 0 {
        nodes(slab, &root.word, root.height - 1, &mut BTreeMap::new(), &mut seen);
    }
    seen
}

/// All that a version reaches: nodes and the places of pages.
fn items(slab: &Slab, made: &Made) -> (HashSet<NodePointer>, BTreeSet<u64>) {
    (reached(slab, &made.root), made.entries.values().map(|(location, _)| *location).collect())
}

fn split(dead: &[Dead]) -> (Vec<NodePointer>, Vec<u64>) {
    let (mut pointers, mut places) = (Vec::new(), Vec::new());
    for item in dead {
        match item {
            Dead::Node { pointer, .. } => pointers.push(*pointer),
            Dead::Page { location, .. } => places.push(location.0),
            Dead::Stored { .. } => panic!("nothing is on disk here"),
        }
    }
    (pointers, places)
}

fn free(slab: &Slab, made: &[Made]) {
    let all: HashSet<NodePointer> = made.iter().flat_map(|made| reached(slab, &made.root)).collect();
    for pointer in all {
        slab.free_unpublished(pointer);
    }
    assert_eq!(slab.resident_bytes(), 0, "every node was reached by a version or freed by its edit");
}

#[test]
fn heights_and_capacities_belong_together() {
    assert_eq!((height_for(0), height_for(1), height_for(64), height_for(65)), (0, 1, 1, 2));
    for height in 1..6 {
        assert_eq!(height_for(capacity(height)), height);
        assert_eq!(height_for(capacity(height) + 1), height + 1);
    }
}

#[test]
fn every_version_holds_its_entries() {
    for seed in 0..times(20) {
        let slab = Slab::new(Box::new(NoDisk), u64::MAX);
        let made = history(&slab, seed, versions(60));
        let epoch = Epoch::new();
        for Made { root, entries, .. } in &made {
            let mut random = Random(seed);
            let probes: Vec<u64> =
                entries.keys().copied().chain((0..times(300)).map(|_| some_id(&mut random))).collect();
            for id in probes {
                let found = lookup(&slab, root, PageId(id), &epoch.pin()).expect("all nodes are in memory");
                let expected = entries.get(&id).copied();
                assert_eq!(
                    found.location().map(|location| (location.0, found.birth().0)),
                    expected,
                    "page {id} of {}",
                    root.version
                );
            }
            assert_eq!(root.live_pages, entries.len() as u64);
            assert!(entries.keys().next_back().is_none_or(|last| *last < root.page_count));
        }
        free(&slab, &made);
    }
}

#[test]
fn the_dead_of_an_edit_are_what_it_no_longer_reaches() {
    for seed in 0..times(20) {
        let slab = Slab::new(Box::new(NoDisk), u64::MAX);
        let made = history(&slab, seed, versions(60));
        for pair in made.windows(2) {
            let (before, after) = (items(&slab, &pair[0]), items(&slab, &pair[1]));
            let version = pair[1].root.version;
            // A page that the same edit wrote and replaced never lived.
            let (stillborn, dead): (Vec<Dead>, Vec<Dead>) =
                pair[1].dead.iter().partition(|item| item.birth() == version);
            let (pointers, places) = split(&stillborn);
            assert!(pointers.is_empty() && places.iter().all(|place| !after.1.contains(place)));
            let (pointers, places) = split(&dead);
            let unique: HashSet<NodePointer> = pointers.iter().copied().collect();
            assert_eq!(unique.len(), pointers.len(), "each node is listed once");
            assert_eq!(unique, before.0.difference(&after.0).copied().collect());
            let unique: BTreeSet<u64> = places.iter().copied().collect();
            assert_eq!(unique.len(), places.len(), "each page is listed once");
            assert_eq!(unique, before.1.difference(&after.1).copied().collect());
        }
        free(&slab, &made);
    }
}

#[test]
fn a_difference_is_what_brute_force_finds() {
    for seed in 0..times(10) {
        let slab = Slab::new(Box::new(NoDisk), u64::MAX);
        let made = history(&slab, seed, versions(30));
        let mut random = Random(seed + 100);
        for _ in 0..times(200) {
            let (a, b) = (random.below(made.len() as u64) as usize, random.below(made.len() as u64) as usize);
            let (old, new) = (&made[a.min(b)], &made[a.max(b)]);
            let mut found = Vec::new();
            let mut collect = |id: PageId, old: Entry, new: Entry| {
                let place = |entry: Entry| entry.location().map(|location| location.0);
                if place(old) != place(new) {
                    found.push((id.0, place(old), place(new)));
                }
                Ok(true)
            };
            for_each_difference(&slab, &old.root, &new.root, PageId(0), &mut collect)
                .expect("all nodes are in memory");
            let ids: BTreeSet<u64> = old.entries.keys().chain(new.entries.keys()).copied().collect();
            let place = |made: &Made, id: u64| made.entries.get(&id).map(|(location, _)| *location);
            let expected: Vec<_> = ids
                .into_iter()
                .map(|id| (id, place(old, id), place(new, id)))
                .filter(|(_, old, new)| old != new)
                .collect();
            assert_eq!(found, expected, "seed {seed}, {a} and {b}");
        }
        free(&slab, &made);
    }
}

#[test]
fn what_only_one_version_sees_is_what_brute_force_finds() {
    for seed in 0..times(10) {
        let slab = Slab::new(Box::new(NoDisk), u64::MAX);
        let made = history(&slab, seed, versions(30));
        let mut random = Random(seed + 200);
        for _ in 0..times(200) {
            let mut picked: Vec<usize> = (0..3).map(|_| random.below(made.len() as u64) as usize).collect();
            picked.sort_unstable();
            let [previous, this, next] = picked[..] else { unreachable!("three were drawn") };
            if this == next || previous == this {
                continue;
            }
            let mut found = Vec::new();
            let neighbour = made[previous].root.version;
            only_in(&slab, &made[this].root, Some(neighbour), &made[next].root, &mut |item| found.push(item))
                .expect("all nodes are in memory");
            let (pointers, places) = split(&found);
            let (before, own, after) =
                (items(&slab, &made[previous]), items(&slab, &made[this]), items(&slab, &made[next]));
            let expected: HashSet<NodePointer> = own
                .0
                .iter()
                .filter(|node| !before.0.contains(node) && !after.0.contains(node))
                .copied()
                .collect();
            assert_eq!(pointers.len(), expected.len(), "each node is listed once");
            assert_eq!(pointers.into_iter().collect::<HashSet<_>>(), expected);
            let expected: BTreeSet<u64> = own
                .1
                .iter()
                .filter(|place| !before.1.contains(place) && !after.1.contains(place))
                .copied()
                .collect();
            assert_eq!(places.len(), expected.len(), "each page is listed once");
            assert_eq!(places.into_iter().collect::<BTreeSet<_>>(), expected, "seed {seed} {picked:?}");
        }
        free(&slab, &made);
    }
}

#[test]
fn a_node_that_was_written_after_its_death_is_in_memory_once() {
    for is_kept in [true, false] {
        // Nothing can be read, so what is found was in memory.
        let slab = Slab::new(Box::new(NoDisk), u64::MAX);
        let mut edit = Edit::new(&slab, &Root::empty(0), Version(1), Version(0));
        edit.put(PageId(0), Location(1), 1).expect("all nodes are in memory");
        let (first, _) = edit.finish(0);
        let mut edit = Edit::new(&slab, &first, Version(2), Version(0));
        edit.put(PageId(0), Location(2), 2).expect("all nodes are in memory");
        let (second, dead) = edit.finish(0);
        let (nodes, _) = split(&dead);
        let &[leaf] = &nodes[..] else { panic!("one leaf was replaced") };
        slab.head_of(leaf).set_died(second.version);
        // A checkpoint writes it for the sake of a version that is kept, and whose upper nodes were read from the disk since.
        let address = NodeAddress(1);
        slab.written(leaf, address);
        let again = Root { word: Word::new(Link::Disk(address)), ..Root::empty(0) };
        let again = Root { height: 1, page_count: 1, ..again };
        let before = slab.resident_bytes();
        let found = lookup(&slab, &again, PageId(0), &Epoch::new().pin()).expect("the leaf is in memory");
        assert_eq!((found.location(), slab.resident_bytes()), (Some(Location(1)), before));
        assert_eq!(again.word.link(), Link::Memory(leaf));
        // An eviction leaves it to those who have it in their list.
        assert!(slab.evict([&again, &second].into_iter()).expect("nobody walks").is_empty());
        assert_eq!(again.word.link(), Link::Memory(leaf));
        if is_kept {
            slab.unlisted(leaf);
            let mut copies: Vec<NodePointer> =
                slab.evict([&again, &second].into_iter()).expect("nobody walks").into_values().collect();
            assert_eq!((&copies[..], again.word.link()), (&[leaf][..], Link::Disk(address)));
            assert!(slab.free_copies(&mut copies, 1));
        } else {
            // Its place on the disk is free, and may be another's.
            slab.forget(address);
            slab.free_unpublished(leaf);
            let other = Root { word: Word::new(Link::Disk(address)), ..Root::empty(0) };
            let other = Root { height: 1, page_count: 1, ..other };
            lookup(&slab, &other, PageId(0), &Epoch::new().pin()).expect_err("it is to be read");
        }
        free(&slab, &[Made { root: second, entries: BTreeMap::new(), dead }]);
    }
}

#[test]
fn a_graft_is_the_tree_that_the_other_slab_can_read() {
    let slab = Slab::new(Box::new(NoDisk), u64::MAX);
    let made = history(&slab, 7, 40);
    let most = made.iter().filter(|made| made.root.height > 2).max_by_key(|made| made.entries.len());
    let Made { root, entries, .. } = most.expect("a tree of some nodes");
    let nodes: Vec<NodePointer> = reached(&slab, root).into_iter().collect();
    let on_disk = |address: NodeAddress| address.0 < 1000;
    let graft = |to: &Slab, most: usize| slab.graft(root, &Graft { to, is_there: &on_disk, most });
    let same = |to: &Slab, word: Word| {
        let other = Root { word, height: root.height, page_count: root.page_count, ..Root::empty(0) };
        let epoch = Epoch::new();
        for id in (0..6000).step_by(if cfg!(miri) { 41 } else { 1 }).chain([262_143, 262_144]) {
            let found = lookup(to, &other, PageId(id), &epoch.pin()).expect("all nodes are in memory");
            assert_eq!(found.location().map(|location| location.0), entries.get(&id).map(|entry| entry.0));
        }
        for pointer in reached(to, &other) {
            to.free_unpublished(pointer);
        }
        assert_eq!(to.resident_bytes(), 0);
    };
    // Of nodes that are nowhere else all are copied, or none.
    let to = Slab::new(Box::new(NoDisk), u64::MAX);
    assert!(graft(&to, nodes.len() - 1).is_none());
    assert_eq!(to.resident_bytes(), 0, "what was copied is given up");
    same(&to, graft(&to, nodes.len()).expect("as many as there are"));
    // Those whose places the other slab doesn't know are copied as well.
    let leaves: Vec<NodePointer> = nodes.iter().copied().filter(|pointer| pointer.is_leaf()).collect();
    for (index, leaf) in (1000..).zip(&leaves) {
        slab.written(*leaf, NodeAddress(index));
    }
    assert!(graft(&to, nodes.len() - 1).is_none());
    same(&to, graft(&to, nodes.len()).expect("as many as there are"));
    // What is only there can't be copied.
    let evicted = slab.evict([root].into_iter()).expect("nobody walks");
    assert_eq!(evicted.len(), leaves.len());
    assert!(graft(&to, nodes.len()).is_none());
    assert_eq!(to.resident_bytes(), 0);
    // Where the other slab knows the places, links are enough.
    let known = Graft { to: &to, is_there: &|_| true, most: nodes.len() - leaves.len() };
    let word = slab.graft(root, &known).expect("what is above the leaves");
    let other = Root { word, height: root.height, ..Root::empty(0) };
    let copies = reached(&to, &other);
    assert_eq!(copies.len(), nodes.len() - leaves.len());
    for pointer in copies {
        to.free_unpublished(pointer);
    }
    let all: HashSet<NodePointer> = made.iter().flat_map(|made| reached(&slab, &made.root)).collect();
    all.into_iter().chain(evicted.into_values()).collect::<HashSet<_>>().into_iter().for_each(|pointer| {
        slab.free_unpublished(pointer);
    });
    assert_eq!((slab.resident_bytes(), to.resident_bytes()), (0, 0));
}
