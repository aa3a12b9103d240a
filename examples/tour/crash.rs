//! The crash: a child of ours commits for a while and kills itself; what it said it had committed must be there.
//!
//! A kill is not a power cut, the system still writes what it was given; `tests/crash.rs` cuts the power of a simulated
//! disk. What this shows is a real process, real files, a torn end of the log, and a recovery.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vellum::{Options, PageId, Recovery, Store};
use xxhash_rust::xxh3::xxh3_64;

use crate::report::Report;
use crate::sqlite::Random;
use crate::{Outcome, PAGE};

const WRITERS: usize = 4;
/// Pages that a transaction writes, all with the same contents.
const PARTS: u64 = 4;
/// A writer's transactions go round its slots, so that the last so many of each can be checked.
const SLOTS: u64 = 64;
const SIGKILL: i32 = 9;

/// Small segments and checkpoints, so that the kill also finds the log moving on and checkpoints being written.
fn options() -> Options {
    Options::new().segment_size(8 << 20).checkpoint_bytes(8 << 20)
}

/// Page ids of one transaction lie far apart.
fn page_id(writer: usize, slot: u64, part: u64) -> PageId {
    PageId((part * SLOTS + slot) * WRITERS as u64 + writer as u64)
}

/// Writer, sequence number, something to fill the page, checksum.
fn contents(writer: usize, sequence: u64) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE);
    page.extend_from_slice(&(writer as u64).to_le_bytes());
    page.extend_from_slice(&sequence.to_le_bytes());
    page.extend_from_slice(&Random(sequence << 8 | writer as u64).bytes(PAGE - 24));
    page.extend_from_slice(&xxh3_64(&page).to_le_bytes());
    page
}

/// What a killed process left behind, and what opening the store made of it.
pub(crate) struct Round {
    pub(crate) lifetime: u64,
    pub(crate) acknowledged: u64,
    pub(crate) recovered: u64,
    pub(crate) recovery: Recovery,
}

/// Lets a child be killed, `count` times on the same store.
pub(crate) fn rounds(dir: &Path, count: usize, report: &Report) -> Outcome<Vec<Round>> {
    let store = Store::open(dir, options())?;
    let mut txn = store.begin()?;
    txn.truncate(page_id(0, 0, PARTS).get())?;
    txn.commit()?;
    store.close()?;

    let mut rounds = Vec::new();
    let mut sequences = [0; WRITERS];
    // When the blow falls is the one thing in the tour that is different each time.
    let nanos = u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos());
    let mut random = Random(nanos);
    for _ in 0..count {
        let lifetime = 200 + random.below(800) as u64;
        let (before, said) = (sequences, run_child(dir, lifetime, sequences)?);
        let store = Store::open(dir, options().create(false))?;
        sequences = check(&store)?;
        for (writer, (&there, &said)) in sequences.iter().zip(&said).enumerate() {
            ensure!(there >= said, "writer {writer}: {said} was acknowledged, only {there} is there");
            // It says each before it begins the next.
            ensure!(
                there <= said + 1,
                "writer {writer}: {there} is there, but {said} was the last before it"
            );
        }
        let count = |now: [u64; WRITERS]| now.iter().sum::<u64>() - before.iter().sum::<u64>();
        let round = Round {
            lifetime,
            acknowledged: count(said),
            recovered: count(sequences),
            recovery: store.recovery(),
        };
        ensure!(round.acknowledged > 0, "the child was killed before it committed anything");
        report.say(&format!("crash: {round}"));
        rounds.push(round);
        // Not closed: dropped, and the next child finds what recovery made.
    }
    Ok(rounds)
}

/// Runs a child to its end and returns the last sequence number that each writer reported.
fn run_child(dir: &Path, lifetime: u64, mut said: [u64; WRITERS]) -> Outcome<[u64; WRITERS]> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("crash")
        .arg(dir)
        .arg(lifetime.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let pipe = child.stdout.take().ok_or("the child has no stdout")?;
    for line in BufReader::new(pipe).lines() {
        let line = line?;
        let (writer, sequence) = line.split_once(' ').ok_or("the child's words can't be understood")?;
        let (writer, sequence): (usize, u64) = (writer.parse()?, sequence.parse()?);
        let last = said.get_mut(writer).ok_or("an unknown writer")?;
        ensure!(sequence == *last + 1, "writer {writer} reports {sequence} after {last}");
        *last = sequence;
    }
    let status = child.wait()?;
    ensure!(status.signal() == Some(SIGKILL), "the child should have been killed, but: {status}");
    Ok(said)
}

/// Checks every page and returns each writer's last sequence number.
///
/// A writer's transactions came one after the other, so its last number says what each of its slots must hold.
fn check(store: &Store) -> Outcome<[u64; WRITERS]> {
    let view = store.view();
    let mut last = [0; WRITERS];
    for (writer, last) in last.iter_mut().enumerate() {
        let mut slots = Vec::new();
        for slot in 0..SLOTS {
            let first = view.page(page_id(writer, slot, 0))?;
            for part in 1..PARTS {
                let is_same = view.page(page_id(writer, slot, part))? == first;
                ensure!(is_same, "half a transaction of writer {writer} is in slot {slot}");
            }
            let sequence =
                first.map_or(0, |page| u64::from_le_bytes(page[8..16].try_into().expect("8 bytes")));
            let is_whole = first.is_none_or(|page| page == contents(writer, sequence));
            ensure!(is_whole, "the pages of writer {writer} in slot {slot} aren't what it wrote");
            slots.push(sequence);
        }
        *last = slots.iter().copied().max().unwrap_or(0);
        for (slot, found) in (0..SLOTS).zip(slots) {
            let expected = last.saturating_sub((*last + SLOTS - slot) % SLOTS);
            ensure!(
                found == expected,
                "writer {writer}, slot {slot}: {found} is there instead of {expected}"
            );
        }
    }
    Ok(last)
}

/// The child: commits until it is killed, by itself.
pub(crate) fn child(dir: &Path, lifetime: &str) -> Outcome<Infallible> {
    let lifetime = Duration::from_millis(lifetime.parse()?);
    let store = Store::open(dir, options().create(false))?;
    let last = check(&store)?;
    // The shell stands ready from the beginning, so that the blow falls in the middle of whatever is being done.
    let mut killer = Command::new("sh")
        .args(["-c", "read now; kill -9 \"$0\"", &std::process::id().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    for (writer, sequence) in last.into_iter().enumerate() {
        let store = store.clone();
        thread::spawn(move || {
            let Err(error) = commit_forever(&store, writer, sequence);
            eprintln!("writer {writer} failed: {error}");
            std::process::exit(1);
        });
    }
    thread::sleep(lifetime);
    killer.stdin.take().ok_or("the shell has no stdin")?.write_all(b"\n")?;
    let status = killer.wait()?;
    // Nobody should get here to tell.
    thread::sleep(Duration::from_secs(5));
    Err(format!("the shell was to kill this process, but: {status}").into())
}

/// One durable transaction after the other, each reported when it is acknowledged.
fn commit_forever(store: &Store, writer: usize, mut sequence: u64) -> Outcome<Infallible> {
    loop {
        sequence += 1;
        let page = contents(writer, sequence);
        let mut txn = store.begin()?;
        for part in 0..PARTS {
            txn.write(page_id(writer, sequence % SLOTS, part), &page)?;
        }
        txn.commit()?;
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{writer} {sequence}")?;
        stdout.flush()?;
    }
}
