//! Goal: the reclaimer frees what nobody sees, exactly once, and nothing else; and the test that says so would see it if it
//! didn't.
//!
//! Method: random commits, frees, truncations, pins and drops on a store in memory, with passes at random moments and a view
//! that is open over some of them. After every step the view and each snapshot are read and the audit must find allocated = reachable + pending; at the end nothing is left.
//! Then the same with a bug planted in the reclaimer, in a process of its own, which must fail.

use crate::planted::{check_found, plant_given};
use crate::random::Random;
use crate::space::Held;
use crate::sync::Planted;
use crate::{Budget, Durability, Options, PageId, Snapshot, Store, View};

const PAGE: usize = 512;
const PAGES: u64 = if cfg!(miri) { 24 } else { 300 };

type Model = std::collections::BTreeMap<u64, u8>;

fn check(snapshot: &Snapshot, model: &Model) {
    check_view(&snapshot.view(), model);
}

fn check_view(view: &View<'_>, model: &Model) {
    for id in 0..view.page_count() {
        let found = view.page(PageId(id)).unwrap().map(|page| page[PAGE / 2]);
        assert_eq!(found, model.get(&id).copied(), "page {id} of {}", view.version());
    }
}

fn commit(store: &Store, random: &mut Random, model: &mut Model) {
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
}

fn pass(store: &Store) {
    store.core().grace.advance(&store.core().epoch);
    store.core().pass();
}

/// What a view sees stays until it ends, also when its snapshot is taken away and the reclaimer has nothing left to judge.
fn read_beside_revocation(store: &Store, random: &mut Random, model: &mut Model) {
    let (snapshot, seen) = (store.snapshot(), model.clone());
    (0..4).for_each(|_| commit(store, random, model));
    pass(store);
    let view = snapshot.view();
    let mut pins = Vec::new();
    let mut held = Held::new(store.core());
    held.hold_live(|slot, root| pins.push((slot, root)));
    pins.retain(|(_, root)| root.root().version == snapshot.version());
    // Others may hold the same version: they read on, and keep it.
    if let [(slot, root)] = pins[..] {
        store.core().reclaimer.lock().revoke(slot, root, &store.core().registry);
    }
    drop(held);
    for _ in 0..3 {
        pass(store);
        commit(store, random, model);
        check_view(&view, &seen);
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
    let mut watched: Option<(View<'_>, Model)> = None;
    for _ in 0..if cfg!(miri) { 12 } else { 200 } {
        commit(&store, &mut random, &mut model);
        match random.below(9) {
            0 | 1 => held.push((store.snapshot(), model.clone())),
            2 | 3 if !held.is_empty() => {
                let index = usize::try_from(random.below(held.len() as u64)).unwrap();
                drop(held.swap_remove(index));
            }
            4 => pass(&store),
            5 => drop(store.maintain(Budget::unlimited()).unwrap()),
            6 if watched.is_none() => watched = Some((store.view(), model.clone())),
            6 => watched = None,
            7 if watched.is_none() => read_beside_revocation(&store, &mut random, &mut model),
            _ => {}
        }
        store.audit().unwrap();
        if let Some((view, model)) = &watched {
            check_view(view, model);
        }
        for (snapshot, model) in &held {
            check(snapshot, model);
        }
        check(&store.snapshot(), &model);
    }
    drop(watched);
    held.clear();
    store.maintain(Budget::unlimited()).unwrap();
    store.maintain(Budget::unlimited()).unwrap();
    assert_eq!(store.audit().unwrap().pending_bytes, 0);
    let stats = store.stats();
    assert_eq!(stats.allocated_bytes, stats.live_bytes, "{stats:?}");
}

#[test]
fn what_nobody_sees_is_freed_once_and_nothing_else() {
    plant_given();
    for seed in 0..if cfg!(miri) { 1 } else { 20 } {
        churn(seed);
    }
}

#[test]
#[cfg_attr(miri, ignore = "it starts processes")]
fn bugs_planted_in_the_reclaimer_are_found() {
    let test = "version::tests::what_nobody_sees_is_freed_once_and_nothing_else";
    let bugs = [
        Planted::NewestNeighbour,
        Planted::ForgottenBirth,
        Planted::DeathSeen,
        Planted::NoGrace,
        Planted::LimboOrder,
    ];
    for bug in bugs {
        check_found(test, &(bug as u8).to_string(), &format!("{bug:?}"));
    }
}
