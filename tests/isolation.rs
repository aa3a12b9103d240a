//! Goal: transactions are protected from exactly what their isolation promises. Snapshot isolation shows write skew and
//! nothing worse; serializable shows none of it.
//!
//! Method: each anomaly of the literature (Adya, "Weak Consistency", 1999; Berenson et al., "A Critique of ANSI SQL
//! Isolation Levels", 1995) and each way around a conflict check is one small schedule, run in one thread, with both
//! orders of the two commits where the order matters.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use common::{contents, small};
use vellum::{Error, Isolation, PageId, Result, Store, Version, WriteTxn};

const LEVELS: [Isolation; 2] = [Isolation::Snapshot, Isolation::Serializable];

/// A store of `pages` pages, filled with tag 0, and two spare ids beyond them that hold nothing.
fn store(pages: u64) -> Store {
    let store = Store::in_memory(small()).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(pages + 2).unwrap();
    for id in 0..pages {
        txn.write(PageId(id), &contents(id, 0)).unwrap();
    }
    txn.set_meta(b"first").unwrap();
    txn.commit().unwrap();
    store
}

fn put(txn: &mut WriteTxn, id: u64, tag: u64) {
    txn.write(PageId(id), &contents(id, tag)).unwrap();
}

/// The page's bytes in a transaction; `None` where it holds nothing.
fn get(txn: &WriteTxn, id: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; common::PAGE];
    txn.read(PageId(id), &mut bytes).unwrap().then_some(bytes)
}

fn current(store: &Store, id: u64) -> Option<Vec<u8>> {
    store.view().page(PageId(id)).unwrap().map(<[u8]>::to_vec)
}

#[track_caller]
fn conflicts_on(result: Result<Version>, page: PageId) {
    match result {
        Err(Error::Conflict { page: found, winner, snapshot }) => {
            assert_eq!(found, page);
            assert!(winner > snapshot, "the winner came after the snapshot");
        }
        other => panic!("expected a conflict on {page}, not {other:?}"),
    }
}

#[test]
fn dirty_writes_are_absent() {
    for level in LEVELS {
        let store = store(2);
        let (mut a, mut b) = (store.begin_with(level).unwrap(), store.begin_with(level).unwrap());
        put(&mut a, 0, 1);
        put(&mut b, 0, 2);
        put(&mut b, 1, 2);
        put(&mut a, 1, 1);
        a.commit().unwrap();
        conflicts_on(b.commit(), PageId(0));
        for id in 0..2 {
            assert_eq!(current(&store, id), Some(contents(id, 1)), "G0: both pages are the first's");
        }
    }
}

#[test]
fn aborted_reads_are_absent() {
    for level in LEVELS {
        let store = store(1);
        let mut a = store.begin_with(level).unwrap();
        put(&mut a, 0, 1);
        a.set_meta(b"other").unwrap();
        let b = store.begin_with(level).unwrap();
        assert_eq!(get(&b, 0), Some(contents(0, 0)), "G1a");
        drop(a);
        assert_eq!(get(&b, 0), Some(contents(0, 0)), "G1a");
        assert_eq!((current(&store, 0), store.view().meta()), (Some(contents(0, 0)), &b"first"[..]));
    }
}

#[test]
fn intermediate_reads_are_absent() {
    for level in LEVELS {
        let store = store(1);
        let mut a = store.begin_with(level).unwrap();
        put(&mut a, 0, 1);
        let b = store.begin_with(level).unwrap();
        assert_eq!(get(&b, 0), Some(contents(0, 0)), "G1b");
        put(&mut a, 0, 2);
        a.commit().unwrap();
        assert_eq!(get(&b, 0), Some(contents(0, 0)));
        assert_eq!(current(&store, 0), Some(contents(0, 2)));
    }
}

