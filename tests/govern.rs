//! Goal: what readers keep is governed: a limit on what old versions keep warns, refuses or revokes as asked, a revoked
//! snapshot gives errors and never other bytes, and a view that stays open is told with its thread's name.
//!
//! Method: directed tests of each policy, with and without the store's own thread; a stress test in which threads read
//! snapshots that are revoked under them, page by page, through clones, diffs, exports and verification.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{PAGE, contents, small};
use vellum::{Budget, Durability, Error, Event, Options, PageId, PinKind, RetainedPolicy, Snapshot, Store};

const PAGES: u64 = 400;

fn fill(store: &Store, tag: u64) {
    let mut txn = store.begin().unwrap();
    txn.truncate(PAGES).unwrap();
    for id in 0..PAGES {
        txn.write(PageId(id), &contents(id, tag)).unwrap();
    }
    txn.commit_with(Durability::Buffered).unwrap();
}

type Told = Arc<Mutex<Vec<Event>>>;

fn told_to(options: Options) -> (Options, Told) {
    let told = Told::default();
    let to = told.clone();
    (options.on_event(move |event| to.lock().unwrap().push(event.clone())), told)
}

fn store_with(limit: u64, policy: RetainedPolicy) -> (Store, Told) {
    let (options, told) = told_to(small().background(false).retained_limit(limit, policy));
    (Store::in_memory(options).unwrap(), told)
}

fn keep(store: &Store) {
    store.maintain(Budget::unlimited()).unwrap();
    store.audit().unwrap();
}

/// Somewhat more than one copy of the pages.
const LIMIT: u64 = PAGES * PAGE as u64 * 3 / 2;

#[test]
fn warning_tells_once_and_again() {
    let (store, told) = store_with(LIMIT, RetainedPolicy::Warn);
    let warnings = || told.lock().unwrap().len();
    fill(&store, 0);
    let first = store.snapshot_labelled("the slow report");
    fill(&store, 1);
    let second = store.snapshot();
    keep(&store);
    assert_eq!(warnings(), 0, "one copy is within the limit");
    fill(&store, 2);
    keep(&store);
    keep(&store);
    assert_eq!(warnings(), 1);
    match &told.lock().unwrap()[0] {
        Event::RetainedLimit { retained_bytes, limit, pins } => {
            assert_eq!(*limit, LIMIT);
            assert!(*retained_bytes > LIMIT && pins.len() == 2, "{retained_bytes} {pins:?}");
            assert!(pins.iter().any(|pin| pin.owner.as_deref() == Some("the slow report")));
        }
        other => panic!("{other:?}"),
    }
    drop(first);
    keep(&store);
    assert_eq!(warnings(), 1);
    let third = store.snapshot();
    fill(&store, 3);
    keep(&store);
    assert_eq!(warnings(), 2, "told again");
    assert!(!second.is_revoked() && !third.is_revoked());
}

#[test]
fn refusing_ends_when_there_is_room_again() {
    let (store, _) = store_with(LIMIT, RetainedPolicy::Refuse);
    fill(&store, 0);
    let first = store.try_snapshot().unwrap();
    fill(&store, 1);
    let second = store.create_snapshot("second").unwrap();
    fill(&store, 2);
    for refused in [store.try_snapshot().map(drop), store.create_snapshot("third").map(drop)] {
        match refused {
            Err(Error::RetainedLimit { retained, limit, worst }) => {
                assert!(retained > limit && limit == LIMIT && worst.contains("snapshot"), "{worst}");
            }
            other => panic!("{other:?}"),
        }
    }
    // Commits and snapshots by the call that can't fail go on.
    fill(&store, 3);
    drop(store.snapshot());
    drop(first);
    store.try_snapshot().unwrap();
    drop(second);
    store.drop_snapshot("second").unwrap();
    store.create_snapshot("third").unwrap();
}

fn is_revoked<T>(result: vellum::Result<T>) -> bool {
    matches!(result.map(drop), Err(Error::SnapshotRevoked { .. }))
}

#[test]
fn revoking_takes_the_worst_and_gives_its_space_back() {
    let (store, told) = store_with(LIMIT, RetainedPolicy::Revoke);
    fill(&store, 0);
    let named = store.create_snapshot("named").unwrap();
    // A snapshot that keeps little, and one that keeps much.
    let small_one = store.snapshot();
    fill(&store, 1);
    let large = store.snapshot_labelled("large");
    let twin = large.clone();
    let other = store.snapshot();
    let open_view = large.view();
    assert!(open_view.page(PageId(0)).unwrap().is_some());
    fill(&store, 2);
    keep(&store);
    assert!(large.is_revoked() && twin.is_revoked() && other.is_revoked());
    assert!(!named.is_revoked() && !small_one.is_revoked());
    // The view was there first.
    assert!(open_view.page(PageId(PAGES - 1)).unwrap() == Some(&contents(PAGES - 1, 1)[..]));
    drop(open_view);
    assert_eq!((large.version(), large.page_count()), (twin.version(), PAGES));
    assert!(is_revoked(large.view().page(PageId(1))));
    assert!(is_revoked(twin.read(PageId(1), &mut [0; PAGE])));
    assert!(is_revoked(large.diff(&small_one)) && is_revoked(small_one.diff(&large)));
    assert!(is_revoked(large.export(&mut Vec::new())) && is_revoked(large.verify(&mut ())));
    assert!(is_revoked(large.export_raw(&mut Vec::new(), &mut ())));
    assert!(is_revoked(large.clone().view().page(PageId(2))));
    let revoked =
        told.lock().unwrap().iter().filter(|event| matches!(event, Event::SnapshotRevoked { .. })).count();
    assert_eq!(revoked, 2, "two pins of one version");
    assert!(!store.pins().unwrap().iter().any(|pin| pin.version == large.version()));
    keep(&store);
    let stats = store.stats();
    assert!(stats.allocated_bytes - stats.live_bytes <= LIMIT, "{stats:?}");
    drop((large, twin, other));
    keep(&store);
    assert!(small_one.view().page(PageId(3)).unwrap() == Some(&contents(3, 0)[..]));
    // Slots of revoked pins are as good as new.
    let many: Vec<Snapshot> = (0..200).map(|_| store.snapshot()).collect();
    assert!(many.iter().all(|snapshot| !snapshot.is_revoked() && snapshot.view().page(PageId(1)).is_ok()));
}

