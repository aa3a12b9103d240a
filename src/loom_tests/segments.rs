//! The table of segments is replaced, and segments are taken into use again, beside views that read from them.

use std::io::IoSlice;
use std::ptr::NonNull;

use loom::sync::Arc;

use super::{Bug, Payload, explore, explore_planted};
use crate::format::checksum::PageChecksum;
use crate::format::segment::SegmentHeader;
use crate::id::{PageId, StoreId, Version};
use crate::log::geometry::Geometry;
use crate::log::segment::Segments;
use crate::log::shared::Shared;
use crate::storage::{MemoryStorage, Storage};
use crate::sync::Planted;
use crate::table::node::Entry;
use crate::version::epoch::Epoch;
use crate::version::grace::Grace;
use crate::version::published::Published;

/// In which order the two sides go about it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Right,
    /// The reader takes the table before the version.
    TableFirst,
    /// The version is published before its segment can be found.
    PublishedFirst,
}

/// A version: where its only page lies, and what is in it.
struct Tip {
    entry: Entry,
    fill: u8,
}

struct Log {
    epoch: Epoch,
    grace: Grace,
    storage: std::sync::Arc<MemoryStorage>,
    segments: Segments,
    published: Published<Tip>,
}

const PAGE: PageId = PageId(3);
const SLOT: u32 = 1;

fn page(fill: u8) -> [u8; 512] {
    [fill; 512]
}

/// A version whose page lies in a segment.
fn tip(geometry: Geometry, number: u32, fill: u8) -> Box<Tip> {
    let checksum = PageChecksum::of(PAGE, &page(fill)).short();
    let version = Version(u64::from(fill));
    Box::new(Tip { entry: Entry::page(geometry.location(number, SLOT), version, checksum), fill })
}

impl Log {
    /// Version 1, whose page lies in segment 0, a file.
    fn new() -> Arc<Log> {
        let (geometry, store_id) = (Geometry::new(512, 4), StoreId(7));
        let storage = std::sync::Arc::new(MemoryStorage::new());
        let segments = Segments::new(storage.clone(), store_id, geometry, false, None, None);
        let segment = segments.add(0, 1);
        segments.create_file(segment).expect("memory");
        let header = SegmentHeader {
            store_id,
            number: 0,
            generation: 1,
            page_size: 512,
            slots: 4,
            sequence: 1,
            next: 1,
            previous_digest: Some(0),
            durable: Version(0),
        };
        let file = segments.file(segment).expect("it was made");
        file.write_all_at(&[IoSlice::new(&header.encode())], 0).expect("memory");
        file.write_all_at(&[IoSlice::new(&page(1))], geometry.offset(SLOT)).expect("memory");
        segments.size_table(1);
        let published = Published::new(tip(geometry, 0, 1));
        Arc::new(Log { epoch: Epoch::new(), grace: Grace::new(), storage, segments, published })
    }

    fn read(&self, order: Order) {
        let guard = self.epoch.pin();
        let early = (order == Order::TableFirst).then(|| self.segments.follow_table(&guard));
        let tip = self.published.load(&guard);
        let table = early.unwrap_or_else(|| self.segments.follow_table(&guard));
        let read = || self.segments.page(table.get(), PAGE, tip.entry);
        let found = read().expect("a published page is found");
        assert_eq!(&*found.expect("it has bytes"), &page(tip.fill)[..]);
        // Others may run while the engine looks at the page.
        loom::thread::yield_now();
        let again = read().expect("a published page is found");
        assert_eq!(&*again.expect("it has bytes"), &page(tip.fill)[..], "a page stays while it is seen");
    }

