//! Goal: the story that redirect-on-write is told by: a snapshot copies nothing, what comes after it goes elsewhere, and
//! rolling back, cloning and writing to the clones leave everybody else as they were.
//!
//! Method: the story step by step on a store on disk, with every byte that is written counted.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use common::{PAGE, contents, small};
use vellum::{Budget, PageId, Snapshot, Store};

const D1: u64 = 1;
const D2: u64 = 2;
const D3: u64 = 3;
const D4: u64 = 4;
/// What a record takes before its pages, in the small geometry.
const RECORD: u64 = PAGE as u64;

fn write(store: &Store, pages: &[(u64, u64)]) {
    let mut txn = store.begin().unwrap();
    for (id, data) in pages {
        if *id >= txn.page_count() {
            txn.truncate(id + 1).unwrap();
        }
        txn.write(PageId(*id), &contents(0, *data)).unwrap();
    }
    txn.commit().unwrap();
}

fn reads(snapshot: &Snapshot, expected: &[Option<u64>]) {
    let view = snapshot.view();
    assert_eq!(snapshot.page_count(), expected.len() as u64);
    for (id, data) in (0..).zip(expected) {
        let data = data.map(|data| contents(0, data));
        assert_eq!(view.page(PageId(id)).unwrap(), data.as_deref(), "page {id}");
    }
}

#[test]
fn redirect_on_write() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path().join("store"), small()).unwrap();
    let appended = std::cell::Cell::new(store.stats().appended_bytes);
    let grew = || store.stats().appended_bytes - appended.replace(store.stats().appended_bytes);
    let page = PAGE as u64;

    write(&store, &[(0, D1), (1, D2)]);
    assert_eq!(grew(), RECORD + 2 * page);
    let s1 = store.create_snapshot("s1").unwrap();
    assert_eq!(grew(), RECORD, "a snapshot is a record that says so");

    // d3 is new, d2 becomes d4: two pages are written, to where nothing was.
    write(&store, &[(1, D4), (2, D3)]);
    assert_eq!(grew(), RECORD + 2 * page);
    let s2 = store.create_snapshot("s2").unwrap();
    assert_eq!(grew(), RECORD);
    reads(&s1, &[Some(D1), Some(D2)]);
    reads(&s2, &[Some(D1), Some(D4), Some(D3)]);
    // Four pages are there, for five that are seen; d2 is s1's alone, and its table.
    let pages = store.stats();
    assert_eq!((pages.packed_bytes, pages.live_pages), (0, 3));
    drop((s1, s2));
    assert!(store.maintain(Budget::unlimited()).unwrap().is_done);
    let space = store.snapshot_space().unwrap();
    assert_eq!(space.iter().map(|space| space.page_bytes).collect::<Vec<_>>(), [2 * page, 3 * page]);
    assert!((page..2 * page + 2048).contains(&space[0].unique_bytes), "{space:?}");
    assert_eq!(space[1].unique_bytes, 0, "s2 is what is there now");

    // Back to s1: one page is written again, one freed; the head stays under a name.
    let done = store.rollback_to(&store.open_snapshot("s1").unwrap()).unwrap();
    assert_eq!((done.pages_written, done.pages_freed), (1, 1));
    reads(&store.snapshot(), &[Some(D1), Some(D2)]);
    reads(&store.open_snapshot("s2").unwrap(), &[Some(D1), Some(D4), Some(D3)]);
    reads(&store.open_snapshot(&done.head.unwrap()).unwrap(), &[Some(D1), Some(D4), Some(D3)]);

    // Three clones of s2, each written to.
    let s2 = store.open_snapshot("s2").unwrap();
    let clones: Vec<Store> = (0..3)
        .map(|n| {
            let dir = home.path().join(format!("clone-{n}"));
            let made = s2.clone_to(&dir).unwrap();
            assert_eq!((made.files_copied, made.bytes_copied), (0, 0), "only links were made");
            Store::open(dir, small()).unwrap()
        })
        .collect();
    for (n, clone) in (10..).zip(&clones) {
        write(clone, &[(0, n), (3, n + 10)]);
    }
    write(&store, &[(0, 99)]);
    for (n, clone) in (10..).zip(&clones) {
        reads(&clone.snapshot(), &[Some(n), Some(D4), Some(D3), Some(n + 10)]);
        clone.audit().unwrap();
    }
    reads(&s2, &[Some(D1), Some(D4), Some(D3)]);
    reads(&store.snapshot(), &[Some(99), Some(D2)]);
    // Any of them can go first.
    drop((s2, store));
    std::fs::remove_dir_all(home.path().join("store")).unwrap();
    std::fs::remove_dir_all(home.path().join("clone-1")).unwrap();
    reads(&clones[0].snapshot(), &[Some(10), Some(D4), Some(D3), Some(20)]);
    clones[2].maintain(Budget::unlimited()).unwrap();
    reads(&clones[2].snapshot(), &[Some(12), Some(D4), Some(D3), Some(22)]);
}
