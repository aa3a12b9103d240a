//! Goal: a store that is read without a mapping is the same store: same bytes, same errors, bounded memory, no mapping of
//! any of its files; and a medium that fails on reading gives an error that passes.
//!
//! Method: stores larger than the cache against a model, with packing, reopening and snapshots; the simulated disk fails each
//! read in turn; the process's own list of mappings. The other suites run in this mode with `VELLUM_READ_MODE=buffered`.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Random, contents, seed, small};
#[cfg(feature = "sim")]
use vellum::Error;
use vellum::{Budget, Durability, Options, PageId, ReadMode, Snapshot, Store};

const PAGES: u64 = 20_000;
const CACHE: u64 = 1 << 20;

type Pages = BTreeMap<u64, u64>;

fn buffered() -> Options {
    small().limbo_bytes(16 << 20).read_mode(ReadMode::Buffered).cache_bytes(CACHE)
}

fn fill(dir: &Path) -> Pages {
    let store = Store::open(dir, small()).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(PAGES).unwrap();
    for id in 0..PAGES {
        txn.write(PageId(id), &contents(id, 1)).unwrap();
    }
    txn.commit().unwrap();
    store.close().unwrap();
    (0..PAGES).map(|id| (id, 1)).collect()
}

fn check(snapshot: &Snapshot, pages: &Pages, random: &mut Random) {
    let view = snapshot.view();
    for _ in 0..300 {
        let id = random.below(PAGES);
        let found = view.page(PageId(id)).unwrap();
        assert_eq!(found, pages.get(&id).map(|tag| contents(id, *tag)).as_deref(), "page {id}");
    }
}

#[test]
fn a_store_larger_than_the_cache_reads_right_within_bounds() {
    let mut random = Random(seed("buffered"));
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("store");
    let mut pages = fill(&dir);
    let mut store = Store::open(&dir, buffered()).unwrap();
    let mut held: Vec<(Snapshot, Pages)> = Vec::new();
    for round in 0..40 {
        for _ in 0..random.below(12) {
            let mut txn = store.begin().unwrap();
            for _ in 0..random.below(60) {
                let (id, tag) = (random.below(PAGES), random.next());
                txn.write(PageId(id), &contents(id, tag)).unwrap();
                pages.insert(id, tag);
            }
            txn.commit_with(Durability::Buffered).unwrap();
        }
        held.push((store.snapshot(), pages.clone()));
        if held.len() > 5 {
            held.swap_remove(random.index(5));
        }
        if round % 5 == 0 {
            store.maintain(Budget::unlimited()).unwrap();
        }
        for (snapshot, pages) in &held {
            check(snapshot, pages, &mut random);
        }
        let stats = store.stats();
        assert!(stats.cache_bytes <= CACHE && stats.cache_misses > 0, "{stats:?}");
        if round % 10 == 9 {
            held.clear();
            drop(store);
            store = Store::open(&dir, buffered()).unwrap();
        }
    }
    let stats = store.stats();
    assert!(stats.packed_segments > 0, "packed segments are read too: {stats:?}");
    // What reads everything once goes around the cache.
    let before = store.stats();
    store.verify(&mut ()).unwrap();
    let mut stream = Vec::new();
    store.snapshot().export(&mut stream).unwrap();
    let after = store.stats();
    assert_eq!((before.cache_bytes, before.cache_misses), (after.cache_bytes, after.cache_misses));
    // The same page twice in a row comes from the cache.
    let read = || store.snapshot().read(PageId(7), &mut vec![0; common::PAGE]).unwrap();
    assert!(read() && read());
    assert!(store.stats().cache_hits > after.cache_hits);
    // A mapped opening exports the very same bytes.
    drop(store);
    let store = Store::open(&dir, small()).unwrap();
    let mut mapped = Vec::new();
    store.snapshot().export(&mut mapped).unwrap();
    assert!(mapped == stream, "both modes export the same");
    store.audit().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn no_file_of_the_store_is_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("a-store-to-look-for");
    fill(&dir);
    let mapped = || std::fs::read_to_string("/proc/self/maps").unwrap().contains("a-store-to-look-for");
    let read_all = |options: Options| {
        let store = Store::open(&dir, options).unwrap();
        store.verify(&mut ()).unwrap();
        let view = store.view();
        (0..PAGES).step_by(50).for_each(|id| assert!(view.page(PageId(id)).unwrap().is_some()));
        let mut txn = store.begin().unwrap();
        txn.write(PageId(1), &contents(1, 1)).unwrap();
        txn.commit().unwrap();
        mapped()
    };
    let open_files = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
        targets.filter(|target| target.to_string_lossy().contains("a-store-to-look-for")).count()
    };
    let store = Store::open(&dir, buffered()).unwrap();
    assert!(store.stats().segments > 150);
    for _ in 0..2 {
        for id in (0..PAGES).step_by(10) {
            store.snapshot().read(PageId(id), &mut vec![0; common::PAGE]).unwrap();
        }
        assert!(open_files() < 140, "{} files are open", open_files());
    }
    // A page that a view has handed out is kept once, however often it is asked for.
    let view = store.view();
    let first = view.page(PageId(5)).unwrap().unwrap().as_ptr();
    let misses = store.stats().cache_misses;
    assert!((0..100).all(|_| view.page(PageId(5)).unwrap().unwrap().as_ptr() == first));
    assert_eq!(store.stats().cache_misses, misses);
    drop(view);
    drop(store);
    assert!(!read_all(buffered()));
    assert!(read_all(small()), "the test would see a mapping");
}

