//! Goal: many threads at once see whole versions only, lose no update, and can't bring the store down.
//!
//! Method: a bank whose total is the same in every version, counters that are incremented with retries, a log of
//! versions that must be seen in order, ten thousand snapshots at once, and views that are held for too long.
//! `VELLUM_SECONDS=n` sets the length of each run (default 2).
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{PAGE, Random, contents, env, seed, small};
use vellum::{Durability, Error, Isolation, PageId, Snapshot, Store, Version};

const WRITERS: u64 = 8;
const ACCOUNTS: u64 = 40;
const DEPOSIT: u64 = 1000;

fn run_length() -> Duration {
    Duration::from_secs(env("VELLUM_SECONDS", 2))
}

fn number(page: &[u8]) -> u64 {
    u64::from_le_bytes(page[PAGE - 8..].try_into().unwrap())
}

fn with_number(value: u64) -> Vec<u8> {
    let mut page = contents(value, 3);
    page[PAGE - 8..].copy_from_slice(&value.to_le_bytes());
    page
}

/// The bank's total in a snapshot, with every page checked against what its number says it holds.
fn total(snapshot: &Snapshot) -> u64 {
    let view = snapshot.view();
    let mut sum = 0;
    for id in 0..ACCOUNTS {
        let page = view.page(PageId(id)).unwrap().expect("an account is never freed");
        assert_eq!(page, with_number(number(page)), "account {id} is torn");
        sum += number(page);
    }
    sum
}

fn bank(store: &Store, durability: Durability, isolation: Isolation, seed: u64) {
    let mut txn = store.begin().unwrap();
    for _ in 0..ACCOUNTS {
        let id = txn.allocate().unwrap();
        txn.write(id, &with_number(DEPOSIT)).unwrap();
    }
    txn.commit().unwrap();
    let stops = AtomicBool::new(false);
    let (transfers, conflicts, sums) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (stops, transfers, conflicts) = (&stops, &transfers, &conflicts);
            scope.spawn(move || {
                let mut random = Random(seed ^ (writer << 32));
                let mut last = Version(0);
                while !stops.load(Ordering::Relaxed) {
                    let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
                    if from == to {
                        continue;
                    }
                    let mut txn = store.begin_with(isolation).unwrap();
                    let mut page = vec![0; PAGE];
                    txn.read(PageId(from), &mut page).unwrap();
                    let has = number(&page);
                    let amount = random.below(has + 1);
                    txn.write(PageId(from), &with_number(has - amount)).unwrap();
                    txn.read(PageId(to), &mut page).unwrap();
                    txn.write(PageId(to), &with_number(number(&page) + amount)).unwrap();
                    // Pages that come and go beside the accounts.
                    if random.below(4) == 0 {
                        let id = txn.allocate().unwrap();
                        assert!(id.0 >= ACCOUNTS);
                        if random.below(2) == 0 {
                            txn.free(id).unwrap();
                        }
                    }
                    match txn.commit_with(durability) {
                        Ok(version) => {
                            assert!(version > last, "a thread's commits rise");
                            assert!(store.version() >= version, "a commit is visible when it returns");
                            last = version;
                            transfers.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) if error.is_conflict() => drop(conflicts.fetch_add(1, Ordering::Relaxed)),
                        // A reader that the system doesn't let run holds its view: so full a machine there may be.
                        Err(vellum::Error::LimboFull { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for reader in 0..2u64 {
            let (stops, sums) = (&stops, &sums);
            scope.spawn(move || {
                let mut random = Random(seed ^ (reader << 40));
                let mut held: Vec<(Snapshot, u128)> = Vec::new();
                let mut last = Version(0);
                while !stops.load(Ordering::Relaxed) {
                    let snapshot = store.snapshot();
                    assert!(snapshot.version() >= last, "versions are seen in order");
                    last = snapshot.version();
                    assert_eq!(total(&snapshot), ACCOUNTS * DEPOSIT, "in {}", snapshot.version());
                    sums.fetch_add(1, Ordering::Relaxed);
                    let fingerprint = snapshot.fingerprint().0;
                    held.push((snapshot, fingerprint));
                    if held.len() > 20 {
                        let (old, fingerprint) = held.swap_remove(random.index(held.len()));
                        assert_eq!(total(&old), ACCOUNTS * DEPOSIT, "in {} after a while", old.version());
                        assert_eq!(old.verify(&mut ()).unwrap().fingerprint.0, fingerprint);
                    }
                    if random.below(50) == 0 {
                        let view = held[0].0.view();
                        std::thread::sleep(Duration::from_millis(3));
                        assert!(view.page(PageId(0)).unwrap().is_some());
                    }
                }
            });
        }
        std::thread::sleep(run_length());
        stops.store(true, Ordering::Relaxed);
    });
    assert_eq!(total(&store.snapshot()), ACCOUNTS * DEPOSIT);
    store.verify(&mut ()).unwrap();
    println!(
        "{durability:?} {isolation:?}: {transfers:?} transfers, {conflicts:?} conflicts, {sums:?} sums, {} segments",
        store.stats().segments
    );
    assert!(transfers.into_inner() > 0 && sums.into_inner() > 0);
}

#[test]
fn sum_of_a_bank_is_the_same_in_every_snapshot() {
    let seed = seed("concurrent");
    for background in [false, true] {
        let store = Store::in_memory(small().background(background)).unwrap();
        bank(&store, Durability::Buffered, Isolation::Snapshot, seed);
        let store = Store::in_memory(small().background(background)).unwrap();
        bank(&store, Durability::Sync, Isolation::Serializable, seed);
    }
}

#[test]
fn sum_of_a_bank_on_disk_is_the_same_in_every_snapshot_and_after_reopening() {
    let seed = seed("concurrent");
    for durability in [Durability::Sync, Durability::Buffered] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), small().background(true)).unwrap();
        bank(&store, durability, Isolation::Snapshot, seed);
        let (version, fingerprint) = (store.version(), store.snapshot().fingerprint());
        drop(store);
        let store = Store::open(dir.path(), small()).unwrap();
        assert_eq!((store.version(), store.snapshot().fingerprint()), (version, fingerprint));
        assert_eq!(total(&store.snapshot()), ACCOUNTS * DEPOSIT);
    }
}

#[test]
fn increments_with_retry_are_never_lost() {
    const EACH: u64 = 400;
    for (durability, isolation) in
        [(Durability::Sync, Isolation::Snapshot), (Durability::Buffered, Isolation::Serializable)]
    {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), small().background(true)).unwrap();
        let mut txn = store.begin().unwrap();
        for _ in 0..4 {
            txn.allocate().unwrap();
        }
        txn.commit().unwrap();
        let versions = Mutex::new(std::collections::BTreeMap::<u64, u64>::new());
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (store, versions) = (&store, &versions);
                scope.spawn(move || {
                    for n in 0..EACH {
                        let id = PageId((writer + n) % 4);
                        let version = loop {
                            let mut txn = store.begin_with(isolation).unwrap();
                            let page = txn.page_mut(id).unwrap();
                            let next = number(page) + 1;
                            page[PAGE - 8..].copy_from_slice(&next.to_le_bytes());
                            match txn.commit_with(durability) {
                                Ok(version) => break version,
                                Err(error) => assert!(error.is_conflict(), "{error}"),
                            }
                        };
                        *versions.lock().unwrap().entry(version.0).or_default() += 1;
                    }
                });
            }
        });
        let sum = |store: &Store| -> u64 {
            (0..4).map(|id| number(store.view().page(PageId(id)).unwrap().unwrap())).sum()
        };
        assert_eq!(sum(&store), WRITERS * EACH);
        let versions = versions.into_inner().unwrap();
        assert_eq!(versions.values().sum::<u64>(), WRITERS * EACH);
        assert!(versions.values().all(|together| *together <= 4), "one batch changes a page once");
        println!("{durability:?}: {} increments in {} versions", WRITERS * EACH, versions.len());
        drop(store);
        assert_eq!(sum(&Store::open(dir.path(), small()).unwrap()), WRITERS * EACH);
    }
}

