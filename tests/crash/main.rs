//! Goal: nothing acknowledged is ever lost, nothing is ever half applied, whatever the disk does and whenever power fails.
//!
//! Method: a seeded workload (synced and buffered commits, named snapshots created, renamed and dropped, frees, truncations,
//! meta, batches larger than a segment, rollbacks, deltas applied, syncs, checkpoints, clean closes, kills) runs on the
//! simulated disk, once to count its I/O calls, and then again with a power cut, a crash, a fault, a flipped bit or a panic
//! at each of them. After each cut the store is opened, itself with cuts in the recovery and in the recovery from
//! that, and compared with the model's history: it must stand at a version that was published, at least at the newest one
//! acknowledged as durable, with exactly that version's pages and that version's named snapshots, each with its pages;
//! and it must go on working, for several sessions. Workloads of a few calls are cut at each call with each subset of
//! the changes that are not synced at that moment.
//!
//! Quick by default; `VELLUM_CRASH_SEEDS=n` sets the number of workloads (long: 200), `VELLUM_CRASH_SMALL=n` that of the small
//! ones. A failure prints the seed, the index and the fault: `VELLUM_CRASH_SEED=s` runs that workload alone.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

#[path = "../common/mod.rs"]
mod common;
mod workload;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;

use common::{Random, env};
use vellum::storage::sim::{Fault, IoKind, SimDisk, Survival};
use vellum::{Durability, Error, PageId};
use workload::{History, RECOVERIES, goes_on, open, recovered, run, run_small};

fn seeds_of(name: &str, default: u64) -> Vec<u64> {
    if std::env::var("VELLUM_CRASH_SEED").is_ok() {
        return vec![env("VELLUM_CRASH_SEED", 0)];
    }
    (1..=env(name, default)).collect()
}

fn seeds() -> Vec<u64> {
    // The quick form takes two of which one comes to packing.
    if is_long() { seeds_of("VELLUM_CRASH_SEEDS", 0) } else { seeds_of("VELLUM_CRASH_SEEDS", 5).split_off(3) }
}

/// Whether more than the quick form was asked for.
fn is_long() -> bool {
    ["VELLUM_CRASH_SEEDS", "VELLUM_CRASH_SEED"].iter().any(|name| std::env::var(name).is_ok())
}

/// The quick form takes every n-th moment.
fn stride(n: usize) -> usize {
    if is_long() { 1 } else { n }
}

fn is_planted(panic: &(dyn std::any::Any + Send)) -> bool {
    panic.downcast_ref::<String>().is_some_and(|told| told.starts_with("a planted panic"))
}

/// Keeps planted panics from being printed, thousands of them.
fn silence_planted_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !is_planted(info.payload()) {
                print(info);
            }
        }));
    });
}

/// How many recoveries all tests of this process have made so far.
fn recoveries() -> u64 {
    RECOVERIES.load(Ordering::Relaxed)
}

#[test]
fn every_power_cut_is_survived() {
    let (mut cuts, mut packed) = (0u64, 0u64);
    for seed in seeds() {
        let steps = 30;
        let rehearsal = SimDisk::new(seed);
        run(&rehearsal, seed, steps, &mut History::new()).expect("the workload runs");
        for index in (0..rehearsal.io_count()).step_by(stride(2)) {
            let disk = SimDisk::new(seed);
            disk.fail_at(index, Fault::Crash);
            let mut history = History::new();
            let context = format!("VELLUM_CRASH_SEED={seed} index {index}");
            let result = run(&disk, seed, steps, &mut history);
            if !disk.has_crashed() {
                // It struck inside a close, and the workload went on after that.
                assert!(result.is_ok() && history.kills > 0, "{context}: never reached: {result:?}");
                recovered(&disk, &history);
                continue;
            }
            for survival in [Survival::Nothing, Survival::TailLost, Survival::Scattered, Survival::Everything]
            {
                let after = disk.power_cut_with(survival, index);
                packed += u64::from(after.files().iter().any(|(name, _)| name.starts_with("packed-")));
                let outcome = catch_unwind(|| {
                    let version = recovered(&after, &history);
                    goes_on(&after, &history, version, seed ^ index);
                });
                assert!(outcome.is_ok(), "{context}, {survival:?}");
                cuts += 1;
            }
        }
    }
    println!(
        "{cuts} power cuts survived, {packed} of them with packed segments on the disk; {} recoveries so far",
        recoveries()
    );
    // The first few that the long form takes needn't come to it.
    assert!(packed > 0 || (is_long() && seeds().len() < 5), "no workload came to packing");
}

