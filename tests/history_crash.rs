//! Goal: whenever power fails, an opening finds the history window that the policy gives for the version that it stands at, each of
//! its versions whole; and pruning, dropping and rolling back have happened whole or not at all.
//!
//! Method: as `crash.rs`: a seeded workload of commits, names, prunings, rollbacks and changes of the policy runs on the simulated disk,
//! under a clock of the test's own, with a power cut at each of its I/O calls, and now and then at each of the opening
//! after it. What is found is held against the model: contents, names, and `common::Restated` for the window.
//!
//! Quick by default; `VELLUM_CRASH_SEEDS=n` sets the number of workloads, `VELLUM_CRASH_SEED=s` runs that one alone.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{Clock, Random, Restated, Rule, contents};
use vellum::storage::sim::{Fault, SimDisk, Survival};
use vellum::{Budget, Durability, Naming, Options, PageId, Retention, Snapshot, Store, Version};

const PAGES: u64 = 60;
const START_MS: u64 = 1_795_737_600_000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    /// What each page was filled from.
    pages: BTreeMap<u64, u64>,
    names: BTreeMap<String, u64>,
    window: Restated,
}

struct World {
    clock: Clock,
    states: BTreeMap<u64, State>,
    durable: u64,
    /// Set once a change failed in a way that leaves open whether it is on the disk.
    in_doubt: Option<State>,
}

impl World {
    fn new() -> World {
        let states = BTreeMap::from([(0, State::default())]);
        World { clock: Clock::at_ms(START_MS), states, durable: 0, in_doubt: None }
    }

    fn open(&self, disk: &SimDisk) -> vellum::Result<Store> {
        let options =
            Options::new().page_size(512).segment_size(64 << 10).checkpoint_bytes(64 << 10).background(false);
        Store::open_on(Arc::new(disk.storage()), self.clock.of(options))
    }

    fn tip(&self) -> (u64, State) {
        let (version, state) = self.states.last_key_value().expect("version 0 is always there");
        (*version, state.clone())
    }

    /// What the next version is, if `change` is what it does to the state beside being committed.
    fn next(&self, change: impl FnOnce(&mut State, u64)) -> State {
        let (version, mut state) = self.tip();
        state.window.commit(version + 1, self.clock.ms());
        change(&mut state, version + 1);
        state
    }

    /// Takes note of what became of one commit.
    fn note<T>(
        &mut self,
        next: State,
        durability: Durability,
        result: vellum::Result<T>,
    ) -> vellum::Result<()> {
        let version = self.tip().0 + 1;
        match result {
            Ok(_) => {
                self.states.insert(version, next);
                if durability == Durability::Sync {
                    self.durable = version;
                }
                Ok(())
            }
            Err(error) => {
                self.in_doubt = Some(next);
                Err(error)
            }
        }
    }
}

fn step(store: &Store, random: &mut Random, world: &mut World) -> vellum::Result<()> {
    world.clock.advance_ms(random.below(1500));
    let (tip, state) = world.tip();
    match random.below(16) {
        0 | 1 => {
            let name = format!("s{tip}");
            let next = world.next(|state, version| {
                state.names.insert(name.clone(), version);
            });
            let result = store.create_snapshot_with(&name, Naming::new().label("job", "test"));
            world.note(next, Durability::Sync, result)
        }
        2 => {
            let Some(name) = state.names.keys().next() else { return Ok(()) };
            let next = world.next(|state, _| {
                state.names.remove(name);
            });
            world.note(next, Durability::Sync, store.drop_snapshot(name))
        }
        3 => {
            let count = random.index(3);
            let mut kept: Vec<_> = state.names.iter().filter(|(name, _)| name.starts_with('s')).collect();
            kept.sort_by_key(|(_, version)| **version);
            let gone: Vec<String> =
                kept[..kept.len().saturating_sub(count)].iter().map(|(name, _)| (*name).clone()).collect();
            let policy = Retention::new().only_label("job", "test").keep_last(count);
            if gone.is_empty() {
                assert!(store.prune(&policy, world.clock.now())?.dropped.is_empty());
                return Ok(());
            }
            let next = world.next(|state, _| state.names.retain(|name, _| !gone.contains(name)));
            let result = store.prune(&policy, world.clock.now());
            world.note(next, Durability::Sync, result)
        }
        4 => {
            let rule = Rule::random(random);
            if rule.policy() == state.window.rule.policy() {
                return store.set_history(rule.policy());
            }
            let at_ms = world.clock.ms();
            let next = world.next(|state, version| state.window.set(rule, version, at_ms));
            world.note(next, Durability::Sync, store.set_history(rule.policy()))
        }
        5 => roll_back(store, random, world),
        6 => {
            store.maintain(Budget::unlimited())?;
            world.durable = world.tip().0;
            Ok(())
        }
        _ => {
            let mut txn = store.begin()?;
            txn.truncate(PAGES)?;
            let mut pages = state.pages;
            let count = if random.below(6) == 0 { PAGES } else { 1 + random.below(4) };
            for _ in 0..count {
                let id = random.below(PAGES);
                txn.write(PageId(id), &contents(id, tip + 1))?;
                pages.insert(id, tip + 1);
            }
            let durability = if random.below(3) == 0 { Durability::Sync } else { Durability::Buffered };
            let next = world.next(|state, _| state.pages = pages);
            world.note(next, durability, txn.commit_with(durability))
        }
    }
}