    /// The log goes on in segment 1, which is read from memory, and version 2 is published.
    fn commit(&self, order: Order) {
        let geometry = self.segments.geometry();
        let segment = self.segments.add(1, 0);
        self.segments.begin_generation(segment, 1);
        let tail = self.storage.create("tail", geometry.segment_bytes()).expect("memory");
        tail.write_all_at(&[IoSlice::new(&page(2))], geometry.offset(SLOT)).expect("memory");
        if order == Order::PublishedFirst {
            self.published.publish(tip(geometry, 1, 2));
        }
        self.segments.read_from_tail(1, 0, tail.map(2048).expect("memory"));
        if order != Order::PublishedFirst {
            self.published.publish(tip(geometry, 1, 2));
        }
    }

    /// Takes segment 0 into use again, if nobody sees version 1 any more.
    fn recycle(&self, ticket: u64, bug: Bug) {
        self.grace.advance(&self.epoch);
        if bug != Bug::NoGrace && self.grace.passed() < ticket {
            return;
        }
        self.segments.release_tables(self.grace.passed(), || self.grace.issue(&self.epoch.pin()));
        let segment = self.segments.add(0, 1);
        self.segments.begin_generation(segment, 2);
        let file = self.segments.file(segment).expect("it was made");
        let offset = self.segments.geometry().offset(SLOT);
        file.write_all_at(&[IoSlice::new(&page(9))], offset).expect("memory");
    }
}

fn a_view_beside_a_new_segment(order: Order, bug: Bug) -> impl Fn() + Sync + Send + 'static {
    move || {
        let log = Log::new();
        let before = NonNull::from(log.published.load(&log.epoch.pin()));
        let reader = {
            let log = log.clone();
            loom::thread::spawn(move || log.read(order))
        };
        log.commit(order);
        let ticket = log.grace.issue(&log.epoch.pin());
        log.recycle(ticket, bug);
        reader.join().unwrap();
        log.read(order);
        // SAFETY: it came from a box, and nobody reads any more.
        drop(unsafe { Box::from_raw(before.as_ptr()) });
    }
}

#[test]
fn a_view_finds_every_page_of_its_version_while_segments_come_and_go() {
    explore("view beside a new segment", 2, a_view_beside_a_new_segment(Order::Right, Bug::None));
    for (name, order, bug) in [
        ("view beside a new segment, table before version", Order::TableFirst, Bug::None),
        ("view beside a new segment, published before it is found", Order::PublishedFirst, Bug::None),
        ("view beside a new segment, reused without grace", Order::Right, Bug::NoGrace),
    ] {
        explore_planted(name, 2, None, a_view_beside_a_new_segment(order, bug));
    }
}

/// What readers follow is replaced twice, and what was replaced is let go after its grace period.
fn followed_while_replaced() {
    let ends = Arc::new((Epoch::new(), Grace::new(), Shared::new(*Payload::new())));
    let reader = {
        let ends = ends.clone();
        loom::thread::spawn(move || {
            let (epoch, _, shared) = &*ends;
            let guard = epoch.pin();
            shared.follow(&guard).get().read();
        })
    };
    let (epoch, grace, shared) = &*ends;
    // The memory stays until the model ends, so that a wrong use shows as a wrong canary.
    let mut ended = Vec::new();
    let mut release = || {
        grace.advance(epoch);
        for value in shared.released(grace.passed(), || grace.issue(&epoch.pin())) {
            value.end();
            ended.push(value);
        }
    };
    let replacer = {
        let ends = ends.clone();
        loom::thread::spawn(move || ends.2.store(*Payload::new()))
    };
    release();
    release();
    replacer.join().unwrap();
    release();
    release();
    reader.join().unwrap();
    release();
    release();
    assert_eq!(ended.len() + shared.waiting(), 1, "each value that was replaced is let go once");
    let guard = epoch.pin();
    shared.follow(&guard).get().read();
}

#[test]
fn what_is_followed_stays_until_its_guard_goes() {
    explore("followed while replaced", 1, followed_while_replaced);
    for bug in [Planted::ReplacedTooSoon, Planted::RelaxedReplace, Planted::NoGrace] {
        let name = format!("followed while replaced, {bug:?}");
        explore_planted(&name, 1, Some(bug), followed_while_replaced);
    }
}
