//! Goal: a named snapshot is kept as it was until its name is dropped, over every kind of reopening; what it is said to
//! cost is what comes back, to the byte; what can't be done is a typed error that changes nothing.
//!
//! Method: directed tests of each call and of each refusal; random histories in which sets of names are dropped after
//! `would_free` was asked. (Crashes at every I/O call: `crash.rs`; random sequences against a model: `model.rs`.)
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::{PAGE, Random, contents, env, fill, seed, small};
use vellum::storage::MemoryStorage;
use vellum::{Budget, Error, Naming, PageId, PinKind, Store};

fn holds(snapshot: &vellum::Snapshot, ids: impl Iterator<Item = u64>, tag: u64) {
    let view = snapshot.view();
    for id in ids {
        assert!(view.page(PageId(id)).unwrap() == Some(&contents(id, tag)[..]), "page {id}");
    }
}

/// Bytes in use once everything that can be freed is.
fn allocated(store: &Store) -> u64 {
    assert!(store.maintain(Budget::unlimited()).unwrap().is_done);
    store.audit().unwrap();
    store.stats().allocated_bytes
}

#[test]
fn names_outlive_the_store() {
    let home = Arc::new(MemoryStorage::new());
    let open = || Store::open_on(home.clone(), small()).unwrap();
    let mut store = open();
    fill(&store, 0..40, 1);
    let naming =
        Naming::new().label("schedule", "nightly").label("by", "").expires_in(Duration::from_mins(1));
    let snapshot = store.create_snapshot_with("first", naming).unwrap();
    assert_eq!(snapshot.version(), store.version());
    drop(snapshot);
    fill(&store, 10..70, 2);
    store.create_snapshot("second").unwrap();
    fill(&store, 0..70, 3);
    for round in 0..4 {
        let listed = store.snapshots();
        assert_eq!(listed.iter().map(|named| &*named.name).collect::<Vec<_>>(), ["first", "second"]);
        assert_eq!(listed[0].labels, [("by".into(), String::new()), ("schedule".into(), "nightly".into())]);
        let left = listed[0].expires_at.unwrap().duration_since(SystemTime::now()).unwrap();
        assert!(left <= Duration::from_mins(1) && listed[1].expires_at.is_none());
        assert_eq!((listed[0].page_count, listed[1].page_count, listed[1].live_pages), (40, 70, 70));
        let (first, second) = (store.open_snapshot("first").unwrap(), store.open_snapshot("second").unwrap());
        assert_eq!((first.fingerprint(), first.version()), (listed[0].fingerprint, listed[0].version));
        holds(&first, 0..40, 1);
        holds(&second, 0..10, 1);
        holds(&second, 10..70, 2);
        holds(&store.snapshot(), 0..70, 3 + round);
        drop((first, second));
        fill(&store, 0..70, 4 + round);
        store.audit().unwrap();
        drop(store);
        store = open();
    }
    let pins = store.pins().unwrap();
    let named: Vec<_> = pins.iter().filter(|pin| pin.kind == PinKind::Named).collect();
    assert_eq!(named.len(), 2);
    assert_eq!(named[0].owner.as_deref(), Some("first"));
    assert!(named[0].retained_bytes > 0);
    drop(store);
    let store = open();
    holds(&store.open_snapshot("first").unwrap(), 0..40, 1);
    store.rename_snapshot("first", "oldest").unwrap();
    store.drop_snapshot("second").unwrap();
    drop(store);
    let store = open();
    assert_eq!(store.snapshots().iter().map(|named| &*named.name).collect::<Vec<_>>(), ["oldest"]);
    assert_eq!(store.snapshots()[0].labels.len(), 2);
    holds(&store.open_snapshot("oldest").unwrap(), 0..40, 1);
}