/// Goes back to a version of the window: two commits, of which the first keeps the head under a name.
fn roll_back(store: &Store, random: &mut Random, world: &mut World) -> vellum::Result<()> {
    let (tip, state) = world.tip();
    let kept = state.window.versions();
    let Some(version) = kept.get(random.index(kept.len())) else { return Ok(()) };
    let old = world.states[version].pages.clone();
    // Contents are the same, or at least the page count was another: before the first commit.
    if old == state.pages || old.is_empty() {
        return Ok(());
    }
    let snapshot = store.snapshot_at(Version(*version))?;
    let named = world.next(|state, version| {
        state.names.insert(format!("before-rollback-{tip}"), version);
    });
    let result = store.rollback_to(&snapshot);
    if store.version().0 == tip {
        return world.note(named, Durability::Sync, result);
    }
    world.note(named, Durability::Sync, Ok(()))?;
    let back = world.next(|state, _| state.pages = old);
    world.note(back, Durability::Sync, result)
}

fn run(disk: &SimDisk, seed: u64, steps: u64, world: &mut World) -> vellum::Result<()> {
    let mut random = Random(seed);
    let mut store = world.open(disk)?;
    for _ in 0..steps {
        if random.below(14) == 0 {
            if store.clone().close().is_ok() {
                world.durable = world.tip().0;
            }
            drop(store);
            store = world.open(disk)?;
            let version = store.version().0;
            assert!((world.durable..=world.tip().0).contains(&version));
            world.states.split_off(&(version + 1));
        }
        step(&store, &mut random, world)?;
    }
    Ok(())
}

fn holds(snapshot: &Snapshot, state: &State, what: &str) {
    let view = snapshot.view();
    for id in 0..snapshot.page_count() {
        let expected = state.pages.get(&id).map(|tag| contents(id, *tag));
        assert!(
            view.page(PageId(id)).unwrap() == expected.as_deref(),
            "{what}: page {id} of {}",
            snapshot.version()
        );
    }
}

/// Opens the store after a cut and holds it against the model. Returns it, and what it stands at.
fn recovered(disk: &SimDisk, world: &World) -> (Store, u64, State) {
    let store = world.open(disk).expect("a store opens after any power cut");
    let (version, tip) = (store.version().0, world.tip().0);
    assert!(version >= world.durable, "version {} was acknowledged, {version} is there", world.durable);
    let expected = match world.states.get(&version) {
        Some(state) => state.clone(),
        None if version == tip + 1 => world.in_doubt.clone().expect("a version that nobody committed"),
        None => panic!("version {version} was never committed (tip {tip})"),
    };
    check(&store, &expected, world);
    (store, version, expected)
}