#[test]
fn what_a_fork_lives_on_is_not_taken_from_it() {
    let (store, told) = store_with(LIMIT, RetainedPolicy::Revoke);
    fill(&store, 0);
    let fork = store.snapshot().fork().unwrap();
    let other = {
        fill(&store, 1);
        store.snapshot()
    };
    for tag in 2..8 {
        fill(&store, tag);
        keep(&store);
    }
    // The other one keeps as much, and can be taken.
    assert!(is_revoked(other.verify(&mut ())));
    let view = fork.view();
    for id in 0..PAGES {
        assert!(view.page(PageId(id)).unwrap() == Some(&contents(id, 0)[..]), "page {id}");
    }
    drop(view);
    fork.verify(&mut ()).unwrap();
    let revoked = |event: &&Event| matches!(event, Event::SnapshotRevoked { .. });
    assert_eq!(told.lock().unwrap().iter().filter(revoked).count(), 1);
    let before = store.stats().allocated_bytes;
    drop(fork);
    keep(&store);
    assert!(store.stats().allocated_bytes < before, "what it kept is given back");
}

#[test]
fn reading_a_snapshot_that_is_revoked_meanwhile_gives_its_bytes_or_an_error() {
    let limit = PAGES * PAGE as u64 * 2;
    let (options, _) = told_to(small().background(true).retained_limit(limit, RetainedPolicy::Revoke));
    let store = Store::in_memory(options).unwrap();
    fill(&store, 0);
    let (stop, revoked, read) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for reader in 0..4u64 {
            let (store, stop, revoked, read) = (&store, &stop, &revoked, &read);
            scope.spawn(move || {
                let mut random = common::Random(reader);
                while !stop.load(Ordering::Relaxed) {
                    let snapshot = store.snapshot();
                    let (version, fingerprint) = (snapshot.version(), snapshot.fingerprint());
                    let tag = u64::from_le_bytes(snapshot.meta().try_into().unwrap_or_default());
                    for _ in 0..400 {
                        let id = PageId(random.below(PAGES));
                        let result = match random.below(40) {
                            0 => snapshot
                                .verify(&mut ())
                                .map(|report| assert_eq!(report.fingerprint, fingerprint)),
                            1 => snapshot.diff(&store.snapshot()).map(drop),
                            2 => snapshot.clone().export(&mut std::io::sink()).map(drop),
                            _ => snapshot.view().page(id).map(|page| {
                                assert!(page == Some(&contents(id.0, tag)[..]), "{id} of {version}");
                            }),
                        };
                        match result {
                            Ok(()) => read.fetch_add(1, Ordering::Relaxed),
                            Err(Error::SnapshotRevoked { version: which }) => {
                                assert_eq!(which, version);
                                assert!(snapshot.is_revoked());
                                revoked.fetch_add(1, Ordering::Relaxed);
                                break;
                            }
                            Err(error) => panic!("{error}"),
                        };
                    }
                }
            });
        }
        let begun = Instant::now();
        let mut tag = 1u64;
        while begun.elapsed() < Duration::from_secs(4) || revoked.load(Ordering::Relaxed) == 0 {
            let mut txn = store.begin().unwrap();
            for id in 0..PAGES {
                txn.write(PageId(id), &contents(id, tag)).unwrap();
            }
            txn.set_meta(&tag.to_le_bytes()).unwrap();
            txn.commit_with(Durability::Buffered).unwrap();
            tag += 1;
            assert!(begun.elapsed() < Duration::from_mins(1), "nothing is ever revoked");
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{} reads, {} snapshots revoked under their readers", read.into_inner(), revoked.into_inner());
    store.maintain(Budget::unlimited()).unwrap();
    store.audit().unwrap();
}

#[test]
fn a_stalled_view_is_told_with_its_thread() {
    let (options, told) = told_to(small().background(false).view_limit(Duration::from_millis(30)));
    let store = Store::in_memory(options).unwrap();
    fill(&store, 0);
    let (opened, wait) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        let named = std::thread::Builder::new().name("slow reader".to_owned());
        let (store, opened, wait) = (&store, &opened, &wait);
        let slow = named.spawn_scoped(scope, move || {
            // A short one before, and one beside.
            drop(store.view());
            let view = store.view();
            let _beside = store.view();
            opened.wait();
            wait.wait();
            assert!(view.page(PageId(0)).is_ok());
        });
        opened.wait();
        for _ in 0..3 {
            keep(store);
            std::thread::sleep(Duration::from_millis(40));
        }
        let views: Vec<_> =
            store.pins().unwrap().into_iter().filter(|pin| pin.kind == PinKind::View).collect();
        assert_eq!(views.len(), 1, "{views:?}");
        assert_eq!(views[0].owner.as_deref(), Some("slow reader"));
        assert!(views[0].age >= Duration::from_millis(30) && views[0].version == store.version());
        wait.wait();
        slow.unwrap().join().unwrap();
        assert!(!store.pins().unwrap().iter().any(|pin| pin.kind == PinKind::View));
    });
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1, "once a view: {told:?}");
    assert!(matches!(&told[0], Event::ViewStalled { thread, .. } if thread == "slow reader"));
}
