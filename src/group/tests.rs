//! Goal: the members of a group snapshot are of one moment; and the test that says so would see it if they were not.
//!
//! Method: threads move units between stores, each transfer a commit to a first store and then one to a second. In any
//! picture of one moment a transfer that has arrived has left, so no store ever holds more arrivals from another than that one
//! has departures, and the difference is what is under way: one transfer a thread at most. Then the same with a bug planted, in a
//! process of its own, which must fail.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::Group;
use crate::planted::{check_found, plant_given};
use crate::sync::Planted;
use crate::sync::atomic::Ordering;
use crate::{Durability, Options, PageId, Snapshot, Store};

const PAGE: usize = 512;
const STORES: usize = 3;
const THREADS: usize = 3;

fn store() -> Store {
    let options =
        Options::new().page_size(512).segment_size(64 << 10).checkpoint_bytes(8 << 20).background(false);
    let store = Store::in_memory(options).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(THREADS as u64).unwrap();
    for thread in 0..THREADS {
        txn.write(PageId(thread as u64), &[0; PAGE]).unwrap();
    }
    txn.commit().unwrap();
    store
}

/// How often a thread has been at a store.
fn count(snapshot: &Snapshot, thread: usize) -> u64 {
    let view = snapshot.view();
    let page = view.page(PageId(thread as u64)).unwrap().unwrap();
    u64::from_le_bytes(page[..8].try_into().unwrap())
}

fn add(store: &Store, thread: usize) {
    let next = count(&store.snapshot(), thread) + 1;
    let mut txn = store.begin().unwrap();
    txn.page_mut(PageId(thread as u64)).unwrap()[..8].copy_from_slice(&next.to_le_bytes());
    txn.commit_with(Durability::Buffered).unwrap();
}

/// Each thread visits all stores in an order of its own, again and again: it has been as often at each as at the next, or once
/// more.
fn order(thread: usize) -> [usize; STORES] {
    [[0, 1, 2], [2, 1, 0], [1, 0, 2]][thread % 3]
}

#[test]
fn a_group_snapshot_is_of_one_moment() {
    plant_given();
    let stores: Vec<Store> = (0..STORES).map(|_| store()).collect();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (stores, is_over) = (&stores, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    for at in order(thread) {
                        add(&stores[at], thread);
                    }
                }
            });
        }
        let mut wrong = 0;
        let mut longest = Duration::ZERO;
        // Two groups over the same stores, given in opposite orders.
        let forwards = Group::new(&stores.iter().collect::<Vec<_>>()).unwrap();
        let backwards = Group::new(&stores.iter().rev().collect::<Vec<_>>()).unwrap();
        std::thread::scope(|scope| {
            let takers = [("f", &forwards), ("b", &backwards)].map(|(tag, group)| {
                let stores = &stores;
                scope.spawn(move || {
                    let (mut wrong, mut longest) = (0, Duration::ZERO);
                    for round in 0..150 {
                        let name = format!("{tag}{round}");
                        let done = group.create_snapshot(&name).unwrap();
                        longest = longest.max(done.stopped_for);
                        let at = |index: usize| {
                            let id = stores[index].id();
                            let member = group.members().iter().position(|store| store.id() == id).unwrap();
                            &done.snapshots[member]
                        };
                        for thread in 0..THREADS {
                            let visits = order(thread).map(|index| count(at(index), thread));
                            let is_sound =
                                visits.is_sorted_by(|a, b| a >= b) && visits[0] - visits[STORES - 1] <= 1;
                            wrong += u32::from(!is_sound);
                        }
                        group.drop_snapshot(&name).unwrap();
                    }
                    (wrong, longest)
                })
            });
            for taker in takers {
                let (more, time) = taker.join().unwrap();
                (wrong, longest) = (wrong + more, longest.max(time));
            }
        });
        is_over.store(true, Ordering::Relaxed);
        println!("{wrong} pictures wrong; commits were stopped for at most {longest:?}");
        assert_eq!(wrong, 0);
    });
    for store in &stores {
        assert!(store.snapshots().is_empty());
        store.audit().unwrap();
    }
}

#[test]
fn members_that_are_named_one_by_one_are_found() {
    let (test, bug) = ("group::tests::a_group_snapshot_is_of_one_moment", Planted::GroupOneByOne);
    check_found(test, &(bug as u8).to_string(), &format!("{bug:?}"));
}
