//! Goal: whoever keeps old versions can be found, and what `pins` says would come back is what comes back, to the byte.
//!
//! Method: random histories with many snapshots; each is dropped after `pins` was asked, in random order, and the store's
//! account before and after is compared with what was said.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::time::Duration;

use common::{Random, contents, filled, seed};
use vellum::{Budget, Durability, PageId, Pin, PinKind, Snapshot, Store};

fn change(store: &Store, random: &mut Random, pages: u64, most: u64) {
    let mut txn = store.begin().unwrap();
    for _ in 0..=random.below(most) {
        let id = PageId(random.below(pages));
        let is_there = store.view().page(id).unwrap().is_some();
        if is_there && random.below(8) == 0 {
            let _ = txn.free(id);
        } else {
            txn.write(id, &contents(id.0, random.next())).unwrap();
        }
    }
    txn.commit_with(Durability::Buffered).unwrap();
}

/// Bytes in use once everything that can be freed is.
fn allocated(store: &Store) -> u64 {
    store.maintain(Budget::unlimited()).unwrap();
    store.audit().unwrap();
    store.stats().allocated_bytes
}

fn of_kind(store: &Store, kind: PinKind) -> Vec<Pin> {
    store.pins().unwrap().into_iter().filter(|pin| pin.kind == kind).collect()
}

#[test]
fn every_holder_is_told_with_kind_age_and_label() {
    let store = filled(10);
    assert!(
        of_kind(&store, PinKind::Snapshot).is_empty() && of_kind(&store, PinKind::Transaction).is_empty()
    );
    let first = store.version();
    let plain = store.snapshot();
    let labelled = store.snapshot_labelled("nightly report");
    let twin = labelled.clone();
    let txn = store.begin().unwrap();
    std::thread::sleep(Duration::from_millis(60));
    change(&store, &mut Random(1), 10, 3);
    let late = store.snapshot_labelled("late");

    let snapshots = of_kind(&store, PinKind::Snapshot);
    let told: Vec<_> = snapshots.iter().map(|pin| (pin.version, pin.owner.as_deref())).collect();
    assert_eq!(told.len(), 3, "a clone is the same pin: {told:?}");
    assert!(told.contains(&(first, None)) && told.contains(&(first, Some("nightly report"))));
    assert_eq!(told[2], (late.version(), Some("late")));
    assert!(snapshots[0].age >= Duration::from_millis(40) && snapshots[2].age < Duration::from_secs(20));
    let open = of_kind(&store, PinKind::Transaction);
    assert_eq!((open.len(), open[0].version), (1, first));
    assert!(
        !of_kind(&store, PinKind::Checkpoint).is_empty() && of_kind(&store, PinKind::Maintenance).is_empty()
    );
    // Three hold the first version, so none of them alone keeps anything.
    assert!(snapshots[0].retained_bytes == 0 && snapshots[0].version_bytes > 0);
    assert_eq!(snapshots[2].version_bytes, 0, "the current version is kept anyway");

    drop((labelled, plain));
    assert_eq!(of_kind(&store, PinKind::Snapshot)[0].owner.as_deref(), Some("nightly report"));
    drop((txn, twin, late));
    let next = store.snapshot();
    assert_eq!(of_kind(&store, PinKind::Snapshot)[0].owner, None, "a label goes with its snapshot");
    drop(next);
}

#[test]
fn what_is_said_to_come_back_comes_back() {
    let mut random = Random(seed("pins"));
    let store = filled(400);
    let mut held: Vec<Snapshot> = Vec::new();
    for _ in 0..100 {
        for _ in 0..random.below(4) {
            change(&store, &mut random, 400, 12);
        }
        held.push(store.snapshot());
    }
    change(&store, &mut random, 400, 30);
    let (full, mut sum) = (allocated(&store), 0);
    while !held.is_empty() {
        let one = held.swap_remove(random.index(held.len()));
        let pins = of_kind(&store, PinKind::Snapshot);
        let own: Vec<&Pin> = pins.iter().filter(|pin| pin.version == one.version()).collect();
        let said = own[0].retained_bytes;
        assert!(said == if own.len() == 1 { own[0].version_bytes } else { 0 });
        let before = allocated(&store);
        drop(one);
        assert_eq!(before - allocated(&store), said, "of {} pins", pins.len());
        sum += said;
    }
    let stats = store.stats();
    assert_eq!((full - stats.allocated_bytes, stats.retained_bytes()), (sum, 0));
}

#[test]
fn ten_thousand_snapshots_are_no_trouble() {
    let mut random = Random(seed("pins"));
    let store = filled(256);
    let mut held = Vec::new();
    for _ in 0..10_000 {
        change(&store, &mut random, 256, 2);
        held.push(store.snapshot());
    }
    assert_eq!(of_kind(&store, PinKind::Snapshot).len(), 10_000);
    // A thousand of them go in random order, and what they alone kept goes with them.
    let before = allocated(&store);
    for _ in 0..1000 {
        held.swap_remove(random.index(held.len()));
    }
    let between = allocated(&store);
    assert!(between < before);
    let oldest = held.iter().min_by_key(|snapshot| snapshot.version()).unwrap();
    oldest.verify(&mut ()).unwrap();
    drop(held);
    allocated(&store);
    assert_eq!(store.stats().retained_bytes(), 0);
}

#[test]
fn work_on_a_version_is_told_while_it_lasts() {
    let store = filled(50);
    let snapshot = store.create_snapshot("held").unwrap();
    change(&store, &mut Random(2), 50, 10);
    let mut seen = Vec::new();
    let mut watch = |_| {
        seen.extend(of_kind(&store, PinKind::Export));
        std::ops::ControlFlow::Continue(())
    };
    snapshot.export_with(&mut std::io::sink(), &mut watch).unwrap();
    let told = seen.first().expect("an export that runs");
    assert_eq!((told.version, told.retained_bytes), (snapshot.version(), 0));
    assert!(told.owner.as_deref().unwrap().starts_with("export") && told.version_bytes > 0);
    assert!(of_kind(&store, PinKind::Export).is_empty(), "it is over");

    let (first, version) = (snapshot.fork().unwrap(), snapshot.version());
    let second = first.snapshot().fork().unwrap();
    drop(snapshot);
    let forks = of_kind(&store, PinKind::Fork);
    assert_eq!(forks.iter().map(|pin| pin.version).collect::<Vec<_>>(), [version]);
    // A fork needs the version and not its name.
    store.drop_snapshot("held").unwrap();
    drop(first);
    assert_eq!(of_kind(&store, PinKind::Fork).len(), 1, "the fork of the fork needs it still");
    drop(second);
    assert!(of_kind(&store, PinKind::Fork).is_empty());
}
