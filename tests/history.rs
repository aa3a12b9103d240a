//! Goal: the history window keeps exactly the versions that its policy says, each whole, over every kind of reopening; a version and
//! a time are found or refused with what is near; what the window keeps is accounted for, bounded, and gives way.
//!
//! Method: random histories against a plain re-statement of the policy (`common::Restated`), every kept version read after
//! each step; directed tests of limits, forks and clones. (Power cuts at every I/O call: `history_crash.rs`.)
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Clock, PAGE, Random, Restated, Rule, contents, env, fill, seed, small};
use vellum::storage::MemoryStorage;
use vellum::{
    Budget, Durability, Error, Event, History, Options, PageId, PinKind, RetainedPolicy, Snapshot, Store,
    Version,
};

const START_MS: u64 = 1_795_737_600_123;
const PAGES: u64 = 90;

/// What each page was filled from.
type Pages = BTreeMap<u64, u64>;

fn holds(snapshot: &Snapshot, pages: &Pages, what: &str) {
    let view = snapshot.view();
    for id in 0..snapshot.page_count() {
        let expected = pages.get(&id).map(|tag| contents(id, *tag));
        assert!(view.page(PageId(id)).unwrap() == expected.as_deref(), "{what}: page {id}");
    }
}

struct World {
    clock: Clock,
    window: Restated,
    states: BTreeMap<u64, (u64, Pages)>,
}

impl World {
    fn tip(&self) -> (u64, Pages) {
        let (version, (_, pages)) = self.states.last_key_value().unwrap();
        (*version, pages.clone())
    }

    fn committed(&mut self, version: u64, pages: Pages) {
        self.states.insert(version, (self.clock.ms(), pages));
        self.window.commit(version, self.clock.ms());
    }

    fn check(&self, store: &Store, what: &str) {
        let found: Vec<u64> = store.history().iter().map(|kept| kept.version.0).collect();
        assert_eq!(found, self.window.versions(), "{what}: {:?}", self.window.rule);
        for kept in store.history() {
            let (at_ms, pages) = &self.states[&kept.version.0];
            let snapshot = store.snapshot_at(kept.version).unwrap();
            assert_eq!((snapshot.version(), snapshot.fingerprint()), (kept.version, kept.fingerprint));
            assert_eq!(kept.created_at, std::time::UNIX_EPOCH + Duration::from_millis(*at_ms));
            holds(&snapshot, pages, what);
        }
        store.audit().unwrap();
    }
}

#[test]
fn the_window_keeps_what_its_policy_says_and_each_version_is_whole() {
    let seed = seed("history");
    for round in 0..env("VELLUM_ROUNDS", 8) {
        let mut random = Random(seed ^ round);
        let (clock, home) = (Clock::at_ms(START_MS), Arc::new(MemoryStorage::new()));
        let open = || Store::open_on(home.clone(), clock.of(small())).unwrap();
        let mut store = open();
        let states = BTreeMap::from([(0, (START_MS, Pages::new()))]);
        let mut world = World { clock: clock.clone(), window: Restated::default(), states };
        for step in 0..120 {
            let what = format!("VELLUM_SEED={seed} round {round} step {step}");
            clock.advance_ms(random.below(1500));
            let (tip, mut pages) = world.tip();
            match random.below(16) {
                0 => {
                    let rule = Rule::random(&mut random);
                    store.set_history(rule.policy()).unwrap();
                    assert_eq!(store.history_policy(), rule.policy());
                    if store.version().0 > tip {
                        world.committed(tip + 1, pages);
                        world.window.set(rule, tip + 1, clock.ms());
                    }
                }
                1 => drop(store.maintain(Budget::unlimited()).unwrap()),
                2 => {
                    drop(store);
                    store = open();
                }
                3 => {
                    let name = format!("n{}", tip % 5);
                    match store.create_snapshot(&name) {
                        Ok(_) => {}
                        Err(Error::SnapshotExists { .. }) => store.drop_snapshot(&name).unwrap(),
                        Err(other) => panic!("{other}"),
                    }
                    world.committed(tip + 1, pages);
                }
                4 => {
                    let kept = world.window.versions();
                    let Some(version) = kept.get(random.index(kept.len())) else { continue };
                    let old = world.states[version].1.clone();
                    let snapshot = store.snapshot_at(Version(*version)).unwrap();
                    if store.rollback_to(&snapshot).unwrap().head.is_some() {
                        world.committed(tip + 1, pages);
                        world.committed(tip + 2, old);
                    }
                }
                _ => {
                    let mut txn = store.begin().unwrap();
                    txn.truncate(PAGES).unwrap();
                    for _ in 0..=random.below(6) {
                        let id = random.below(PAGES);
                        if random.below(5) == 0 && pages.remove(&id).is_some() {
                            txn.free(PageId(id)).unwrap();
                        } else {
                            txn.write(PageId(id), &contents(id, tip + 1)).unwrap();
                            pages.insert(id, tip + 1);
                        }
                    }
                    txn.commit_with(if random.below(2) == 0 {
                        Durability::Sync
                    } else {
                        Durability::Buffered
                    })
                    .unwrap();
                    assert_eq!(store.version().0, tip + 1, "{what}");
                    world.committed(tip + 1, pages);
                }
            }
            world.check(&store, &what);
        }
        // Without the window nothing is left of it.
        for named in store.snapshots() {
            store.drop_snapshot(&named.name).unwrap();
        }
        store.set_history(History::off()).unwrap();
        assert!(store.history().is_empty());
        assert!(store.maintain(Budget::unlimited()).unwrap().is_done);
        let stats = store.stats();
        assert_eq!(stats.allocated_bytes, stats.live_bytes, "VELLUM_SEED={seed} round {round}");
    }
}

