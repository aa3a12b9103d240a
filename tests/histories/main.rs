//! Goal: whatever clients see of a store, at once and over time, is what its isolation promises: snapshot isolation shows write
//! skew and nothing worse, serializable shows nothing, a mixture protects those who asked for it; and a crash changes
//! nothing of that for what survives it.
//!
//! Method: threads run random transactions on few keys and record what they read and wrote (`client.rs`, `history.rs`): lists
//! that are appended to, and registers. The checker (`check.rs`, `graph.rs`) looks for every anomaly of Adya's classes in
//! the record, without asking the store. The same on the simulated disk, with a crash in the middle, a power cut, and a
//! second session. That the checker finds what there is to find is shown by clients with a flaw, and by histories made by
//! hand.
//!
//! Under `cfg(shuttle)` the same with eight threads on shuttle's schedules (`just shuttle`): a seed then decides the schedule too.
//!
//! Quick by default; `VELLUM_HISTORIES=n` sets how many histories of each sort are recorded (long: 100).
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod check;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod graph;
mod handmade;
mod history;

use std::collections::BTreeSet;
use std::sync::Arc;

use check::{Class, Report, check};
use client::{Flaw, Levels, Workload, prepare, read_all, run};
use common::{Random, env, seed, small};
use history::{Kind, Outcome, Recorder, Txn};
use vellum::storage::sim::{Fault, SimDisk};
use vellum::{Durability, Isolation, Store};

const KINDS: [Kind; 2] = [Kind::List, Kind::Register];
const SNAPSHOT: Levels = Levels::All(Isolation::Snapshot);
const SERIALIZABLE: Levels = Levels::All(Isolation::Serializable);

fn workload(kind: Kind, levels: Levels, flaw: Flaw) -> Workload {
    Workload { kind, levels, durability: None, flaw, threads: 4, count: 250 }
}

fn histories() -> u64 {
    env("VELLUM_HISTORIES", 3)
}

/// Records one history in memory and checks it.
#[cfg(not(shuttle))]
fn record(workload: Workload, seed: u64) -> Report {
    record_in(&small().background(seed % 2 == 1), workload, seed)
}

/// The same under one of shuttle's random schedules, which the seed decides as well; twice the threads, since none waits for a
/// processor.
#[cfg(shuttle)]
fn record(workload: Workload, seed: u64) -> Report {
    let workload = Workload { threads: 8, count: workload.count / 5, ..workload };
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    config.silence_warnings = true;
    config.max_steps = shuttle::MaxSteps::None;
    let scheduler = shuttle::scheduler::RandomScheduler::new_from_seed(seed, 1);
    let found = Arc::new(std::sync::Mutex::new(None));
    let report = found.clone();
    shuttle::Runner::new(scheduler, config).run(move || {
        // A thread of the store's own would not be shuttle's.
        let done = record_in(&small().background(false), workload, seed);
        *report.lock().unwrap() = Some(done);
    });
    found.lock().unwrap().take().expect("it was run")
}

fn record_in(options: &vellum::Options, workload: Workload, seed: u64) -> Report {
    let store = Store::in_memory(options.clone()).unwrap();
    prepare(&store).unwrap();
    let recorder = Recorder::default();
    assert!(run(&store, &recorder, workload, seed), "nothing fails in memory");
    read_all(&store, &recorder);
    store.audit().unwrap();
    check(workload.kind, &recorder.history())
}

fn allowed(levels: Levels) -> BTreeSet<Class> {
    match levels {
        SERIALIZABLE => BTreeSet::new(),
        _ => BTreeSet::from([Class::WriteSkew]),
    }
}

#[track_caller]
fn shows_nothing_worse(report: &Report, levels: Levels, context: &str) {
    let worse: Vec<_> =
        report.anomalies.iter().filter(|(class, _)| !allowed(levels).contains(class)).collect();
    assert!(worse.is_empty(), "{context}: {worse:#?}");
}