#[test]
fn circular_information_flow_is_absent() {
    for level in LEVELS {
        let store = store(2);
        let (mut a, mut b) = (store.begin_with(level).unwrap(), store.begin_with(level).unwrap());
        put(&mut a, 0, 1);
        put(&mut b, 1, 2);
        assert_eq!(get(&a, 1), Some(contents(1, 0)), "G1c");
        assert_eq!(get(&b, 0), Some(contents(0, 0)), "G1c");
    }
}

#[test]
fn lost_updates_are_refused() {
    for level in LEVELS {
        let store = store(1);
        let (mut a, mut b) = (store.begin_with(level).unwrap(), store.begin_with(level).unwrap());
        a.page_mut(PageId(0)).unwrap()[0] += 1;
        b.page_mut(PageId(0)).unwrap()[0] += 1;
        a.commit().unwrap();
        conflicts_on(b.commit(), PageId(0));
    }
}

#[test]
fn first_committer_wins_and_not_first_writer() {
    let store = store(1);
    let (mut a, mut b) = (store.begin().unwrap(), store.begin().unwrap());
    put(&mut a, 0, 1);
    put(&mut b, 0, 2);
    b.commit().unwrap();
    conflicts_on(a.commit(), PageId(0));
    assert_eq!(current(&store, 0), Some(contents(0, 2)));
}

#[test]
fn read_skew_is_absent() {
    for level in LEVELS {
        let store = store(2);
        let reader = store.begin_with(level).unwrap();
        assert_eq!(get(&reader, 0), Some(contents(0, 0)));
        let mut a = store.begin().unwrap();
        put(&mut a, 0, 1);
        put(&mut a, 1, 1);
        a.set_meta(b"other").unwrap();
        a.truncate(100).unwrap();
        a.commit().unwrap();
        assert_eq!(get(&reader, 1), Some(contents(1, 0)), "G-single");
        assert_eq!((reader.meta(), reader.page_count()), (&b"first"[..], 4));
        // A transaction that only read needs no place after the other.
        assert_eq!(reader.commit().unwrap(), Version(1));
    }
}

#[test]
fn write_skew_is_shown_by_snapshot_isolation_and_refused_by_serializable() {
    for level in LEVELS {
        let store = store(2);
        let (mut a, mut b) = (store.begin_with(level).unwrap(), store.begin_with(level).unwrap());
        for id in 0..2 {
            get(&a, id);
            get(&b, id);
        }
        put(&mut a, 0, 1);
        put(&mut b, 1, 1);
        a.commit().unwrap();
        match level {
            Isolation::Snapshot => drop(b.commit().unwrap()),
            Isolation::Serializable => conflicts_on(b.commit(), PageId(0)),
        }
    }
}

#[test]
fn read_only_anomaly_is_refused_by_serializable() {
    // Fekete, O'Neil, O'Neil, "A read-only transaction anomaly under snapshot isolation", 2004.
    let store = store(2);
    let mut withdraws = store.begin_with(Isolation::Serializable).unwrap();
    get(&withdraws, 0);
    get(&withdraws, 1);
    let mut deposits = store.begin_with(Isolation::Serializable).unwrap();
    get(&deposits, 1);
    put(&mut deposits, 1, 20);
    deposits.commit().unwrap();
    let reports = store.begin_with(Isolation::Serializable).unwrap();
    get(&reports, 0);
    get(&reports, 1);
    reports.commit().unwrap();
    put(&mut withdraws, 0, 11);
    conflicts_on(withdraws.commit(), PageId(1));
}

#[test]
fn pages_mutated_in_place_count_as_read() {
    let store = store(3);
    let mut a = store.begin_with(Isolation::Serializable).unwrap();
    let was = a.page_mut(PageId(0)).unwrap()[0];
    a.free(PageId(0)).unwrap();
    a.page_mut(PageId(1)).unwrap()[0] = was;
    let mut b = store.begin().unwrap();
    put(&mut b, 0, 1);
    b.commit().unwrap();
    conflicts_on(a.commit(), PageId(0));
}

