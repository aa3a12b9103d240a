//! Goal: the page table stays within `Options::table_memory` whatever the store's size, and nobody sees a difference but in
//! time.
//!
//! Method: tables several times as large as their bound, under random commits, reads, snapshots, drops, exports and
//! reopenings, compared with a model; the bound is asserted after every step. Then threads of readers beside writers.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use common::{Random, usual};
use vellum::{Budget, Durability, Options, PageId, Snapshot, Store};

const LIMIT: u64 = 1 << 20;
const PAGE: usize = 512;
/// 3.5 MiB of table.
const PAGES: u64 = 200_000;

fn options() -> Options {
    usual().page_size(PAGE as u32).segment_size(4 << 20).table_memory(LIMIT).durability(Durability::Buffered)
}

fn page_of(value: u64) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    page[..8].copy_from_slice(&value.to_le_bytes());
    page
}

fn value_of(page: &[u8]) -> u64 {
    u64::from_le_bytes(page[..8].try_into().unwrap())
}

fn assert_bounded(store: &Store, when: &str) {
    let bytes = store.stats().table_memory_bytes;
    assert!(bytes <= LIMIT + LIMIT / 5, "{when}: {bytes} bytes of table, {LIMIT} asked for");
}

/// Fills every page with its own number.
fn fill(store: &Store) -> Vec<u64> {
    for first in (0..PAGES).step_by(2000) {
        let mut txn = store.begin().unwrap();
        txn.truncate(PAGES.min(first + 2000)).unwrap();
        for id in first..first + 2000 {
            txn.write(PageId(id), &page_of(id)).unwrap();
        }
        txn.commit().unwrap();
    }
    (0..PAGES).collect()
}

fn check(snapshot: &Snapshot, model: &[u64], random: &mut Random, reads: u64) {
    for _ in 0..reads {
        let id = random.below(PAGES);
        assert_eq!(value_of(snapshot.view().page(PageId(id)).unwrap().unwrap()), model[id as usize]);
    }
}

#[test]
fn a_table_larger_than_its_memory_is_what_the_model_says() {
    for background in [true, false] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("store");
        let open = || Store::open(&dir, options().background(background)).unwrap();
        let mut store = open();
        let mut model = fill(&store);
        assert_bounded(&store, "after filling");
        let mut random = Random(u64::from(background));
        let mut held: Vec<(Snapshot, Vec<u64>)> = Vec::new();
        for step in 0..400u64 {
            match random.below(20) {
                0 if held.len() < 4 => held.push((store.snapshot(), model.clone())),
                1 if !held.is_empty() => drop(held.swap_remove(random.below(held.len() as u64) as usize)),
                2 if step % 4 == 0 => {
                    held.clear();
                    store.close().unwrap();
                    store = open();
                }
                3 => drop(store.maintain(Budget::unlimited().bytes(1 << 20)).unwrap()),
                4 => {
                    if let Some((older, before)) = held.last() {
                        let changed = store.snapshot().diff(older).unwrap();
                        let expected = model.iter().zip(before).filter(|(now, then)| now != then).count();
                        // A page may have been written again as it was.
                        assert!(changed.len() >= expected, "{} of {expected}", changed.len());
                    }
                }
                5 => {
                    let from = random.below(PAGES - 300);
                    let mut txn = store.begin().unwrap();
                    for id in from..from + 300 {
                        txn.write(PageId(id), &page_of(step << 32 | id)).unwrap();
                        model[id as usize] = step << 32 | id;
                    }
                    txn.commit().unwrap();
                }
                _ => {
                    for _ in 0..20 {
                        let id = random.below(PAGES);
                        let mut txn = store.begin().unwrap();
                        txn.page_mut(PageId(id)).unwrap()[..8]
                            .copy_from_slice(&(step << 33 | id).to_le_bytes());
                        model[id as usize] = step << 33 | id;
                        txn.commit().unwrap();
                    }
                }
            }
            check(&store.snapshot(), &model, &mut random, 200);
            for (snapshot, before) in &held {
                check(snapshot, before, &mut random, 50);
            }
            assert_bounded(&store, &format!("step {step}"));
            if step % 50 == 49 {
                store.audit().unwrap();
            }
        }
        let stats = store.stats();
        assert!(stats.table_evictions > 0 && stats.table_reads > 0, "{stats:?}");
        let report = store.verify(&mut ()).unwrap();
        assert_eq!(report.pages, PAGES);
        assert_bounded(&store, "after verifying");
        drop(held);
        store.maintain(Budget::unlimited()).unwrap();
        store.audit().unwrap();
        drop(store);
        let store = open();
        check(&store.snapshot(), &model, &mut random, 20_000);
        assert_bounded(&store, "after reading it all");
    }
}

/// Ends the readers when the writer is through, however it ends.
struct StopOnDrop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn readers_beside_writers_and_evictions_see_their_versions() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path().join("store"), options().background(true)).unwrap();
    fill(&store);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let (store, stop) = (&store, &stop);
            scope.spawn(move || {
                let mut random = Random(thread + 10);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let snapshot = store.snapshot();
                    let pairs: Vec<u64> = (0..200).map(|_| random.below(PAGES / 2)).collect();
                    for id in pairs {
                        // A commit writes both halves of a pair alike.
                        let view = snapshot.view();
                        let (a, b) =
                            (view.page(PageId(id)).unwrap(), view.page(PageId(id + PAGES / 2)).unwrap());
                        let (a, b) = (value_of(a.unwrap()), value_of(b.unwrap()));
                        assert!(a == b || (a, b) == (id, id + PAGES / 2), "{a} and {b} at {id}");
                    }
                }
            });
        }
        // A failure here must not leave the readers reading for ever.
        let _stop = StopOnDrop(&stop);
        let mut random = Random(1);
        for round in 1..3000u64 {
            let mut txn = store.begin().unwrap();
            for _ in 0..4 {
                let id = random.below(PAGES / 2);
                txn.write(PageId(id), &page_of(round << 32)).unwrap();
                txn.write(PageId(id + PAGES / 2), &page_of(round << 32)).unwrap();
            }
            txn.commit().unwrap();
        }
    });
    let evictions = store.stats().table_evictions;
    assert!(evictions > 2, "{evictions} evictions");
    store.verify(&mut ()).unwrap();
    store.maintain(Budget::unlimited()).unwrap();
    store.audit().unwrap();
}