/// Records several histories; which anomalies were seen.
fn record_all(levels: Levels) -> BTreeSet<Class> {
    let first = seed("histories");
    let mut seen = BTreeSet::new();
    for kind in KINDS {
        let (mut committed, mut edges) = (0, 0);
        for n in 0..histories() {
            let report = record(workload(kind, levels, Flaw::None), first + n);
            shows_nothing_worse(&report, levels, &format!("{kind:?}, {levels:?}, VELLUM_SEED={}", first + n));
            committed += report.committed;
            edges += report.edges;
            seen.extend(report.classes());
        }
        println!(
            "{kind:?}, {levels:?}: {} histories, {committed} transactions committed, {edges} dependencies, {seen:?}",
            histories()
        );
    }
    seen
}

#[test]
fn snapshot_isolation_shows_write_skew_and_nothing_worse() {
    assert_eq!(record_all(SNAPSHOT), BTreeSet::from([Class::WriteSkew]), "write skew is seen");
}

#[test]
fn serializable_shows_nothing() {
    assert_eq!(record_all(SERIALIZABLE), BTreeSet::new());
}

#[test]
fn a_mixture_protects_the_serializable_ones() {
    record_all(Levels::Mixed);
}

#[test]
fn flaws_of_a_store_are_found() {
    use Class::{
        AbortedRead, GSingle, IncompatibleOrder, IntermediateRead, LostCommit, LostUpdate, NonRepeatableRead,
        StaleRead, WriteSkew,
    };
    let first = seed("histories");
    let flaws: [(Flaw, Levels, Kind, &[Class]); 13] = [
        (Flaw::ReadsCurrent, SNAPSHOT, Kind::List, &[NonRepeatableRead, GSingle]),
        (Flaw::ReadsCurrent, SNAPSHOT, Kind::Register, &[NonRepeatableRead, GSingle]),
        (Flaw::ReadsAside, SERIALIZABLE, Kind::List, &[WriteSkew]),
        (Flaw::ReadsAside, SERIALIZABLE, Kind::Register, &[WriteSkew]),
        (Flaw::ForgetsOwn, SNAPSHOT, Kind::List, &[NonRepeatableRead]),
        (Flaw::ForgetsOwn, SNAPSHOT, Kind::Register, &[NonRepeatableRead]),
        (Flaw::OverwritesWinner, SNAPSHOT, Kind::List, &[IncompatibleOrder, LostCommit]),
        (Flaw::OverwritesWinner, SNAPSHOT, Kind::Register, &[LostUpdate]),
        (Flaw::CommitsInPieces, SNAPSHOT, Kind::List, &[IntermediateRead, IncompatibleOrder]),
        (Flaw::CommitsAborted, SNAPSHOT, Kind::List, &[AbortedRead]),
        (Flaw::CommitsAborted, SNAPSHOT, Kind::Register, &[AbortedRead]),
        (Flaw::LosesCommits, SNAPSHOT, Kind::List, &[LostCommit]),
        (Flaw::ReadsOld, SNAPSHOT, Kind::List, &[StaleRead]),
    ];
    for (flaw, levels, kind, expected) in flaws {
        let mut missing: BTreeSet<Class> = expected.iter().copied().collect();
        let mut found = BTreeSet::new();
        // Flaws only show when transactions meet in the right way.
        for n in 0..20 {
            found = record(workload(kind, levels, flaw), first + n).classes();
            missing.retain(|class| !found.contains(class));
            if missing.is_empty() {
                break;
            }
        }
        assert!(missing.is_empty(), "{flaw:?}, {kind:?}: {missing:?} were not found, {found:?} were");
        println!("{flaw:?}, {levels:?}, {kind:?}: found {found:?}");
    }
}

/// What is left of a history after a recovery that found `version`.
fn survivors(history: Vec<Txn>, version: u64) -> Vec<Txn> {
    let survives = |mut txn: Txn| {
        txn.outcome = match txn.outcome {
            Outcome::Committed(committed) if committed <= version && txn.writes().next().is_some() => {
                txn.outcome
            }
            Outcome::Committed(committed) => {
                assert!(!txn.is_durable, "{} was durable in {committed}, but {version} was found", txn.name);
                Outcome::Lost
            }
            // Those in doubt can only have been in the batch that failed, the last one.
            Outcome::InDoubt => Outcome::InDoubt,
            Outcome::Aborted | Outcome::Lost => Outcome::Lost,
        };
        txn
    };
    history.into_iter().map(survives).collect()
}

