//! Goal: transactions that are committed in one batch are isolated as if each had been committed by itself: what the first
//! changed, the second must not have written or read.
//!
//! Method: pairs of requests handed to the leader at once, every kind of change before every kind of claim; which pairs
//! conflict, and over what, is written down beside them.

use std::collections::HashSet;

use super::lead::try_batch;
use super::request::{ReadSet, Request};
use crate::format::checksum::PageChecksum;
use crate::{Durability, Error, Options, PageId, Store};

const PAGE: usize = 512;
const PAGES: u64 = 8;

/// A store of eight pages, of which the last holds nothing.
fn sample() -> Store {
    let store = Store::in_memory(Options::new().page_size(512).background(false)).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(PAGES).unwrap();
    (0..PAGES - 1).for_each(|id| txn.write(PageId(id), &[1; PAGE]).unwrap());
    txn.set_meta(b"before").unwrap();
    txn.commit().unwrap();
    store
}

/// What a transaction that read the newest version asks for.
fn request(store: &Store, kind: &str) -> Request {
    let snapshot = store.snapshot();
    let write = |id: u64| {
        let bytes = vec![2; PAGE].into_boxed_slice();
        vec![(PageId(id), PageChecksum::of(PageId(id), &bytes), bytes)]
    };
    let reads = |reads: ReadSet| Some(reads);
    let nothing = Request { snapshot: snapshot.version(), ..Request::nothing(Durability::Sync) };
    match kind {
        "writes 3" => Request { writes: write(3), ..nothing },
        "writes 5" => Request { writes: write(5), ..nothing },
        "frees 3" => Request { freed: vec![PageId(3)], ..nothing },
        "cuts to 4" => Request { truncate_to: Some(4), ..nothing },
        "grows to 9" => Request { page_count: PAGES + 1, ..nothing },
        "sets meta" => Request { meta: Some((*b"after").into()), ..nothing },
        "reads 3" => Request {
            reads: reads(ReadSet { pages: HashSet::from([PageId(3)]), ..ReadSet::default() }),
            ..nothing
        },
        "reads the page count" => {
            Request { reads: reads(ReadSet { page_count: true, ..ReadSet::default() }), ..nothing }
        }
        "reads meta" => Request { reads: reads(ReadSet { meta: true, ..ReadSet::default() }), ..nothing },
        "reads everything" => {
            let contents = Some((snapshot.fingerprint(), snapshot.page_count()));
            Request { reads: reads(ReadSet { contents, ..ReadSet::default() }), ..nothing }
        }
        other => panic!("{other}"),
    }
}

const ALL: [&str; 10] = [
    "writes 3",
    "writes 5",
    "frees 3",
    "cuts to 4",
    "grows to 9",
    "sets meta",
    "reads 3",
    "reads the page count",
    "reads meta",
    "reads everything",
];

/// What the second of two conflicts with the first over, if it does.
fn expected(first: &str, second: &str) -> Option<PageId> {
    match (first, second) {
        ("writes 3" | "frees 3", "writes 3" | "frees 3" | "reads 3") => Some(PageId(3)),
        ("writes 5", "writes 5" | "cuts to 4") | ("cuts to 4", "writes 5") => Some(PageId(5)),
        // Growing is free for all; a cut isn't, and neither is having looked.
        ("cuts to 4" | "grows to 9", "cuts to 4" | "reads the page count") => Some(PageId::PAGE_COUNT),
        ("sets meta", "sets meta" | "reads meta") => Some(PageId::META),
        ("writes 3" | "writes 5" | "frees 3" | "cuts to 4" | "grows to 9", "reads everything") => {
            Some(PageId(0))
        }
        _ => None,
    }
}

#[test]
fn one_batch_is_as_strict_as_one_commit_after_the_other() {
    for first in ALL {
        for second in ALL {
            let store = sample();
            let requests = [request(&store, first), request(&store, second)];
            let before = store.version();
            let core = store.core();
            let results = try_batch(core, &mut core.log.lock(), &requests);
            let context = format!("{second} after {first}: {results:?}");
            assert!(matches!(results[0], Ok(version) if version == before.next()), "{context}");
            match (&results[1], expected(first, second)) {
                (Ok(version), None) => assert_eq!(*version, before.next(), "{context}"),
                (Err(Error::Conflict { page, winner, snapshot }), Some(over)) => {
                    assert_eq!((*page, *winner, *snapshot), (over, before.next(), before), "{context}");
                }
                _ => panic!("{context}"),
            }
            // And as strict as if the second had come a batch later.
            let store = sample();
            let requests = [request(&store, first), request(&store, second)];
            let core = store.core();
            let [_, apart] = requests.map(|request| try_batch(core, &mut core.log.lock(), &[request]));
            assert_eq!(apart[0].is_err(), results[1].is_err(), "{context}; apart: {apart:?}");
            store.audit().unwrap();
        }
    }
}
