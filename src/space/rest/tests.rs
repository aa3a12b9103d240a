//! Goal: what a store keeps at rest is what somebody can see, and little more, whatever was kept beside commits; it costs no more than
//! commits did, and nothing is lost on the way.
//!
//! Method: a part of all pages is overwritten again and again, with and without a reader that stays; the thread's looks are called by hand,
//! on the simulated disk, with a power cut and a failure at each I/O call. Files are measured against what is in use.

use std::sync::Arc;

use super::{GIVES_UP_AFTER, PACKS_AFTER, Rest};
use crate::space::{Budget, Effort};
use crate::storage::sim::{Fault, SimDisk, Survival};
use crate::sync::atomic::Ordering;
use crate::{Durability, Options, PageId, Store};

const PAGE: usize = 512;
const SEGMENT: u64 = 64 << 10;
const PAGES: u64 = 3_000;
const HOT: u64 = 120;

fn open(disk: &SimDisk) -> crate::Result<Store> {
    let options = Options::new().page_size(512).segment_size(SEGMENT).checkpoint_bytes(SEGMENT);
    Store::open_on(Arc::new(disk.storage()), options.background(false).pool_segments(4))
}

fn put(store: &Store, ids: impl Iterator<Item = u64>, tag: u8) -> crate::Result<()> {
    let mut txn = store.begin()?;
    if txn.page_count() == 0 {
        txn.truncate(PAGES)?;
    }
    for id in ids {
        txn.write(PageId(id), &[tag; PAGE])?;
    }
    txn.commit_with(Durability::Buffered).map(drop)
}

/// Every page.
fn fill(disk: &SimDisk) -> crate::Result<Store> {
    let store = open(disk)?;
    for from in (0..PAGES).step_by(100) {
        put(&store, from..from + 100, 1)?;
    }
    Ok(store)
}

/// Every page, and then the hot ones twice.
fn begin(disk: &SimDisk) -> crate::Result<Store> {
    let store = fill(disk)?;
    overwrite(&store, 2)?;
    overwrite(&store, 3)?;
    store.sync()?;
    Ok(store)
}

fn overwrite(store: &Store, tag: u8) -> crate::Result<()> {
    (0..HOT).step_by(8).try_for_each(|from| put(store, from..from + 8, tag))
}

fn rest(store: &Store, rest: &mut Rest, looks: u32) -> crate::Result<()> {
    (0..looks).try_for_each(|_| store.core().give_back_at_rest(rest, 4 * SEGMENT))
}

fn check(store: &Store, hot: u8) {
    let view = store.view();
    for id in 0..PAGES {
        let tag = if id < HOT { hot } else { 1 };
        assert_eq!(view.page(PageId(id)).unwrap(), Some(&[tag; PAGE][..]), "page {id}");
    }
}

/// Bytes of files beyond what is in use in them, the active segment's and the next one's left out.
fn waste(store: &Store) -> u64 {
    let position = store.core().log.lock().appender.position();
    let is_left = |number: u32| number != position.segment && number != position.next;
    let segments = store.segments();
    let left = segments.iter().filter(|segment| is_left(segment.number) && segment.allocated_bytes > 0);
    left.map(|segment| segment.disk_bytes - segment.allocated_bytes.min(segment.disk_bytes)).sum()
}

