//! Goal: nothing acknowledged is ever lost, nothing is ever half applied, whatever the disk does and whenever power fails.
//!
//! Method: a seeded workload (synced and buffered commits, named snapshots created, renamed and dropped, frees, truncations, meta, batches larger than a segment, rollbacks,
//! deltas applied, syncs, checkpoints, clean and unclean closes) runs on the simulated disk, once to count its I/O calls, and then again
//! with a power cut, a crash or a fault at each of them. After each cut the store is opened, itself with cuts at each
//! call of the recovery, and compared with the model's history: it must stand at a version that was published, at
//! least at the newest one acknowledged as durable, with exactly that version's pages and that version's named
//! snapshots, each with its pages; and it must go on working.
//!
//! Quick by default; `VELLUM_CRASH_SEEDS=n` sets the number of workloads (long: 200). A failure prints the seed, the
//! index and the fault: `VELLUM_CRASH_SEED=s` runs that workload alone.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

use std::collections::BTreeMap;
use std::sync::Arc;

use vellum::storage::sim::{Fault, SimDisk, Survival};
use vellum::{Durability, Error, Options, PageId, Store};

const PAGE: usize = 512;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    page_count: u64,
    /// What each page was filled from.
    pages: BTreeMap<u64, u64>,
    meta: Vec<u8>,
    /// The named snapshots, and the version that each keeps.
    names: BTreeMap<String, u64>,
}

/// What the workload knows of the store's past.
#[derive(Clone, Debug)]
struct History {
    states: BTreeMap<u64, State>,
    durable: u64,
    /// Set once a commit failed in a way that leaves open whether it is on the disk.
    in_doubt: Option<State>,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

fn contents(id: u64, tag: u64) -> Vec<u8> {
    let mut random = Random(id ^ (tag << 20));
    (0..PAGE / 8).flat_map(|_| random.next().to_le_bytes()).collect()
}

fn options() -> Options {
    Options::new().page_size(512).segment_size(64 << 10).checkpoint_bytes(64 << 10).background(false)
}

fn open(disk: &SimDisk) -> vellum::Result<Store> {
    Store::open_on(Arc::new(disk.storage()), options())
}

impl History {
    fn new() -> History {
        History { states: BTreeMap::from([(0, State::default())]), durable: 0, in_doubt: None }
    }

