//! Goal: a scrub meets every page that is kept, once, and finds all damage; a repair writes right bytes or nothing, in every version
//! at once, and never makes anything worse, whatever fails.
//!
//! Method: the bytes of known pages are looked for in the files and flipped there: real files, files in memory, and the simulated
//! disk, where the repair is cut off at each I/O call. Sources of every kind are tried: copies, streams, deltas, older
//! versions, and ones that have nothing to offer.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{IoSlice, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use common::files::{copy_of, read_all};
use common::{PAGE, Random, contents, env, fill, seed, small};
use vellum::storage::{MemoryStorage, Storage};
use vellum::{
    Budget, Error, ImportOptions, PageId, Progress, RepairOutcome, RepairSource, Scrub, ScrubCursor,
    ScrubReport, Snapshot, Store,
};

fn holds(snapshot: &Snapshot, id: u64, tag: u64) {
    let view = snapshot.view();
    assert!(view.page(PageId(id)).unwrap() == Some(&contents(id, tag)[..]), "page {id} as of {tag}");
}

fn is_corrupt(snapshot: &Snapshot, id: u64) {
    let view = snapshot.view();
    let read = view.page(PageId(id));
    assert!(matches!(read, Err(Error::Corrupt { .. })), "page {id}: {read:?}");
}

/// Where these bytes stand.
fn find(bytes: &[u8], page: &[u8]) -> Vec<usize> {
    bytes.chunks(PAGE).enumerate().filter(|(_, slot)| *slot == page).map(|(index, _)| index * PAGE).collect()
}

/// Flips a byte of each copy of a page in the files of a directory; in how many files.
fn flip_in_dir(dir: &Path, id: u64, tag: u64) -> usize {
    let mut flipped = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        for offset in find(&bytes, &contents(id, tag)) {
            let at = offset + 77;
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[bytes[at] ^ 0x10], at as u64).unwrap();
            flipped += 1;
        }
    }
    flipped
}

fn flip_in_memory(storage: &MemoryStorage, id: u64, tag: u64) -> usize {
    let mut flipped = 0;
    for name in storage.list().unwrap() {
        let bytes = read_all(storage, &name);
        for offset in find(&bytes, &contents(id, tag)) {
            let at = offset + 300;
            let file = storage.open(&name).unwrap();
            file.write_all_at(&[IoSlice::new(&[bytes[at] ^ 1])], at as u64).unwrap();
            flipped += 1;
        }
    }
    flipped
}

fn scrub(store: &Store) -> ScrubReport {
    store.scrub(Scrub::new(), &mut ()).unwrap()
}

fn is_right(store: &Store) {
    assert!(scrub(store).is_sound());
    store.verify(&mut ()).unwrap();
    store.audit().unwrap();
}

/// An encrypted export, and how it is read.
#[cfg(feature = "encrypt")]
fn sealed(snapshot: &Snapshot) -> (Vec<u8>, ImportOptions) {
    let key = || vellum::StreamKey::new([7; 32]);
    let mut stream = Vec::new();
    let options = vellum::ExportOptions::new().encrypt(key());
    snapshot.export_as(&mut stream, &options, &mut ()).unwrap();
    (stream, ImportOptions::new().key(key()))
}

#[cfg(not(feature = "encrypt"))]
fn sealed(_: &Snapshot) -> (Vec<u8>, ImportOptions) {
    (Vec::new(), ImportOptions::new())
}

