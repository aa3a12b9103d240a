//! What opening costs after the process was killed, by how much it had committed since its checkpoint.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use vellum::{Durability, Options, PageId, Recovery, Store};

use crate::Result;
use crate::ground::{Ground, PAGE, commit_one};
use crate::measure::{Random, median};
use crate::report::{Report, Target};

/// The hidden argument that makes this program the one that is killed.
pub(crate) const CHILD: &str = "--commit-until-killed";
/// The same, with the store that is there.
pub(crate) const CHILD_GOES_ON: &str = "--commit-on-until-killed";

/// Pages of the store that is left behind.
const PAGES: u64 = 4096;
/// How often each crash is opened, each time from a fresh copy.
const OPENINGS: usize = 3;

/// As usual, but no checkpoint comes in between.
fn options() -> Options {
    Options::new().checkpoint_bytes(1 << 40)
}

/// Makes a store or goes on with one, does `batches` durable commits after a checkpoint, says so, and waits to be killed.
pub(crate) fn child(dir: &Path, batches: u64, goes_on: bool) -> Result {
    let store = Store::open(dir, options())?;
    if !goes_on {
        let mut txn = store.begin()?;
        txn.truncate(PAGES)?;
        for id in 0..PAGES {
            txn.write(PageId(id), &[1; PAGE])?;
        }
        txn.commit()?;
    }
    let none = vellum::Budget::unlimited().time(std::time::Duration::ZERO);
    store.maintain(none)?;
    let mut random = Random::new(batches);
    for _ in 0..batches {
        commit_one(&store, random.below(PAGES), random.next(), Durability::Sync)?;
    }
    println!("done");
    loop {
        std::thread::park();
    }
}

pub(crate) fn after_kill(ground: &Ground, report: &mut Report) -> Result {
    let mut seen: Vec<Recovery> = Vec::new();
    for &batches in ground.scale.batches {
        let left = ground.dir().join(format!("killed-{batches}"));
        kill(&left, batches)?;
        let (millis, recovery) = reopen(&left)?;
        std::fs::remove_dir_all(&left)?;
        report.figure(
            format!("reopening after SIGKILL, {} batches", recovery.batches),
            "ms",
            millis,
            Target::None,
        );
        let rewritten = recovery.bytes_rewritten;
        let figure = format!("  bytes read, {} batches ({rewritten} bytes rewritten)", recovery.batches);
        report.figure(figure, "bytes", float(recovery.bytes_read)?, Target::None);
        seen.push(recovery);
    }
    // Between two crashes the constant parts cancel out: one slot of record a batch, and no page.
    for two in seen.windows(2) {
        let [fewer, more] = two else { continue };
        let batches = float(more.batches - fewer.batches)?;
        let bytes = float(more.bytes_read.saturating_sub(fewer.bytes_read))? / batches;
        let name = format!("from {} to {} batches", fewer.batches, more.batches);
        report.figure(
            format!("  bytes read for each further batch, {name}"),
            "bytes",
            bytes,
            Target::AtMost(4300.0),
        );
        let micros = (float(more.nanos)? - float(fewer.nanos)?) / 1e3 / batches;
        report.figure(format!("  time for each further batch, {name}"), "us", micros, Target::None);
    }
    Ok(())
}

fn float(count: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(count)?))
}

/// Leaves in `dir` what a killed process leaves.
fn kill(dir: &Path, batches: u64) -> Result {
    kill_after(dir, CHILD, batches)
}

/// Runs this program as `child` on `dir`, and kills it when it has done its commits.
pub(crate) fn kill_after(dir: &Path, child: &str, batches: u64) -> Result {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(child)
        .arg(dir)
        .arg(batches.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let output = child.stdout.take().ok_or("the child has no output")?;
    BufReader::new(output).read_line(&mut line)?;
    // On Unix this is SIGKILL.
    child.kill()?;
    child.wait()?;
    if line.trim() == "done" { Ok(()) } else { Err("the child ended before its commits were done".into()) }
}

/// The median time of opening, in milliseconds, and what it said; `nanos` is the median's.
fn reopen(left: &Path) -> Result<(f64, Recovery)> {
    let copy = left.with_extension("copy");
    let mut openings = Vec::new();
    for _ in 0..OPENINGS {
        std::fs::create_dir(&copy)?;
        for entry in std::fs::read_dir(left)? {
            let entry = entry?;
            let to = copy.join(entry.file_name());
            std::fs::copy(entry.path(), &to)?;
            // What the killed process had written was on the disk, too.
            File::open(to)?.sync_all()?;
        }
        let store = Store::open(&copy, options())?;
        openings.push(store.recovery());
        drop(store);
        std::fs::remove_dir_all(&copy)?;
    }
    openings.sort_by_key(|recovery| recovery.nanos);
    let recovery = openings[OPENINGS / 2];
    let millis = openings.iter().map(|recovery| Ok(float(recovery.nanos)? / 1e6)).collect::<Result<_>>()?;
    Ok((median(millis), recovery))
}
