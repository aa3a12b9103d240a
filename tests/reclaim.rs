//! Goal: space comes back. A store keeps what live versions see and what recovery needs, and nothing else, however long it
//! runs and however old its oldest snapshot is.
//!
//! Method: long churn on small stores, with and without snapshots held, and the store's own account of its bytes
//! compared with what its versions are known to hold.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use common::{PAGE, Random, contents, filled, seed, small};
use vellum::{Durability, PageId, Snapshot, Store};

fn churn(store: &Store, random: &mut Random, commits: u64, pages: u64) {
    for _ in 0..commits {
        let mut txn = store.begin().unwrap();
        let tag = random.next();
        for _ in 0..=random.below(8) {
            let id = random.below(pages);
            txn.write(PageId(id), &contents(id, tag)).unwrap();
        }
        txn.commit_with(Durability::Buffered).unwrap();
    }
}

/// Bytes allocated beyond the current version's, once everything that can be is reclaimed.
fn surplus(store: &Store) -> u64 {
    // The durable catalog pins the versions of the last two checkpoints: make both the current one.
    for _ in 0..3 {
        store.maintain(vellum::Budget::unlimited()).unwrap();
    }
    let audit = store.audit().unwrap();
    let stats = store.stats();
    assert_eq!(stats.allocated_bytes, audit.reachable_bytes + audit.pending_bytes, "{audit:?} {stats:?}");
    stats.allocated_bytes - stats.live_bytes
}

#[test]
fn churn_without_snapshots_leaves_nothing_behind() {
    let mut random = Random(seed("reclaim"));
    let store = filled(100);
    churn(&store, &mut random, 500, 100);
    surplus(&store);
    let first = store.stats();
    for _ in 0..6 {
        churn(&store, &mut random, 500, 100);
        surplus(&store);
        let stats = store.stats();
        // Two more, and the pool of four that are kept for reuse.
        assert!(stats.segments <= first.segments + 6, "{} segments after {}", stats.segments, first.segments);
        assert!(stats.table_memory_bytes <= first.table_memory_bytes + 8192, "{stats:?}");
        assert_eq!(stats.limbo_bytes, 0, "nothing waits: no view is open");
    }
    assert!(surplus(&store) <= 100 * PAGE as u64, "{:?}", store.stats());
}

#[test]
fn the_oldest_snapshot_keeps_only_what_it_sees() {
    let mut random = Random(seed("reclaim"));
    let store = filled(100);
    let old = store.snapshot();
    churn(&store, &mut random, 3000, 100);
    let kept = surplus(&store);
    // All 100 pages of the old version, its leaves and inner nodes.
    let most = 100 * PAGE as u64 + 64 * 1024;
    assert!(kept <= most, "{kept} bytes beyond the current version for one snapshot of {most}");
    for id in 0..100 {
        assert_eq!(old.view().page(PageId(id)).unwrap().unwrap(), contents(id, 0));
    }
    drop(old);
    let kept = surplus(&store);
    assert!(kept <= 64 * 1024, "{kept} bytes after the snapshot went");
}

#[test]
fn dropping_snapshots_in_any_order_frees_what_only_they_saw() {
    let mut random = Random(seed("reclaim"));
    let store = filled(100);
    let mut held: Vec<(Snapshot, u128)> = Vec::new();
    for _ in 0..40 {
        churn(&store, &mut random, 20, 100);
        let snapshot = store.snapshot();
        let fingerprint = snapshot.fingerprint().0;
        held.push((snapshot, fingerprint));
    }
    let mut last = surplus(&store);
    while !held.is_empty() {
        let (snapshot, fingerprint) = held.swap_remove(random.index(held.len()));
        assert_eq!(snapshot.verify(&mut ()).unwrap().fingerprint.0, fingerprint);
        drop(snapshot);
        let now = surplus(&store);
        assert!(now <= last + 8192, "{now} bytes after a drop, {last} before");
        last = now;
    }
    assert!(last <= 64 * 1024, "{last} bytes are kept for nobody");
    store.verify(&mut ()).unwrap();
}