#[test]
fn commit_acknowledged_before_another_began_is_seen_by_it() {
    // One thread writes n to page 0 and then tells n; whoever is told n sees at least n, and never less than before.
    let store = Store::in_memory(small().background(true)).unwrap();
    let mut txn = store.begin().unwrap();
    txn.allocate().unwrap();
    txn.commit().unwrap();
    let (told, stops) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while !stops.load(Ordering::Relaxed) {
                    let least = told.load(Ordering::Acquire).max(last);
                    let view = store.view();
                    last = number(view.page(PageId(0)).unwrap().unwrap());
                    assert!(last >= least, "{last} seen after {least}");
                }
            });
        }
        let begun = Instant::now();
        let mut n = 0;
        while begun.elapsed() < run_length() / 2 {
            n += 1;
            let mut txn = store.begin().unwrap();
            txn.write(PageId(0), &with_number(n)).unwrap();
            txn.commit_with(Durability::Buffered).unwrap();
            told.store(n, Ordering::Release);
        }
        stops.store(true, Ordering::Relaxed);
    });
}

#[test]
fn ten_thousand_snapshots_live_at_once_and_are_dropped_in_any_order() {
    let mut random = Random(seed("concurrent"));
    let store = Store::in_memory(small().background(true)).unwrap();
    let mut txn = store.begin().unwrap();
    for _ in 0..50 {
        txn.allocate().unwrap();
    }
    txn.commit().unwrap();
    let mut state = vec![vec![0; PAGE]; 50];
    let mut held = Vec::new();
    for n in 0..10_000u64 {
        if n % 3 != 2 {
            let id = random.below(50);
            let mut txn = store.begin().unwrap();
            txn.write(PageId(id), &contents(id, n)).unwrap();
            txn.commit_with(Durability::Buffered).unwrap();
            state[id as usize] = contents(id, n);
        }
        let probe = random.index(50);
        held.push((store.snapshot(), probe, state[probe].clone()));
    }
    assert!(store.stats().pins >= 10_000);
    while !held.is_empty() {
        let (snapshot, probe, expected) = held.swap_remove(random.index(held.len()));
        assert_eq!(snapshot.view().page(PageId(probe as u64)).unwrap().unwrap(), expected);
        if held.len() % 1000 == 0 {
            store.maintain(vellum::Budget::unlimited()).unwrap();
        }
    }
    // The background thread may hold a pass in progress; the next ones finish the work.
    let mut txn = store.begin().unwrap();
    txn.write(PageId(0), &contents(0, 1)).unwrap();
    txn.commit().unwrap();
    for _ in 0..3 {
        store.maintain(vellum::Budget::unlimited()).unwrap();
    }
    store.verify(&mut ()).unwrap();
    assert!(store.stats().pins <= 2, "{} pins", store.stats().pins);
}

