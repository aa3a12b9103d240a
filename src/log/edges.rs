//! Goal: widths are met where they end: segments that begin around 2^31 and 2^32 bytes of the store, around 2^32 units of a
//! node's address, at the last number that there is, and where numbers are used up.
//!
//! Method: the smallest geometry; the log is led on to segments of such numbers, by a store that is then opened again,
//! mapped and buffered.

use std::sync::Arc;

use crate::storage::{MemoryStorage, Storage};
use crate::sync::atomic::Ordering;
use crate::table::node::NodeAddress;
use crate::{Budget, Error, Options, PageId, ReadMode, Store};

const PAGE: usize = 512;
const SEGMENT: u64 = 64 << 10;
const PAGES: u64 = 100;
/// The last number that a segment can have.
const LAST: u32 = (1 << 22) - 1;

fn open(storage: &Arc<MemoryStorage>, mode: ReadMode) -> Store {
    let options = Options::new().page_size(512).segment_size(SEGMENT).background(false).read_mode(mode);
    Store::open_on(storage.clone(), options.pool_segments(0).checkpoint_bytes(8 << 20)).unwrap()
}

fn bytes(id: u64, tag: u64) -> Vec<u8> {
    (id << 32 | tag).to_le_bytes().repeat(PAGE / 8)
}

fn fill(store: &Store, tag: u64) -> crate::Result<()> {
    let mut txn = store.begin()?;
    txn.truncate(PAGES)?;
    for id in 0..PAGES {
        txn.write(PageId(id), &bytes(id, tag))?;
    }
    txn.commit().map(drop)
}

fn check(store: &Store, tag: u64) {
    let view = store.view();
    for id in 0..PAGES {
        assert!(view.page(PageId(id)).unwrap() == Some(&bytes(id, tag)[..]), "page {id} of {tag}");
    }
    drop(view);
    store.verify(&mut ()).unwrap();
    store.audit().unwrap();
}

/// Lets the log go on in fresh segments from a number on.
fn lead_to(store: &Store, number: u32) {
    let mut log = store.core().log.lock();
    log.appender.fresh = number;
    log.appender.vacant.clear();
}

fn numbers(store: &Store) -> Vec<u32> {
    store.core().log.lock().appender.files().map(|(number, ..)| number).collect()
}

#[test]
fn segments_on_both_sides_of_each_width() {
    let units = (NodeAddress::UNIT << 32) / SEGMENT;
    for edge in [(1 << 31) / SEGMENT, (1 << 32) / SEGMENT, units, u64::from(LAST) - 3] {
        let edge = u32::try_from(edge).unwrap();
        let storage = Arc::new(MemoryStorage::new());
        let store = open(&storage, ReadMode::Mapped);
        fill(&store, 0).unwrap();
        lead_to(&store, edge - 2);
        for tag in 1..=6 {
            fill(&store, tag).unwrap();
            // Some of what each segment holds stays.
            store.create_snapshot(&tag.to_string()).unwrap();
            // And the table's nodes lie there too.
            store.core().write_catalog_anew().unwrap();
        }
        let there = numbers(&store);
        assert!(
            there.contains(&(edge - 1)) && there.contains(&edge) && there.contains(&(edge + 1)),
            "{there:?}"
        );
        check(&store, 6);
        drop(store);
        for mode in [ReadMode::Mapped, ReadMode::Buffered] {
            let store = open(&storage, mode);
            check(&store, 6);
            for tag in 1..=6 {
                let named = store.open_snapshot(&tag.to_string()).unwrap();
                assert!(named.view().page(PageId(7)).unwrap() == Some(&bytes(7, tag)[..]));
            }
        }
        let store = open(&storage, ReadMode::Mapped);
        let before: u64 = store.stats().allocated_bytes;
        (1..=6).for_each(|tag| store.drop_snapshot(&tag.to_string()).unwrap());
        fill(&store, 7).unwrap();
        assert!(store.maintain(Budget::unlimited()).unwrap().is_done);
        assert!(store.stats().allocated_bytes < before / 2);
        check(&store, 7);
    }
}

#[test]
fn used_up_numbers_are_a_full_disk_and_low_ones_come_back() {
    let storage = Arc::new(MemoryStorage::new());
    let store = open(&storage, ReadMode::Mapped);
    fill(&store, 0).unwrap();
    lead_to(&store, LAST - 2);
    let mut tag = 0;
    let full = loop {
        if let Err(error) = store.create_snapshot(&tag.to_string()).and_then(|_| fill(&store, tag + 1)) {
            break error;
        }
        tag += 1;
        assert!(tag < 20, "there is no end");
    };
    assert!(matches!(full, Error::Full { .. }), "{full}");
    assert!(numbers(&store).contains(&(LAST - 1)), "{:?}", numbers(&store));
    check(&store, tag);
    drop(store);
    // The numbers that were passed by are found.
    let store = open(&storage, ReadMode::Mapped);
    check(&store, tag);
    for more in 0..8 {
        fill(&store, 100 + more).unwrap();
    }
    check(&store, 107);
    assert!(numbers(&store).contains(&3), "{:?}", numbers(&store));
    assert_eq!(store.core().durable.load(Ordering::Relaxed), store.snapshot().version().0);
    assert!(storage.list().unwrap().len() > 4);
}

#[test]
fn addresses_at_the_edges() {
    for (page_size, slots) in [(512, 128), (4096, 1 << 14), (65536, 1 << 14), (512, 1 << 21)] {
        let geometry = super::geometry::Geometry::new(page_size, slots);
        let limit = geometry.segment_limit();
        let edges = [31, 32, 36].map(|bits| (1u64 << bits) / geometry.segment_bytes());
        for number in edges.iter().flat_map(|edge| [edge.saturating_sub(1), *edge, edge + 1]) {
            let number = u32::try_from(number).unwrap().min(limit - 1);
            for slot in [0, 1, slots / 2, slots - 2, slots - 1] {
                assert_eq!(geometry.split(geometry.location(number, slot)), (number, slot));
                let offset = geometry.offset(slot) + u64::from(page_size) - NodeAddress::UNIT;
                assert_eq!(geometry.split_node(geometry.node_address(number, offset)), (number, offset));
            }
        }
        let last = geometry.location(limit - 1, slots - 1);
        assert_eq!(geometry.split(last), (limit - 1, slots - 1));
        assert!(last.0 <= crate::id::Location::LIMIT);
        // What a damaged node can hold leads to no segment.
        for address in [u64::MAX / NodeAddress::UNIT, u64::MAX / NodeAddress::UNIT + 1, 1 << 60, u64::MAX] {
            assert!(geometry.split_node(NodeAddress(address)).0 >= limit, "{address:x}");
        }
    }
}