#[test]
fn a_store_at_rest_keeps_one_copy_of_what_a_reader_sees_and_gives_it_back() {
    let store = fill(&SimDisk::new(1)).unwrap();
    store.core().write_only_checkpoint().unwrap();
    store.core().settle();
    // Headers of records, and a remainder that isn't worth a walk or a rewrite.
    let least = waste(&store) + SEGMENT;
    for tag in 2..4 {
        overwrite(&store, tag).unwrap();
    }
    let tidy = |effort| store.core().tidy(effort, Budget::unlimited()).unwrap().segments_packed;
    // What commits are spared is within the option's bounds.
    store.core().write_only_checkpoint().unwrap();
    store.core().settle();
    assert_eq!(tidy(Effort::Kept), 1, "what is nearly dead, and no more");
    assert!(waste(&store) > least, "{} of {least}", waste(&store));
    let mut state = Rest::new();
    rest(&store, &mut state, GIVES_UP_AFTER + 1).unwrap();
    let base = (store.stats(), waste(&store));
    assert!(base.1 < least, "{} of {least}: {:?}", base.1, base.0);
    let snapshot = store.snapshot();
    for tag in 4..8 {
        overwrite(&store, tag).unwrap();
    }
    rest(&store, &mut state, GIVES_UP_AFTER + 1).unwrap();
    let held = (store.stats(), waste(&store));
    // The pages, and the nodes that lead to them.
    let copy = HOT * PAGE as u64 * 3 / 2;
    assert!(held.1 < least, "{} of {least}: {:?}", held.1, held.0);
    assert!(held.0.allocated_bytes <= base.0.allocated_bytes + copy, "{held:?} after {base:?}");
    assert!(held.0.free_segments <= 1, "{held:?}");
    assert_eq!(snapshot.view().page(PageId(0)).unwrap(), Some(&[3; PAGE][..]));
    drop(snapshot);
    store.core().settle();
    // Nobody commits: what the snapshot kept comes back all the same.
    rest(&store, &mut state, 200).unwrap();
    let after = (store.stats(), waste(&store));
    assert!(after.1 < least, "{} of {least}: {:?}", after.1, after.0);
    assert!(after.0.allocated_bytes < base.0.allocated_bytes + copy / 4, "{after:?} after {base:?}");
    let copied = store.core().packed_bytes.load(Ordering::Relaxed);
    assert!(copied > 0 && copied <= store.stats().appended_bytes + SEGMENT, "{copied}: {after:?}");
    check(&store, 7);
    store.audit().unwrap();
}

#[test]
fn who_commits_now_and_then_is_left_alone() {
    let store = begin(&SimDisk::new(1)).unwrap();
    let mut state = Rest::new();
    for _ in 0..20 {
        rest(&store, &mut state, PACKS_AFTER).unwrap();
        put(&store, 0..1, 3).unwrap();
    }
    assert_eq!(store.stats().packed_bytes, 0);
    // Nothing was committed since the opening, so nothing is copied either.
    let disk = SimDisk::new(1);
    drop(begin(&disk).unwrap());
    let store = open(&disk).unwrap();
    rest(&store, &mut Rest::new(), 200).unwrap();
    assert_eq!(store.stats().packed_bytes, 0);
}

#[test]
fn nothing_is_lost_while_room_is_given_back() {
    let work = |disk: &SimDisk| -> crate::Result<Store> {
        let store = begin(disk)?;
        rest(&store, &mut Rest::new(), GIVES_UP_AFTER + 1)?;
        Ok(store)
    };
    let rehearsal = SimDisk::new(1);
    begin(&rehearsal).unwrap();
    let from = rehearsal.io_count();
    let rehearsal = SimDisk::new(1);
    let store = work(&rehearsal).unwrap();
    assert!(store.stats().packed_bytes > 0);
    for index in from..rehearsal.io_count() {
        let failing = [Fault::ENOSPC, Fault::SyncFails, Fault::ShortWrite][(index % 3) as usize];
        for fault in [Fault::Crash, failing] {
            let disk = SimDisk::new(1);
            disk.fail_at(index, fault);
            let when = format!("{fault:?} at {index}");
            let done = work(&disk);
            // After a crash nothing can be read, even if all that failed was the removal of a file.
            if let Ok(store) = &done
                && fault != Fault::Crash
            {
                check(store, 3);
                store.audit().unwrap_or_else(|error| panic!("{when}: {error}"));
            }
            disk.crash();
            let survivals = match fault {
                Fault::Crash => &[Survival::Nothing, Survival::Everything, Survival::Scattered][..],
                _ => &[Survival::Nothing],
            };
            for survival in survivals {
                let store = open(&disk.power_cut_with(*survival, index))
                    .unwrap_or_else(|error| panic!("{when}, {survival:?}: {error}"));
                check(&store, 3);
                store.audit().unwrap_or_else(|error| panic!("{when}, {survival:?}: {error}"));
                overwrite(&store, 4).unwrap();
                rest(&store, &mut Rest::new(), GIVES_UP_AFTER + 1).unwrap();
                check(&store, 4);
            }
        }
    }
}
