//! Goal: a store's files are never much larger than what is alive in them, whatever was written, deleted and held; and
//! giving space back harms nobody: not readers of old snapshots, not writers, not whoever opens the store after a crash.
//!
//! Method: sparse segments are made on purpose (cold pages between hot ones, snapshots held over the churn), the directory
//! is measured as the system sees it, and every page of every version that is held is compared with a model's.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{PAGE, Random, contents, seed, small};
use vellum::{Budget, Durability, Options, PageId, Snapshot, Store};

const SEGMENT: u64 = 64 << 10;

type Pages = BTreeMap<u64, u64>;

/// What of the directory is segments: bytes and files.
fn segment_files(dir: &Path) -> (u64, usize) {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let sizes: Vec<u64> = entries
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with("segment-") || name.starts_with("packed-")
        })
        .map(|entry| entry.metadata().unwrap().len())
        .collect();
    (sizes.iter().sum(), sizes.len())
}

fn write(store: &Store, pages: &mut Pages, ids: impl Iterator<Item = u64>, tag: u64) {
    let mut txn = store.begin().unwrap();
    for id in ids {
        txn.write(PageId(id), &contents(id, tag)).unwrap();
        pages.insert(id, tag);
    }
    txn.commit_with(Durability::Buffered).unwrap();
}

fn grow(store: &Store, page_count: u64) {
    let mut txn = store.begin().unwrap();
    txn.truncate(page_count).unwrap();
    txn.commit().unwrap();
}

fn check(snapshot: &Snapshot, pages: &Pages) {
    let view = snapshot.view();
    for id in 0..snapshot.page_count() {
        let expected = pages.get(&id).map(|tag| contents(id, *tag));
        assert_eq!(
            view.page(PageId(id)).unwrap(),
            expected.as_deref(),
            "page {id} of {}",
            snapshot.version()
        );
    }
}

/// The directory is as small as promised: what is in use and a quarter more, the pool, the log's own segments, and
/// a header for each file.
fn check_size(store: &Store, dir: &Path, pool: u64) {
    let stats = store.stats();
    let (bytes, files) = segment_files(dir);
    let most = stats.allocated_bytes * 5 / 4 + (pool + 2) * SEGMENT + files as u64 * PAGE as u64;
    assert!(bytes <= most, "{bytes} bytes in {files} files where {most} are allowed: {stats:?}");
    assert_eq!((bytes, files as u64), (stats.disk_bytes, stats.segments), "{stats:?}");
}

#[test]
fn a_purge_gives_the_disk_back() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("store");
    let store = Store::open(&dir, small().pool_segments(2)).unwrap();
    let mut pages = Pages::new();
    grow(&store, 4000);
    for first in (0..4000).step_by(100) {
        write(&store, &mut pages, first..first + 100, 1);
    }
    let (full, _) = segment_files(&dir);
    // One page in twenty stays, so that no segment is wholly dead.
    let mut txn = store.begin().unwrap();
    for id in (0..4000).filter(|id| id % 20 != 0) {
        txn.free(PageId(id)).unwrap();
        pages.remove(&id);
    }
    txn.commit().unwrap();
    let done = store.maintain(Budget::unlimited()).unwrap();
    assert!(done.is_done && done.segments_packed > 10 && done.bytes_removed > full / 2, "{done:?}");
    check_size(&store, &dir, 2);
    check(&store.snapshot(), &pages);
    let stats = store.stats();
    assert!(stats.free_segments <= 2 && stats.packed_segments > 0, "{stats:?}");

    // Opened again it is the same, and what is left can be purged as well.
    drop(store);
    let store = Store::open(&dir, small().pool_segments(2)).unwrap();
    check(&store.snapshot(), &pages);
    store.verify(&mut ()).unwrap();
    let mut txn = store.begin().unwrap();
    for id in (0..4000).filter(|id| id % 20 == 0 && id % 80 != 0) {
        txn.free(PageId(id)).unwrap();
        pages.remove(&id);
    }
    txn.commit().unwrap();
    let done = store.maintain(Budget::unlimited()).unwrap();
    assert!(done.is_done && done.segments_packed > 0, "packed ones are packed again: {done:?}");
    check_size(&store, &dir, 2);
    check(&store.snapshot(), &pages);

    // Nothing is left, and then the numbers are used again.
    grow(&store, 0);
    store.maintain(Budget::unlimited()).unwrap();
    let (bytes, files) = segment_files(&dir);
    assert!(bytes <= 5 * SEGMENT, "{bytes} bytes in {files} files for nothing: {:?}", store.stats());
    grow(&store, 4000);
    pages.clear();
    for first in (0..4000).step_by(100) {
        write(&store, &mut pages, first..first + 100, 2);
    }
    check(&store.snapshot(), &pages);
    drop(store);
    let store = Store::open(&dir, small()).unwrap();
    check(&store.snapshot(), &pages);
    let names = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
    let greatest = names.filter_map(|name| name.to_str()?.strip_prefix("segment-").map(str::to_owned)).max();
    let number = u64::from_str_radix(&greatest.unwrap(), 16).unwrap();
    assert!(number < 80, "number {number}: low numbers are used again");
}

