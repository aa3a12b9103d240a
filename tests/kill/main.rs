//! Goal: what was acknowledged survives the real thing: a killed process, a power cut under a real file system, a kernel that
//! fails a sync, and one that writes less than it was asked to.
//!
//! Method: a child process (this very executable) opens a store and commits from several threads, names snapshots and drops
//! them, checkpoints and packs, and tells each step through a pipe (`child.rs`). Its parent ends it at a random
//! moment, by SIGKILL, by shutting down the file system under it, or by system calls that fail (`shim.c`). The next child
//! tells what it found, and the parent holds that against what was told before (`ledger.rs`). Nobody closes the
//! store in between, but for every tenth time, when the parent opens it and looks at all of it.
//!
//! Quick by default; `VELLUM_KILLS=n` (long: 10,000), `VELLUM_POWER_CUTS=n` for each file system (long: 200) and
//! `VELLUM_SYNC_FAULTS=n` (long: 400). Power cuts need root, loop mounts and xfs_io, the faults a C compiler and x86-64 Linux;
//! where that is missing, the test says so and does nothing.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod child;
#[path = "../common/mod.rs"]
mod common;
mod ledger;
mod machine;

use std::path::Path;
use std::time::Duration;

use child::Process;
use common::{Random, env, seed};
use ledger::Ledger;
use machine::Mount;

/// Most rounds beyond those asked for.
const MORE_MAX: u64 = 200;

/// Lets a child work for a random while once it has opened the store; `end` then ends it.
fn run_for_a_while(
    dir: &Path,
    random: &mut Random,
    ledger: &mut Ledger,
    context: &str,
    end: impl FnOnce(&mut Process),
) {
    let mut child = Process::start(dir, random.next(), &[]);
    for line in child.read_until_open() {
        ledger.take(&line, context);
    }
    // From hardly begun to several checkpoints.
    let most = [1_000, 10_000, 100_000][random.index(3)];
    std::thread::sleep(Duration::from_micros(random.below(most)));
    end(&mut child);
    for line in child.finish() {
        ledger.take(&line, context);
    }
}

#[test]
fn acknowledged_commits_survive_sigkill() {
    let seed = seed("kill");
    let mut random = Random(seed);
    let kills = env("VELLUM_KILLS", 30);
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let mut ledger = Ledger::default();
    for n in 0..kills + MORE_MAX {
        // On a slow machine some more, until there was something to lose.
        if n >= kills && ledger.synced > 0 && ledger.named > 0 {
            break;
        }
        run_for_a_while(&dir, &mut random, &mut ledger, &format!("kill {n}"), Process::kill);
        if n % 10 == 9 {
            ledger.check_whole(&dir, &format!("kill {n}"));
        }
        if n % 1_000 == 999 {
            println!("{} kills: {ledger}", n + 1);
        }
    }
    ledger.check_whole(&dir, "the end");
    println!("{kills} kills: {ledger}");
    assert!(ledger.synced > 0 && ledger.named > 0, "the children came to work");
}

fn power_cuts_on(make: &str) {
    let seed = seed("kill");
    let mut random = Random(seed);
    let home = tempfile::tempdir().unwrap();
    let mount = match Mount::new(home.path(), make) {
        Ok(mount) => mount,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let cuts = env("VELLUM_POWER_CUTS", 4);
    let mut ledger = Ledger::default();
    let dir = mount.path().join("store");
    for n in 0..cuts + MORE_MAX {
        if n >= cuts && ledger.synced > 0 {
            break;
        }
        let context = format!("{make}, cut {n}");
        run_for_a_while(&dir, &mut random, &mut ledger, &context, |child| {
            // With the power goes the process: a sync that the cut catches in the kernel, which may then say anything, is
            // answered to nobody.
            child.stop();
            mount.cut_power();
            child.kill();
        });
        mount.again();
    }
    ledger.check_whole(&dir, make);
    println!("{make}: {cuts} power cuts: {ledger}");
    assert!(ledger.synced > 0, "the children came to work");
}

#[test]
fn synced_commits_survive_power_cuts_under_ext4() {
    power_cuts_on("mkfs.ext4");
}

#[test]
fn synced_commits_survive_power_cuts_under_xfs() {
    power_cuts_on("mkfs.xfs");
}

#[test]
fn a_sync_that_fails_ends_writing_and_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let shim = match machine::compile_shim(home.path()) {
        Ok(shim) => shim,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let mut random = Random(seed("kill"));
    let (tries, mut struck) = (env("VELLUM_SYNC_FAULTS", 12), 0);
    let mut ledger = Ledger::default();
    ledger.may_not_open = true;
    let dir = home.path().join("store");
    for n in 0..tries {
        let context = format!("sync fault {n}");
        // The first syncs are those of the opening.
        let nth = 1 + if n % 2 == 0 { n / 2 } else { random.below(60) };
        let shim = [
            ("LD_PRELOAD", shim.clone()),
            ("VELLUM_SHIM", format!("sync {nth}")),
            ("VELLUM_COMMITS", "40".into()),
        ];
        let mut child = Process::start(&dir, random.next(), &shim);
        let lines = child.finish();
        struck += u64::from(lines.iter().any(|line| line.starts_with("failed")));
        assert!(lines.iter().any(|line| line == "shim"), "{context}: the shim was not loaded: {lines:?}");
        for line in &lines {
            ledger.take(line, &context);
        }
        // Nothing is told as committed behind a failure: the store has had enough.
        let mut has_failed = [false; child::WRITERS];
        for line in &lines {
            let mut words = line.split(' ');
            match (words.next(), words.next().and_then(|thread| thread.parse::<usize>().ok())) {
                (Some("failed"), Some(thread)) => has_failed[thread] = true,
                (Some("ack"), Some(thread)) => {
                    assert!(!has_failed[thread], "{context}: {line} after a failure");
                }
                _ => {}
            }
        }
        ledger.check_whole(&dir, &context);
    }
    println!("{tries} runs, a sync failed in {struck} of them: {ledger}");
    assert!(struck > 0);
}

#[test]
fn short_and_interrupted_calls_are_gone_on_with() {
    let home = tempfile::tempdir().unwrap();
    let shim = match machine::compile_shim(home.path()) {
        Ok(shim) => shim,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let mut random = Random(seed("kill"));
    let mut ledger = Ledger::default();
    let dir = home.path().join("store");
    for n in 0..3 {
        let context = format!("run {n}");
        let shim = [
            ("LD_PRELOAD", shim.clone()),
            ("VELLUM_SHIM", "short 0".into()),
            ("VELLUM_COMMITS", "60".into()),
        ];
        let mut child = Process::start(&dir, random.next(), &shim);
        let lines = child.finish();
        assert!(lines.iter().any(|line| line == "shim"), "{context}: the shim was not loaded: {lines:?}");
        let failed: Vec<_> = lines.iter().filter(|line| line.starts_with("failed")).collect();
        assert!(failed.is_empty(), "{context}: {failed:?}");
        for line in &lines {
            ledger.take(line, &context);
        }
        ledger.check_whole(&dir, &context);
    }
    println!("{ledger}");
    assert!(ledger.synced > 0);
}
