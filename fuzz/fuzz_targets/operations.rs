//! Any sequence of public calls does what a map of maps does.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use vellum::storage::MemoryStorage;
use vellum::{Durability, Error, Options, PageId, Snapshot, Store};

#[derive(Arbitrary, Debug)]
enum Step {
    Write { id: u16, fill: u8 },
    Free { id: u16 },
    Allocate { count: u8 },
    Truncate { count: u16 },
    Meta { len: u16 },
    Commit { synced: bool },
    Rollback,
    Snapshot,
    DropSnapshot { index: u8 },
    CheckSnapshot { index: u8 },
    Export { index: u8 },
    Maintain,
    Sync,
    Reopen,
}

#[derive(Clone, Default)]
struct State {
    page_count: u64,
    pages: BTreeMap<u64, u8>,
    meta: Vec<u8>,
}

fn options() -> Options {
    Options::new().page_size(512).segment_size(64 << 10).checkpoint_bytes(64 << 10).background(false)
}

fn check(snapshot: &Snapshot, state: &State) {
    assert_eq!((snapshot.page_count(), snapshot.meta()), (state.page_count, &state.meta[..]));
    assert_eq!(snapshot.live_pages(), state.pages.len() as u64);
    let view = snapshot.view();
    for id in (0..state.page_count.min(300)).chain(state.pages.keys().copied()) {
        let found = view.page(PageId(id)).expect("a whole store");
        assert_eq!(found.map(|page| page[0]), state.pages.get(&id).copied(), "page {id}");
        assert!(found.is_none_or(|page| page.iter().all(|byte| *byte == page[0])));
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let storage = Arc::new(MemoryStorage::new());
    let mut store = Store::open_on(storage.clone(), options()).expect("a store in memory");
    let mut tip = State::default();
    let mut next = tip.clone();
    let mut txn = store.begin().expect("it takes writes");
    let mut held: Vec<(Snapshot, State)> = Vec::new();
    for step in steps {
        match step {
            Step::Write { id, fill } => {
                let id = u64::from(id % 5000);
                match txn.write(PageId(id), &[fill; 512]) {
                    Ok(()) => drop(next.pages.insert(id, fill)),
                    Err(error) => {
                        assert!(matches!(error, Error::PageOutOfRange { .. }) && id >= next.page_count, "{error}");
                    }
                }
            }
            Step::Free { id } => {
                let id = u64::from(id % 5000);
                match txn.free(PageId(id)) {
                    Ok(()) => assert!(next.pages.remove(&id).is_some()),
                    Err(Error::PageNotAllocated { .. }) => assert!(!next.pages.contains_key(&id)),
                    Err(error) => assert!(id >= next.page_count, "{error}"),
                }
            }
            Step::Allocate { count } => {
                for _ in 0..count % 20 {
                    let id = txn.allocate().expect("room").0;
                    assert!(next.pages.insert(id, 0).is_none(), "page {id} was in use");
                    next.page_count = next.page_count.max(id + 1);
                }
            }
            Step::Truncate { count } => {
                let count = u64::from(count % 5000);
                txn.truncate(count).expect("few pages");
                next.pages.split_off(&count);
                next.page_count = count;
            }
            Step::Meta { len } => {
                next.meta = vec![7; usize::from(len % 1025)];
                txn.set_meta(&next.meta).expect("within the limit");
            }
            Step::Commit { synced } => {
                let durability = if synced { Durability::Sync } else { Durability::Buffered };
                let done = std::mem::replace(&mut txn, store.begin().expect("it takes writes"));
                done.commit_with(durability).expect("nobody else commits");
                tip = next.clone();
                txn = store.begin().expect("it takes writes");
                check(&store.snapshot(), &tip);
            }
            Step::Rollback => {
                txn = store.begin().expect("it takes writes");
                next = tip.clone();
            }
            Step::Snapshot if held.len() < 8 => held.push((store.snapshot(), tip.clone())),
            Step::Snapshot => {}
            Step::DropSnapshot { index } if !held.is_empty() => {
                held.swap_remove(usize::from(index) % held.len());
            }
            Step::CheckSnapshot { index } if !held.is_empty() => {
                let (snapshot, state) = &held[usize::from(index) % held.len()];
                check(snapshot, state);
            }
            Step::Export { index } if !held.is_empty() => {
                let (snapshot, _) = &held[usize::from(index) % held.len()];
                let mut stream = Vec::new();
                let summary = snapshot.export(&mut stream).expect("memory takes it");
                let verified = vellum::verify_stream(&mut &stream[..], &mut ()).expect("a whole stream");
                assert_eq!(summary.fingerprint, verified.fingerprint);
            }
            Step::DropSnapshot { .. } | Step::CheckSnapshot { .. } | Step::Export { .. } => {}
            Step::Maintain => drop(store.maintain(vellum::Budget::unlimited()).expect("it takes writes")),
            Step::Sync => store.sync().expect("it takes writes"),
            Step::Reopen => {
                held.clear();
                drop(txn);
                drop(store);
                store = Store::open_on(storage.clone(), options()).expect("a whole store");
                txn = store.begin().expect("it takes writes");
                next = tip.clone();
                check(&store.snapshot(), &tip);
                store.verify(&mut ()).expect("a whole store");
            }
        }
    }
    for (snapshot, state) in &held {
        check(snapshot, state);
    }
});
