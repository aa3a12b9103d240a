//! Goal: numbers at their edges are numbers like others: page ids up to 2^40 with holes between, a transaction that frees a
//! million pages, a thousand snapshots dropped in any order.
//!
//! Method: a model beside the store, reopenings, exports, and the audit of every byte.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::files::copy_of;
use common::{PAGE, Random, contents, env, seed, small};
use vellum::storage::MemoryStorage;
use vellum::{Budget, Durability, Error, PageId, Snapshot, Store};

/// Page ids end here.
const END: u64 = 1 << 40;

/// Ids at the edges of every level of the table, and anywhere.
fn some_id(random: &mut Random) -> u64 {
    let edge = 1u64 << (6 * (1 + random.below(6)));
    match random.below(5) {
        0 => edge - 1,
        1 => edge,
        2 => END - 1 - random.below(200),
        3 => random.below(200),
        _ => random.below(END),
    }
}

fn check(snapshot: &Snapshot, model: &BTreeMap<u64, u64>, random: &mut Random) {
    let view = snapshot.view();
    for (id, tag) in model {
        assert_eq!(view.page(PageId(*id)).unwrap(), Some(&contents(*id, *tag)[..]), "page {id}");
    }
    for id in (0..100).map(|_| some_id(random)).filter(|id| !model.contains_key(id)) {
        match view.page(PageId(id)) {
            Ok(None) => assert!(id < snapshot.page_count()),
            Err(Error::PageOutOfRange { page_count, .. }) => assert!(id >= page_count),
            other => panic!("page {id} holds nothing: {other:?}"),
        }
    }
    assert_eq!(snapshot.live_pages(), model.len() as u64);
}

#[test]
fn ids_up_to_two_to_the_fortieth_with_holes() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let mut random = Random(seed("huge"));
    let mut store = Store::open(&dir, small()).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(END).unwrap();
    let beyond = txn.truncate(END + 1).unwrap_err();
    assert!(matches!(beyond, Error::TooManyPages { .. }), "{beyond}");
    txn.commit().unwrap();
    let mut model: BTreeMap<u64, u64> = BTreeMap::new();
    let mut held: Vec<(Snapshot, BTreeMap<u64, u64>)> = Vec::new();
    for step in 1..=60 {
        let mut txn = store.begin().unwrap();
        for _ in 0..random.below(12) {
            let id = some_id(&mut random);
            if id >= txn.page_count() {
                continue;
            }
            if random.below(4) == 0 && model.remove(&id).is_some() {
                txn.free(PageId(id)).unwrap();
            } else {
                txn.write(PageId(id), &contents(id, step)).unwrap();
                model.insert(id, step);
            }
        }
        if random.below(10) == 0 {
            let count = some_id(&mut random) + 1;
            txn.truncate(count).unwrap();
            model.split_off(&count);
            txn.truncate(END).unwrap();
        }
        if random.below(4) == 0 {
            let id = txn.allocate().unwrap();
            assert!(!model.contains_key(&id.0), "{id} holds something");
            txn.write(id, &contents(id.0, step)).unwrap();
            model.insert(id.0, step);
        }
        txn.commit().unwrap();
        match random.below(8) {
            0 => held.push((store.snapshot(), model.clone())),
            1 if !held.is_empty() => drop(held.swap_remove(random.index(held.len()))),
            2 => {
                held.clear();
                drop(store);
                store = Store::open(&dir, small()).unwrap();
            }
            3 => drop(store.maintain(Budget::unlimited()).unwrap()),
            _ => {}
        }
        check(&store.snapshot(), &model, &mut random);
        store.audit().unwrap();
    }
    for (snapshot, model) in &held {
        check(snapshot, model, &mut random);
        let mut stream = Vec::new();
        snapshot.export(&mut stream).unwrap();
        let copy = home.path().join(format!("copy {}", snapshot.version().0));
        let copy = Store::import(&mut &stream[..], copy).unwrap();
        assert_eq!(copy.snapshot().fingerprint(), snapshot.fingerprint());
        check(&copy.snapshot(), model, &mut random);
    }
    store.verify(&mut ()).unwrap();
}

