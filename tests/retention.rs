//! Goal: a policy keeps exactly what its rules say, for reasons that it gives; pruning drops the others and nothing else, never what
//! is held; the bytes that a plan promises are those that come back.
//!
//! Method: snapshots made under a clock of the test's own; the rules against a plain re-statement of them on random histories;
//! account and disk before and after. (Crashes at every I/O call: `history_crash.rs`.)
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::{Clock, Random, env, fill, seed, small};
use vellum::storage::{MemoryStorage, Storage};
use vellum::{Budget, Error, KeepReason, Naming, Period, Retention, Store};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// 2026-11-27, a Friday, at midnight UTC.
const FRIDAY: u64 = 1_795_737_600;

fn store_at(clock: &Clock, home: &Arc<MemoryStorage>) -> Store {
    let clock = clock.clone();
    Store::open_on(home.clone(), small().clock(move || clock.now())).unwrap()
}

fn names(store: &Store) -> Vec<String> {
    store.snapshots().into_iter().map(|snapshot| snapshot.name).collect()
}

#[test]
fn each_rule_keeps_what_it_says_and_tells_why() {
    let clock = Clock::at_seconds(FRIDAY);
    let store = store_at(&clock, &Arc::new(MemoryStorage::new()));
    // Every six hours for 400 days.
    let count = 1600;
    for n in 0..count {
        clock.set_seconds(FRIDAY + n * 6 * HOUR);
        store.create_snapshot(&format!("s{n:04}")).unwrap();
    }
    let kept = |policy: Retention| -> Vec<u64> {
        let plan = store.plan_retention(&policy, clock.now()).unwrap();
        assert_eq!(plan.decisions.len() as u64, count);
        plan.kept().map(|snapshot| snapshot.name[1..].parse().unwrap()).collect()
    };
    assert_eq!(kept(Retention::new().keep_last(3)), [1597, 1598, 1599]);
    assert_eq!(kept(Retention::new().keep_hourly(2)), [1598, 1599]);
    assert_eq!(kept(Retention::new().keep_daily(3)), [1591, 1595, 1599]);
    // The last day is 2027-12-31, a Friday; weeks end with Sundays.
    assert_eq!(kept(Retention::new().keep_weekly(2)), [1579, 1599]);
    assert_eq!(kept(Retention::new().keep_monthly(2)), [1599 - 31 * 4, 1599]);
    assert_eq!(kept(Retention::new().keep_yearly(5)), [35 * 4 - 1, 1599]);
    assert_eq!(kept(Retention::new().keep_within(Duration::from_secs(12 * HOUR))), [1597, 1598, 1599]);
    assert_eq!(kept(Retention::new().keep_last(0).keep_daily(0)), [0; 0]);
    assert_eq!(kept(Retention::new()).len() as u64, count, "without a rule nothing goes");

    let policy = Retention::new().keep_last(1).keep_daily(2).keep_yearly(1).keep_within(Duration::ZERO);
    let plan = store.plan_retention(&policy, clock.now()).unwrap();
    let last = plan.decisions.last().unwrap();
    let newest = |period, of: &str| KeepReason::Newest { period, of: of.to_owned() };
    let reasons = [
        KeepReason::Last { count: 1 },
        newest(Period::Day, "2027-12-31"),
        newest(Period::Year, "2027"),
        KeepReason::Within { time: Duration::ZERO },
    ];
    assert_eq!(last.reasons, reasons);
    assert_eq!(
        last.to_string(),
        "stays: the newest; the newest of 2027-12-31; the newest of 2027; within 0ns of the newest"
    );
    assert_eq!(plan.decisions[0].to_string(), "goes: no rule keeps it");
    // More than one commit carries.
    let version = store.version();
    let pruned = store.prune(&policy, clock.now()).unwrap();
    assert_eq!((pruned.dropped.len(), pruned.kept), (1598, 2));
    assert_eq!(store.version().0, version.0 + 2, "a thousand in a commit");
    assert_eq!(names(&store), ["s1595", "s1599"]);
    assert_eq!(store.prune(&policy, clock.now()).unwrap().dropped.len(), 0);
}

