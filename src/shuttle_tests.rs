//! Goal: what loom proves of each protocol with two or three threads holds for a whole store with eight, over long runs.
//!
//! Method: shuttle runs the real code, a store in memory without a thread of its own, on one system thread, and switches between its
//! threads wherever they touch a lock or an atomic of the `sync` facade: at random, or with few preemptions at chosen depths (PCT). It
//! samples schedules and exhausts nothing. What it can't see: crossbeam-epoch's own atomics (each of the collector's operations is one
//! step), and orderings weaker than sequential consistency; both are loom's. Then bugs are planted in the code (`sync::Planted`), each
//! in a process of its own, and must be found.
//!
//! `just shuttle`: `VELLUM_SHUTTLE` is the number of schedules for each model and scheduler. A failure prints its schedule, and
//! `VELLUM_SHUTTLE_REPLAY=SCHEDULE`, with the test's name, runs that one again.

mod bank;
mod queue;

use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler};
use shuttle::{Config, MaxSteps, Runner};

use crate::planted::{CHILD, check_found};
use crate::sync::{PLANTED, Planted};

/// Schedules for each model and scheduler, if nobody says otherwise.
const SCHEDULES: usize = 200;
/// Preemptions of a PCT schedule.
const DEPTH: usize = 3;

/// A commit needs more of a stack than shuttle gives its threads.
fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    // That it takes every ordering for the strictest is said above.
    config.silence_warnings = true;
    config.max_steps = MaxSteps::FailAfter(10_000_000);
    config
}

fn schedules() -> usize {
    std::env::var("VELLUM_SHUTTLE").ok().and_then(|count| count.parse().ok()).unwrap_or(SCHEDULES)
}

/// Runs a model under many schedules, and tells how many.
fn explore(name: &str, model: fn()) {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    if std::env::var(CHILD).is_ok_and(|planted| planted != name) {
        return;
    }
    let counted = move || {
        RUNS.fetch_add(1, Ordering::Relaxed);
        model();
    };
    if let Ok(schedule) = std::env::var("VELLUM_SHUTTLE_REPLAY") {
        Runner::new(ReplayScheduler::new_from_encoded(&schedule), config()).run(counted);
        return;
    }
    RUNS.store(0, Ordering::Relaxed);
    let begun = std::time::Instant::now();
    Runner::new(RandomScheduler::new(schedules()), config()).run(counted);
    Runner::new(PctScheduler::new(DEPTH, schedules()), config()).run(counted);
    println!("{name}: {} schedules, {:.1?}", RUNS.load(Ordering::Relaxed), begun.elapsed());
}

/// Runs a model with a bug planted; it must fail. A process of its own does it: what such a bug does to memory is its own affair.
fn explore_planted(name: &str, bug: Planted, model: fn()) {
    if let Ok(planted) = std::env::var(CHILD) {
        if planted == name {
            PLANTED.store(bug as u8, Ordering::Relaxed);
            explore(name, model);
        }
        return;
    }
    let test = std::thread::current().name().expect("a test has its name").to_owned();
    check_found(&test, name, name);
}
