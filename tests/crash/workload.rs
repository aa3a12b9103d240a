//! The workloads, what they know of the store's past, and how a store is held against it.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vellum::storage::sim::{Fault, SimDisk};
use vellum::{Durability, Error, Options, PageId, Store};

use crate::common::{Random, contents};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    page_count: u64,
    /// What each page was filled from.
    pages: BTreeMap<u64, u64>,
    meta: Vec<u8>,
    /// The named snapshots, and the version that each keeps.
    names: BTreeMap<String, u64>,
}

/// What the workload knows of the store's past.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) states: BTreeMap<u64, State>,
    pub(crate) durable: u64,
    /// Set once a commit failed in a way that leaves open whether it is on the disk.
    pub(crate) in_doubt: Option<State>,
    /// How many times the process was killed on the way, and the store opened again.
    pub(crate) kills: u64,
    /// Whether a bit may flip: the newest records then look torn to whoever opens the store, if nothing later proves them.
    pub(crate) is_damaged: bool,
    pub(crate) hidden: BTreeMap<u64, State>,
}

pub(crate) fn options() -> Options {
    Options::new().page_size(512).segment_size(64 << 10).checkpoint_bytes(64 << 10).background(false)
}

pub(crate) fn open(disk: &SimDisk) -> vellum::Result<Store> {
    Store::open_on(Arc::new(disk.storage()), options())
}

impl State {
    /// What the page should hold.
    pub(crate) fn page(&self, id: u64) -> Option<Vec<u8>> {
        self.pages.get(&id).map(|tag| contents(id, *tag))
    }
}

impl History {
    pub(crate) fn new() -> History {
        History {
            states: BTreeMap::from([(0, State::default())]),
            durable: 0,
            in_doubt: None,
            kills: 0,
            is_damaged: false,
            hidden: BTreeMap::new(),
        }
    }

    pub(crate) fn tip(&self) -> (u64, &State) {
        let (version, state) = self.states.last_key_value().expect("version 0 is always there");
        (*version, state)
    }
}

/// Runs something that may panic because the disk does; a panic is an error like any other then, and the store can still be read.
fn caught<T>(store: &Store, act: impl FnOnce() -> vellum::Result<T>) -> vellum::Result<T> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(result) => result,
        Err(panic) => {
            let Some(told) =
                panic.downcast_ref::<String>().filter(|told| told.starts_with("a planted panic"))
            else {
                std::panic::resume_unwind(panic)
            };
            snapshot_state(&store.snapshot()).expect("what was published can be read after a panic");
            let source = Arc::new(std::io::Error::other(told.clone()));
            Err(Error::Io { operation: "survive", file: "a panic".into(), source })
        }
    }
}

/// One transaction, drawn at random. `Ok(false)`: it failed cleanly.
fn commit(store: &Store, random: &mut Random, history: &mut History) -> vellum::Result<bool> {
    let kind = random.below(20);
    commit_of(kind, store, random, history)
}