#[test]
fn what_is_held_or_not_expired_or_not_meant_stays() {
    let clock = Clock::at_seconds(FRIDAY);
    let home = Arc::new(MemoryStorage::new());
    let store = store_at(&clock, &home);
    let job = || Naming::new().label("job", "a");
    let end = |seconds: u64| clock.now() + Duration::from_secs(seconds);
    store.create_snapshot_with("plain", job()).unwrap();
    store.create_snapshot_with("held", job()).unwrap();
    store.hold_snapshot("held", "export", Some(end(100))).unwrap();
    store.create_snapshot_with("fresh", job().expires_at(end(100))).unwrap();
    store.create_snapshot_with("good", job().label("grade", "gold")).unwrap();
    store.create_snapshot_with("other", Naming::new().label("job", "b")).unwrap();
    store.create_snapshot_with("expired and held", job().expires_at(end(0))).unwrap();
    store.hold_snapshot("expired and held", "drill", None).unwrap();
    store.create_snapshot_with("leaving", job()).unwrap();
    store.hold_snapshot("leaving", "drill", None).unwrap();
    store.drop_snapshot_when_released("leaving").unwrap();
    store.create_snapshot_with("expired", job().expires_at(end(0))).unwrap();

    let policy = Retention::new().only_label("job", "a").keep_label("grade", "gold").keep_last(1);
    let plan = store.plan_retention(&policy, clock.now()).unwrap();
    let told: BTreeMap<&str, String> =
        plan.decisions.iter().map(|decision| (&*decision.snapshot.name, decision.to_string())).collect();
    let expected = BTreeMap::from([
        ("plain", "goes: no rule keeps it"),
        ("held", "stays: held by export"),
        ("fresh", "stays: not expired before 2026-11-27T00:01:40Z"),
        ("good", "stays: labelled grade=gold; the newest"),
        ("expired and held", "stays: held by drill"),
        ("leaving", "stays: held by drill"),
        ("expired", "goes: expired"),
    ]);
    assert_eq!(told.iter().map(|(name, told)| (*name, &**told)).collect::<BTreeMap<_, _>>(), expected);
    assert_eq!(store.prune(&policy, clock.now()).unwrap().dropped, ["plain", "expired"]);
    assert_eq!(names(&store), ["held", "fresh", "good", "other", "expired and held", "leaving"]);
    // Holds and expiries end.
    clock.set_seconds(FRIDAY + 100);
    assert_eq!(store.prune(&policy, clock.now()).unwrap().dropped, ["held", "fresh"]);
    drop(store);
    let store = store_at(&clock, &home);
    assert_eq!(names(&store), ["good", "other", "expired and held", "leaving"]);
    // Only what has expired goes without a rule.
    store.release_snapshot("expired and held", "drill").unwrap();
    assert_eq!(store.prune(&Retention::new(), clock.now()).unwrap().dropped, ["expired and held"]);
}

/// The rules once more, as one would explain them.
fn restated(times: &[u64], last: usize, counts: [usize; 3], within: u64) -> BTreeSet<usize> {
    let mut kept: BTreeSet<usize> = (times.len().saturating_sub(last)..times.len()).collect();
    let newest = times.last().copied().unwrap_or(0);
    kept.extend((0..times.len()).filter(|index| newest - times[*index] <= within));
    for (count, length, shift) in [(counts[0], HOUR, 0), (counts[1], DAY, 0), (counts[2], 7 * DAY, 3 * DAY)] {
        let period = |index: &usize| (times[*index] + shift) / length;
        let periods: BTreeSet<u64> = (0..times.len()).map(|index| period(&index)).collect();
        for wanted in periods.into_iter().rev().take(count) {
            kept.extend((0..times.len()).rev().find(|index| period(index) == wanted));
        }
    }
    kept
}