#[test]
fn a_power_cut_inside_recovery_is_survived() {
    let mut cuts = 0u64;
    for seed in seeds() {
        let steps = 24;
        let rehearsal = SimDisk::new(seed);
        run(&rehearsal, seed, steps, &mut History::new()).expect("the workload runs");
        let count = rehearsal.io_count();
        for index in (count / 4..count).step_by(if is_long() { 7 } else { 53 }) {
            let disk = SimDisk::new(seed);
            disk.fail_at(index, Fault::Crash);
            let mut history = History::new();
            let _ = run(&disk, seed, steps, &mut history);
            let after = disk.power_cut(index);
            let rehearsal = after.clone_state();
            drop(open(&rehearsal).expect("recovery works"));
            for inner in 0..rehearsal.io_count() {
                let context = format!("VELLUM_CRASH_SEED={seed} index {index}, inside recovery {inner}");
                let mut random = Random(seed ^ index << 20 ^ inner);
                let mut disk = after.clone_state();
                disk.fail_at(inner, Fault::Crash);
                drop(open(&disk));
                cuts += 1;
                // Recoveries of what recoveries left, until one gets through.
                for _ in 0..random.below(4) {
                    disk = disk.power_cut(random.next());
                    disk.fail_at(random.below(rehearsal.io_count()), Fault::Crash);
                    drop(open(&disk));
                    cuts += 1;
                }
                let last = disk.power_cut(random.next());
                let outcome = catch_unwind(|| {
                    // Whoever opens it, at whatever moment the process before was killed, finds the same.
                    let killed = last.clone_state();
                    let store = open(&killed).expect("a store opens after any power cut");
                    let version = store.version().0;
                    killed.crash();
                    drop(store);
                    assert_eq!(recovered(&killed, &history), version, "recovery has come to rest");
                    assert_eq!(recovered(&last, &history), version, "recovery is deterministic");
                });
                assert!(outcome.is_ok(), "{context}");
            }
        }
    }
    println!("{cuts} power cuts inside recovery survived; {} recoveries so far", recoveries());
}

#[test]
fn every_fault_is_an_error_and_loses_nothing() {
    let faults = [Fault::EIO, Fault::ENOSPC, Fault::ShortWrite, Fault::SyncFails, Fault::Panic];
    silence_planted_panics();
    let mut tried = 0u64;
    for seed in seeds() {
        let steps = 24;
        let rehearsal = SimDisk::new(seed);
        run(&rehearsal, seed, steps, &mut History::new()).expect("the workload runs");
        for index in (0..rehearsal.io_count()).step_by(stride(3)) {
            for fault in faults {
                let context = format!("VELLUM_CRASH_SEED={seed} index {index} {fault:?}");
                let disk = SimDisk::new(seed);
                disk.fail_at(index, fault);
                let mut history = History::new();
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    let outcome = catch_unwind(AssertUnwindSafe(|| run(&disk, seed, steps, &mut history)));
                    if let Err(panic) = outcome
                        && !is_planted(&*panic)
                    {
                        resume_unwind(panic);
                    }
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
    println!("{tried} faults tried; {} recoveries so far", recoveries());
}

/// A bit that flips on the way is nobody's fault that could be helped; but it is told, or it changes nothing.
#[test]
fn every_flipped_bit_is_found_or_changes_nothing() {
    let (mut harmless, mut told) = (0u64, 0u64);
    for seed in seeds() {
        let steps = 24;
        let rehearsal = SimDisk::new(seed);
        run(&rehearsal, seed, steps, &mut History::new()).expect("the workload runs");
        for (index, call) in (0..).zip(rehearsal.calls()).step_by(stride(2)) {
            if !matches!(call.kind, IoKind::Read | IoKind::Write) {
                continue;
            }
            let disk = SimDisk::new(seed);
            disk.fail_at(index, Fault::BitFlip);
            // Whatever the workload reads is compared with what it knows.
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let mut history = History { is_damaged: true, ..History::new() };
                let result = run(&disk, seed, steps, &mut history);
                (result, history)
            }));
            let Ok((result, history)) = outcome else {
                panic!("VELLUM_CRASH_SEED={seed} index {index}: {call}")
            };
            match result {
                Ok(()) => harmless += 1,
                Err(Error::Corrupt { .. } | Error::Poisoned { .. } | Error::Unsupported { .. }) => told += 1,
                Err(error) => panic!("VELLUM_CRASH_SEED={seed} index {index}: {call}: {error:?}"),
            }
            // What lies on the disk now is read, or found to be damaged.
            if let Ok(store) = open(&disk.power_cut_with(Survival::Everything, 0)) {
                let version = store.version().0;
                let expected = match history.states.get(&version).or(history.hidden.get(&version)) {
                    Some(state) => state,
                    None => history.in_doubt.as_ref().expect("a version that somebody committed"),
                };
                let snapshot = store.snapshot();
                let view = snapshot.view();
                for id in 0..snapshot.page_count() {
                    match view.page(PageId(id)) {
                        Ok(page) => assert!(
                            page.map(<[u8]>::to_vec) == expected.page(id),
                            "VELLUM_CRASH_SEED={seed} index {index}: {call}: wrong bytes of page {id}"
                        ),
                        Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{error:?}"),
                    }
                }
            }
        }
    }
    println!("bits flipped in {harmless} calls without effect, in {told} with an error");
    assert!(told > 0 || harmless == 0);
}