#[test]
fn creating_costs_one_commit_and_keeps_no_bytes() {
    let store = Store::in_memory(small()).unwrap();
    fill(&store, 0..600, 1);
    let in_use = allocated(&store);
    let (before, version) = (store.stats(), store.version());
    store.create_snapshot("all").unwrap();
    let after = store.stats();
    assert_eq!(store.version(), vellum::Version(version.0 + 1));
    assert_eq!((after.syncs - before.syncs, after.appended_bytes - before.appended_bytes), (1, PAGE as u64));
    assert_eq!(allocated(&store), in_use);
    assert_eq!(store.snapshot().fingerprint(), store.open_snapshot("all").unwrap().fingerprint());
}

#[test]
fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let store = Store::in_memory(small()).unwrap();
    fill(&store, 0..3, 1);
    store.create_snapshot("a").unwrap();
    let version = store.version();
    let exists = |result: vellum::Result<()>| {
        assert!(matches!(result, Err(Error::SnapshotExists { .. })), "{result:?}");
    };
    let missing = |result: vellum::Result<()>| {
        assert!(matches!(result, Err(Error::SnapshotNotFound { .. })), "{result:?}");
    };
    let unfit =
        |result: vellum::Result<()>| assert!(matches!(result, Err(Error::InvalidName { .. })), "{result:?}");
    exists(store.create_snapshot("a").map(drop));
    exists(store.create_bookmark("a", &store.snapshot()));
    exists(store.rename_snapshot("a", "a"));
    missing(store.rename_snapshot("b", "c"));
    missing(store.open_snapshot("b").map(drop));
    missing(store.drop_snapshot("b"));
    missing(store.hold_snapshot("b", "me", None));
    missing(store.describe_snapshot("b", Naming::new()));
    missing(store.release_snapshot("b", "me"));
    missing(store.drop_bookmark("a"));
    missing(store.bookmark("a").map(drop));
    missing(store.would_free(&["a", "b"]).map(drop));
    let long = "x".repeat(256);
    for name in ["", " a", "a ", "a\nb", "a\u{7f}", &long] {
        unfit(store.create_snapshot(name).map(drop));
        unfit(store.rename_snapshot("a", name));
        unfit(store.create_bookmark(name, &store.snapshot()));
        unfit(store.hold_snapshot("a", name, None));
    }
    unfit(store.describe_snapshot("a", Naming::new().label("k", "v".repeat(256))));
    let many = (0..17).fold(Naming::new(), |naming, n| naming.label(format!("k{n}"), "v"));
    unfit(store.describe_snapshot("a", many));
    let release = store.release_snapshot("a", "nobody");
    assert!(matches!(release, Err(Error::HoldNotFound { .. })));
    assert_eq!(store.version(), version, "a refusal makes no version");
    // The longest that is allowed, all at once, in the smallest geometry.
    let tight = Store::in_memory(small().page_size(512).segment_size(64 << 10)).unwrap();
    let longest = |c: char| c.to_string().repeat(255);
    let labels = Naming::new().label(longest('k'), longest('v')).label("a", "b");
    tight.create_snapshot_with(&longest('a'), labels).unwrap();
    tight.rename_snapshot(&longest('a'), &longest('b')).unwrap();
    assert_eq!(tight.snapshots()[0].name, longest('b'));
}

#[test]
fn holds_keep_a_snapshot_and_the_last_one_lets_it_go() {
    let home = Arc::new(MemoryStorage::new());
    let store = Store::open_on(home.clone(), small()).unwrap();
    fill(&store, 0..3, 1);
    store.create_snapshot("a").unwrap();
    store.hold_snapshot("a", "backup", None).unwrap();
    store.hold_snapshot("a", "drill", Some(SystemTime::now() + Duration::from_mins(10))).unwrap();
    store.hold_snapshot("a", "gone", Some(SystemTime::now() - Duration::from_secs(1))).unwrap();
    match store.drop_snapshot("a") {
        Err(Error::SnapshotHeld { name, holders }) => {
            assert_eq!((&*name, holders), ("a", vec!["backup".into(), "drill".into()]));
        }
        other => panic!("{other:?}"),
    }
    store.drop_snapshot_when_released("a").unwrap();
    assert!(store.snapshots()[0].is_leaving);
    drop(store);
    let store = Store::open_on(home, small()).unwrap();
    assert_eq!(store.snapshots()[0].holds.len(), 2);
    store.release_snapshot("a", "backup").unwrap();
    assert_eq!(store.snapshots().len(), 1);
    store.release_snapshot("a", "drill").unwrap();
    assert!(store.snapshots().is_empty());
}

