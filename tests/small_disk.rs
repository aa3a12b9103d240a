//! Goal: a store lives on a disk that is hardly larger than what it holds: commits wait for what can be reclaimed before
//! the disk is full; when it is full of what is needed, a commit fails and nothing else does, and freeing pages helps.
//!
//! Method: a storage with a capacity, counted by the files' lengths; random overwrites of scattered pages, with snapshots
//! taken and dropped, many times the capacity in all.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::interposed::{Interposed, Interposer};
use common::{PAGE, Random, contents, seed, small};
use vellum::storage::{MemoryStorage, Storage, StorageFile};
use vellum::{Budget, Durability, Error, Options, PageId, Store};

/// Its bytes.
#[derive(Debug)]
struct Capacity(AtomicU64);

impl Interposer for Capacity {
    fn create(&self, storage: &dyn Storage, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        match self.available(storage)? {
            Some(left) if left < len => Err(io::ErrorKind::StorageFull.into()),
            _ => storage.create(name, len),
        }
    }

    fn available(&self, storage: &dyn Storage) -> io::Result<Option<u64>> {
        Ok(Some(self.0.load(Ordering::Relaxed).saturating_sub(used(storage)?)))
    }
}

fn used(storage: &dyn Storage) -> io::Result<u64> {
    let len = |name: &String| match storage.open(name) {
        Ok(file) => file.len(),
        // Removed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    };
    storage.list()?.iter().map(len).sum()
}

type SmallDisk = Interposed<Capacity, MemoryStorage>;

fn small_disk(capacity: u64) -> Arc<SmallDisk> {
    Interposed::before(MemoryStorage::new(), Capacity(AtomicU64::new(capacity)))
}

const PAGES: u64 = 1600;
const SEGMENT: u64 = 64 << 10;
const LIVE: u64 = PAGES * PAGE as u64;

/// Overwrites scattered pages; how many commits the disk refused.
fn churn(store: &Store, disk: &SmallDisk, rounds: u64, seed: u64) -> u64 {
    let mut random = Random(seed);
    let (mut model, mut refused, mut held) = (BTreeMap::new(), 0, Vec::new());
    let mut txn = store.begin().unwrap();
    txn.truncate(PAGES).unwrap();
    txn.commit().unwrap();
    for round in 0..rounds {
        let mut txn = store.begin().unwrap();
        let ids: Vec<u64> = (0..8).map(|_| if round < PAGES / 8 { 0 } else { random.below(PAGES) }).collect();
        for (at, id) in (0u64..).zip(ids) {
            let id = if round < PAGES / 8 { round * 8 + at } else { id };
            txn.write(PageId(id), &contents(id, round)).unwrap();
            model.entry(id).or_insert_with(Vec::new).push(round);
        }
        match txn.commit_with(Durability::Buffered) {
            Ok(_) => model.values_mut().for_each(|tags| drop(tags.drain(..tags.len() - 1))),
            Err(Error::Full { .. }) => {
                refused += 1;
                for tags in model.values_mut() {
                    tags.retain(|tag| *tag != round);
                }
            }
            Err(error) => panic!("{error}"),
        }
        match random.below(40) {
            0 => held.push(store.snapshot()),
            1..4 => held.clear(),
            _ => {}
        }
        assert!(used(disk).unwrap() <= disk.interposer.0.load(Ordering::Relaxed));
    }
    drop(held);
    let view = store.view();
    for (id, tags) in &model {
        let Some(tag) = tags.last() else { continue };
        assert!(view.page(PageId(*id)).unwrap() == Some(&contents(*id, *tag)[..]), "page {id}");
    }
    refused
}

fn open(disk: &Arc<SmallDisk>, options: Options) -> Store {
    Store::open_on(disk.clone(), options.pool_segments(0)).unwrap()
}

#[test]
fn commits_wait_for_room_before_the_disk_is_full() {
    let seed = seed("small_disk");
    // Twice what is live, for the table, what snapshots keep and what is not worth packing, and the log.
    let capacity = LIVE * 2 + 4 * SEGMENT;
    let mut counts = Vec::new();
    for (background, reserve) in [(false, 6 * SEGMENT), (true, 6 * SEGMENT), (false, 0)] {
        let disk = small_disk(capacity);
        let store = open(&disk, small().background(background).disk_reserve(reserve));
        let rounds = 4000;
        let refused = churn(&store, &disk, rounds, seed);
        store.audit().unwrap();
        let stats = store.stats();
        counts.push(refused);
        println!(
            "background {background}, reserve {reserve}: {refused} of {rounds} commits refused, {} bytes written on a disk of {capacity}, {} packed; {} live, {} in use, {} in {} files",
            stats.appended_bytes,
            stats.packed_bytes,
            stats.live_bytes,
            stats.allocated_bytes,
            stats.disk_bytes,
            stats.segments
        );
    }
    assert_eq!((counts[0], counts[1]), (0, 0), "refused although there was what could be had back");
}

#[test]
fn a_disk_that_is_full_of_live_pages_refuses_until_some_are_freed() {
    let disk = small_disk(12 * SEGMENT);
    let store = open(&disk, small());
    let mut txn = store.begin().unwrap();
    txn.truncate(4000).unwrap();
    txn.commit().unwrap();
    let mut written = 0;
    let full = loop {
        let mut txn = store.begin().unwrap();
        for id in written..written + 20 {
            txn.write(PageId(id), &contents(id, 1)).unwrap();
        }
        match txn.commit() {
            Ok(_) => written += 20,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::Full { .. }), "{full}");
    assert!(written * PAGE as u64 > 7 * SEGMENT, "only {written} pages on 12 segments");
    let view = store.view();
    for id in 0..written {
        assert!(view.page(PageId(id)).unwrap() == Some(&contents(id, 1)[..]));
    }
    drop(view);
    // A little more room, and pages can be freed; then there is room without it.
    disk.interposer.0.fetch_add(2 * SEGMENT, Ordering::Relaxed);
    let mut txn = store.begin().unwrap();
    txn.truncate(written / 2).unwrap();
    txn.commit().unwrap();
    store.maintain(Budget::unlimited()).unwrap();
    disk.interposer.0.fetch_sub(2 * SEGMENT, Ordering::Relaxed);
    let mut txn = store.begin().unwrap();
    txn.truncate(written / 2 + 100).unwrap();
    for id in written / 2..written / 2 + 100 {
        txn.write(PageId(id), &contents(id, 2)).unwrap();
    }
    txn.commit().unwrap();
    drop(store);
    let store = open(&disk, small());
    assert_eq!(store.snapshot().live_pages(), written / 2 + 100);
    store.verify(&mut ()).unwrap();
    store.audit().unwrap();
}

/// Commits of pages leave the last room to those that free some, to checkpoints and to packing.
#[test]
fn commits_of_pages_leave_a_reserve() {
    let disk = small_disk(u64::MAX);
    let options = small().checkpoint_bytes(64 << 20).disk_reserve(2 * SEGMENT);
    let store = Store::open_on(disk.clone(), options).unwrap();
    disk.interposer.0.store(used(&*disk).unwrap() + 6 * SEGMENT, Ordering::Relaxed);
    // Nothing of it can be reclaimed.
    let refused = (0..PAGES).find_map(|id| {
        let mut txn = store.begin().unwrap();
        txn.truncate(id + 1).unwrap();
        txn.write(PageId(id), &contents(id, 1)).unwrap();
        txn.commit().err()
    });
    assert!(matches!(refused, Some(Error::Full { .. })), "{refused:?}");
    // The checkpoint by which room was looked for has taken one of the two.
    let left = disk.available().unwrap().unwrap();
    assert_eq!(left, SEGMENT);
}