/// One transaction of a kind: a truncation, a large one, a middling one, or one of a few pages.
fn commit_of(kind: u64, store: &Store, random: &mut Random, history: &mut History) -> vellum::Result<bool> {
    let (version, state) = history.tip();
    let mut next = state.clone();
    let mut txn = store.begin()?;
    let tag = version + 1;
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
    match caught(store, || txn.commit_with(durability)) {
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
            caught(store, || store.rename_snapshot(&name, &other))
        }
        Some(_) => caught(store, || store.drop_snapshot(&name)),
        None => {
            let result = caught(store, || store.create_snapshot(&name).map(drop));
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
            match caught(store, || store.drop_snapshot(&name)) {
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
    let wanted = Cell::new(None);
    let done = caught(store, || {
        let target = store.open_snapshot(name)?;
        wanted.set(Some(target.fingerprint()));
        store.rollback_to(&target)
    });
    let reached = (store.version().0 - tip) as usize;
    let mut states = vec![named(tip), state.clone(), named(tip + 2), state.clone()];
    // A panic may have come after the rollback was published, in what is done besides. No page is read for it: what was
    // published may lie in a write whose bits were flipped.
    let is_back = || {
        let (found, back) = (store.snapshot(), back(tip));
        (found.page_count(), found.meta()) == (back.page_count, back.meta.as_slice())
            && Some(found.fingerprint()) == wanted.get()
    };
    if reached > 0 && (done.is_ok() || reached == 2 && is_back()) {
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
    let mut elsewhere = History {
        states: BTreeMap::from([(tip, state.clone())]),
        durable: tip,
        in_doubt: None,
        kills: 0,
        is_damaged: false,
        hidden: BTreeMap::new(),
    };
    if tip > 0 {
        other.apply(&mut &full[..]).expect("memory has no faults");
    }
    let base = other.snapshot();
    commit(&other, random, &mut elsewhere).expect("memory has no faults");
    other.snapshot().export_since(&base, &mut delta).expect("memory has no faults");
    let next = elsewhere.tip().1.clone();
    match caught(store, || store.apply(&mut &delta[..])) {
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

/// Whether a store that was killed, or closed in whatever way, lost only what it may; the history then goes on from there.
fn resume(store: &Store, history: &mut History) {
    let version = store.version().0;
    let (durable, tip) = (if history.is_damaged { 0 } else { history.durable }, history.tip().0);
    let is_back = history.is_damaged && history.hidden.contains_key(&version);
    assert!(
        (durable..=tip).contains(&version) || is_back,
        "ended at {durable} to {tip}, opened at {version}"
    );
    let mut lost = history.states.split_off(&(version + 1));
    if history.is_damaged {
        // A record that was misread once may be read rightly the next time.
        let back = history.hidden.remove_entry(&version).filter(|_| version > tip);
        history.states.extend(back);
        history.hidden.append(&mut lost);
    }
    // What was found is made durable before anybody sees it.
    history.durable = version;
}

/// Runs the workload until it ends or an error ends it.
pub(crate) fn run(disk: &SimDisk, seed: u64, steps: u64, history: &mut History) -> vellum::Result<()> {
    let mut random = Random(seed);
    let mut store = open(disk)?;
    for _ in 0..steps {
        match random.below(27) {
            0 => {
                caught(&store, || store.sync())?;
                history.durable = history.tip().0;
            }
            1 => match caught(&store, || store.maintain(vellum::Budget::unlimited())) {
                Ok(_) => history.durable = history.tip().0,
                Err(Error::Full { .. }) => {}
                Err(error) => return Err(error),
            },
            2 => {
                // A clean close: everything published is durable afterwards, unless the disk was full. One that failed is a
                // crash: the end of what was buffered may be lost.
                if store.clone().close().is_ok() {
                    history.durable = history.tip().0;
                }
                drop(store);
                history.kills += u64::from(disk.has_crashed());
                store = open(disk)?;
                resume(&store, history);
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
            9 => {
                // The process is killed; the system still has what it was given.
                disk.crash();
                drop(store);
                history.kills += 1;
                store = open(disk)?;
                resume(&store, history);
            }
            _ => {
                commit(&store, &mut random, history)?;
            }
        }
    }
    Ok(())
}

/// A workload that is so small that few changes are unsynced at any moment.
pub(crate) fn run_small(disk: &SimDisk, seed: u64, steps: u64, history: &mut History) -> vellum::Result<()> {
    let mut random = Random(seed);
    let mut store = open(disk)?;
    for _ in 0..steps {
        match random.below(12) {
            0 => change_names(&store, &mut random, history)?,
            1 => {
                store.sync()?;
                history.durable = history.tip().0;
            }
            2 => {
                disk.crash();
                drop(store);
                history.kills += 1;
                store = open(disk)?;
                resume(&store, history);
            }
            _ => drop(commit_of(19, &store, &mut random, history)?),
        }
    }
    // The process ends without a close.
    disk.crash();
    Ok(())
}

/// Page count, pages and meta.
type Contents = (u64, Vec<Option<Vec<u8>>>, Vec<u8>);

pub(crate) fn snapshot_state(snapshot: &vellum::Snapshot) -> vellum::Result<Contents> {
    let view = snapshot.view();
    let pages: vellum::Result<_> =
        (0..snapshot.page_count()).map(|id| Ok(view.page(PageId(id))?.map(<[u8]>::to_vec))).collect();
    Ok((snapshot.page_count(), pages?, snapshot.meta().to_vec()))
}

pub(crate) fn check(found: &Contents, expected: &State, what: &str) {
    assert_eq!((found.0, &found.2), (expected.page_count, &expected.meta), "{what}: page count and meta");
    for (id, page) in (0u64..).zip(&found.1) {
        let wanted = expected.pages.get(&id).map(|tag| contents(id, *tag));
        assert!(*page == wanted, "{what}: page {id} differs (expected tag {:?})", expected.pages.get(&id));
    }
}

/// How many times a store was opened after a cut and held against its history.
pub(crate) static RECOVERIES: AtomicU64 = AtomicU64::new(0);

/// Opens the store after a cut and holds it against the history. Returns the version that it stands at.
pub(crate) fn recovered(disk: &SimDisk, history: &History) -> u64 {
    RECOVERIES.fetch_add(1, Ordering::Relaxed);
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

/// The history of a store that stands at `version`.
pub(crate) fn history_at(version: u64, history: &History) -> History {
    let state = history.states.get(&version).or(history.in_doubt.as_ref()).cloned().expect("checked before");
    // Snapshots that the store keeps may be older.
    let kept = state.names.values().map(|kept| (*kept, history.states.get(kept).unwrap_or(&state).clone()));
    let states = kept.chain([(version, state.clone())]).collect();
    History { states, durable: version, in_doubt: None, kills: 0, is_damaged: false, hidden: BTreeMap::new() }
}

/// The store goes on working after recovery, and a later session's writes are as safe as the first's: sessions that end with
/// the power, at most two of them in the middle of a call, and one that goes through.
pub(crate) fn goes_on(disk: &SimDisk, history: &History, version: u64, seed: u64) {
    let mut random = Random(seed);
    let (mut disk, mut version) = (disk.clone_state(), version);
    let mut history = history_at(version, history);
    for _ in 0..random.below(3) {
        disk.fail_at(random.below(60), Fault::Crash);
        let _ = run(&disk, random.next(), 6, &mut history);
        disk = disk.power_cut(random.next());
        version = recovered(&disk, &history);
        history = history_at(version, &history);
    }
    run(&disk, random.next(), 6, &mut history).expect("a recovered store works");
    recovered(&disk.power_cut(random.next()), &history);
}