#[test]
fn packing_keeps_every_version_that_is_held() {
    let mut random = Random(seed("space"));
    let dir = tempfile::tempdir().unwrap();
    let mut held: Vec<(Snapshot, Pages)> = Vec::new();
    let mut store = Store::open(dir.path().join("store"), small()).unwrap();
    let mut pages = Pages::new();
    let (mut packed, mut tag) = (0, 0);
    grow(&store, 1000);
    for round in 0..40 {
        for _ in 0..random.below(60) {
            tag += 1;
            // Some pages are hot, some are cold.
            let hot = if random.below(8) == 0 { 1000 } else { 100 };
            let ids: Vec<u64> = (0..=random.below(20)).map(|_| random.below(hot)).collect();
            write(&store, &mut pages, ids.into_iter(), tag);
        }
        if random.below(2) == 0 {
            held.push((store.snapshot(), pages.clone()));
        }
        while held.len() > 12 || (!held.is_empty() && random.below(4) == 0) {
            held.swap_remove(random.index(held.len()));
        }
        let budget = match random.below(3) {
            0 => Budget::unlimited().bytes(random.below(4 * SEGMENT)),
            1 => Budget::unlimited().time(Duration::from_millis(random.below(3))),
            _ => Budget::unlimited(),
        };
        packed += store.maintain(budget).unwrap().segments_packed;
        for (snapshot, pages) in &held {
            check(snapshot, pages);
        }
        check(&store.snapshot(), &pages);
        store.audit().unwrap();
        if round % 10 == 9 {
            held.clear();
            drop(store);
            store = Store::open(dir.path().join("store"), small()).unwrap();
            check(&store.snapshot(), &pages);
            store.verify(&mut ()).unwrap();
        }
    }
    assert!(packed > 20, "only {packed} segments were packed");
    drop(held);
    store.maintain(Budget::unlimited()).unwrap();
    check_size(&store, &dir.path().join("store"), 4);
}

#[test]
fn readers_and_writers_go_on_while_segments_are_packed() {
    let store = Store::in_memory(small().limbo_bytes(16 << 20)).unwrap();
    grow(&store, 512);
    let mut txn = store.begin().unwrap();
    for id in 0..512 {
        txn.write(PageId(id), &contents(id, id)).unwrap();
    }
    txn.commit().unwrap();
    let stops = AtomicBool::new(false);
    // A page says itself what it was filled from: its first word is the stream's first number of (id, tag).
    let tag_of = |id: u64, bytes: &[u8]| {
        let found = (0..4096).map(|step| id + step * 512).find(|tag| contents(id, *tag) == bytes);
        found.unwrap_or_else(|| panic!("page {id} holds bytes that nobody wrote"))
    };
    let packed = std::thread::scope(|scope| {
        for thread in 0..2 {
            let (store, stops) = (&store, &stops);
            scope.spawn(move || {
                let mut random = Random(thread);
                let mut step = 0;
                while !stops.load(Ordering::Relaxed) {
                    step = (step + 1) % 4096;
                    let mut txn = store.begin().unwrap();
                    // Each thread has pages of its own, hot ones and now and then a cold one.
                    let id = 2 * random.below(if step % 16 == 0 { 256 } else { 32 }) + thread;
                    txn.write(PageId(id), &contents(id, id + step * 512)).unwrap();
                    txn.commit_with(Durability::Buffered).unwrap();
                }
            });
        }
        for thread in 2..4 {
            let (store, stops) = (&store, &stops);
            scope.spawn(move || {
                let mut random = Random(thread);
                while !stops.load(Ordering::Relaxed) {
                    let snapshot = store.snapshot();
                    let ids: Vec<u64> = (0..8).map(|_| random.below(512)).collect();
                    let read = |id: u64| snapshot.view().page(PageId(id)).unwrap().unwrap().to_vec();
                    let first: Vec<Vec<u8>> = ids.iter().map(|id| read(*id)).collect();
                    std::thread::yield_now();
                    for (id, bytes) in ids.iter().zip(first) {
                        assert_eq!(read(*id), bytes, "page {id} of {} changed", snapshot.version());
                        tag_of(*id, &bytes);
                    }
                }
            });
        }
        let begun = std::time::Instant::now();
        let mut packed = 0;
        while begun.elapsed() < Duration::from_secs(common::env("VELLUM_SECONDS", 3)) {
            packed += store.maintain(Budget::unlimited()).unwrap().segments_packed;
        }
        stops.store(true, Ordering::Relaxed);
        packed
    });
    assert!(packed > 0);
    store.verify(&mut ()).unwrap();
    store.audit().unwrap();
}