#[test]
#[cfg(feature = "sim")]
fn a_read_that_fails_is_an_error_once_and_nothing_more() {
    use std::sync::Arc;
    use vellum::storage::sim::{Fault, SimDisk};

    let disk = SimDisk::new(3);
    let store = Store::open_on(Arc::new(disk.storage()), small()).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(300).unwrap();
    for id in 0..300 {
        txn.write(PageId(id), &contents(id, 2)).unwrap();
    }
    txn.commit().unwrap();
    store.close().unwrap();
    let (mut failed, mut index) = (0, 0);
    loop {
        let disk = disk.clone_state();
        let store = Store::open_on(Arc::new(disk.storage()), buffered()).unwrap();
        let first = disk.io_count();
        disk.fail_at(first + index, Fault::EIO);
        let view = store.view();
        let mut errors = 0;
        for id in 0..300 {
            match view.page(PageId(id)) {
                Ok(page) => assert_eq!(page.unwrap(), contents(id, 2)),
                Err(Error::Io { file, .. }) => {
                    errors += 1;
                    assert!(!file.as_os_str().is_empty());
                    assert_eq!(view.page(PageId(id)).unwrap().unwrap(), contents(id, 2), "it passes");
                }
                Err(other) => panic!("call {index}: {other}"),
            }
        }
        assert!(errors <= 1);
        failed += errors;
        drop(view);
        // Nothing is poisoned by a read.
        let mut txn = store.begin().unwrap();
        txn.write(PageId(0), &contents(0, 3)).unwrap();
        if disk.io_count() <= first + index {
            break;
        }
        txn.commit().unwrap();
        index += 1;
    }
    assert!(failed > 300, "{failed} reads failed");
}

#[test]
fn threads_read_while_pages_are_displaced_and_packed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("store");
    fill(&dir);
    let store = Store::open(&dir, buffered()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let store = &store;
            scope.spawn(move || {
                let mut random = Random(thread);
                for _ in 0..150 {
                    let snapshot = store.snapshot();
                    let view = snapshot.view();
                    for _ in 0..100 {
                        let id = random.below(PAGES);
                        let page = view.page(PageId(id)).unwrap().unwrap();
                        // Page and tag are in its first word's making: tags are 1 to 200.
                        assert!((1..=200).any(|tag| contents(id, tag) == page), "page {id}");
                    }
                }
            });
        }
        for tag in 2..=200 {
            let mut txn = store.begin().unwrap();
            for id in (tag..PAGES).step_by(97) {
                txn.write(PageId(id), &contents(id, tag)).unwrap();
            }
            txn.commit_with(Durability::Buffered).unwrap();
            if tag % 20 == 0 {
                store.maintain(Budget::unlimited()).unwrap();
            }
        }
    });
    assert!(store.stats().packed_bytes > 0);
    store.verify(&mut ()).unwrap();
    store.audit().unwrap();
}