#[test]
fn random_histories_are_kept_as_restated_and_what_is_promised_comes_back() {
    let seed = seed("retention");
    for round in 0..env("VELLUM_ROUNDS", 10) {
        let mut random = Random(seed ^ round);
        let clock = Clock::at_seconds(FRIDAY);
        let home = Arc::new(MemoryStorage::new());
        let mut store = store_at(&clock, &home);
        let (mut at, mut times) = (FRIDAY, Vec::new());
        fill(&store, 0..300, 0);
        for n in 0..80 {
            let step = [600, 3 * HOUR, 2 * DAY][random.index(3)];
            at += random.below(step);
            clock.set_seconds(at);
            let first = random.below(290);
            fill(&store, first..first + 1 + random.below(10), random.next());
            if random.below(3) > 0 {
                store.create_snapshot(&format!("{}", times.len())).unwrap();
                times.push(at);
            }
            if n % 30 == 29 {
                drop(store);
                store = store_at(&clock, &home);
            }
        }
        let (last, within) = (random.index(4), random.below(2 * DAY));
        let counts = [random.index(6), random.index(6), random.index(4)];
        let policy = Retention::new()
            .keep_last(last)
            .keep_hourly(counts[0])
            .keep_daily(counts[1])
            .keep_weekly(counts[2])
            .keep_within(Duration::from_secs(within));
        let settle = |store: &Store| {
            assert!(store.maintain(Budget::unlimited()).unwrap().is_done);
            store.audit().unwrap();
            let disk: u64 =
                home.list().unwrap().iter().map(|name| home.open(name).unwrap().len().unwrap()).sum();
            (store.stats().allocated_bytes, disk)
        };
        // Table nodes take room on disk once a checkpoint has written them: what is promised is of what is there.
        let before = settle(&store);
        let plan = store.plan_retention(&policy, clock.now()).unwrap();
        let kept: BTreeSet<usize> = plan.kept().map(|snapshot| snapshot.name.parse().unwrap()).collect();
        assert_eq!(kept, restated(&times, last, counts, within), "VELLUM_SEED={seed} round {round}");
        let pruned = store.prune(&policy, clock.now()).unwrap();
        assert_eq!(pruned.freed_bytes, plan.freed_bytes);
        assert_eq!(pruned.dropped, plan.dropped().map(|snapshot| snapshot.name.clone()).collect::<Vec<_>>());
        assert_eq!(store.plan_retention(&policy, clock.now()).unwrap().freed_bytes, 0, "it is idempotent");
        let after = settle(&store);
        assert_eq!(before.0 - after.0, plan.freed_bytes, "VELLUM_SEED={seed} round {round}");
        // Files come and go whole or repacked: the disk follows by what was freed, but for a segment's waste.
        assert!(after.1 <= before.1, "{before:?} {after:?}");
        let left = store.snapshots().len();
        assert_eq!(left, kept.len());
    }
}

#[test]
fn a_drop_that_waits_for_its_catalogs_is_no_longer_counted() {
    let store = Store::in_memory(small()).unwrap();
    fill(&store, 0..200, 1);
    store.create_snapshot("a").unwrap();
    fill(&store, 0..100, 2);
    store.create_snapshot("b").unwrap();
    fill(&store, 0..200, 3);
    assert!(store.maintain(Budget::unlimited()).unwrap().is_done);
    let (both, alone) = (store.would_free(&["a", "b"]).unwrap(), store.would_free(&["b"]).unwrap());
    store.drop_snapshot("a").unwrap();
    let rest = store.would_free(&["b"]).unwrap();
    assert!(rest > alone, "what only the two of them saw is now what only b sees");
    assert!(both > rest);
    let before = store.stats().allocated_bytes;
    store.drop_snapshot("b").unwrap();
    assert!(store.maintain(Budget::unlimited()).unwrap().is_done);
    assert_eq!(before - store.stats().allocated_bytes, both);
}

#[test]
fn a_hold_taken_meanwhile_is_respected() {
    let store = Store::in_memory(small()).unwrap();
    fill(&store, 0..10, 1);
    for n in 0..200 {
        store.create_snapshot(&format!("{n}")).unwrap();
    }
    let policy = Retention::new().keep_last(0);
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let held = |n: u64| match store.hold_snapshot(&n.to_string(), "me", None) {
                Ok(()) => Some(n.to_string()),
                Err(Error::SnapshotNotFound { .. }) => None,
                Err(other) => panic!("{other}"),
            };
            (0..200).step_by(20).filter_map(held).collect::<Vec<String>>()
        });
        let mut dropped = 0;
        while !holder.is_finished() {
            dropped += store.prune(&policy, SystemTime::now()).unwrap().dropped.len();
        }
        let held = holder.join().unwrap();
        dropped += store.prune(&policy, SystemTime::now()).unwrap().dropped.len();
        assert_eq!(names(&store), held);
        assert_eq!(dropped + held.len(), 200);
    });
}
