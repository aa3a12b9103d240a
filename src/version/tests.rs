//! Goal: the reclaimer frees what nobody sees, exactly once, and nothing else; and the test that says so would see it if it
//! didn't.
//!
//! Method: random commits, frees, truncations, pins and drops on a store in memory, with passes at random moments. After
//! every step each snapshot is read and the audit must find allocated = reachable + pending; at the end nothing is left.
//! Then the same with a bug planted in the reclaimer, in a process of its own, which must fail.

use crate::sync::atomic::Ordering;
use crate::sync::{PLANTED, Planted};
use crate::{Budget, Durability, Options, PageId, Snapshot, Store};

const PAGE: usize = 512;
const PAGES: u64 = 300;
/// Names the bug that a child process is to plant.
const CHILD: &str = "VELLUM_RECLAIM_PLANTED";

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

type Model = std::collections::BTreeMap<u64, u8>;

fn check(snapshot: &Snapshot, model: &Model) {
    let view = snapshot.view();
    for id in 0..snapshot.page_count() {
        let found = view.page(PageId(id)).unwrap().map(|page| page[PAGE / 2]);
        assert_eq!(found, model.get(&id).copied(), "page {id} of {}", snapshot.version());
    }
}

fn churn(seed: u64) {
    let mut random = Random(seed);
    let options =
        Options::new().page_size(512).segment_size(64 << 10).checkpoint_bytes(64 << 10).background(false);
    let store = Store::in_memory(options).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(PAGES).unwrap();
    txn.commit().unwrap();
    let mut model = Model::new();
    let mut held: Vec<(Snapshot, Model)> = Vec::new();
    for _ in 0..200 {
        let mut txn = store.begin().unwrap();
        for _ in 0..random.below(6) {
            let (id, value) = (random.below(PAGES), u8::try_from(random.below(256)).unwrap());
            if random.below(4) == 0 && model.remove(&id).is_some() {
                txn.free(PageId(id)).unwrap();
            } else {
                txn.write(PageId(id), &[value; PAGE]).unwrap();
                model.insert(id, value);
            }
        }
        txn.commit_with(Durability::Buffered).unwrap();
        match random.below(8) {
            0 | 1 => held.push((store.snapshot(), model.clone())),
            2 | 3 if !held.is_empty() => {
                let index = usize::try_from(random.below(held.len() as u64)).unwrap();
                drop(held.swap_remove(index));
            }
            4 => {
                store.core().grace.advance(&store.core().epoch);
                store.core().pass();
            }
            5 => drop(store.maintain(Budget::unlimited()).unwrap()),
            _ => {}
        }
        store.audit().unwrap();
        for (snapshot, model) in &held {
            check(snapshot, model);
        }
        check(&store.snapshot(), &model);
    }
    held.clear();
    store.maintain(Budget::unlimited()).unwrap();
    store.maintain(Budget::unlimited()).unwrap();
    assert_eq!(store.audit().unwrap().pending_bytes, 0);
    let stats = store.stats();
    assert_eq!(stats.allocated_bytes, stats.live_bytes, "{stats:?}");
}

#[test]
fn what_nobody_sees_is_freed_once_and_nothing_else() {
    let planted = std::env::var(CHILD).ok().and_then(|bug| bug.parse().ok()).unwrap_or(0);
    PLANTED.store(planted, Ordering::Relaxed);
    for seed in 0..20 {
        churn(seed);
    }
}

#[test]
fn bugs_planted_in_the_reclaimer_are_found() {
    let test = "version::tests::what_nobody_sees_is_freed_once_and_nothing_else";
    for bug in [Planted::NewestNeighbour, Planted::ForgottenBirth, Planted::DeathSeen] {
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--test-threads=1"])
            .env(CHILD, (bug as u8).to_string())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&run.stdout);
        assert!(told.contains("running 1 test"), "{told}");
        assert!(!run.status.success(), "{bug:?} was not found");
        println!("{bug:?}: found");
    }
}