fn hot_commit(store: &Store, tag: u64) -> vellum::Result<Version> {
    let mut txn = store.begin().unwrap();
    for id in 0..50 {
        txn.write(PageId(id), &contents(id, tag)).unwrap();
    }
    txn.commit_with(Durability::Buffered)
}

#[test]
fn view_held_by_the_committing_thread_is_refused_at_once_and_forgiven_when_dropped() {
    for background in [false, true] {
        let store = Store::in_memory(small().background(background)).unwrap();
        let mut txn = store.begin().unwrap();
        for _ in 0..50 {
            txn.allocate().unwrap();
        }
        txn.commit().unwrap();
        hot_commit(&store, 0).unwrap();
        let view = store.view();
        let mut committed = 0;
        let error = loop {
            let begun = Instant::now();
            match hot_commit(&store, committed + 1) {
                Ok(_) => committed += 1,
                Err(error) => {
                    assert!(
                        begun.elapsed() < Duration::from_millis(500),
                        "refused at once, not after {:?}",
                        begun.elapsed()
                    );
                    break error;
                }
            }
            assert!(committed < 10_000, "limbo is bounded");
        };
        assert!(
            matches!(error, Error::LimboFull { limbo, limit } if limbo > limit && limit == 64 << 10),
            "{error}"
        );
        for id in 0..50 {
            assert_eq!(view.page(PageId(id)).unwrap().unwrap(), contents(id, 0), "the view is as it was");
        }
        let tip = store.snapshot();
        assert_eq!(
            tip.view().page(PageId(7)).unwrap().unwrap(),
            contents(7, committed),
            "the refused one left nothing"
        );
        drop((view, tip));
        for tag in 0..200 {
            hot_commit(&store, tag).unwrap();
        }
        store.verify(&mut ()).unwrap();
        println!("background {background}: {committed} commits before LimboFull");
    }
}

#[test]
fn view_held_by_another_thread_holds_commits_up_and_then_refuses_them() {
    let store = Store::in_memory(small()).unwrap();
    let mut txn = store.begin().unwrap();
    for _ in 0..50 {
        txn.allocate().unwrap();
    }
    txn.commit().unwrap();
    let (ready, done) = (std::sync::Barrier::new(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let view = store.view();
            ready.wait();
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(view.page(PageId(0)).unwrap().is_some());
        });
        ready.wait();
        let begun = Instant::now();
        let mut tag = 0;
        let error = loop {
            tag += 1;
            if let Err(error) = hot_commit(&store, tag) {
                break error;
            }
            assert!(tag < 10_000);
        };
        assert!(matches!(error, Error::LimboFull { .. }), "{error}");
        assert!(begun.elapsed() > Duration::from_millis(900), "it waits for the view for a while");
        done.store(true, Ordering::Relaxed);
    });
    for tag in 0..100 {
        hot_commit(&store, tag).unwrap();
    }
    store.verify(&mut ()).unwrap();
}

#[test]
fn snapshot_held_for_long_holds_up_no_commit() {
    let store = Store::in_memory(small()).unwrap();
    let mut txn = store.begin().unwrap();
    for _ in 0..50 {
        txn.allocate().unwrap();
    }
    txn.commit().unwrap();
    hot_commit(&store, 0).unwrap();
    let snapshot = store.snapshot();
    for tag in 1..500 {
        hot_commit(&store, tag).unwrap();
    }
    for id in 0..50 {
        assert_eq!(snapshot.view().page(PageId(id)).unwrap().unwrap(), contents(id, 0));
    }
}