#[test]
fn bookmarks_keep_nothing() {
    let home = Arc::new(MemoryStorage::new());
    let store = Store::open_on(home.clone(), small()).unwrap();
    fill(&store, 0..100, 1);
    let snapshot = store.snapshot();
    store.create_bookmark("then", &snapshot).unwrap();
    let (version, fingerprint) = (snapshot.version(), snapshot.fingerprint());
    drop(snapshot);
    fill(&store, 0..100, 2);
    assert!(!store.pins().unwrap().iter().any(|pin| pin.version == version && pin.kind == PinKind::Named));
    store.rename_snapshot("then", "once").unwrap();
    drop(store);
    let store = Store::open_on(home, small()).unwrap();
    let bookmark = store.bookmark("once").unwrap();
    assert_eq!((bookmark.version, bookmark.fingerprint), (version, fingerprint));
    assert_eq!(store.bookmarks(), [bookmark]);
    store.drop_bookmark("once").unwrap();
    assert!(store.bookmarks().is_empty());
}

#[test]
fn an_open_snapshot_outlives_its_name() {
    let store = Store::in_memory(small()).unwrap();
    fill(&store, 0..50, 1);
    let open = store.create_snapshot("a").unwrap();
    fill(&store, 0..50, 2);
    assert_eq!(store.would_free(&["a"]).unwrap(), 0, "it is open");
    store.drop_snapshot("a").unwrap();
    let kept = allocated(&store);
    holds(&open, 0..50, 1);
    // A new one of the same name is another one.
    store.create_snapshot("a").unwrap();
    holds(&store.open_snapshot("a").unwrap(), 0..50, 2);
    holds(&open, 0..50, 1);
    drop(open);
    assert!(allocated(&store) < kept);
}

#[test]
fn would_free_is_what_comes_back() {
    let seed = seed("names");
    for round in 0..env("VELLUM_ROUNDS", 12) {
        let mut random = Random(seed ^ round);
        let home = Arc::new(MemoryStorage::new());
        let mut store = Store::open_on(home.clone(), small()).unwrap();
        let pages = 20 + random.below(300);
        fill(&store, 0..pages, 0);
        let mut names: Vec<String> = Vec::new();
        let mut held = Vec::new();
        for step in 0..60u64 {
            let first = random.below(pages);
            let last = (first + 1 + random.below(20)).min(pages);
            fill(&store, first..last, random.next());
            match random.below(6) {
                0 | 1 => {
                    let name = format!("s{step}");
                    store.create_snapshot(&name).unwrap();
                    names.push(name);
                }
                2 => held.push(store.snapshot()),
                3 => held.truncate(held.len() / 2),
                4 if held.is_empty() && random.below(2) == 0 => {
                    drop(store);
                    store = Store::open_on(home.clone(), small()).unwrap();
                }
                _ => {}
            }
        }
        while !names.is_empty() {
            let count = 1 + random.below(4).min(names.len() as u64 - 1);
            let dropped: Vec<String> =
                (0..count).map(|_| names.swap_remove(random.below(names.len() as u64) as usize)).collect();
            let before = allocated(&store);
            let list: Vec<&str> = dropped.iter().map(String::as_str).collect();
            let said = store.would_free(&list).unwrap();
            if let [only] = &list[..] {
                let space = store.snapshot_space().unwrap();
                let own = space.iter().find(|space| space.name == *only).unwrap();
                assert_eq!(own.unique_bytes, said);
            }
            for name in list {
                store.drop_snapshot(name).unwrap();
            }
            assert_eq!(before - allocated(&store), said, "VELLUM_SEED={seed} round {round}");
        }
        assert!(store.snapshots().is_empty());
    }
}