/// Most unsynced changes of which every subset is tried.
const SUBSETS_OF_MAX: usize = 8;

#[test]
fn small_workloads_survive_every_cut_with_every_subset_of_what_was_not_synced() {
    let (mut cuts, mut whole, mut sampled) = (0u64, 0u64, 0u64);
    for seed in seeds_of("VELLUM_CRASH_SMALL", 2) {
        let steps = 4 + seed % 5;
        let rehearsal = SimDisk::new(seed);
        run_small(&rehearsal, seed, steps, &mut History::new()).expect("the workload runs");
        for index in 0..rehearsal.io_count() {
            let disk = SimDisk::new(seed);
            disk.fail_at(index, Fault::Crash);
            let mut history = History::new();
            let _ = run_small(&disk, seed, steps, &mut history);
            let unsynced = disk.unsynced();
            let mut random = Random(seed ^ index << 32);
            let subsets: Vec<u64> = if unsynced <= SUBSETS_OF_MAX {
                whole += 1;
                (0..1 << unsynced).collect()
            } else {
                sampled += 1;
                (0..1 << SUBSETS_OF_MAX >> 2).map(|_| random.next() | random.next()).collect()
            };
            for changes in subsets {
                let context = format!("VELLUM_CRASH_SEED={seed} index {index}, sparing {changes:#b}");
                let outcome = catch_unwind(|| recovered(&disk.power_cut_sparing(changes), &history));
                assert!(outcome.is_ok(), "{context}");
                cuts += 1;
            }
        }
    }
    println!(
        "{cuts} power cuts survived, at {whole} moments all there could be and at {sampled} a sample; {} recoveries so far",
        recoveries()
    );
}

/// A panic between the making of a segment and the sync of its name once went unnoticed outside commits: the next catalog
/// named the file, and a power cut took it.
#[test]
fn a_panic_outside_a_commit_leaves_nothing_that_a_later_catalog_could_build_on() {
    silence_planted_panics();
    let begun = |disk: &SimDisk| {
        let store = open(disk).expect("a new store");
        let mut txn = store.begin().expect("it takes writes");
        txn.truncate(4000).expect("few pages");
        // In many leaves: their nodes fill more than what is left of the segment.
        for id in (0..4000).step_by(64) {
            txn.write(PageId(id), &[7; 512]).expect("a page");
        }
        txn.commit().expect("it takes writes");
        store
    };
    let rehearsal = SimDisk::new(1);
    let store = begun(&rehearsal);
    let first = rehearsal.io_count();
    store.maintain(vellum::Budget::unlimited()).expect("it takes writes");
    let mut refused = 0;
    for index in first..rehearsal.io_count() {
        let disk = SimDisk::new(1);
        let store = begun(&disk);
        disk.fail_at(index, Fault::Panic);
        let panic = catch_unwind(AssertUnwindSafe(|| store.maintain(vellum::Budget::unlimited())));
        assert!(panic.is_err(), "call {index} panics");
        refused += u64::from(matches!(store.begin(), Err(Error::Poisoned { .. })));
        assert_eq!(store.view().page(PageId(64)).expect("reads go on"), Some(&[7; 512][..]));
        // Closed as well as can be.
        drop(store);
        let store =
            open(&disk.power_cut_with(Survival::Nothing, 0)).expect("a store opens after any power cut");
        assert_eq!(store.view().page(PageId(64)).expect("it was committed"), Some(&[7; 512][..]));
    }
    assert!(refused > 0, "a store that was panicked in takes no more writes");
}

#[test]
fn what_an_opening_finds_is_durable_when_it_returns() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let store = open(&disk).unwrap();
        let mut txn = store.begin().unwrap();
        txn.truncate(60).unwrap();
        txn.commit().unwrap();
        let first = store.version();
        // Handed to the system at once, since it is too large to wait for others; synced by nobody.
        let mut txn = store.begin().unwrap();
        for id in 0..60 {
            txn.write(PageId(id), &vec![7; store.page_size()]).unwrap();
        }
        txn.commit_with(Durability::Buffered).unwrap();
        // A kill takes nothing from the system, which an opening then finds.
        disk.crash();
        drop(store);
        let store = open(&disk).unwrap();
        let (found, recovery) = (store.version(), store.recovery());
        assert!(
            found > first && recovery.bytes_rewritten > 0,
            "{found}, {recovery:?}: nothing to make durable"
        );
        assert_eq!(store.stats().durable_version, found);
        let after = disk.power_cut_with(Survival::Nothing, seed);
        assert_eq!(open(&after).unwrap().version(), found, "seed {seed}");
    }
}