#[test]
fn a_version_or_a_time_is_found_or_refused_with_what_is_near() {
    let clock = Clock::at_ms(START_MS);
    let store = Store::open_on(Arc::new(MemoryStorage::new()), clock.of(small())).unwrap();
    fill(&store, 0..4, 1);
    store.create_snapshot("old").unwrap();
    let second = Duration::from_secs(1);
    for n in 2..12 {
        clock.advance_ms(1000);
        fill(&store, 0..4, n);
    }
    store.set_history(History::versions(3)).unwrap();
    for n in 12..20 {
        clock.advance_ms(1000);
        fill(&store, 0..4, n);
    }
    // Version v was made at v - 1 seconds (two versions at the first moment, two where the policy came).
    let kept: Vec<u64> = store.history().iter().map(|kept| kept.version.0).collect();
    assert_eq!(kept, [19, 20, 21]);
    match store.snapshot_at(Version(7)) {
        Err(Error::VersionNotKept { version: Version(7), older, newer }) => {
            assert_eq!((older, newer), (Some(Version(2)), Some(Version(19))));
        }
        other => panic!("{other:?}"),
    }
    match store.snapshot_at(Version(22)) {
        Err(error @ Error::VersionNotKept { newer: None, older: Some(Version(21)), .. }) => {
            assert!(error.to_string().contains("set_history"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.snapshot_at(Version(2)).unwrap().version(), Version(2), "a named one is kept too");
    let start = clock.now() - 18 * second;
    let at =
        |seconds_ago: u32| store.snapshot_at_time(clock.now() - seconds_ago * second).unwrap().version().0;
    assert_eq!([at(0), at(1), at(2)], [21, 20, 19]);
    assert_eq!(at(3), 2, "before the window only the named one is there");
    assert_eq!(store.snapshot_at_time(clock.now() + 5 * second).unwrap().version().0, 21);
    assert_eq!(store.snapshot_at_time(clock.now() - second / 2).unwrap().version().0, 20);
    assert_eq!(store.snapshot_at_time(start).unwrap().version(), Version(2));
    match store.snapshot_at_time(start - Duration::from_millis(1)) {
        Err(error @ Error::TimeNotKept { oldest: Version(2), .. }) => {
            assert!(error.to_string().contains("2026-11-27T00:00:00Z"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_window_of_time_answers_for_each_moment_of_it() {
    let clock = Clock::at_ms(START_MS);
    let options =
        clock.of(small()).history(History::within(Duration::from_mins(1)).one_per(Duration::from_secs(5)));
    let store = Store::open_on(Arc::new(MemoryStorage::new()), options).unwrap();
    let mut random = Random(5);
    let mut times: Vec<(u64, u64)> = Vec::new();
    for n in 0..400 {
        clock.advance_ms(random.below(2500));
        times.push((clock.ms(), fill(&store, n % 7..n % 7 + 3, n)));
        let newest = clock.ms();
        assert!(store.history().len() <= 60 / 5 + 3, "{}", store.history().len());
        // At the end of each stretch: exactly what was current then.
        for ago in 0..12 {
            let moment = (newest / 5000 - ago) * 5000 - 1;
            if moment + 60_000 < newest || moment < times[0].0 {
                continue;
            }
            let expected = times.iter().rev().find(|(at, _)| *at <= moment).unwrap().1;
            let time = std::time::UNIX_EPOCH + Duration::from_millis(moment);
            assert_eq!(store.snapshot_at_time(time).unwrap().version().0, expected);
        }
    }
}

#[test]
fn the_policy_stays_with_the_store_and_is_bounded() {
    let home = Arc::new(MemoryStorage::new());
    let policy = History::versions(7);
    let open = |options: Options| Store::open_on(home.clone(), options).unwrap();
    drop(open(small().history(policy)));
    let store = open(small());
    assert_eq!(store.history_policy(), policy);
    let version = store.version();
    store.set_history(policy).unwrap();
    assert_eq!(store.version(), version, "what is set already makes no commit");
    drop(store);
    let store = open(small().history(policy));
    assert_eq!(store.version(), version);
    for policy in [History::versions(0), History::versions(History::VERSIONS_MAX + 1)] {
        assert!(matches!(store.set_history(policy), Err(Error::InvalidOption { option: "history", .. })));
        let opened = Store::in_memory(small().history(policy));
        assert!(matches!(opened, Err(Error::InvalidOption { option: "history", .. })));
    }
    drop(store);
    let large = || small().checkpoint_bytes(16 << 20).limbo_bytes(64 << 20);
    let store = open(large().history(History::off()));
    assert!(store.history().is_empty());
    // The time given is longer than what is kept of it.
    store.set_history(History::within(Duration::MAX)).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(8).unwrap();
    txn.commit().unwrap();
    for n in 0..History::VERSIONS_MAX as u64 + 100 {
        let mut txn = store.begin().unwrap();
        txn.write(PageId(n % 8), &contents(n % 8, n)).unwrap();
        txn.commit_with(Durability::Buffered).unwrap();
    }
    assert_eq!(store.history().len(), History::VERSIONS_MAX);
    let oldest = store.history()[0].clone();
    drop(store);
    let store = open(large());
    assert_eq!(store.history().len(), History::VERSIONS_MAX);
    assert_eq!(store.history()[0], oldest);
    let snapshot = store.snapshot_at(oldest.version).unwrap();
    assert_eq!(snapshot.fingerprint(), oldest.fingerprint);
    snapshot.verify(&mut ()).unwrap();
}

#[test]
fn what_the_window_keeps_is_told_and_comes_back() {
    let store = Store::in_memory(small()).unwrap();
    fill(&store, 0..100, 1);
    store.set_history(History::versions(4)).unwrap();
    for n in 0..6 {
        fill(&store, 0..10, 2 + n);
    }
    assert!(store.maintain(Budget::unlimited()).unwrap().is_done);
    let pins = store.pins().unwrap();
    let historic: Vec<_> = pins.iter().filter(|pin| pin.kind == PinKind::History).collect();
    assert_eq!(historic.len(), 4);
    assert!(historic[..3].iter().all(|pin| pin.retained_bytes >= 10 * PAGE as u64), "{historic:?}");
    assert_eq!(historic[3].retained_bytes, 0, "the current version");
    let before = store.stats().allocated_bytes;
    let told: u64 = historic.iter().map(|pin| pin.retained_bytes).sum();
    store.set_history(History::off()).unwrap();
    assert!(store.maintain(Budget::unlimited()).unwrap().is_done);
    let stats = store.stats();
    assert_eq!(stats.allocated_bytes, stats.live_bytes);
    assert!(before - stats.allocated_bytes >= told);
}

#[test]
fn the_window_gives_way_before_anybody_is_refused_or_revoked() {
    let limit = 200 * PAGE as u64;
    for policy in [RetainedPolicy::Warn, RetainedPolicy::Refuse, RetainedPolicy::Revoke] {
        let told = Arc::new(Mutex::new(Vec::new()));
        let events = told.clone();
        let options = small()
            .retained_limit(limit, policy)
            .on_event(move |event| events.lock().unwrap().push(event.clone()));
        let home = Arc::new(MemoryStorage::new());
        let store = Store::open_on(home.clone(), options).unwrap();
        fill(&store, 0..60, 1);
        let held = store.snapshot();
        store.set_history(History::versions(1000)).unwrap();
        for n in 0..300 {
            fill(&store, n % 50..n % 50 + 10, 2 + n);
            if n % 100 == 50 {
                store.maintain(Budget::unlimited()).unwrap();
            }
        }
        store.maintain(Budget::unlimited()).unwrap();
        let shortened: usize = told
            .lock()
            .unwrap()
            .iter()
            .map(|event| if let Event::HistoryShortened { versions } = event { *versions } else { 0 })
            .sum();
        let left = store.history().len();
        holds(&held, &(0..60).map(|id| (id, 1)).collect(), "a snapshot that the window gave way to");
        match policy {
            RetainedPolicy::Warn => {
                assert_eq!((shortened, left), (0, 301));
                assert!(matches!(told.lock().unwrap()[0], Event::RetainedLimit { .. }));
            }
            _ => {
                assert_eq!(shortened + left, 301);
                assert!(left > 1, "no more went than had to");
                let stats = store.stats();
                assert!(stats.allocated_bytes - stats.live_bytes <= limit, "{stats:?}");
                store.try_snapshot().unwrap();
                store.create_snapshot("named").unwrap();
            }
        }
        // What is left is whole, also for the next opening.
        let kept = store.history();
        drop((held, store));
        let store = Store::open_on(home, small()).unwrap();
        assert_eq!(&store.history()[..], &kept[..]);
        for kept in &kept {
            store.snapshot_at(kept.version).unwrap().verify(&mut ()).unwrap();
        }
        store.audit().unwrap();
    }
}

#[test]
fn forks_and_clones_begin_without_history() {
    let store = Store::in_memory(small().history(History::versions(50))).unwrap();
    for n in 0..20 {
        fill(&store, n..n + 5, n);
    }
    let old = store.snapshot_at(Version(8)).unwrap();
    let fork = old.fork().unwrap();
    assert_eq!((fork.version(), fork.history_policy()), (Version(8), History::off()));
    assert!(matches!(fork.snapshot_at(Version(7)), Err(Error::VersionNotKept { older: None, .. })));
    fill(&fork, 0..9, 99);
    fork.set_history(History::versions(3)).unwrap();
    let home = MemoryStorage::new();
    old.clone_on(&home, &mut ()).unwrap();
    let clone = Store::open_on(Arc::new(home), small()).unwrap();
    assert_eq!((clone.version(), clone.history().len()), (Version(8), 0));
    clone.set_history(History::versions(3)).unwrap();
    fill(&clone, 0..9, 98);
    assert_eq!(store.history().len(), 21);
    for store in [store, fork, clone] {
        store.audit().unwrap();
        for kept in store.history() {
            store.snapshot_at(kept.version).unwrap().verify(&mut ()).unwrap();
        }
    }
}

#[test]
fn a_table_larger_than_its_memory_keeps_its_history() {
    let home = Arc::new(MemoryStorage::new());
    let options = || small().table_memory(1 << 20).history(History::versions(40)).limbo_bytes(64 << 20);
    let store = Store::open_on(home.clone(), options()).unwrap();
    let pages = 60_000;
    fill(&store, 0..pages, 1);
    let mut random = Random(9);
    let mut expected: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for n in 2..80 {
        let ids: Vec<u64> = (0..80).map(|_| random.below(pages)).collect();
        let version = fill(&store, ids.iter().copied(), n);
        expected.insert(version, ids);
    }
    let tag = |id: u64, version: u64| {
        let later = expected.range(..=version).rev().find(|(_, ids)| ids.contains(&id));
        later.map_or(1, |(version, _)| *version)
    };
    // The n-th write made the version after the one of the policy.
    let tag_of = |version: u64| if version == 1 { 1 } else { version - 1 };
    let check = |store: &Store| {
        assert_eq!(store.history().len(), 40);
        for kept in store.history() {
            let snapshot = store.snapshot_at(kept.version).unwrap();
            let mut page = vec![0; PAGE];
            for id in expected.values().flatten().step_by(7) {
                assert!(snapshot.read(PageId(*id), &mut page).unwrap());
                assert!(
                    page == contents(*id, tag_of(tag(*id, kept.version.0))),
                    "page {id} of {}",
                    kept.version
                );
            }
        }
        assert!(store.stats().table_memory_bytes < 3 << 20, "{}", store.stats().table_memory_bytes);
        store.audit().unwrap();
    };
    check(&store);
    assert!(store.stats().table_evictions > 0);
    drop(store);
    check(&Store::open_on(home, options()).unwrap());
}