    fn tip(&self) -> (u64, &State) {
        let (version, state) = self.states.last_key_value().expect("version 0 is always there");
        (*version, state)
    }
}

/// One transaction, drawn at random. `Ok(false)`: it failed cleanly.
fn commit(store: &Store, random: &mut Random, history: &mut History) -> vellum::Result<bool> {
    let (version, state) = history.tip();
    let mut next = state.clone();
    let mut txn = store.begin()?;
    let tag = version + 1;
    let kind = random.below(20);
    if kind == 0 {
        let count = random.below(next.page_count + 30);
        txn.truncate(count)?;
        next.pages.retain(|id, _| *id < count);
        next.page_count = count;
    }
    let writes = match kind {
        1 => 150 + random.below(200),
        2..5 => 10 + random.below(40),
        _ => 1 + random.below(4),
    };
    for _ in 0..writes {
        let id = if next.page_count > 0 && random.below(3) > 0 {
            random.below(next.page_count)
        } else {
            let id = txn.allocate()?.0;
            assert!(!next.pages.contains_key(&id), "allocated page {id} is in use");
            next.page_count = next.page_count.max(id + 1);
            id
        };
        txn.write(PageId(id), &contents(id, tag))?;
        next.pages.insert(id, tag);
    }
    for _ in 0..random.below(4) {
        let held: Vec<u64> = next.pages.keys().copied().collect();
        if let Some(id) = held.get(random.below(held.len() as u64) as usize) {
            txn.free(PageId(*id))?;
            next.pages.remove(id);
        }
    }
    if random.below(4) == 0 {
        next.meta = tag.to_le_bytes().to_vec();
        txn.set_meta(&next.meta)?;
    }
    let durability = if random.below(3) == 0 { Durability::Sync } else { Durability::Buffered };
    match txn.commit_with(durability) {
        Ok(committed) if committed.0 == version => {
            assert_eq!(next, *history.tip().1, "a commit that changed nothing");
            Ok(true)
        }
        Ok(committed) => {
            assert_eq!(committed.0, version + 1, "versions follow one another");
            history.states.insert(committed.0, next);
            if durability == Durability::Sync {
                history.durable = committed.0;
            }
            Ok(true)
        }
        Err(Error::Full { .. }) => Ok(false),
        Err(error) => {
            history.in_doubt = Some(next);
            Err(error)
        }
    }
}

/// One change of the names, drawn at random.
fn change_names(store: &Store, random: &mut Random, history: &mut History) -> vellum::Result<()> {
    let (tip, state) = history.tip();
    let (version, mut next) = (tip + 1, state.clone());
    let name = format!("n{}", random.below(4));
    let result = match next.names.remove(&name) {
        Some(kept) if random.below(3) == 0 => {
            let other = format!("n{}", 4 + version);
            next.names.insert(other.clone(), kept);
            store.rename_snapshot(&name, &other)
        }
        Some(_) => store.drop_snapshot(&name),
        None => {
            let result = store.create_snapshot(&name).map(drop);
            next.names.insert(name, version);
            result
        }
    };
    match result {
        Ok(()) => {
            history.states.insert(version, next);
            history.durable = version;
        }
        Err(Error::Full { .. }) => return Ok(()),
        Err(error) => {
            history.in_doubt = Some(next);
            return Err(error);
        }
    }
    // Renamed ones are dropped too, in the end.
    match history.tip().1.names.iter().find(|(name, kept)| name.len() > 2 && **kept + 12 < version) {
        Some((name, _)) => {
            let (name, mut next) = (name.clone(), history.tip().1.clone());
            next.names.remove(&name);
            match store.drop_snapshot(&name) {
                Ok(()) => {
                    history.states.insert(version + 1, next);
                    history.durable = version + 1;
                    Ok(())
                }
                Err(Error::Full { .. }) => Ok(()),
                Err(error) => {
                    history.in_doubt = Some(next);
                    Err(error)
                }
            }
        }
        None => Ok(()),
    }
}

/// Goes back to a named snapshot, drawn at random.
fn roll_back(store: &Store, random: &mut Random, history: &mut History) -> vellum::Result<()> {
    let (tip, state) = history.tip();
    let (tip, state) = (tip, state.clone());
    let pick = random.below(state.names.len() as u64) as usize;
    let Some((name, kept)) = state.names.iter().nth(pick) else { return Ok(()) };
    let old = history.states[kept].clone();
    // The state before gets a name; if the disk is full after that, the name is taken away, and all is tried once more.
    let named = |tip: u64| {
        let mut named = state.clone();
        named.names.insert(format!("before-rollback-{tip}"), tip + 1);
        named
    };
    let back = |tip: u64| State { names: named(tip).names, ..old.clone() };
    let done = store.open_snapshot(name).and_then(|target| store.rollback_to(&target));
    let reached = (store.version().0 - tip) as usize;
    let mut states = vec![named(tip), state.clone(), named(tip + 2), state.clone()];
    if done.is_ok() && reached > 0 {
        states[reached - 1] = back(tip + reached as u64 - 2);
    }
    let in_doubt = [named(tip), back(tip), named(tip + 2), back(tip + 2)].into_iter().nth(reached);
    for (version, state) in (tip + 1..).zip(states.drain(..reached)) {
        history.states.insert(version, state);
        history.durable = version;
    }
    match done {
        Ok(_) | Err(Error::Full { .. }) => Ok(()),
        Err(error) => {
            history.in_doubt = in_doubt;
            Err(error)
        }
    }
}

/// Applies a delta from the current state, made by another store.
fn apply(store: &Store, random: &mut Random, history: &mut History) -> vellum::Result<()> {
    let (tip, state) = history.tip();
    let (mut full, mut delta) = (Vec::new(), Vec::new());
    store.snapshot().export(&mut full)?;
    let other = Store::in_memory(options()).expect("memory has no faults");
    let mut elsewhere =
        History { states: BTreeMap::from([(tip, state.clone())]), durable: tip, in_doubt: None };
    if tip > 0 {
        other.apply(&mut &full[..]).expect("memory has no faults");
    }
    let base = other.snapshot();
    commit(&other, random, &mut elsewhere).expect("memory has no faults");
    other.snapshot().export_since(&base, &mut delta).expect("memory has no faults");
    let next = elsewhere.tip().1.clone();
    match store.apply(&mut &delta[..]) {
        Ok(version) => {
            assert_eq!(version.0, tip + 1);
            history.states.insert(version.0, next);
            history.durable = version.0;
            Ok(())
        }
        Err(Error::Full { .. }) => Ok(()),
        Err(error) => {
            history.in_doubt = Some(next);
            Err(error)
        }
    }
}

/// Runs the workload until it ends or an error ends it.
fn run(disk: &SimDisk, seed: u64, steps: u64, history: &mut History) -> vellum::Result<()> {
    let mut random = Random(seed);
    let mut store = open(disk)?;
    for _ in 0..steps {
        match random.below(26) {
            0 => {
                store.sync()?;
                history.durable = history.tip().0;
            }
            1 => match store.maintain(vellum::Budget::unlimited()) {
                Ok(_) => history.durable = history.tip().0,
                Err(Error::Full { .. }) => {}
                Err(error) => return Err(error),
            },
            2 => {
                // A clean close: everything published is durable afterwards, unless the disk was full.
                if store.clone().close().is_ok() {
                    history.durable = history.tip().0;
                }
                drop(store);
                store = open(disk)?;
                // A close that failed is a crash: the end of what was buffered may be lost.
                let version = store.version().0;
                let (durable, tip) = (history.durable, history.tip().0);
                assert!(
                    (durable..=tip).contains(&version),
                    "closed at {durable} to {tip}, opened at {version}"
                );
                history.states.split_off(&(version + 1));
            }
            3 => {
                let snapshot = store.snapshot();
                commit(&store, &mut random, history)?;
                let version = snapshot.version().0;
                check(&snapshot_state(&snapshot)?, &history.states[&version], "a held snapshot");
            }
            4..7 => change_names(&store, &mut random, history)?,
            7 => roll_back(&store, &mut random, history)?,
            8 => apply(&store, &mut random, history)?,
            _ => {
                commit(&store, &mut random, history)?;
            }
        }
    }
    Ok(())
}

/// Page count, pages and meta.
type Contents = (u64, Vec<Option<Vec<u8>>>, Vec<u8>);

fn snapshot_state(snapshot: &vellum::Snapshot) -> vellum::Result<Contents> {
    let view = snapshot.view();
    let pages: vellum::Result<_> =
        (0..snapshot.page_count()).map(|id| Ok(view.page(PageId(id))?.map(<[u8]>::to_vec))).collect();
    Ok((snapshot.page_count(), pages?, snapshot.meta().to_vec()))
}

fn check(found: &Contents, expected: &State, what: &str) {
    assert_eq!((found.0, &found.2), (expected.page_count, &expected.meta), "{what}: page count and meta");
    for (id, page) in (0u64..).zip(&found.1) {
        let wanted = expected.pages.get(&id).map(|tag| contents(id, *tag));
        assert!(*page == wanted, "{what}: page {id} differs (expected tag {:?})", expected.pages.get(&id));
    }
}

/// Opens the store after a cut and holds it against the history. Returns the version that it stands at.
fn recovered(disk: &SimDisk, history: &History) -> u64 {
    let store = open(disk).expect("a store opens after any power cut");
    let version = store.version().0;
    assert!(version >= history.durable, "version {} was acknowledged, {version} is there", history.durable);
    let tip = history.tip().0;
    let expected = match history.states.get(&version) {
        Some(state) => state,
        None if version == tip + 1 => history.in_doubt.as_ref().expect("a version that nobody committed"),
        None => panic!("version {version} was never committed (tip {tip})"),
    };
    let found = snapshot_state(&store.snapshot()).expect("a recovered store can be read");
    check(&found, expected, "after recovery");
    let named: BTreeMap<String, u64> =
        store.snapshots().into_iter().map(|snapshot| (snapshot.name, snapshot.version.0)).collect();
    assert_eq!(named, expected.names, "the named snapshots");
    for (name, version) in &named {
        let snapshot = store.open_snapshot(name).expect("a listed snapshot opens");
        assert_eq!(snapshot.version().0, *version);
        let found = snapshot_state(&snapshot).expect("a named snapshot can be read");
        // One in doubt was made by the version in doubt.
        check(&found, history.states.get(version).unwrap_or(expected), "a named snapshot");
    }
    store.verify(&mut ()).expect("a recovered store is whole");
    store.audit().expect("a recovered store knows what is in use");
    version
}

/// The store goes on working after recovery, and a second session's writes are as safe as the first's.
fn goes_on(disk: &SimDisk, history: &History, version: u64, seed: u64) {
    let state = history.states.get(&version).or(history.in_doubt.as_ref()).cloned().expect("checked before");
    // Snapshots that the store keeps may be older.
    let kept = state.names.values().map(|kept| (*kept, history.states.get(kept).unwrap_or(&state).clone()));
    let states = kept.chain([(version, state.clone())]).collect();
    let mut later = History { states, durable: version, in_doubt: None };
    run(disk, seed, 6, &mut later).expect("a recovered store works");
    let after = disk.power_cut(seed ^ 1);
    recovered(&after, &later);
}

fn seeds() -> Vec<u64> {
    if let Ok(seed) = std::env::var("VELLUM_CRASH_SEED") {
        return vec![seed.parse().expect("a number")];
    }
    let count = std::env::var("VELLUM_CRASH_SEEDS").map_or(3, |count| count.parse().expect("a number"));
    (1..=count).collect()
}

#[test]
fn every_power_cut_is_survived() {
    let (mut cuts, mut packed) = (0u64, 0u64);
    for seed in seeds() {
        let steps = 30;
        let rehearsal = SimDisk::new(seed);
        run(&rehearsal, seed, steps, &mut History::new()).expect("the workload runs");
        for index in 0..rehearsal.io_count() {
            let disk = SimDisk::new(seed);
            disk.fail_at(index, Fault::Crash);
            let mut history = History::new();
            let context = format!("VELLUM_CRASH_SEED={seed} index {index}");
            let result = run(&disk, seed, steps, &mut history);
            if !disk.has_crashed() {
                println!("{context}: never reached ({} calls, {:?})", disk.io_count(), result.err());
                continue;
            }
            for survival in [Survival::Nothing, Survival::TailLost, Survival::Scattered, Survival::Everything]
            {
                let after = disk.power_cut_with(survival, index);
                packed += u64::from(after.files().iter().any(|(name, _)| name.starts_with("packed-")));
                let outcome = std::panic::catch_unwind(|| {
                    let version = recovered(&after, &history);
                    goes_on(&after, &history, version, seed ^ index);
                });
                assert!(outcome.is_ok(), "{context}, {survival:?}");
                cuts += 1;
            }
        }
    }
    println!("{cuts} power cuts survived, {packed} of them with packed segments on the disk");
    assert!(packed > 0 || cuts < 1000, "no workload came to packing");
}

#[test]
fn a_power_cut_inside_recovery_is_survived() {
    let mut cuts = 0u64;
    for seed in seeds() {
        let steps = 24;
        let rehearsal = SimDisk::new(seed);
        run(&rehearsal, seed, steps, &mut History::new()).expect("the workload runs");
        let count = rehearsal.io_count();
        for index in (count / 4..count).step_by(7) {
            let disk = SimDisk::new(seed);
            disk.fail_at(index, Fault::Crash);
            let mut history = History::new();
            let _ = run(&disk, seed, steps, &mut history);
            let after = disk.power_cut(index);
            let rehearsal = after.clone_state();
            drop(open(&rehearsal).expect("recovery works"));
            for inner in 0..rehearsal.io_count() {
                let again = after.clone_state();
                again.fail_at(inner, Fault::Crash);
                drop(open(&again));
                let last = again.power_cut(inner ^ index);
                let outcome = std::panic::catch_unwind(|| recovered(&last, &history));
                assert!(outcome.is_ok(), "VELLUM_CRASH_SEED={seed} index {index}, inside recovery {inner}");
                cuts += 1;
            }
        }
    }
    println!("{cuts} power cuts inside recovery survived");
}

#[test]
fn every_fault_is_an_error_and_loses_nothing() {
    let faults = [Fault::EIO, Fault::ENOSPC, Fault::ShortWrite, Fault::SyncFails];
    let mut tried = 0u64;
    for seed in seeds() {
        let steps = 24;
        let rehearsal = SimDisk::new(seed);
        run(&rehearsal, seed, steps, &mut History::new()).expect("the workload runs");
        for index in 0..rehearsal.io_count() {
            for fault in faults {
                let context = format!("VELLUM_CRASH_SEED={seed} index {index} {fault:?}");
                let disk = SimDisk::new(seed);
                disk.fail_at(index, fault);
                let mut history = History::new();
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let _ = run(&disk, seed, steps, &mut history);
                    disk.clear_faults();
                    // The process dies, or the power does; either way the acknowledged is there.
                    let after = if index % 2 == 0 { disk.power_cut(index) } else { disk.clone_state() };
                    recovered(&after, &history);
                }));
                assert!(outcome.is_ok(), "{context}");
                tried += 1;
            }
        }
    }
    println!("{tried} faults tried");
}