#[test]
fn a_damaged_page_is_found_and_mended_from_every_kind_of_source() {
    let mut full = Vec::new();
    let mut delta = Vec::new();
    let other = Store::in_memory(small()).unwrap();
    for kind in ["copy", "full", "delta", "sealed", "other store"] {
        if kind == "sealed" && !cfg!(feature = "encrypt") {
            continue;
        }
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("store");
        let store = Store::open(&dir, small()).unwrap();
        fill(&store, 0..200, 1);
        let base = store.create_snapshot("base").unwrap();
        fill(&store, 50..60, 2);
        let kept = store.create_snapshot("kept").unwrap();
        fill(&store, 55..58, 3);
        // A copy has files of its own; a clone has the same, and the same damage.
        let copy = Arc::new(MemoryStorage::new());
        kept.clone_on(&*copy, &mut ()).unwrap();
        let copy = Store::open_on(copy, small()).unwrap();
        full.clear();
        delta.clear();
        kept.export(&mut full).unwrap();
        kept.export_since(&base, &mut delta).unwrap();
        let (sealed, reading) = sealed(&kept);
        fill(&other, [56].into_iter(), 2);
        kept.clone_to(home.path().join("clone")).unwrap();

        drop((base, kept));
        let store = reopened(store, &dir);
        let (kept, tip) = (store.open_snapshot("kept").unwrap(), store.snapshot());
        // It was verified already, and is damaged after that.
        holds(&kept, 56, 2);
        assert_eq!(flip_in_dir(&dir, 56, 2), 1, "the page lies in one place");
        let found = scrub(&store);
        let [damaged] = &found.damaged[..] else { panic!("{found:?}") };
        assert!(damaged.page == PageId(56) && found.damaged_nodes.is_empty() && found.cursor.is_none());
        assert!(damaged.version == kept.version() && damaged.file.starts_with(&dir), "{damaged:?}");
        is_corrupt(&kept, 56);
        holds(&tip, 56, 3);

        // Nobody who has only other bytes is believed.
        let strangers = Store::in_memory(small()).unwrap();
        fill(&strangers, 0..100, 9);
        let mut foreign = Vec::new();
        strangers.snapshot().export(&mut foreign).unwrap();
        let mut cut = &full[..full.len() / 9];
        // Nor is one whose key isn't given.
        let mut locked: &[u8] = if sealed.is_empty() { cut } else { &sealed };
        let sources = &mut [
            RepairSource::Store(&strangers),
            RepairSource::Stream(&mut &foreign[..]),
            RepairSource::Stream(&mut cut),
            RepairSource::Stream(&mut locked),
        ];
        let done = store.repair(&found.damaged, sources).unwrap();
        assert_eq!((&done.outcomes[..], done.segments_rewritten), (&[RepairOutcome::NoSource][..], 0));
        let failed: Vec<usize> = done.source_failures.iter().map(|(at, _)| *at).collect();
        assert_eq!(failed, [2, 3], "{done:?}");
        is_corrupt(&kept, 56);

        let mut stream: &[u8] = match kind {
            "full" => &full,
            "sealed" => &sealed,
            _ => &delta,
        };
        let source = match kind {
            "copy" => RepairSource::Store(&copy),
            "other store" => RepairSource::Store(&other),
            "sealed" => RepairSource::StreamWith(&mut stream, reading),
            _ => RepairSource::Stream(&mut stream as &mut dyn Read),
        };
        let done = store.repair(&found.damaged, &mut [source]).unwrap();
        assert!(done.is_whole() && done.outcomes == [RepairOutcome::Repaired], "{kind}: {done:?}");
        assert!(done.segments_rewritten == 1 && done.source_failures.is_empty());
        for id in 0..200 {
            holds(&kept, id, if (50..60).contains(&id) { 2 } else { 1 });
            let tag = if (55..58).contains(&id) { 3 } else { 2 };
            holds(&tip, id, if (50..60).contains(&id) { tag } else { 1 });
        }
        is_right(&store);
        let again = store.repair(&found.damaged, &mut []).unwrap();
        assert_eq!(again.outcomes, [RepairOutcome::Sound]);

        // The clone has the damaged file still, and the same damage, and is mended from its parent.
        let clone = Store::open(home.path().join("clone"), small()).unwrap();
        is_corrupt(&clone.snapshot(), 56);
        let found = scrub(&clone);
        assert_eq!(found.damaged.len(), 1);
        let done = clone.repair(&found.damaged, &mut [RepairSource::Store(&store)]).unwrap();
        assert_eq!(done.outcomes, [RepairOutcome::Repaired]);
        holds(&clone.snapshot(), 56, 2);
        is_right(&clone);
        drop((kept, tip));
        let store = reopened(store, &dir);
        holds(&store.open_snapshot("kept").unwrap(), 56, 2);
        is_right(&store);
        let names = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap());
        let linked = names.filter(|entry| entry.metadata().unwrap().nlink() > 1).count();
        println!("{kind}: {linked} files are still shared with the clone");
    }
}

