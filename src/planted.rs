//! Tests of tests: each runs once more, by a process of its own, with a bug planted in the code (`sync::Planted`), and must fail.
//!
//! The process keeps the bug from the tests that run beside it, and whatever the bug does to memory from all of them.

use std::process::Command;

/// Tells the process what to plant: a bug's number, or the name of the model whose bug it is.
pub(crate) const CHILD: &str = "VELLUM_PLANTED";

/// Plants the bug whose number this process was given, if it was given one.
#[cfg(not(loom))]
pub(crate) fn plant_given() {
    let given = std::env::var(CHILD).ok().and_then(|bug| bug.parse().ok()).unwrap_or(0);
    crate::sync::PLANTED.store(given, std::sync::atomic::Ordering::Relaxed);
}

/// Checks that `test` fails when its process is given `planted`.
pub(crate) fn check_found(test: &str, planted: &str, bug: &str) {
    let run = Command::new(std::env::current_exe().expect("the test itself"))
        .args(["--exact", test, "--test-threads=1"])
        .env(CHILD, planted)
        // A schedule that somebody replays is another model's.
        .env_remove("VELLUM_SHUTTLE_REPLAY")
        .output()
        .expect("the test runs once more");
    let told = String::from_utf8_lossy(&run.stdout);
    // No test of this name would fail as well.
    assert!(told.contains("running 1 test"), "{told}");
    assert!(!run.status.success(), "{bug}: the planted bug was not found");
    println!("{bug}: the planted bug was found");
}
