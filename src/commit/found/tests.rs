//! Goal: a store that a power cut ended is, after an opening, what it was: every page, the version that each was born in, and each version
//! that has a name or belongs to the history window; however many batches of the log were applied at once.
//!
//! Method: random transactions without a checkpoint on the simulated disk, of one page to several parts, that write, free, cut and lengthen;
//! names now and then; all that can be seen is written down before the cut and compared after it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::random::Random;
use crate::storage::sim::{SimDisk, Survival};
use crate::{History, Options, PageId, Snapshot, Store, Version};

const PAGE: usize = 512;

fn open(disk: &SimDisk) -> Store {
    let options = Options::new().page_size(512).segment_size(64 << 10).checkpoint_bytes(1 << 40);
    Store::open_on(Arc::new(disk.storage()), options.background(false)).unwrap()
}

/// What can be seen of a version: its meta bytes, and each page's birth and first byte.
#[derive(Debug, PartialEq)]
struct Seen {
    version: Version,
    page_count: u64,
    meta: Vec<u8>,
    pages: BTreeMap<u64, (Version, u8)>,
}

fn see(snapshot: &Snapshot) -> Seen {
    let (view, mut pages) = (snapshot.view(), BTreeMap::new());
    let visit = &mut |id: PageId, birth| {
        pages.insert(id.0, (birth, view.page(id).unwrap().unwrap()[0]));
        ControlFlow::Continue(())
    };
    snapshot.births(visit).unwrap();
    let (version, page_count, meta) = (snapshot.version(), view.page_count(), view.meta().to_vec());
    Seen { version, page_count, meta, pages }
}

fn commit(store: &Store, random: &mut Random) {
    let mut txn = store.begin().unwrap();
    match random.below(8) {
        0 => txn.truncate(random.below(2_000) + 100).unwrap(),
        1 => txn.set_meta(&random.below(1_000).to_le_bytes()).unwrap(),
        _ => {}
    }
    // A few are larger than a segment.
    let count = if random.below(30) == 0 { 200 } else { random.below(6) + 1 };
    for _ in 0..count {
        if txn.page_count() == 0 {
            txn.truncate(300).unwrap();
        }
        let id = PageId(random.below(txn.page_count()));
        match random.below(5) {
            0 if txn.read(id, &mut [0; PAGE]).unwrap() => txn.free(id).unwrap(),
            _ => txn.write(id, &[u8::try_from(random.below(256)).unwrap(); PAGE]).unwrap(),
        }
    }
    txn.commit().unwrap();
}

fn check(seed: u64, history: History) {
    let (disk, mut random) = (SimDisk::new(seed), Random(seed));
    let store = open(&disk);
    store.set_history(history).unwrap();
    for step in 0..400 {
        commit(&store, &mut random);
        match step % 90 {
            40 => drop(store.create_snapshot(&format!("at {step}")).unwrap()),
            60 if step > 90 => store.drop_snapshot(&format!("at {}", step - 110)).unwrap(),
            _ => {}
        }
    }
    store.sync().unwrap();
    let all = |store: &Store| {
        let names = store.snapshots().into_iter().map(|named| named.name);
        let named: Vec<(String, Seen)> =
            names.map(|name| (name.clone(), see(&store.open_snapshot(&name).unwrap()))).collect();
        let kept = store.history().into_iter().map(|kept| see(&store.snapshot_at(kept.version).unwrap()));
        (see(&store.snapshot()), named, kept.collect::<Vec<_>>())
    };
    let before = all(&store);
    assert!(!before.1.is_empty());
    let opened = open(&disk.power_cut_with(Survival::Nothing, seed));
    assert!(opened.recovery().batches >= 400, "seed {seed}: {:?}", opened.recovery());
    assert_eq!(all(&opened), before, "seed {seed}");
    opened.audit().unwrap();
    // What is replaced and freed from here on is counted as if there had been no cut.
    for _ in 0..100 {
        commit(&opened, &mut random);
    }
    opened.core().write_only_checkpoint().unwrap();
    opened.core().settle();
    opened.audit().unwrap();
}

#[test]
fn a_replay_of_many_batches_at_once_brings_back_every_birth_and_every_named_version() {
    (0..8).for_each(|seed| check(seed, History::off()));
}

#[test]
fn a_replay_brings_back_every_version_of_the_history_window() {
    (0..4).for_each(|seed| check(seed, History::versions(50)));
}