fn reopened(store: Store, dir: &Path) -> Store {
    store.close().unwrap();
    Store::open(dir, small()).unwrap()
}

#[test]
fn all_damage_in_random_stores_is_found_once_and_mended() {
    let seed = seed("scrub");
    for round in 0..env("VELLUM_CASES", 12) {
        let context = format!("VELLUM_SEED={seed} round {round}");
        let mut random = Random(seed ^ round);
        let home = Arc::new(MemoryStorage::new());
        let mut store = Store::open_on(home.clone(), small()).unwrap();
        // What each version that is kept holds: page to tag.
        let mut state = std::collections::BTreeMap::new();
        let mut kept = Vec::new();
        for tag in 1..40 {
            let first = random.below(300);
            let last = first + 1 + random.below(60);
            fill(&store, first..last, tag);
            state.extend((first..last).map(|id| (id, tag)));
            match random.below(8) {
                0 | 1 => {
                    store.create_snapshot(&format!("{tag}")).unwrap();
                    kept.push((format!("{tag}"), state.clone()));
                }
                2 if !kept.is_empty() => {
                    let (name, _) = kept.swap_remove(random.index(kept.len()));
                    store.drop_snapshot(&name).unwrap();
                }
                3 => drop(store.maintain(Budget::unlimited()).unwrap()),
                4 => {
                    drop(store);
                    store = Store::open_on(home.clone(), small()).unwrap();
                }
                _ => {}
            }
        }
        store.maintain(Budget::unlimited()).unwrap();
        store.close().unwrap();
        let copy = copy_of(&*home);
        let mut all: BTreeSet<(u64, u64)> = state.iter().map(|(id, tag)| (*id, *tag)).collect();
        all.extend(kept.iter().flat_map(|(_, state)| state.iter().map(|(id, tag)| (*id, *tag))));
        let store = Store::open_on(home.clone(), small()).unwrap();
        let sound = scrub(&store);
        assert!(sound.is_sound(), "{context}");
        assert_eq!(sound.pages, all.len() as u64, "{context}: each page once");

        let mut hurt = BTreeSet::new();
        for (id, tag) in &all {
            if random.below(20) == 0 {
                // What is not kept any more may lie about too.
                assert!(flip_in_memory(&home, *id, *tag) > 0, "{context}");
                hurt.insert((*id, *tag));
            }
        }
        let found = scrub(&store);
        let listed: Vec<u64> = found.damaged.iter().map(|damaged| damaged.page.0).collect();
        let mut expected: Vec<u64> = hurt.iter().map(|(id, _)| *id).collect();
        let mut sorted = listed.clone();
        sorted.sort_unstable();
        expected.sort_unstable();
        assert_eq!(sorted, expected, "{context}");
        // In portions it is the same, also if the cursor has travelled as text.
        let mut pieces = Vec::new();
        let mut cursor: Option<ScrubCursor> = None;
        loop {
            let mut step = Scrub::new().bytes(1 + random.below(20_000));
            if let Some(cursor) = cursor {
                let text = serde_json::to_string(&cursor).unwrap();
                step = step.from(serde_json::from_str(&text).unwrap());
            }
            let part = store.scrub(step, &mut ()).unwrap();
            pieces.extend(part.damaged);
            cursor = part.cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(pieces, found.damaged, "{context}");
        let copy = Store::open_on(copy, small()).unwrap();
        let done = store.repair(&found.damaged, &mut [RepairSource::Store(&copy)]).unwrap();
        assert!(done.is_whole(), "{context}: {done:?}");
        for (name, state) in &kept {
            let snapshot = store.open_snapshot(name).unwrap();
            for (id, tag) in state {
                holds(&snapshot, *id, *tag);
            }
        }
        for (id, tag) in &state {
            holds(&store.snapshot(), *id, *tag);
        }
        is_right(&store);
        store.close().unwrap();
        is_right(&Store::open_on(home, small()).unwrap());
    }
}

#[test]
fn a_scrub_that_is_stopped_goes_on_where_it_was() {
    let store = Store::in_memory(small()).unwrap();
    fill(&store, 0..20_000, 1);
    let mut calls = 0;
    let mut stop = |_: Progress| {
        calls += 1;
        if calls == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let part = store.scrub(Scrub::new(), &mut stop).unwrap();
    assert!(part.cursor.is_some() && part.pages > 0 && part.pages < 20_000 && !part.is_sound(), "{part:?}");
    let rest = store.scrub(Scrub::new().from(part.cursor.unwrap()), &mut ()).unwrap();
    assert!(rest.is_sound());
    assert_eq!(part.pages + rest.pages, 20_000);
    // The smallest portions get somewhere too.
    store.sync().unwrap();
    store.maintain(Budget::unlimited()).unwrap();
    let (mut cursor, mut pages) = (None, 0);
    loop {
        let step = cursor.map_or(Scrub::new(), |cursor| Scrub::new().from(cursor)).bytes(1);
        let part = store.scrub(step, &mut ()).unwrap();
        pages += part.pages;
        if part.cursor.is_none() {
            break;
        }
        assert_ne!(part.cursor, cursor);
        cursor = part.cursor;
    }
    assert_eq!(pages, 20_000);
    assert!(matches!(store.scrub(Scrub::new().rate(5), &mut ()), Err(Error::InvalidOption { .. })));
    // With a rate it rests, and is asked meanwhile.
    let part = store.scrub(Scrub::new().rate(64 << 10), &mut |_: Progress| ControlFlow::Break(())).unwrap();
    assert!(part.pages <= 128, "{part:?}");
    let empty = Store::in_memory(small()).unwrap();
    assert!(scrub(&empty).is_sound());
    assert!(empty.repair(&[], &mut []).unwrap().is_whole());
}

#[test]
fn a_page_that_nobody_needs_any_more_is_left() {
    let home = Arc::new(MemoryStorage::new());
    let store = Store::open_on(home.clone(), small()).unwrap();
    fill(&store, 0..50, 1);
    store.close().unwrap();
    let store = Store::open_on(home.clone(), small()).unwrap();
    assert_eq!(flip_in_memory(&home, 5, 1), 1);
    let found = scrub(&store);
    assert_eq!(found.damaged.len(), 1);
    fill(&store, 0..50, 2);
    let done = store.repair(&found.damaged, &mut []).unwrap();
    assert!(done.outcomes == [RepairOutcome::Gone] && done.is_whole());
    is_right(&store);
    let other_size = Store::in_memory(small().page_size(1024)).unwrap();
    let done = store.repair(&found.damaged, &mut [RepairSource::Store(&other_size)]).unwrap();
    assert!(matches!(done.source_failures[..], [(0, Error::PageSizeMismatch { .. })]));
}

#[test]
fn any_damage_that_verifying_finds_is_listed_by_a_scrub() {
    let seed = seed("scrub");
    let mut random = Random(seed);
    let home = Arc::new(MemoryStorage::new());
    let store = Store::open_on(home.clone(), small()).unwrap();
    fill(&store, 0..400, 1);
    store.create_snapshot("a").unwrap();
    fill(&store, 100..300, 2);
    store.maintain(Budget::unlimited()).unwrap();
    store.close().unwrap();
    let (mut pages, mut nodes, mut sound) = (0, 0, 0);
    let cases = env("VELLUM_CASES", 250);
    for _ in 0..cases {
        let copy = copy_of(&*home);
        let names = copy.list().unwrap();
        let name = &names[random.index(names.len())];
        let mut bytes = read_all(&*copy, name);
        if name.starts_with("catalog") || bytes.is_empty() {
            continue;
        }
        let at = random.index(bytes.len());
        bytes[at] ^= 1 << random.below(8);
        copy.open(name).unwrap().write_all_at(&[IoSlice::new(&bytes[at..=at])], at as u64).unwrap();
        let Ok(store) = Store::open_on(copy, small()) else { continue };
        let report = scrub(&store);
        let is_bad =
            store.verify(&mut ()).is_err() || store.open_snapshot("a").unwrap().verify(&mut ()).is_err();
        let context = format!("VELLUM_SEED={seed}: {name} byte {at}: {report:?}");
        assert!(!is_bad || !report.is_sound(), "{context}");
        assert!(is_bad || report.damaged.is_empty(), "{context}");
        pages += u64::from(!report.damaged.is_empty());
        nodes += u64::from(!report.damaged_nodes.is_empty());
        sound += u64::from(report.is_sound());
    }
    println!("{pages} pages and {nodes} nodes were hurt, {sound} flips hurt nothing that is kept");
    // A few flips needn't come to each.
    assert!(cases < 250 || (pages > 0 && nodes > 0 && sound > 0));
}

#[cfg(feature = "sim")]
#[test]
fn a_repair_that_is_cut_off_leaves_the_page_damaged_or_right() {
    use vellum::storage::sim::{Fault, SimDisk, Survival};

    let open = |disk: &SimDisk| Store::open_on(Arc::new(disk.storage()), small());
    let prepare = || {
        let disk = SimDisk::new(5);
        let store = open(&disk).unwrap();
        fill(&store, 0..150, 1);
        store.create_snapshot("kept").unwrap();
        fill(&store, 20..30, 2);
        store.close().unwrap();
        for (id, tag) in [(22, 1), (25, 2), (140, 1)] {
            let storage = disk.storage();
            for name in storage.list().unwrap() {
                for offset in find(&disk.read_file(&name).unwrap(), &contents(id, tag)) {
                    disk.corrupt(&name, offset as u64 + 9, 0x40).unwrap();
                }
            }
        }
        disk
    };
    let source = Store::in_memory(small()).unwrap();
    fill(&source, 0..150, 1);
    source.create_snapshot("old").unwrap();
    fill(&source, 20..30, 2);
    let repair = |store: &Store| {
        let found = store.scrub(Scrub::new(), &mut ())?;
        store.repair(&found.damaged, &mut [RepairSource::Store(&source)])
    };
    let rehearsal = prepare();
    let before = rehearsal.io_count();
    {
        let store = open(&rehearsal).unwrap();
        let done = repair(&store).unwrap();
        assert_eq!(done.outcomes, [RepairOutcome::Repaired; 3]);
        is_right(&store);
    }
    // How many of the pages are right; whatever can be read must be.
    let check = |disk: &SimDisk, context: &str| {
        let store = open(disk).unwrap();
        let kept = store.open_snapshot("kept").unwrap();
        let mut damaged = BTreeSet::new();
        for (snapshot, is_tip) in [(store.snapshot(), true), (kept, false)] {
            let view = snapshot.view();
            for id in 0..150 {
                let tag = if is_tip && (20..30).contains(&id) { 2 } else { 1 };
                match view.page(PageId(id)) {
                    Ok(bytes) => assert!(bytes == Some(&contents(id, tag)[..]), "{context}: page {id}"),
                    Err(Error::Corrupt { .. }) => drop(damaged.insert((id, tag))),
                    Err(error) => panic!("{context}: {error}"),
                }
            }
        }
        assert!(damaged.is_subset(&[(22, 1), (25, 2), (140, 1)].into()), "{context}: {damaged:?}");
        store.audit().unwrap();
        assert_eq!(scrub(&store).damaged.len(), damaged.len(), "{context}");
        damaged.len()
    };
    let mut counts = [0; 4];
    for index in before..rehearsal.io_count() {
        for fault in [Fault::Crash, Fault::SyncFails, Fault::ENOSPC, Fault::ShortWrite] {
            let disk = prepare();
            disk.fail_at(index, fault);
            // Where nodes can't be read, what is below them isn't found.
            let done = open(&disk).and_then(|store| repair(&store));
            let is_mended = done.is_ok_and(|done| done.is_whole() && done.outcomes.len() == 3);
            let survivals = match fault {
                Fault::Crash => vec![Survival::Nothing, Survival::Everything, Survival::Scattered],
                _ => vec![Survival::Scattered],
            };
            for survival in survivals {
                let context = format!("call {index}, {fault:?}, {survival:?}");
                let after = disk.power_cut_with(survival, index);
                let left = check(&after, &context);
                assert!(left == 0 || !is_mended, "{context}: it was said to be mended");
                counts[left] += 1;
                // What a failed attempt has left doesn't keep the next one from succeeding.
                let store = open(&after).unwrap();
                assert!(repair(&store).unwrap().is_whole(), "{context}");
                is_right(&store);
            }
        }
    }
    println!("damaged pages left: {counts:?}");
    assert!(counts[0] > 0 && counts[3] > 0);
}
