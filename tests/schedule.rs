//! Goal: a schedule's moments are each run once, however unevenly it is ticked, over restarts and with a clock that jumps; what was
//! missed is told; retention keeps what it should of the schedule's own snapshots and touches no others.
//!
//! Method: a clock of the test's own; the moments found are held against those that the rule gives by counting.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Clock, Random, env, seed, small};
use vellum::storage::MemoryStorage;
use vellum::{CatchUp, Error, Naming, Retention, Schedule, Store};

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
/// 2026-11-27, a Friday, at midnight UTC.
const FRIDAY: u64 = 1_795_737_600;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn second_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn open(clock: &Clock, home: &Arc<MemoryStorage>) -> Store {
    Store::open_on(home.clone(), clock.of(small())).unwrap()
}

fn hourly() -> Schedule {
    Schedule::every("hourly", seconds(HOUR)).at(seconds(5 * MINUTE))
}

#[test]
fn five_past_every_hour() {
    let clock = Clock::at_seconds(FRIDAY + 10 * HOUR + 17 * MINUTE);
    let store = open(&clock, &Arc::new(MemoryStorage::new()));
    let schedule = hourly().label("by", "test").keep(Retention::new().keep_last(3));
    // The first tick makes one for the moment that has passed.
    let tick = store.tick(&schedule, clock.now()).unwrap();
    assert_eq!(tick.snapshot.as_deref(), Some("hourly-2026-11-27T10-05-00Z"));
    assert_eq!((tick.missed, second_of(tick.next)), (0, FRIDAY + 11 * HOUR + 5 * MINUTE));
    for minute in 18..65 {
        clock.set_seconds(FRIDAY + 10 * HOUR + minute * MINUTE);
        assert_eq!(store.tick(&schedule, clock.now()).unwrap().snapshot, None);
    }
    clock.set_seconds(FRIDAY + 11 * HOUR + 5 * MINUTE);
    let version = store.version();
    let tick = store.tick(&schedule, clock.now()).unwrap();
    assert_eq!(tick.snapshot.as_deref(), Some("hourly-2026-11-27T11-05-00Z"));
    assert_eq!(store.version().0, version.0 + 1, "one commit");
    // Then nobody ticks for four hours.
    clock.set_seconds(FRIDAY + 15 * HOUR + 30 * MINUTE);
    let tick = store.tick(&schedule, clock.now()).unwrap();
    assert_eq!(tick.snapshot.as_deref(), Some("hourly-2026-11-27T15-05-00Z"));
    assert_eq!((tick.missed, tick.pruned.dropped.len()), (3, 0));
    let made = store.snapshots().pop().unwrap();
    let labels = [("by", "test"), ("due", "1795791900000"), ("missed", "3"), ("schedule", "hourly")];
    assert_eq!(made.labels, labels.map(|(key, value)| (key.to_owned(), value.to_owned())));
    // Only its own are pruned.
    store.create_snapshot("by hand").unwrap();
    clock.set_seconds(FRIDAY + 16 * HOUR + 30 * MINUTE);
    let tick = store.tick(&schedule, clock.now()).unwrap();
    assert_eq!(tick.pruned.dropped, ["hourly-2026-11-27T10-05-00Z"]);
    assert_eq!(store.snapshots().len(), 4);
}

#[test]
fn what_is_late_is_made_or_left_as_the_rule_says() {
    let clock = Clock::at_seconds(FRIDAY + 6 * MINUTE);
    let store = open(&clock, &Arc::new(MemoryStorage::new()));
    let schedule = hourly().catch_up(CatchUp::IfWithin(seconds(10 * MINUTE)));
    assert!(store.tick(&schedule, clock.now()).unwrap().snapshot.is_some());
    clock.set_seconds(FRIDAY + 3 * HOUR + 16 * MINUTE);
    let tick = store.tick(&schedule, clock.now()).unwrap();
    assert_eq!((tick.snapshot, tick.missed), (None, 3), "eleven minutes late");
    clock.set_seconds(FRIDAY + 4 * HOUR + 15 * MINUTE);
    let tick = store.tick(&schedule, clock.now()).unwrap();
    assert_eq!((tick.snapshot.as_deref(), tick.missed), (Some("hourly-2026-11-27T04-05-00Z"), 3));
    // A first one that would be late is waited for.
    let other = Schedule::every("daily", seconds(24 * HOUR)).catch_up(CatchUp::IfWithin(seconds(HOUR)));
    let tick = store.tick(&other, clock.now()).unwrap();
    assert_eq!((tick.snapshot, tick.missed, second_of(tick.next)), (None, 0, FRIDAY + 24 * HOUR));
}

#[test]
fn a_clock_that_jumps_makes_nothing_twice_and_holds_nothing_up() {
    let clock = Clock::at_seconds(FRIDAY + 6 * MINUTE);
    let store = open(&clock, &Arc::new(MemoryStorage::new()));
    let schedule = hourly();
    let ticked = |at: u64| {
        clock.set_seconds(FRIDAY + at);
        let tick = store.tick(&schedule, clock.now()).unwrap();
        (tick.snapshot.map(|name| name[17..22].to_owned()), tick.is_clock_behind)
    };
    let made = |time: &str| Some(format!("T{time}"));
    assert_eq!(ticked(6 * MINUTE), (made("00-0"), false));
    // Back over the moment, and over it again.
    assert_eq!(ticked(4 * MINUTE), (None, true));
    assert_eq!(ticked(7 * MINUTE), (None, false));
    // Ten years ahead for one tick.
    assert!(ticked(10 * 365 * 24 * HOUR).0.is_some());
    assert_eq!(ticked(50 * MINUTE), (None, true));
    assert_eq!(ticked(66 * MINUTE), (made("01-0"), true));
    assert_eq!(ticked(67 * MINUTE), (None, true));
}

