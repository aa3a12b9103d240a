//! Goal: `stats` tells the truth, and tells it at once, whatever commits are held up by; and a checkpoint holds no commit up.
//!
//! Method: a random workload whose sums the test keeps itself; and a storage whose syncs wait until the test lets them go.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::interposed::{Interposed, Interposer};
use common::{Random, contents, seed, small};
use vellum::storage::{MemoryStorage, StorageFile};
use vellum::{Budget, Durability, Error, PageId, Store};

#[test]
fn the_numbers_are_those_of_the_workload() {
    let mut random = Random(seed("stats"));
    let store = Store::in_memory(small()).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(200).unwrap();
    txn.commit().unwrap();
    let (mut transactions, mut pages, mut conflicts, mut syncs) = (1, 0, 0, 1);
    for tag in 0..500 {
        let mut txn = store.begin().unwrap();
        let mut rival = store.begin().unwrap();
        let id = random.below(200);
        txn.write(PageId(id), &contents(id, tag)).unwrap();
        rival.write(PageId(id), &contents(id, tag + 1)).unwrap();
        let durability = if random.below(4) == 0 { Durability::Sync } else { Durability::Buffered };
        txn.commit_with(durability).unwrap();
        (transactions, pages) = (transactions + 1, pages + 1);
        syncs += u64::from(durability == Durability::Sync);
        if random.below(3) == 0 {
            assert!(matches!(rival.commit(), Err(Error::Conflict { .. })));
            conflicts += 1;
        }
        if random.below(100) == 0 {
            store.maintain(Budget::unlimited()).unwrap();
        }
    }
    let stats = store.stats();
    assert_eq!((stats.transactions, stats.pages_written), (transactions, pages));
    assert_eq!((stats.conflicts, stats.transactions_refused), (conflicts, conflicts));
    assert_eq!((stats.syncs, stats.sync_micros.count()), (syncs, syncs));
    assert_eq!((stats.group_sizes.sum, stats.group_sizes.count()), (transactions, stats.batches));
    assert_eq!(stats.checkpoint_micros.count(), stats.checkpoints);
    assert!(stats.write_amplification() > 1.0, "{stats:?}");
    assert_eq!(stats.retained_bytes(), stats.allocated_bytes - stats.live_bytes);
    assert!(stats.allocated_bytes <= stats.disk_bytes, "{stats:?}");
    store.audit().unwrap();
}

#[test]
fn segments_and_births_are_told_one_by_one() {
    let mut random = Random(seed("segments"));
    let store = Store::in_memory(small()).unwrap();
    let mut births: BTreeMap<u64, u64> = BTreeMap::new();
    let mut kept = Vec::new();
    for tag in 0..400 {
        let mut txn = store.begin().unwrap();
        txn.truncate(txn.page_count().max(300)).unwrap();
        let (id, frees) = (random.below(300), random.below(4) == 0);
        match frees {
            true if births.contains_key(&id) => txn.free(PageId(id)).unwrap(),
            _ => txn.write(PageId(id), &contents(id, tag)).unwrap(),
        }
        let frees = frees && births.contains_key(&id);
        let version = txn.commit().unwrap().get();
        if frees {
            births.remove(&id)
        } else {
            births.insert(id, version)
        };
        if random.below(50) == 0 {
            kept.push((store.snapshot(), births.clone()));
        }
    }
    kept.push((store.snapshot(), births));
    for (snapshot, expected) in &kept {
        let mut found = BTreeMap::new();
        snapshot
            .births(&mut |id, version| {
                assert!(found.insert(id.get(), version.get()).is_none());
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(&found, expected);
        let mut seen = 0;
        let stop = &mut |_, _| {
            seen += 1;
            ControlFlow::Break(())
        };
        snapshot.births(stop).unwrap();
        assert_eq!(seen, 1, "it ends when it is told to");
    }

    store.maintain(Budget::unlimited()).unwrap();
    let (segments, stats) = (store.segments(), store.stats());
    assert_eq!(segments.iter().map(|segment| segment.live_bytes).sum::<u64>(), stats.live_bytes);
    assert_eq!(segments.iter().map(|segment| segment.allocated_bytes).sum::<u64>(), stats.allocated_bytes);
    assert_eq!(segments.iter().filter(|segment| segment.is_packed).count() as u64, stats.packed_segments);
    assert_eq!(segments.iter().filter(|segment| segment.is_active).count(), 1);
    assert!(segments.windows(2).all(|pair| pair[0].number < pair[1].number));
    assert!(segments.iter().all(|segment| segment.live_bytes <= segment.allocated_bytes));
    // Spare files are nobody's segments.
    let disk: u64 = segments.iter().map(|segment| segment.disk_bytes).sum();
    assert_eq!(stats.disk_bytes - disk, (stats.segments - segments.len() as u64) * stats.segment_bytes);
}

/// Says whether syncs may go on, and how many wait.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<(bool, u32)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        while state.0 {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn shut(&self, is_shut: bool) {
        *self.state.lock().unwrap() = (is_shut, 0);
        self.changed.notify_all();
    }

    fn await_waiting(&self) {
        let mut state = self.state.lock().unwrap();
        while state.1 == 0 {
            state = self.changed.wait(state).unwrap();
        }
    }
}