#[test]
fn phantoms_are_refused_by_serializable() {
    for level in LEVELS {
        let store = store(2);
        let mut a = store.begin_with(level).unwrap();
        assert_eq!(get(&a, 2), None, "nothing is there");
        put(&mut a, 0, 1);
        let mut b = store.begin_with(level).unwrap();
        put(&mut b, 2, 1);
        b.commit().unwrap();
        match level {
            Isolation::Snapshot => drop(a.commit().unwrap()),
            Isolation::Serializable => conflicts_on(a.commit(), PageId(2)),
        }
    }
}

#[test]
fn phantom_met_by_a_refused_free_is_refused_by_serializable() {
    let store = store(2);
    let mut a = store.begin_with(Isolation::Serializable).unwrap();
    // The answer tells that the page holds nothing, and the transaction acts on it.
    assert!(matches!(a.free(PageId(2)), Err(Error::PageNotAllocated { .. })));
    put(&mut a, 0, 1);
    let mut b = store.begin_with(Isolation::Serializable).unwrap();
    assert_eq!(get(&b, 0), Some(contents(0, 0)));
    put(&mut b, 2, 1);
    b.commit().unwrap();
    conflicts_on(a.commit(), PageId(2));
}

#[test]
fn page_count_reads_are_part_of_serializable() {
    type Read = fn(&mut WriteTxn);
    let by_asking: Read = |txn| assert_eq!(txn.page_count(), 4);
    let by_running_into_it: Read = |txn| assert!(txn.read(PageId(4), &mut [0; 512]).is_err());
    let by_writing_beyond: Read = |txn| assert!(txn.write(PageId(4), &contents(4, 1)).is_err());
    let by_freeing_beyond: Read = |txn| assert!(txn.free(PageId(4)).is_err());
    let by_mutating_beyond: Read = |txn| assert!(txn.page_mut(PageId(4)).is_err());
    for read in [by_asking, by_running_into_it, by_writing_beyond, by_freeing_beyond, by_mutating_beyond] {
        for level in LEVELS {
            for shrinks in [false, true] {
                let store = store(2);
                let mut a = store.begin_with(level).unwrap();
                read(&mut a);
                put(&mut a, 0, 1);
                let mut b = store.begin().unwrap();
                if shrinks {
                    b.truncate(3).unwrap();
                } else {
                    assert_eq!(b.allocate().unwrap(), PageId(4));
                }
                b.commit().unwrap();
                match level {
                    Isolation::Snapshot => drop(a.commit().unwrap()),
                    Isolation::Serializable => conflicts_on(a.commit(), PageId::PAGE_COUNT),
                }
            }
        }
    }
}

#[test]
fn freed_and_created_again_is_a_change() {
    for level in LEVELS {
        let store = store(2);
        let mut old = store.begin_with(level).unwrap();
        put(&mut old, 0, 9);
        let mut txn = store.begin().unwrap();
        txn.free(PageId(0)).unwrap();
        txn.commit().unwrap();
        let mut txn = store.begin().unwrap();
        put(&mut txn, 0, 0);
        txn.commit().unwrap();
        conflicts_on(old.commit(), PageId(0));
    }
}

#[test]
fn freed_page_leaves_a_tombstone_for_as_long_as_it_matters() {
    for level in LEVELS {
        for churn in [0u64, 1, 200] {
            let store = store(2);
            let mut old = store.begin_with(level).unwrap();
            let mut txn = store.begin().unwrap();
            txn.free(PageId(0)).unwrap();
            txn.commit().unwrap();
            for tag in 0..churn {
                // The leaf of the tombstone is copied again and again.
                let mut txn = store.begin().unwrap();
                put(&mut txn, 1, tag);
                txn.commit().unwrap();
                if tag % 50 == 0 {
                    store.maintain(vellum::Budget::unlimited()).unwrap();
                }
            }
            put(&mut old, 0, 9);
            conflicts_on(old.commit(), PageId(0));
            let mut new = store.begin_with(level).unwrap();
            put(&mut new, 0, 9);
            new.commit().unwrap();
        }
    }
}

