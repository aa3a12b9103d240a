//! First light: what a user does first works.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use common::usual;
use vellum::{Error, Options, PageId, ReadMode, Store};

fn fill(byte: u8) -> Vec<u8> {
    vec![byte; 4096]
}

fn exercise(store: &Store) {
    let mut txn = store.begin().unwrap();
    let ids: Vec<PageId> = (0..200).map(|_| txn.allocate().unwrap()).collect();
    for id in &ids {
        txn.write(*id, &fill(id.0 as u8)).unwrap();
    }
    txn.set_meta(b"root").unwrap();
    txn.commit().unwrap();
    let before = store.snapshot();
    for round in 0..300u64 {
        let mut txn = store.begin().unwrap();
        txn.write(PageId(round % 200), &fill(100 + (round % 100) as u8)).unwrap();
        txn.commit().unwrap();
    }
    let view = before.view();
    for id in &ids {
        assert_eq!(view.page(*id).unwrap().unwrap(), fill(id.0 as u8));
    }
    assert_eq!(view.meta(), b"root");
    assert!(matches!(view.page(PageId(200)), Err(Error::PageOutOfRange { .. })));
}

#[test]
fn memory_store_works() {
    let store = Store::in_memory(usual()).unwrap();
    exercise(&store);
}

#[test]
fn disk_store_works_and_reopens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let options = usual().segment_size(1 << 20).checkpoint_bytes(1 << 20);
    let store = Store::open(&path, options.clone()).unwrap();
    exercise(&store);
    let (version, fingerprint) = (store.version(), store.snapshot().fingerprint());
    println!("{:#?}", store.stats());
    drop(store);
    for _ in 0..3 {
        let store = Store::open(&path, options.clone()).unwrap();
        assert_eq!((store.version(), store.snapshot().fingerprint()), (version, fingerprint));
        println!("{:?}", store.recovery());
        let view = store.view();
        assert_eq!(view.page(PageId(199)).unwrap().unwrap(), fill(100 + 99));
    }
}

/// Pages of every kind: in the file and in the tail, verified and not, absent, freed, beyond the end, asked for twice.
#[test]
fn pages_looked_up_together_are_those_looked_up_one_by_one() {
    for mode in [ReadMode::Mapped, ReadMode::Buffered] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new().segment_size(1 << 20).read_mode(mode);
        let store = Store::open(dir.path(), options.clone()).unwrap();
        let mut txn = store.begin().unwrap();
        txn.truncate(5_000).unwrap();
        for id in (0..4_500).filter(|id| id % 7 != 0) {
            txn.write(PageId(id), &fill(id as u8)).unwrap();
        }
        txn.commit().unwrap();
        let mut txn = store.begin().unwrap();
        for id in (0..4_500).filter(|id| id % 11 == 3 && id % 7 != 0) {
            txn.free(PageId(id)).unwrap();
        }
        txn.commit().unwrap();
        // Opened anew, nothing is in memory; the second time everything is.
        drop(store);
        let store = Store::open(dir.path(), options).unwrap();
        for round in 0..2 {
            let ids: Vec<PageId> = (0..1_000).map(|step| PageId(step * 6_151 % 5_000)).collect();
            let view = store.view();
            let together = view.pages(&ids).unwrap();
            assert_eq!(together.len(), ids.len());
            let other = store.snapshot();
            let other = other.view();
            for (id, page) in ids.iter().zip(&together) {
                assert_eq!(*page, other.page(*id).unwrap(), "{mode:?}, round {round}, page {id:?}");
                let is_there = id.0 < 4_500 && id.0 % 7 != 0 && id.0 % 11 != 3;
                assert_eq!(page.map(|page| page[9]), is_there.then_some(id.0 as u8));
            }
            let twice = view.pages(&[ids[1], ids[1], PageId(0)]).unwrap();
            assert!(twice[0].is_some() && twice[0] == twice[1] && twice[2].is_none());
            assert!(view.pages(&[]).unwrap().is_empty());
            let refused = view.pages(&[ids[1], PageId(5_000), ids[2]]);
            assert!(matches!(refused, Err(Error::PageOutOfRange { page: PageId(5_000), .. })), "{refused:?}");
        }
    }
}

#[test]
fn the_fewest_pages_that_a_segment_can_have_are_enough() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let options = usual().page_size(65536).segment_size(8 * 65536).background(false);
    let page = |id: u64, round: u8| vec![id as u8 ^ round; 65536];
    for round in 0..4 {
        let store = Store::open(&path, options.clone()).unwrap();
        for id in 0..12 {
            let mut txn = store.begin().unwrap();
            txn.truncate(12).unwrap();
            txn.write(PageId(id), &page(id, round)).unwrap();
            txn.commit().unwrap();
        }
        store.maintain(vellum::Budget::unlimited()).unwrap();
        if round % 2 == 0 {
            store.close().unwrap();
        } else {
            drop(store);
        }
        let store = Store::open(&path, options.clone()).unwrap();
        (0..12).for_each(|id| assert!(store.view().page(PageId(id)).unwrap() == Some(&page(id, round)[..])));
        store.audit().unwrap();
    }
}
