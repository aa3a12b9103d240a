//! What reading costs: pins, and looking pages up.

use std::fs::File;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use memmap2::Mmap;
use vellum::{Durability, PageId, Snapshot};

use crate::Result;
use crate::ground::{Ground, PAGE, first_word, touch};
use crate::measure::{Pair, Random, in_turn, median, nanos_each, pair};
use crate::report::{Report, Target};

/// Pins in a round.
const PINS: u32 = 1 << 20;
/// Lookups in a round, and how many of them share a view.
const READS: u32 = 1 << 20;
const READS_A_VIEW: usize = 1024;
/// Pages that change between one held snapshot and the next.
const CHANGES: u64 = 16;

/// The median time of a pin in nanoseconds.
fn time_pin(rounds: usize, pin: impl Fn()) -> f64 {
    let each = |_| {
        let start = Instant::now();
        (0..PINS).for_each(|_| pin());
        nanos_each(PINS, start.elapsed())
    };
    median((0..rounds).map(each).collect())
}

#[expect(clippy::unnecessary_wraps, reason = "all figures have one form")]
pub(crate) fn pins(ground: &Ground, report: &mut Report) -> Result {
    let (store, rounds) = (&ground.store, ground.scale.rounds);
    let view = time_pin(rounds, || drop(black_box(store.view())));
    report.figure("view, pin and drop", "ns", view, Target::AtMost(25.0));
    let snapshot = time_pin(rounds, || drop(black_box(store.snapshot())));
    report.figure("snapshot, take and drop", "ns", snapshot, Target::AtMost(60.0));
    Ok(())
}

/// Ids that don't depend on what was read, so that the processor may look up several at once, as in a real scan.
fn random_ids(pages: u64) -> Vec<u64> {
    let mut random = Random::new(1);
    (0..READS).map(|_| random.below(pages)).collect()
}

/// Nanoseconds a lookup.
fn look_up(snapshot: &Snapshot, ids: &[u64]) -> Result<f64> {
    let start = Instant::now();
    let mut sum = 0_u64;
    for some in ids.chunks(READS_A_VIEW) {
        let view = snapshot.view();
        for id in some {
            sum = sum.wrapping_add(first_word(&view, *id)?);
        }
    }
    black_box(sum);
    Ok(nanos_each(READS, start.elapsed()))
}

/// The same straight from mappings of files of `pages_each` pages each.
fn look_at(maps: &[Mmap], pages_each: u64, ids: &[u64]) -> Result<f64> {
    let (shift, mask) = (pages_each.trailing_zeros(), pages_each - 1);
    let start = Instant::now();
    let mut sum = 0_u64;
    for id in ids {
        let at = usize::try_from(id & mask)? * PAGE;
        let page = maps.get(usize::try_from(id >> shift)?).and_then(|map| map.get(at..));
        let word = page.and_then(|page| page.first_chunk()).ok_or("the file is too short")?;
        sum = sum.wrapping_add(u64::from_le_bytes(*word));
    }
    black_box(sum);
    Ok(nanos_each(READS, start.elapsed()))
}

pub(crate) fn lookups(ground: &Ground, report: &mut Report) -> Result {
    let pages = ground.scale.pages;
    let ids = random_ids(pages);
    let snapshot = ground.store.snapshot();
    let plain = map_all(vec![ground.plain.clone()])?;
    let mut files = ground.segments()?;
    // Whole ones only; there are enough of them for all but the last few pages.
    let each = ground.store.stats().segment_bytes / PAGE as u64;
    files.truncate(usize::try_from(pages / each)?);
    let segments = map_all(files)?;
    let within: Vec<u64> = ids.iter().map(|id| id % (each * segments.len() as u64)).collect();
    let [ours, bare, same] = in_turn(
        ground.scale.rounds,
        &mut [&mut || look_up(&snapshot, &ids), &mut || look_at(&plain, pages, &ids), &mut || {
            look_at(&segments, each, &within)
        }],
    )?;
    let figure = "page lookup, random (floor: mapping of a plain file)";
    report.pair(figure, "ns", &Pair::of(&ours, &bare), Target::AtMost(80.0));
    // How the system keeps a file in memory depends on how it was written, and shows in the cost of a cache miss.
    let figure = "page lookup, random (floor: mapping of the store's own files)";
    report.pair(figure, "ns", &Pair::of(&ours, &same), Target::None);
    Ok(())
}

/// Maps files and touches every page once, as every page of the store was.
fn map_all(files: Vec<PathBuf>) -> Result<Vec<Mmap>> {
    let maps = files.into_iter().map(|file| map(&File::open(file)?)).collect::<Result<Vec<_>>>()?;
    for map in &maps {
        black_box(map.chunks(PAGE).map(|page| u64::from(page[0])).sum::<u64>());
    }
    Ok(maps)
}

#[expect(unsafe_code, reason = "a mapping is the floor")]
fn map(file: &File) -> Result<Mmap> {
    // SAFETY: the file is this run's own, in a directory of its own, and nobody writes or cuts it while it is mapped:
    // no commit is made meanwhile.
    Ok(unsafe { Mmap::map(file) }?)
}

/// Whether a version that many others followed is read as fast as the current one.
pub(crate) fn old_and_new(ground: &Ground, report: &mut Report) -> Result {
    let store = &ground.store;
    let mut random = Random::new(2);
    let mut held = Vec::new();
    for word in 0..ground.scale.snapshots as u64 {
        let mut txn = store.begin()?;
        for _ in 0..CHANGES {
            txn.page_mut(PageId(random.below(ground.scale.pages)))?[..8].copy_from_slice(&word.to_le_bytes());
        }
        txn.commit_with(Durability::Buffered)?;
        held.push(store.snapshot());
    }
    store.sync()?;
    let (Some(oldest), Some(newest)) = (held.first(), held.last()) else { return Ok(()) };
    touch(oldest)?;
    touch(newest)?;
    let ids = random_ids(ground.scale.pages);
    let rounds = ground.scale.rounds;
    let pair = pair(rounds, &mut || look_up(oldest, &ids), &mut || look_up(newest, &ids))?;
    let figure = format!("page lookup at the oldest of {} snapshots (floor: newest)", held.len());
    report.pair(figure, "ns", &pair, Target::RatioAtMost(1.3));
    let among = time_pin(rounds, || drop(black_box(store.snapshot())));
    let figure = format!("snapshot, take and drop among {} held", held.len());
    report.figure(figure, "ns", among, Target::AtMost(60.0));
    Ok(())
}
