//! The parts that everything else is made of, one by one: `cargo bench --bench parts`.
//!
//! These are for comparing one build with another on one machine. What the store promises against the bare system is
//! measured by `cargo bench --bench figures`.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use vellum::{Durability, Options, PageId, Store};

const PAGE: usize = 4096;

/// A directory on the disk that the build is on: `/tmp` may be memory.
fn tempdir() -> TempDir {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let made = if target.is_dir() { tempfile::tempdir_in(target) } else { tempfile::tempdir() };
    made.expect("a directory of one's own")
}

/// Fills pages `0..count`, some hundred to a commit.
fn fill(store: &Store, count: u64) {
    let mut txn = store.begin().unwrap();
    txn.truncate(count).unwrap();
    txn.commit_with(Durability::Buffered).unwrap();
    for from in (0..count).step_by(256) {
        let mut txn = store.begin().unwrap();
        for id in from..count.min(from + 256) {
            let mut page = [0; PAGE];
            page[..8].copy_from_slice(&(id + 1).to_le_bytes());
            txn.write(PageId(id), &page).unwrap();
        }
        txn.commit_with(Durability::Buffered).unwrap();
    }
    store.sync().unwrap();
}

/// The next of a row of random words, never the same for 2^64 steps.
fn step(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn pins(c: &mut Criterion) {
    let store = Store::in_memory(Options::new()).unwrap();
    fill(&store, 64);
    c.bench_function("view/pin and drop", |b| b.iter(|| black_box(store.view()).version()));
    c.bench_function("snapshot/take and drop", |b| b.iter(|| black_box(store.snapshot()).version()));
    // Whether a pin costs more among many is what a list of slots could get wrong.
    let held: Vec<_> = (0..1000).map(|_| store.snapshot()).collect();
    c.bench_function("snapshot/take and drop, 1000 held", |b| {
        b.iter(|| black_box(store.snapshot()).version());
    });
    drop(held);
}

fn reads(c: &mut Criterion) {
    const PAGES: u64 = 64 << 10;
    let store = Store::in_memory(Options::new()).unwrap();
    fill(&store, PAGES);
    let snapshot = store.snapshot();
    let mut state = 1;
    let ids: Vec<PageId> = (0..1 << 20).map(|_| PageId(step(&mut state) % PAGES)).collect();
    let mut at = 0;
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Elements(1024));
    group.bench_function("1024 random pages, 8 bytes each, one view", |b| {
        b.iter(|| {
            let view = snapshot.view();
            let mut sum = 0_u64;
            for id in &ids[at..at + 1024] {
                let page = view.page(*id).unwrap().unwrap();
                sum = sum.wrapping_add(u64::from_le_bytes(*page.first_chunk().unwrap()));
            }
            at = (at + 1024) % ids.len();
            sum
        });
    });
    group.finish();
}

fn commits(c: &mut Criterion) {
    const PAGES: u64 = 16 << 10;
    let dir = tempdir();
    let store = Store::open(dir.path().join("store"), Options::new()).unwrap();
    fill(&store, PAGES);
    let mut state = 1;
    let mut page = [7; PAGE];
    for (name, durability) in [("buffered", Durability::Buffered), ("synced", Durability::Sync)] {
        let mut group = c.benchmark_group(format!("commit {name}"));
        for pages in [1_u64, 16, 64] {
            group.throughput(Throughput::Elements(pages));
            group.bench_function(format!("{pages} pages"), |b| {
                b.iter(|| {
                    let mut txn = store.begin().unwrap();
                    for _ in 0..pages {
                        let word = step(&mut state);
                        page[..8].copy_from_slice(&word.to_le_bytes());
                        txn.write(PageId(word % PAGES), &page).unwrap();
                    }
                    txn.commit_with(durability).unwrap()
                });
            });
        }
        group.finish();
    }
}

/// The files of a store that is still open, as a crash would leave them.
fn crashed_copy(store: &Path) -> TempDir {
    let copy = tempdir();
    for entry in std::fs::read_dir(store).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn recovery(c: &mut Criterion) {
    let mut group = c.benchmark_group("recovery");
    for batches in [100_u64, 1000] {
        let dir = tempdir();
        // Small segments, so that a copy is cheap.
        let options = Options::new().segment_size(4 << 20);
        let store = Store::open(dir.path(), options.clone()).unwrap();
        fill(&store, 1024);
        store.maintain(vellum::Budget::unlimited()).unwrap();
        let mut state = 1;
        for _ in 0..batches {
            let mut txn = store.begin().unwrap();
            txn.write(PageId(step(&mut state) % 1024), &[9; PAGE]).unwrap();
            txn.commit().unwrap();
        }
        group.throughput(Throughput::Elements(batches));
        group.bench_function(format!("{batches} batches"), |b| {
            b.iter_batched(
                || crashed_copy(dir.path()),
                // Handed back, so that closing isn't timed; the store goes before its directory.
                |copy| (Store::open(copy.path(), options.clone()).unwrap(), copy),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
}

criterion_group!(name = parts; config = settings(); targets = pins, reads, commits, recovery);
criterion_main!(parts);
