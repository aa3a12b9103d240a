//! What many kept versions cost: a thousand named snapshots that are weighed and pruned, and a full history window.

use std::hint::black_box;
use std::time::{Instant, SystemTime};

use vellum::{Durability, History, Naming, Options, PageId, Retention, Store};

use crate::Result;
use crate::ground::{Ground, PAGE, commit_one, touch};
use crate::measure::{Random, in_turn, median, nanos_each, pair};
use crate::report::{Report, Target};

const ROUNDS: usize = 7;
/// Pages that change between one named snapshot and the next.
const CHANGES: u64 = 16;
/// Pages of the stores with and without a window.
const PAGES: u64 = 16 << 10;
const COMMITS: u32 = 4000;
const PINS: u32 = 1 << 18;

/// Weighing a thousand named snapshots, against one walk over the store's pages.
pub(crate) fn thousand(ground: &Ground, report: &mut Report) -> Result {
    let (store, pages, count) = (&ground.store, ground.scale.pages, ground.scale.snapshots);
    let mut random = Random::new(31);
    let names: Vec<String> = (0..count).map(|n| format!("thousand {n}")).collect();
    for name in &names {
        let mut txn = store.begin()?;
        for _ in 0..CHANGES {
            txn.write(PageId(random.below(pages)), &[0x31; PAGE])?;
        }
        txn.commit_with(Durability::Buffered)?;
        store.create_snapshot_with(name, Naming::new().label("figure", "thousand"))?;
    }
    store.maintain(vellum::Budget::unlimited())?;
    let millis = |start: Instant| start.elapsed().as_secs_f64() * 1e3;
    let list: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut space = || {
        let start = Instant::now();
        black_box(store.snapshot_space()?);
        Ok(millis(start))
    };
    let mut freed = || {
        let start = Instant::now();
        black_box(store.would_free(&list)?);
        Ok(millis(start))
    };
    let mut walk = || {
        let start = Instant::now();
        touch(&store.snapshot())?;
        Ok(millis(start))
    };
    let [space, freed, walk] = in_turn(ROUNDS, &mut [&mut space, &mut freed, &mut walk])?;
    let title = |what: &str| format!("{what} of {count} snapshots (floor: one walk over all pages)");
    let pair = |ours: &[f64]| crate::measure::Pair::of(ours, &walk);
    report.pair(title("space"), "ms", &pair(&space), Target::None);
    report.pair(title("would_free"), "ms", &pair(&freed), Target::None);
    let policy = Retention::new().only_label("figure", "thousand").keep_last(0);
    let said = store.would_free(&list)?;
    // The store's own thread begins to give back at once.
    let before = store.stats().allocated_bytes;
    let start = Instant::now();
    let pruned = store.prune(&policy, SystemTime::now())?;
    report.figure(format!("pruning all {count}"), "ms", millis(start), Target::None);
    store.maintain(vellum::Budget::unlimited())?;
    let back = before - store.stats().allocated_bytes;
    if (pruned.freed_bytes, pruned.dropped.len()) != (said, count) || back < said {
        return Err(format!("{said} bytes were promised, {pruned:?}, {back} came back").into());
    }
    Ok(())
}

/// Commits and pins beside a full history window, against those without one.
pub(crate) fn window(ground: &Ground, report: &mut Report) -> Result {
    let dir = ground.dir();
    let open = |name: &str, history: History| -> Result<Store> {
        let store = Store::open(dir.join(name), Options::new().history(history))?;
        let mut txn = store.begin()?;
        txn.truncate(PAGES)?;
        for id in 0..PAGES {
            txn.write(PageId(id), &[1; PAGE])?;
        }
        txn.commit()?;
        Ok(store)
    };
    let with = open("window", History::versions(History::VERSIONS_MAX))?;
    let without = open("no-window", History::off())?;
    let mut random = Random::new(32);
    for round in 0..History::VERSIONS_MAX as u64 {
        commit_one(&with, random.below(PAGES), round, Durability::Buffered)?;
    }
    let commits = |store: &Store, seed: u64| {
        let mut random = Random::new(seed);
        let start = Instant::now();
        for round in 0..COMMITS {
            commit_one(store, random.below(PAGES), round.into(), Durability::Buffered)?;
        }
        Ok(nanos_each(COMMITS, start.elapsed()) / 1e3)
    };
    let buffered = pair(ROUNDS, &mut || commits(&with, 33), &mut || commits(&without, 33))?;
    let kept = with.history().len();
    let title = format!("buffered commit beside a window of {kept} versions (floor: without)");
    report.pair(title, "us", &buffered, Target::None);
    let synced = |store: &Store| {
        let start = Instant::now();
        commit_one(store, 7, 7, Durability::Sync)?;
        Ok(start.elapsed().as_secs_f64() * 1e6)
    };
    let synced = pair(ROUNDS * 8, &mut || synced(&with), &mut || synced(&without))?;
    report.pair("  durable commit", "us", &synced, Target::None);
    let pins = |store: &Store| {
        let start = Instant::now();
        (0..PINS).for_each(|_| drop(black_box(store.snapshot())));
        Ok(nanos_each(PINS, start.elapsed()))
    };
    let pins = pair(ROUNDS, &mut || pins(&with), &mut || pins(&without))?;
    report.pair("  snapshot, take and drop", "ns", &pins, Target::RatioAtMost(1.1));
    let versions = with.history();
    let mut opened = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for version in versions.iter().step_by(16) {
            black_box(with.snapshot_at(version.version)?);
        }
        opened.push(nanos_each(u32::try_from(versions.len().div_ceil(16))?, start.elapsed()));
    }
    report.figure("  opening one of its versions", "ns", median(opened), Target::None);
    drop((with, without));
    for name in ["window", "no-window"] {
        std::fs::remove_dir_all(dir.join(name))?;
    }
    Ok(())
}