#[test]
fn every_moment_is_run_once_over_restarts_with_jitter() {
    let seed = seed("schedule");
    for round in 0..env("VELLUM_ROUNDS", 6) {
        let mut random = Random(seed ^ round);
        let (clock, home) = (Clock::at_seconds(FRIDAY), Arc::new(MemoryStorage::new()));
        let mut store = open(&clock, &home);
        let interval = 60 + random.below(1000);
        let (offset, jitter) = (random.below(interval), random.below(interval));
        let schedule = Schedule::every("s", seconds(interval))
            .at(seconds(offset))
            .jitter(seconds(jitter), random.next());
        let (mut at, mut runs, mut missed, mut announced) = (FRIDAY, Vec::new(), 0, None);
        for _ in 0..150 {
            let most = if random.below(20) == 0 { 5 * interval } else { interval / 2 };
            at += random.below(most);
            clock.set_seconds(at);
            let tick = store.tick(&schedule, clock.now()).unwrap();
            let what = format!("VELLUM_SEED={seed} round {round}");
            assert!(tick.next > clock.now(), "{what}");
            if let Some(due) = tick.due {
                let due = second_of(due);
                assert_eq!((due - offset) % interval, 0, "{what}: on the grid");
                assert!(due <= at);
                // As announced, if nothing was missed.
                if let Some(next) = announced.filter(|_| tick.missed == 0) {
                    let range: std::ops::RangeInclusive<u64> = due..=due + jitter;
                    assert!(range.contains(&second_of(next)) && clock.now() >= next, "{what}");
                }
                runs.push(due);
                missed += tick.missed;
            }
            // Again at once: nothing, and the same announcement.
            let again = store.tick(&schedule, clock.now()).unwrap();
            assert_eq!((again.snapshot, again.missed, again.next), (None, 0, tick.next), "{what}");
            announced = Some(tick.next);
            if random.below(10) == 0 {
                drop(store);
                store = open(&clock, &home);
            }
        }
        let all = (runs[runs.len() - 1] - runs[0]) / interval + 1;
        assert_eq!(runs.len() as u64 + missed, all, "each moment was run or missed");
        assert_eq!(runs.iter().collect::<BTreeSet<_>>().len(), runs.len());
        assert_eq!(store.snapshots().len(), runs.len());
    }
}

#[test]
fn a_tick_beside_another_makes_one() {
    let clock = Clock::at_seconds(FRIDAY + 6 * MINUTE);
    let store = open(&clock, &Arc::new(MemoryStorage::new()));
    for hour in 1..20 {
        let now = UNIX_EPOCH + seconds(FRIDAY + hour * HOUR + 6 * MINUTE);
        let made: usize = std::thread::scope(|scope| {
            let tick = || usize::from(store.tick(&hourly(), now).unwrap().snapshot.is_some());
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(tick)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(made, 1);
    }
    assert_eq!(store.snapshots().len(), 19);
}

#[test]
fn what_cannot_be_is_refused_and_a_pattern_names() {
    let clock = Clock::at_seconds(FRIDAY + 6 * MINUTE);
    let store = open(&clock, &Arc::new(MemoryStorage::new()));
    let refused = |schedule: Schedule, which: &str| match store.tick(&schedule, clock.now()) {
        Err(Error::InvalidOption { option, .. }) => assert_eq!(option, which),
        other => panic!("{other:?}"),
    };
    refused(Schedule::every("s", seconds(0)), "interval");
    refused(Schedule::every("s", Duration::MAX), "interval");
    refused(Schedule::every("s", seconds(60)).at(seconds(60)), "at");
    refused(Schedule::every("s", seconds(60)).jitter(seconds(60), 1), "jitter");
    refused(Schedule::every("s", seconds(60)).pattern("always the same"), "pattern");
    let nameless = store.tick(&Schedule::every("", seconds(60)), clock.now());
    assert!(matches!(nameless, Err(Error::InvalidName { .. })), "{nameless:?}");
    assert!(store.snapshots().is_empty());
    let schedule = hourly().pattern("auto {time} (hourly)").expires_in(seconds(HOUR));
    store.tick(&schedule, clock.now()).unwrap();
    let made = &store.snapshots()[0];
    assert_eq!(made.name, "auto 2026-11-27T00-05-00Z (hourly)");
    assert_eq!(made.expires_at.map(second_of), Some(FRIDAY + HOUR + 5 * MINUTE));
    // Somebody else's snapshot has the name.
    store.create_snapshot_with("auto 2026-11-27T01-05-00Z (hourly)", Naming::new()).unwrap();
    clock.set_seconds(FRIDAY + HOUR + 6 * MINUTE);
    assert!(matches!(store.tick(&schedule, clock.now()), Err(Error::SnapshotExists { .. })));
    // What another schedule did is nothing to this one.
    assert!(store.tick(&Schedule::every("other", seconds(HOUR)), clock.now()).unwrap().snapshot.is_some());
}