#[test]
fn a_transaction_pins_its_snapshot_until_it_ends() {
    let mut random = Random(seed("reclaim"));
    let store = filled(50);
    let txn = store.begin().unwrap();
    churn(&store, &mut random, 300, 50);
    let kept = surplus(&store);
    assert!(kept >= 40 * PAGE as u64, "{kept}");
    let mut page = vec![0; PAGE];
    for id in 0..50 {
        assert!(txn.read(PageId(id), &mut page).unwrap());
        assert_eq!(page, contents(id, 0));
    }
    drop(txn);
    assert!(surplus(&store) < kept);
}

#[test]
fn space_of_truncated_and_freed_pages_comes_back() {
    let store = filled(2000);
    let full = store.stats().live_bytes;
    let mut txn = store.begin().unwrap();
    txn.truncate(10).unwrap();
    txn.commit().unwrap();
    surplus(&store);
    let stats = store.stats();
    assert!(stats.live_bytes < full / 20, "{} of {full}", stats.live_bytes);
    let (segments, free) = (stats.segments, stats.free_segments);
    assert!(
        free == 4 && segments <= free + 4,
        "the pool and little else: {free} of {segments} segments are free"
    );
    // The next pages find room in the pool: 4 segments of 127 slots.
    let mut txn = store.begin().unwrap();
    for _ in 0..300 {
        let id = txn.allocate().unwrap();
        txn.write(id, &contents(id.0, 1)).unwrap();
    }
    txn.commit().unwrap();
    assert!(store.stats().segments <= segments + 1, "{} segments after {segments}", store.stats().segments);
}

#[test]
fn reopening_forgets_no_space() {
    let mut random = Random(seed("reclaim"));
    let dir = tempfile::tempdir().unwrap();
    let mut most = 0;
    for round in 0..8 {
        let store = Store::open(dir.path().join("store"), small()).unwrap();
        if round == 0 {
            let mut txn = store.begin().unwrap();
            txn.truncate(100).unwrap();
            txn.commit().unwrap();
        }
        let held = store.snapshot();
        churn(&store, &mut random, 400, 100);
        drop(held);
        if round % 2 == 0 {
            store.close().unwrap();
        }
        let segments = std::fs::read_dir(dir.path().join("store")).unwrap().count();
        if round < 3 {
            most = most.max(segments);
        }
        // How many stand ready for reuse, or wait for two catalogs, differs by some; a round writes several times as many.
        assert!(segments <= most + 6, "{segments} files after {round} rounds, {most} before");
    }
}

#[test]
fn ids_that_were_freed_are_handed_out_again() {
    let store = filled(20);
    let mut ids: Vec<PageId> = (0..20).map(PageId).collect();
    for round in 1..6 {
        let mut txn = store.begin().unwrap();
        for id in &ids {
            txn.free(*id).unwrap();
        }
        txn.commit().unwrap();
        // Whoever gives up gives them back, too.
        let mut txn = store.begin().unwrap();
        for _ in 0..20 {
            txn.allocate().unwrap();
        }
        drop(txn);
        let mut txn = store.begin().unwrap();
        ids = (0..20).map(|_| txn.allocate().unwrap()).collect();
        for id in &ids {
            txn.write(*id, &contents(id.0, round)).unwrap();
        }
        txn.commit().unwrap();
        ids.sort_unstable();
        assert_eq!(ids, (0..20).map(PageId).collect::<Vec<_>>(), "round {round}");
        assert_eq!(store.snapshot().page_count(), 20);
    }
}

#[test]
fn holes_of_earlier_sessions_are_found_however_many() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("store");
    let store = Store::open(&dir, small()).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(5000).unwrap();
    for id in (0..5000).filter(|id| id % 3 == 0) {
        txn.write(PageId(id), &contents(id, 0)).unwrap();
    }
    txn.commit().unwrap();
    drop(store);
    // More than are looked up at once.
    let store = Store::open(&dir, small()).unwrap();
    let holes: Vec<PageId> = (0..5000).filter(|id| id % 3 != 0).map(PageId).collect();
    let mut txn = store.begin().unwrap();
    let mut found: Vec<PageId> = holes.iter().map(|_| txn.allocate().unwrap()).collect();
    let beyond = txn.allocate().unwrap();
    found.sort_unstable();
    assert!(found == holes, "each hole once");
    assert_eq!(beyond, PageId(5000));
}
