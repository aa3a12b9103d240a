//! Nodes that a checkpoint writes while they are read, evicted, and judged by the reclaimer.

use loom::sync::Arc;

use super::{Bug, LEAF, TOP, Table, TwoNodes, explore, explore_planted};
use crate::id::{Location, PageId, Version};
use crate::sync::Planted;
use crate::table::edit::Edit;
use crate::table::lookup::lookup;
use crate::table::node::{Entry, FANOUT, Link, NodePointer, Word};
use crate::table::root::Root;
use crate::table::slab::{NodeRef, Slab, memory_size};
use crate::version::epoch::Epoch;
use crate::version::grace::Grace;

/// The same tree as on disk, but made in memory and not written yet; its topmost node and its first leaf.
fn made() -> (Arc<Table>, NodePointer, NodePointer) {
    let slab = Slab::new(Box::new(TwoNodes), u64::MAX);
    let mut edit = Edit::new(&slab, &Root::empty(0), Version(1), Version(0));
    for id in 0..FANOUT as u64 {
        edit.put(PageId(id), Location(7), 7).expect("nothing is on disk");
    }
    // One level more.
    edit.put(PageId(FANOUT as u64), Location(7), 7).expect("nothing is on disk");
    edit.truncate(FANOUT as u64 + 1).expect("nothing is on disk");
    let (root, dead) = edit.finish(0);
    assert!(dead.is_empty());
    let Link::Memory(top) = root.word.link() else { panic!("it was made in memory") };
    let NodeRef::Inner(inner) = slab.node_of(top) else { panic!("there are two levels") };
    let Link::Memory(leaf) = inner.words[0].link() else { panic!("it was made in memory") };
    (Arc::new(Table { epoch: Epoch::new(), grace: Grace::new(), slab, root }), top, leaf)
}

fn a_reader_beside_a_checkpoint(bug: Bug) -> impl Fn() + Sync + Send + 'static {
    move || {
        let (table, top, leaf) = made();
        let reader = {
            let table = table.clone();
            loom::thread::spawn(move || table.read())
        };
        table.slab.written(leaf, LEAF);
        // The reader may be anywhere by now, at no cost in preemptions.
        loom::thread::yield_now();
        let (mut copies, ticket) = table.evict();
        assert_eq!(copies, [leaf], "what is not on disk stays");
        table.free(&mut copies, ticket, bug);
        table.slab.written(top, TOP);
        reader.join().unwrap();
        table.free(&mut copies, ticket, bug);
        table.read();
    }
}

#[test]
fn a_node_that_a_checkpoint_wrote_is_the_same_for_every_reader() {
    explore("lookup beside a checkpoint", 1, a_reader_beside_a_checkpoint(Bug::None));
    let model = a_reader_beside_a_checkpoint(Bug::NoGrace);
    explore_planted("lookup beside a checkpoint, no grace", 1, None, model);
}

/// A leaf that died is written for the sake of an older version, while the reclaimer finds that it stays.
fn a_dead_node_is_written_and_kept() {
    let slab = Arc::new(Slab::new(Box::new(TwoNodes), u64::MAX));
    let mut word = Word::new(Link::None);
    let (leaf, _) = slab.own_leaf(&mut word, Version(1), Version(0), &mut Vec::new()).expect("it is new");
    leaf.entries = [Entry::page(Location(7), Version(1), 7); FANOUT];
    let Link::Memory(pointer) = word.link() else { panic!("it was made in memory") };
    slab.head_of(pointer).set_died(Version(2));
    let reclaimer = {
        let slab = slab.clone();
        loom::thread::spawn(move || slab.unlisted(pointer))
    };
    slab.written(pointer, LEAF);
    // Whoever comes by the address finds the node itself.
    let mut root = Root::empty(0);
    (root.height, root.page_count) = (1, FANOUT as u64);
    root.word.set(Link::Disk(LEAF));
    lookup(&slab, &root, PageId(0), &Epoch::new().pin()).expect("it is there");
    assert_eq!(root.word.link(), Link::Memory(pointer), "a node is in memory once");
    assert_eq!(slab.resident_bytes(), memory_size(true));
    reclaimer.join().unwrap();
    // It is a copy like any other now, which whoever forgets the address frees.
    assert_eq!(slab.unwritten_bytes(), 0);
    slab.forget(LEAF);
    assert_eq!(slab.resident_bytes(), 0, "a node is freed once");
}

#[test]
fn a_node_written_after_its_death_is_in_memory_once() {
    explore("a dead node is written", 3, a_dead_node_is_written_and_kept);
    let model = a_dead_node_is_written_and_kept;
    explore_planted("a dead node is written, looked at too early", 3, Some(Planted::HastyWritten), model);
}