#[test]
#[cfg_attr(shuttle, ignore = "threads of the system's, which shuttle doesn't run")]
fn a_crash_takes_the_end_of_a_history_and_nothing_else() {
    let first = seed("histories");
    let (mut crashes, mut lost, mut in_doubt) = (0, 0, 0);
    for n in 0..histories() * 8 {
        let seed = first + n;
        let mut random = Random(seed);
        let levels = [SNAPSHOT, SERIALIZABLE, Levels::Mixed][random.index(3)];
        let context = format!("VELLUM_SEED={seed}");
        let workload = Workload { count: 60, threads: 3, ..workload(Kind::List, levels, Flaw::None) };
        let recorder = Recorder::default();
        let mut disk = SimDisk::new(seed);
        let mut history: Vec<Txn> = Vec::new();
        for session in 0..3 {
            let store = Store::open_on(Arc::new(disk.storage()), small()).unwrap();
            // Versions that a crash took are given again: what a transaction has become is settled at each opening.
            history = survivors(history, store.version().0);
            let before = recorder.len() as usize;
            if session == 0 {
                prepare(&store).unwrap();
            }
            if session < 2 {
                let fault = [Fault::Crash, Fault::EIO, Fault::SyncFails][random.index(3)];
                disk.fail_at(disk.io_count() + random.below(60), fault);
            }
            let is_whole = run(&store, &recorder, workload, seed ^ session << 50);
            disk.clear_faults();
            crashes += u64::from(!is_whole);
            // What a poisoned store shows is as consistent as before.
            if !disk.has_crashed() {
                read_all(&store, &recorder);
            }
            history.extend(recorder.history().split_off(before));
            let doubtful = history.iter().filter(|txn| txn.outcome == Outcome::InDoubt).count();
            let mut report = check(workload.kind, &history);
            if disk.has_crashed() {
                // Nobody had a last look: what wasn't seen may be there.
                report.anomalies.remove(&Class::LostCommit);
            }
            shows_nothing_worse(&report, levels, &format!("{context}, session {session}"));
            if session == 2 {
                let has_writes = |txn: &&Txn| txn.outcome == Outcome::Lost && txn.writes().next().is_some();
                lost += history.iter().filter(has_writes).count();
                in_doubt += doubtful;
                continue;
            }
            // The process ends here, in one way or another.
            disk.crash();
            drop(store);
            disk = disk.power_cut(random.next());
        }
    }
    println!("{crashes} crashes, {lost} buffered or refused transactions lost, {in_doubt} in doubt");
    assert!(crashes > 0);
}

#[test]
#[cfg_attr(shuttle, ignore = "threads of the system's, which shuttle doesn't run")]
fn a_synced_history_loses_nothing_to_a_power_cut() {
    let first = seed("histories");
    for n in 0..histories() * 2 {
        let seed = first + n;
        let workload = Workload {
            count: 60,
            durability: Some(Durability::Sync),
            ..workload(Kind::Register, SERIALIZABLE, Flaw::None)
        };
        let recorder = Recorder::default();
        let disk = SimDisk::new(seed);
        let store = Store::open_on(Arc::new(disk.storage()), small()).unwrap();
        prepare(&store).unwrap();
        assert!(run(&store, &recorder, workload, seed));
        disk.crash();
        drop(store);
        let after = disk.power_cut(seed);
        let store = Store::open_on(Arc::new(after.storage()), small()).unwrap();
        assert!(run(&store, &recorder, workload, seed ^ 1 << 50));
        read_all(&store, &recorder);
        let report = check(workload.kind, &recorder.history());
        shows_nothing_worse(&report, SERIALIZABLE, &format!("VELLUM_SEED={seed}"));
    }
}