#[test]
fn free_loses_to_a_write_and_to_a_free() {
    for level in LEVELS {
        let store = store(2);
        let (mut a, mut b, mut c) = (
            store.begin_with(level).unwrap(),
            store.begin_with(level).unwrap(),
            store.begin_with(level).unwrap(),
        );
        a.free(PageId(0)).unwrap();
        b.free(PageId(0)).unwrap();
        c.free(PageId(1)).unwrap();
        put(&mut a, 1, 1);
        a.commit().unwrap();
        conflicts_on(b.commit(), PageId(0));
        conflicts_on(c.commit(), PageId(1));
    }
}

#[test]
fn truncation_first_refuses_a_write_beyond_it() {
    for level in LEVELS {
        for grows_back in [false, true] {
            for churn in [0, 200] {
                let store = store(10);
                let mut writer = store.begin_with(level).unwrap();
                put(&mut writer, 8, 1);
                let mut within = store.begin_with(level).unwrap();
                put(&mut within, 2, 1);
                let mut cutter = store.begin_with(level).unwrap();
                cutter.truncate(5).unwrap();
                if grows_back {
                    cutter.truncate(12).unwrap();
                }
                cutter.commit().unwrap();
                for tag in 0..churn {
                    let mut txn = store.begin().unwrap();
                    put(&mut txn, 0, tag);
                    txn.commit().unwrap();
                }
                store.maintain(vellum::Budget::unlimited()).unwrap();
                conflicts_on(writer.commit(), PageId(8));
                within.commit().unwrap();
                assert_eq!(store.view().page_count(), if grows_back { 12 } else { 5 });
            }
        }
    }
}

#[test]
fn write_first_refuses_a_truncation_that_would_cut_it() {
    for level in LEVELS {
        let store = store(10);
        let mut cutter = store.begin_with(level).unwrap();
        cutter.truncate(5).unwrap();
        let mut beside = store.begin_with(level).unwrap();
        beside.truncate(9).unwrap();
        let mut writer = store.begin_with(level).unwrap();
        put(&mut writer, 8, 1);
        writer.commit().unwrap();
        conflicts_on(cutter.commit(), PageId(8));
        beside.commit().unwrap();
        assert_eq!(current(&store, 8), Some(contents(8, 1)));
    }
}

#[test]
fn free_first_refuses_a_truncation_that_would_cut_it() {
    let store = store(10);
    let mut cutter = store.begin().unwrap();
    cutter.truncate(5).unwrap();
    let mut other = store.begin().unwrap();
    other.free(PageId(8)).unwrap();
    other.commit().unwrap();
    conflicts_on(cutter.commit(), PageId(8));
}

#[test]
fn allocation_first_refuses_a_truncation() {
    let store = store(10);
    let mut cutter = store.begin().unwrap();
    cutter.truncate(5).unwrap();
    let mut grower = store.begin().unwrap();
    let id = grower.allocate().unwrap();
    grower.commit().unwrap();
    conflicts_on(cutter.commit(), id);
    assert!(current(&store, id.0).is_some());
}

#[test]
fn two_truncations_conflict_in_either_direction() {
    for (first, second) in [(5, 7), (7, 5), (20, 30), (30, 20), (5, 20), (20, 5)] {
        let store = store(10);
        let (mut a, mut b) = (store.begin().unwrap(), store.begin().unwrap());
        a.truncate(first).unwrap();
        b.truncate(second).unwrap();
        a.commit().unwrap();
        conflicts_on(b.commit(), PageId::PAGE_COUNT);
        assert_eq!(store.view().page_count(), first);
    }
}