#[test]
fn one_transaction_frees_a_million_pages() {
    let home = tempfile::tempdir().unwrap();
    let pages = env("VELLUM_HUGE_PAGES", 1 << 20);
    let options = || small().segment_size(16 << 20).checkpoint_bytes(64 << 20).limbo_bytes(64 << 20);
    let store = Store::open(home.path().join("store"), options()).unwrap();
    for first in (0..pages).step_by(8192) {
        let mut txn = store.begin().unwrap();
        txn.truncate(first + 8192).unwrap();
        for id in first..first + 8192 {
            txn.write(PageId(id), &[7; PAGE]).unwrap();
        }
        txn.commit_with(Durability::Buffered).unwrap();
    }
    let before = store.snapshot();
    // Every second one, so that half a million ranges are recorded; then the rest, which is one range for each of the holes.
    for remainder in [0, 1] {
        let mut txn = store.begin().unwrap();
        for id in (remainder..pages).step_by(2) {
            txn.free(PageId(id)).unwrap();
        }
        txn.commit().unwrap();
    }
    assert_eq!((store.stats().live_pages, before.live_pages()), (0, pages));
    assert_eq!(before.view().page(PageId(pages - 1)).unwrap().unwrap()[0], 7);
    store.audit().unwrap();
    drop(before);
    store.maintain(Budget::unlimited()).unwrap();
    let audit = store.audit().unwrap();
    assert_eq!(audit.pending_bytes, 0);
    // What is left is the table, with its tombstones.
    assert!(audit.reachable_bytes < pages * 20, "{audit:?}");
    let dir = store.stats().disk_bytes;
    assert!(dir <= (audit.reachable_bytes * 13 / 10) + 8 * (16 << 20), "{dir} bytes of files, {audit:?}");
    drop(store);
    let store = Store::open(home.path().join("store"), options()).unwrap();
    assert_eq!((store.stats().live_pages, store.stats().page_count), (0, pages));
    let mut txn = store.begin().unwrap();
    let id = txn.allocate().unwrap();
    txn.commit().unwrap();
    assert!(id.0 < pages, "freed ids are used again");
}

#[test]
fn a_thousand_snapshots_are_dropped_in_any_order() {
    let mut random = Random(seed("huge"));
    let store = Store::in_memory(small()).unwrap();
    let mut txn = store.begin().unwrap();
    for _ in 0..300 {
        txn.allocate().unwrap();
    }
    txn.commit().unwrap();
    let mut held: Vec<(Snapshot, u64, u64)> = Vec::new();
    for step in 0..1000 {
        let id = random.below(300);
        let mut txn = store.begin().unwrap();
        txn.write(PageId(id), &contents(id, step)).unwrap();
        txn.commit_with(Durability::Buffered).unwrap();
        held.push((store.snapshot(), id, step));
    }
    while !held.is_empty() {
        let (snapshot, id, step) = held.swap_remove(random.index(held.len()));
        assert_eq!(snapshot.view().page(PageId(id)).unwrap(), Some(&contents(id, step)[..]));
        drop(snapshot);
        if held.len().is_multiple_of(100) {
            store.maintain(Budget::unlimited()).unwrap();
            let audit = store.audit().unwrap();
            assert_eq!(audit.pending_bytes, 0, "{audit:?}");
            for (snapshot, id, step) in &held {
                assert_eq!(snapshot.view().page(PageId(*id)).unwrap(), Some(&contents(*id, *step)[..]));
            }
        }
    }
    store.maintain(Budget::unlimited()).unwrap();
    let stats = store.stats();
    assert_eq!((stats.allocated_bytes, stats.limbo_bytes), (stats.live_bytes, 0), "{stats:?}");
}

#[test]
fn a_kill_loses_nothing_at_the_last_page_there_can_be() {
    let last = PageId(END - 1);
    let mut storage = Arc::new(MemoryStorage::new());
    let mut store = Store::open_on(storage.clone(), small()).unwrap();
    for (step, count, holds) in [("grow", END, 0), ("write", END, 1), ("free", END, 0), ("cut", 1, 0)] {
        let mut txn = store.begin().unwrap();
        match step {
            "grow" => txn.truncate(END).unwrap(),
            "write" => txn.write(last, &contents(last.0, 1)).unwrap(),
            "free" => txn.free(last).unwrap(),
            _ => txn.truncate(1).unwrap(),
        }
        txn.commit().unwrap();
        // Killed: nothing but the log knows of what was done since the last checkpoint.
        storage = copy_of(&*storage);
        store = Store::open_on(storage.clone(), small()).unwrap();
        let snapshot = store.snapshot();
        assert_eq!((snapshot.page_count(), snapshot.live_pages()), (count, holds), "after {step}");
        if holds > 0 {
            assert_eq!(snapshot.view().page(last).unwrap(), Some(&contents(last.0, 1)[..]));
        }
        store.audit().unwrap();
    }
}