#[test]
fn the_stores_own_thread_keeps_the_files_small() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("store");
    let options = small().limbo_bytes(1 << 20).background(true).pool_segments(2).waste_percent(25);
    let store = Store::open(&dir, options).unwrap();
    let mut random = Random(7);
    let mut pages = Pages::new();
    grow(&store, 2000);
    write(&store, &mut pages, 0..2000, 0);
    for tag in 1..4000 {
        let ids: Vec<u64> = (0..8).map(|_| random.below(2000)).collect();
        write(&store, &mut pages, ids.into_iter(), tag);
    }
    // It may be a checkpoint or two behind.
    let is_small = || {
        let stats = store.stats();
        stats.disk_bytes <= stats.allocated_bytes * 3 / 2 + 6 * SEGMENT
    };
    let begun = std::time::Instant::now();
    while !is_small() && begun.elapsed() < Duration::from_secs(30) {
        let tag = random.next();
        write(&store, &mut pages, (0..8).map(|_| random.below(2000)).collect::<Vec<_>>().into_iter(), tag);
        std::thread::sleep(Duration::from_millis(1));
    }
    let stats = store.stats();
    assert!(is_small() && stats.packed_bytes > 0 && stats.maintenance_failures == 0, "{stats:?}");
    check(&store.snapshot(), &pages);
}

#[test]
fn what_can_not_be_kept_small_is_refused() {
    let refused =
        |options: Options| matches!(Store::in_memory(options), Err(vellum::Error::InvalidOption { .. }));
    assert!(refused(small().waste_percent(4)) && refused(small().waste_percent(1001)));
    assert!(refused(small().pack_rate(1)) && refused(small().cache_bytes(4096)));
}

#[test]
fn maintenance_that_had_no_time_is_not_done() {
    let store = Store::in_memory(small()).unwrap();
    let mut pages = Pages::new();
    grow(&store, 1000);
    write(&store, &mut pages, 0..1000, 1);
    let mut txn = store.begin().unwrap();
    (0..1000).filter(|id| id % 20 != 0).for_each(|id| txn.free(PageId(id)).unwrap());
    txn.commit().unwrap();
    let done = store.maintain(Budget::unlimited().time(Duration::ZERO)).unwrap();
    assert!(!done.is_done && done.segments_packed == 0, "{done:?}");
    let done = store.maintain(Budget::unlimited()).unwrap();
    assert!(done.is_done && done.segments_packed > 4, "{done:?}");
}

/// A crash may leave files under numbers that the log comes to before they can go. It makes them anew, and nobody takes them for leftovers
/// then.
#[test]
fn what_a_crash_left_under_a_number_that_the_log_comes_to_takes_nothing_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    // Checkpoints only when they are asked for: until then nothing that was left can go.
    let open = || Store::open(&path, small().checkpoint_bytes(64 << 20)).unwrap();
    let fill = |store: &Store, tag: u64| {
        let mut txn = store.begin().unwrap();
        txn.truncate(200).unwrap();
        (0..200).for_each(|id| txn.write(PageId(id), &contents(id, tag)).unwrap());
        txn.commit().unwrap();
    };
    let check = |store: &Store, tag: u64| {
        for id in 0..200 {
            assert_eq!(store.view().page(PageId(id)).unwrap(), Some(&contents(id, tag)[..]), "page {id}");
        }
        store.audit().unwrap();
    };
    let store = open();
    fill(&store, 0);
    store.close().unwrap();
    let numbers = std::fs::read_dir(&path).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        u32::from_str_radix(name.strip_prefix("segment-")?, 16).ok()
    });
    let greatest = numbers.max().unwrap();
    for number in greatest + 1..greatest + 9 {
        std::fs::write(path.join(format!("segment-{number:08x}")), vec![0xee; SEGMENT as usize]).unwrap();
    }
    let store = open();
    (1..9).for_each(|tag| fill(&store, tag));
    for _ in 0..4 {
        store.maintain(Budget::unlimited()).unwrap();
        check(&store, 8);
    }
    fill(&store, 9);
    drop(store);
    check(&open(), 9);
}