impl Interposer for Gate {
    fn sync(&self, file: &dyn StorageFile) -> io::Result<()> {
        self.pass();
        file.sync()
    }
}

/// A store in memory whose syncs pass a gate.
fn gated() -> (Store, Arc<Gate>) {
    let storage = Interposed::before(MemoryStorage::new(), Gate::default());
    let gate = storage.interposer.clone();
    (Store::open_on(storage, small()).unwrap(), gate)
}

#[test]
fn a_commit_that_hangs_in_a_sync_holds_up_neither_stats_nor_readers() {
    let (store, gate) = gated();
    let commit = |tag| {
        let mut txn = store.begin().unwrap();
        txn.truncate(8).unwrap();
        txn.write(PageId(3), &contents(3, tag)).unwrap();
        txn.commit().unwrap()
    };
    let first = commit(1);
    gate.shut(true);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| commit(2));
        gate.await_waiting();
        // The commit lock is held now, and stays so. What follows must not need it.
        let (sender, receiver) = std::sync::mpsc::channel();
        let reader = &store;
        scope.spawn(move || {
            let stats = reader.stats();
            let snapshot = reader.snapshot();
            let page = snapshot.view().page(PageId(3)).unwrap().unwrap().to_vec();
            sender.send((stats.version, stats.transactions, page)).unwrap();
        });
        let seen = receiver.recv_timeout(Duration::from_secs(20));
        gate.shut(false);
        assert_eq!(seen.expect("stats waits for a lock"), (first, 1, contents(3, 1)));
        assert_eq!(writer.join().unwrap().get(), first.get() + 1);
    });
    assert_eq!(store.stats().transactions, 2);
}

#[test]
fn commits_go_on_while_a_checkpoint_waits_for_the_disk() {
    let (store, gate) = gated();
    let commit = |tag| {
        let mut txn = store.begin().unwrap();
        txn.truncate(8).unwrap();
        txn.write(PageId(3), &contents(3, tag)).unwrap();
        txn.commit_with(Durability::Buffered).unwrap()
    };
    commit(1);
    gate.shut(true);
    std::thread::scope(|scope| {
        let checkpoint = scope.spawn(|| store.maintain(Budget::unlimited()).map(drop));
        gate.await_waiting();
        let before = store.stats().checkpoints;
        let (sender, receiver) = std::sync::mpsc::channel();
        let commit = &commit;
        scope.spawn(move || {
            for tag in 2..=20 {
                commit(tag);
            }
            sender.send(()).unwrap();
        });
        let last = receiver.recv_timeout(Duration::from_secs(20));
        assert_eq!(store.stats().checkpoints, before, "the checkpoint is under way still");
        gate.shut(false);
        last.expect("commits wait for a checkpoint");
        checkpoint.join().unwrap().unwrap();
        assert_eq!(store.view().page(PageId(3)).unwrap(), Some(&contents(3, 20)[..]));
    });
}