fn check(store: &Store, expected: &State, world: &World) {
    holds(&store.snapshot(), expected, "the tip");
    let names: BTreeMap<String, u64> =
        store.snapshots().into_iter().map(|snapshot| (snapshot.name, snapshot.version.0)).collect();
    assert_eq!(names, expected.names, "the names");
    let kept: Vec<u64> = store.history().iter().map(|kept| kept.version.0).collect();
    assert_eq!(kept, expected.window.versions(), "the window under {:?}", expected.window.rule);
    for version in kept.into_iter().chain(names.into_values()) {
        let snapshot = store.snapshot_at(Version(version)).expect("what is kept opens");
        holds(&snapshot, world.states.get(&version).unwrap_or(expected), "a kept version");
    }
    store.audit().expect("a recovered store knows what is in use");
}

/// It goes on working, and the window with it.
fn goes_on(store: &Store, version: u64, state: &State, world: &World, seed: u64) {
    let kept = state.window.versions().into_iter().chain(state.names.values().copied());
    let states = kept.map(|kept| (kept, world.states.get(&kept).unwrap_or(state).clone()));
    let states = states.chain([(version, state.clone())]).collect();
    // The clock is the store's too: both go on together.
    let mut later = World { clock: world.clock.clone(), states, durable: version, in_doubt: None };
    let mut random = Random(seed);
    for _ in 0..6 {
        step(store, &mut random, &mut later).expect("a recovered store works");
    }
    store.maintain(Budget::unlimited()).expect("a recovered store is tidied");
    check(store, &later.tip().1, &later);
}

fn seeds() -> Vec<u64> {
    if let Ok(seed) = std::env::var("VELLUM_CRASH_SEED") {
        return vec![seed.parse().expect("a number")];
    }
    (1..=common::env("VELLUM_CRASH_SEEDS", 2)).collect()
}

#[test]
fn every_power_cut_leaves_the_window_and_the_names_as_they_were() {
    let (mut cuts, mut kept) = (0u64, 0usize);
    for seed in seeds() {
        let steps = 40;
        let rehearsal = SimDisk::new(seed);
        run(&rehearsal, seed, steps, &mut World::new()).expect("the workload runs");
        for index in 0..rehearsal.io_count() {
            let disk = SimDisk::new(seed);
            disk.fail_at(index, Fault::Crash);
            let mut world = World::new();
            let _ = run(&disk, seed, steps, &mut world);
            for survival in [Survival::Nothing, Survival::Scattered, Survival::Everything] {
                let after = disk.power_cut_with(survival, index);
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let at_ms = world.clock.ms();
                    let (store, version, state) = recovered(&after, &world);
                    let count = state.window.kept.len();
                    goes_on(&store, version, &state, &world, seed ^ index);
                    world.clock.set_ms(at_ms);
                    count
                }));
                assert!(outcome.is_ok(), "VELLUM_CRASH_SEED={seed} index {index}, {survival:?}");
                kept += outcome.unwrap_or(0);
                cuts += 1;
            }
        }
    }
    println!("{cuts} power cuts survived, {kept} versions found in windows");
    assert!(kept > 0);
}

#[test]
fn a_power_cut_inside_the_opening_is_survived() {
    let mut cuts = 0u64;
    for seed in seeds() {
        let steps = 30;
        let rehearsal = SimDisk::new(seed);
        run(&rehearsal, seed, steps, &mut World::new()).expect("the workload runs");
        let count = rehearsal.io_count();
        for index in (count / 4..count).step_by(11) {
            let disk = SimDisk::new(seed);
            disk.fail_at(index, Fault::Crash);
            let mut world = World::new();
            let _ = run(&disk, seed, steps, &mut world);
            let after = disk.power_cut(index);
            let rehearsal = after.clone_state();
            drop(world.open(&rehearsal).expect("recovery works"));
            for inner in 0..rehearsal.io_count() {
                let again = after.clone_state();
                again.fail_at(inner, Fault::Crash);
                drop(world.open(&again));
                let last = again.power_cut(inner ^ index);
                let outcome =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(recovered(&last, &world))));
                assert!(
                    outcome.is_ok(),
                    "VELLUM_CRASH_SEED={seed} index {index}, inside the opening {inner}"
                );
                cuts += 1;
            }
        }
    }
    println!("{cuts} power cuts inside openings survived");
}
