//! What the page table takes in memory: all of it, and within a bound.
//!
//! The pages are 512 bytes, so that four million of them fit the machine; the table doesn't know their size.

use std::path::Path;
use std::time::Instant;

use vellum::{Durability, Options, PageId, Store};

use crate::Result;
use crate::ground::Ground;
use crate::measure::{Random, median, rate};
use crate::report::{Report, Target};

const PAGE: usize = 512;
/// Pages for each page of the other figures' store: 4 Mi at full scale.
const TIMES: u64 = 16;
const LIMIT: u64 = 16 << 20;
const MIB: f64 = 1_048_576.0;
const ROUNDS: usize = 5;

fn options() -> Options {
    Options::new().page_size(512)
}

fn fill(path: &Path, pages: u64) -> Result {
    let store = Store::open(path, options())?;
    for from in (0..pages).step_by(4096) {
        let mut txn = store.begin()?;
        txn.truncate(from + 4096)?;
        for id in from..from + 4096 {
            txn.write(PageId(id), &[0xA5; PAGE])?;
        }
        txn.commit_with(Durability::Buffered)?;
    }
    store.close()?;
    Ok(())
}

/// Reads pages at random; how many a second.
fn read(store: &Store, pages: u64, reads: u64, random: &mut Random) -> Result<f64> {
    let begun = Instant::now();
    let mut sum = 0u64;
    for _ in 0..reads / 64 {
        let view = store.view();
        for _ in 0..64 {
            sum += u64::from(view.page(PageId(random.below(pages)))?.ok_or("a page is missing")?[0]);
        }
    }
    std::hint::black_box(sum);
    Ok(rate(u32::try_from(reads)?, begun.elapsed()))
}

/// Commits one page at a time at random, and returns the most memory that the table took.
fn commit(store: &Store, pages: u64, commits: u64, random: &mut Random) -> Result<(f64, u64)> {
    let (begun, mut most) = (Instant::now(), 0);
    for _ in 0..commits {
        let mut txn = store.begin()?;
        txn.write(PageId(random.below(pages)), &[0x5A; PAGE])?;
        txn.commit_with(Durability::Buffered)?;
        most = most.max(store.stats().table_memory_bytes);
    }
    Ok((rate(u32::try_from(commits)?, begun.elapsed()), most))
}

/// Memory of a table in full, and the same work within 16 MiB.
pub(crate) fn table(ground: &Ground, report: &mut Report) -> Result {
    let pages = ground.scale.pages * TIMES;
    let path = ground.dir().join("table");
    fill(&path, pages)?;
    let (mut random, commits) = (Random::new(21), ground.scale.overwrites);
    // Beside each other they can't be open: the whole one first, so that its pages are in the page cache for the other.
    let store = Store::open(&path, options())?;
    for id in 0..pages {
        store.view().page(PageId(id))?;
    }
    let whole = store.stats().table_memory_bytes;
    let per_page = f64::from(u32::try_from(whole * 100 / pages)?) / 100.0;
    report.figure(
        format!("table of {pages} pages, all in memory"),
        "B a page",
        per_page,
        Target::AtMost(20.0),
    );
    let mut reads = Vec::new();
    for _ in 0..ROUNDS {
        reads.push(read(&store, pages, commits, &mut random)?);
    }
    let whole_reads = median(reads);
    let (whole_commits, _) = commit(&store, pages, commits, &mut random)?;
    store.close()?;

    let store = Store::open(&path, options().table_memory(LIMIT))?;
    let (mut most, mut reads) = (0, Vec::new());
    for _ in 0..ROUNDS {
        reads.push(read(&store, pages, commits, &mut random)?);
        most = most.max(store.stats().table_memory_bytes);
    }
    let (bounded_commits, most_committing) = commit(&store, pages, commits, &mut random)?;
    let snapshot = store.snapshot();
    let (_, most_held) = commit(&store, pages, commits / 2, &mut random)?;
    drop(snapshot);
    eprintln!(
        "table: most while reading, committing, committing beside a snapshot: {most}, {most_committing}, {most_held}"
    );
    most = most.max(most_committing).max(most_held).max(store.stats().table_memory_bytes);
    let most = f64::from(u32::try_from(most >> 10)?) * 1024.0 / MIB;
    report.figure("  with table_memory 16 MiB: its most", "MiB", most, Target::AtMost(1.2 * 16.0));
    let of = |part: f64, whole: f64| part / whole;
    report.figure("  reads at random, of the rate in full", "", of(median(reads), whole_reads), Target::None);
    report.figure(
        "  commits at random, of the rate in full",
        "",
        of(bounded_commits, whole_commits),
        Target::None,
    );
    store.close()?;
    std::fs::remove_dir_all(&path)?;
    Ok(())
}