#[test]
fn growing_by_allocation_conflicts_with_nobody_who_grows() {
    for level in LEVELS {
        let store = store(10);
        let (mut a, mut b) = (store.begin_with(level).unwrap(), store.begin_with(level).unwrap());
        let (x, y) = (a.allocate().unwrap(), b.allocate().unwrap());
        assert_ne!(x, y);
        put(&mut a, x.0, 1);
        put(&mut b, y.0, 2);
        b.commit().unwrap();
        a.commit().unwrap();
        assert_eq!(
            (current(&store, x.0), current(&store, y.0)),
            (Some(contents(x.0, 1)), Some(contents(y.0, 2)))
        );
    }
}

#[test]
fn meta_written_twice_conflicts_and_meta_read_only_under_serializable() {
    for level in LEVELS {
        let store = store(2);
        let (mut a, mut b) = (store.begin_with(level).unwrap(), store.begin_with(level).unwrap());
        let mut reader = store.begin_with(level).unwrap();
        a.set_meta(b"a").unwrap();
        b.set_meta(b"b").unwrap();
        assert_eq!(reader.meta(), b"first");
        put(&mut reader, 0, 1);
        a.commit().unwrap();
        conflicts_on(b.commit(), PageId::META);
        match level {
            Isolation::Snapshot => drop(reader.commit().unwrap()),
            Isolation::Serializable => conflicts_on(reader.commit(), PageId::META),
        }
        assert_eq!(store.view().meta(), b"a");
    }
}

#[test]
fn own_meta_is_no_read() {
    let store = store(2);
    let mut a = store.begin_with(Isolation::Serializable).unwrap();
    let mut b = store.begin().unwrap();
    put(&mut a, 0, 1);
    b.set_meta(b"b").unwrap();
    b.commit().unwrap();
    a.commit().unwrap();
}

#[test]
fn own_writes_are_read_and_own_frees_too() {
    for level in LEVELS {
        let store = store(4);
        let mut txn = store.begin_with(level).unwrap();
        put(&mut txn, 0, 1);
        txn.free(PageId(1)).unwrap();
        txn.truncate(3).unwrap();
        txn.truncate(5).unwrap();
        assert_eq!(get(&txn, 0), Some(contents(0, 1)));
        assert_eq!((get(&txn, 1), get(&txn, 3)), (None, None));
        assert_eq!(get(&txn, 2), Some(contents(2, 0)));
        assert_eq!(txn.page_mut(PageId(3)).unwrap(), &[0; 512], "what was cut begins as zeros");
        txn.commit().unwrap();
        assert_eq!((current(&store, 1), current(&store, 2)), (None, Some(contents(2, 0))));
    }
}

/// Many threads push the same skew at once, so that it also meets in one batch of the group commit.
#[test]
fn write_skew_is_refused_within_one_batch() {
    let store = store(2);
    let rounds = common::env("VELLUM_ROUNDS", 3000);
    let barrier = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        for me in 0..2u64 {
            let (store, barrier) = (&store, &barrier);
            scope.spawn(move || {
                for round in 0..rounds {
                    // Each may clear its own flag if the other's is set; both are set at the start of a round.
                    if me == 0 {
                        let mut txn = store.begin().unwrap();
                        put(&mut txn, 0, 1);
                        put(&mut txn, 1, 1);
                        txn.commit().unwrap();
                    }
                    barrier.wait();
                    let mut txn = store.begin_with(Isolation::Serializable).unwrap();
                    if get(&txn, 1 - me) == Some(contents(1 - me, 1)) {
                        put(&mut txn, me, 0);
                        let _ = txn.commit();
                    }
                    barrier.wait();
                    let view = store.view();
                    let is_set = |id| view.page(PageId(id)).unwrap().unwrap() == contents(id, 1);
                    assert!(is_set(0) || is_set(1), "write skew in round {round}");
                    drop(view);
                    barrier.wait();
                }
            });
        }
    });
}
