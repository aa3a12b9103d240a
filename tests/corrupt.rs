//! Goal: damage of any byte of any file is reported as a typed error with file and offset, or has no effect. It is never a
//! panic and never a wrong byte.
//!
//! Method: images of a small store, cleanly closed and as a killed process leaves it, without and with named snapshots, of which
//! the catalog knows one and only the log knows the other. Each byte of each file is
//! flipped, and each file is cut at every length (both in steps; `VELLUM_FLIP_STEP=1` takes every byte), and the store is
//! opened and read whole. The counts of outcomes are printed.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;

use common::files::{copy_of, load, save};
use common::{PAGE, Random, contents, env, seed, small};
use vellum::storage::{MemoryStorage, Storage};
use vellum::{Durability, Error, PageId, Snapshot, Store, Version};

/// What pages a version holds.
type State = BTreeMap<u64, Vec<u8>>;

/// A store's files, and what it should hold.
struct Image {
    name: &'static str,
    is_closed: bool,
    files: BTreeMap<String, Vec<u8>>,
    states: BTreeMap<u64, State>,
    /// The named snapshots and their versions.
    named: BTreeMap<&'static str, u64>,
    tip: u64,
    /// The newest version that a later record says is durable. Damage of what follows can't be told from a torn write.
    least: u64,
}

fn commit(store: &Store, states: &mut BTreeMap<u64, State>, random: &mut Random, durability: Durability) {
    let mut state = states.last_key_value().unwrap().1.clone();
    let mut txn = store.begin().unwrap();
    let tag = random.next();
    for _ in 0..=random.below(5) {
        let id = random.below(100);
        txn.write(PageId(id), &contents(id, tag)).unwrap();
        state.insert(id, contents(id, tag));
    }
    if let Some(id) = state.keys().nth(random.index(state.len())).copied() {
        txn.free(PageId(id)).unwrap();
        state.remove(&id);
    }
    txn.set_meta(&tag.to_le_bytes()).unwrap();
    let version = txn.commit_with(durability).unwrap();
    states.insert(version.0, state);
}

/// Names a version, which becomes one of its own by that.
fn name_it(
    store: &Store,
    states: &mut BTreeMap<u64, State>,
    named: &mut BTreeMap<&'static str, u64>,
    name: &'static str,
) {
    let version = store.create_snapshot(name).unwrap().version().0;
    let state = states.last_key_value().unwrap().1.clone();
    states.insert(version, state);
    named.insert(name, version);
}

/// All images that are swept.
fn images(seed: u64) -> [Image; 4] {
    [
        image("closed", true, false, seed),
        image("killed", false, false, seed),
        image("closed, with names", true, true, seed),
        image("killed, with names", false, true, seed),
    ]
}

/// A store with a checkpoint in the past, a log of synced and buffered batches behind it, and recycled segments.
fn image(name: &'static str, is_closed: bool, is_named: bool, seed: u64) -> Image {
    let storage = Arc::new(MemoryStorage::new());
    let store = Store::open_on(storage.clone(), small()).unwrap();
    let mut random = Random(seed);
    let mut txn = store.begin().unwrap();
    txn.truncate(100).unwrap();
    for id in 0..100 {
        txn.write(PageId(id), &contents(id, 1)).unwrap();
    }
    let first = (0..100).map(|id| (id, contents(id, 1))).collect();
    let version = txn.commit().unwrap();
    let mut states = BTreeMap::from([(version.0, first)]);
    for _ in 0..30 {
        commit(&store, &mut states, &mut random, Durability::Buffered);
    }
    let mut named = BTreeMap::new();
    if is_named {
        name_it(&store, &mut states, &mut named, "in the catalog");
    }
    store.maintain(vellum::Budget::unlimited()).unwrap();
    for round in 0..6 {
        if is_named && round == 3 {
            name_it(&store, &mut states, &mut named, "in the log");
        }
        commit(&store, &mut states, &mut random, Durability::Buffered);
        commit(&store, &mut states, &mut random, Durability::Sync);
    }
    let is_packed = |name: &String| name.starts_with("packed-");
    assert!(storage.list().unwrap().iter().any(is_packed), "no segment was packed: nothing to damage");
    let tip = *states.last_key_value().unwrap().0;
    let (files, least) = if is_closed {
        store.close().unwrap();
        (save(&*storage), tip)
    } else {
        // A record says what was durable when it was written: the last two say it of the version before them.
        (save(&*storage), tip - 2)
    };
    Image { name, is_closed, files, states, named, tip, least }
}

#[derive(Default, Debug)]
struct Outcomes {
    no_effect: u64,
    refused_at_opening: u64,
    found_on_reading: u64,
    fell_back: u64,
}

/// Reads a version of a damaged store: each page is right, or the damaged file is blamed. Whether one was.
fn is_damaged(snapshot: &Snapshot, expected: &State, damaged: &str, context: &dyn Fn() -> String) -> bool {
    let mut was_found = false;
    let view = snapshot.view();
    for id in 0..snapshot.page_count() {
        match view.page(PageId(id)) {
            Ok(found) => {
                assert_eq!(
                    found,
                    expected.get(&id).map(|bytes| &bytes[..]),
                    "{}: wrong bytes of page {id}",
                    context()
                );
            }
            Err(Error::Corrupt { file, .. }) => {
                assert!(file.ends_with(damaged), "{}: {} is blamed", context(), file.display());
                was_found = true;
            }
            Err(error) => panic!("{}: {error:?}", context()),
        }
    }
    drop(view);
    assert_eq!(snapshot.verify(&mut ()).is_err(), was_found, "{}: verify says what reading says", context());
    was_found
}

/// Opens and reads a damaged store; everything that it says must be true.
fn judge(image: &Image, damaged: &str, bytes: &[u8], outcomes: &mut Outcomes, context: &dyn Fn() -> String) {
    let storage = load(&image.files, Some((damaged, bytes)));
    let store = match Store::open_on(storage, small().create(false)) {
        Ok(store) => store,
        Err(error) => {
            let is_typed = match &error {
                Error::Corrupt { file, offset, .. } => {
                    assert!(*offset <= 1 << 20, "{error}");
                    file.ends_with(damaged)
                        || damaged.starts_with("catalog")
                        || file.starts_with("catalog")
                        || file.to_string_lossy().contains("segment")
                }
                // More than one bit of a format number is taken for a newer format.
                Error::Unsupported { what, .. } => what.contains(damaged) && bytes.len() < 8,
                Error::NotAStore { .. } => damaged.starts_with("catalog"),
                _ => false,
            };
            assert!(is_typed, "{}: {error:?}", context());
            outcomes.refused_at_opening += 1;
            return;
        }
    };
    let snapshot = store.snapshot();
    let version = snapshot.version().0;
    assert!(
        (image.least..=image.tip).contains(&version),
        "{}: opened at {version}, not {}",
        context(),
        image.tip
    );
    let mut was_found = is_damaged(&snapshot, &image.states[&version], damaged, context);
    let expected: BTreeMap<&str, u64> =
        image.named.iter().filter(|(_, of)| **of <= version).map(|(name, of)| (*name, *of)).collect();
    let found = store.snapshots();
    let found: BTreeMap<&str, u64> = found.iter().map(|named| (&*named.name, named.version.0)).collect();
    assert_eq!(found, expected, "{}: the named snapshots", context());
    for (name, of) in expected {
        let named = store.open_snapshot(name).unwrap();
        was_found |= is_damaged(&named, &image.states[&of], damaged, context);
    }
    match (was_found, version == image.tip) {
        (true, _) => outcomes.found_on_reading += 1,
        (false, true) => outcomes.no_effect += 1,
        (false, false) => outcomes.fell_back += 1,
    }
    if !was_found && outcomes.no_effect.is_multiple_of(64) {
        let mut txn = store.begin().unwrap();
        txn.write(PageId(1), &[7; PAGE]).unwrap();
        let next = txn.commit().unwrap();
        assert_eq!(next, Version(version + 1));
    }
}

#[test]
fn every_flipped_byte_is_found_or_has_no_effect() {
    let seed = seed("corrupt");
    let step = usize::try_from(env("VELLUM_FLIP_STEP", 23)).unwrap();
    let mut random = Random(seed);
    for image in images(seed) {
        for (name, bytes) in &image.files {
            let mut outcomes = Outcomes::default();
            let mut copy = bytes.clone();
            // Small files are tried at every byte in any case.
            let step = if bytes.len() < 16 << 10 { 1 } else { step };
            for at in (random.index(step)..bytes.len()).step_by(step) {
                let mask = 1u8 << random.below(8);
                copy[at] ^= mask;
                let context = || format!("{}: {name} byte {at} flipped by {mask:#x}", image.name);
                judge(&image, name, &copy, &mut outcomes, &context);
                copy[at] ^= mask;
            }
            println!("{} {name}, {} bytes flipped by {step}: {outcomes:?}", image.name, bytes.len());
        }
    }
}

#[test]
fn every_cut_file_is_found_or_has_no_effect() {
    let seed = seed("corrupt");
    let step = usize::try_from(env("VELLUM_FLIP_STEP", 23)).unwrap() * 8;
    let mut random = Random(seed);
    for image in images(seed) {
        for (name, bytes) in &image.files {
            let mut outcomes = Outcomes::default();
            let step = if bytes.len() < 16 << 10 { 1 } else { step };
            for len in (random.index(step)..bytes.len()).step_by(step).chain([0]) {
                let context = || format!("{}: {name} cut to {len}", image.name);
                if !image.is_closed && len == 0 && name == image.files.keys().next_back().unwrap() {
                    // A whole file lost, after a crash, behind the last checkpoint: nothing tells that it was there.
                    continue;
                }
                judge(&image, name, &bytes[..len], &mut outcomes, &context);
            }
            println!("{} {name}, {} bytes cut by {step}: {outcomes:?}", image.name, bytes.len());
        }
    }
}

#[test]
fn a_missing_file_is_found() {
    for image in [image("closed", true, false, 5), image("killed", false, false, 5)] {
        for name in image.files.keys() {
            let mut files = image.files.clone();
            files.remove(name);
            let storage = load(&files, None);
            let before = save(&*storage);
            match Store::open_on(storage.clone(), small().create(false)) {
                // Either catalog alone is enough.
                Ok(store) if name.starts_with("catalog") => assert_eq!(store.version().0, image.tip),
                // After a crash nothing tells that there was a segment behind the last checkpoint's.
                Ok(_) => {
                    let is_last = name == image.files.keys().next_back().unwrap();
                    assert!(!image.is_closed && is_last, "{}: {name} is missing", image.name);
                }
                Err(error) => {
                    assert!(
                        matches!(&error, Error::Corrupt { file, .. } | Error::Io { file, .. } if file.ends_with(name)),
                        "{name} is missing: {error:?}"
                    );
                    assert_eq!(save(&*storage), before, "a refused opening changes nothing");
                }
            }
        }
    }
}

/// Writes a few pages over and over, so that whole segments soon hold nothing that anybody needs.
fn overwrite(store: &Store, states: &mut BTreeMap<u64, State>, random: &mut Random) {
    let mut state = states.last_key_value().unwrap().1.clone();
    let mut txn = store.begin().unwrap();
    let tag = random.next();
    for id in (0..6).filter(|_| random.below(2) == 0).collect::<Vec<_>>() {
        txn.write(PageId(id), &contents(id, tag)).unwrap();
        state.insert(id, contents(id, tag));
    }
    states.insert(txn.commit().unwrap().0, state);
}

/// Reads a store as it would be found after a kill, with nothing in one of its catalogs.
fn opens_without(storage: &MemoryStorage, lost: &str, states: &BTreeMap<u64, State>, context: &str) {
    let mut files = save(storage);
    assert!(
        files.insert(lost.to_owned(), Vec::new()).is_some_and(|bytes| !bytes.is_empty()),
        "{context}: {lost}"
    );
    let store = Store::open_on(load(&files, None), small().create(false));
    let store = store.unwrap_or_else(|error| panic!("{context}, without {lost}: {error:?}"));
    let (tip, expected) = states.last_key_value().unwrap();
    let snapshot = store.snapshot();
    assert_eq!(snapshot.version().0, *tip, "{context}, without {lost}");
    let view = snapshot.view();
    for id in 0..snapshot.page_count() {
        let found =
            view.page(PageId(id)).unwrap_or_else(|error| panic!("{context}, without {lost}: {error:?}"));
        assert_eq!(found, expected.get(&id).map(|bytes| &bytes[..]), "{context}, without {lost}: page {id}");
    }
    drop(view);
    store.audit().unwrap_or_else(|error| panic!("{context}, without {lost}: {error:?}"));
}

#[test]
fn either_catalog_alone_opens_a_store_at_any_time() {
    let first = seed("corrupt");
    for seed in (0..env("VELLUM_CASES", 8)).map(|round| first.wrapping_add(round)) {
        let mut random = Random(seed);
        let storage = Arc::new(MemoryStorage::new());
        // From one checkpoint to the next the log goes through several segments, and through those that are free first.
        let (pool, every) = (random.below(2), (64 << 10) << random.below(4));
        let options = small().pool_segments(pool as u32).checkpoint_bytes(every);
        let store = Store::open_on(storage.clone(), options).unwrap();
        let mut txn = store.begin().unwrap();
        txn.truncate(100).unwrap();
        let version = txn.commit().unwrap();
        let mut states = BTreeMap::from([(version.0, State::new())]);
        // A new store has one catalog until its second checkpoint.
        for _ in 0..2 {
            commit(&store, &mut states, &mut random, Durability::Sync);
            store.maintain(vellum::Budget::unlimited()).unwrap();
        }
        let mut names = Vec::new();
        for step in 0..40 {
            match random.below(8) {
                // Much is overwritten between checkpoints, and segments are used again.
                0..4 => {
                    let is_narrow = random.below(2) == 0;
                    for _ in 0..=random.below(100) {
                        match is_narrow {
                            true => overwrite(&store, &mut states, &mut random),
                            false => commit(&store, &mut states, &mut random, Durability::Sync),
                        }
                    }
                }
                4 | 5 => drop(store.maintain(vellum::Budget::unlimited()).unwrap()),
                6 => {
                    names.push(format!("{step}"));
                    store.create_snapshot(&names[names.len() - 1]).unwrap();
                    let state = states.last_key_value().unwrap().1.clone();
                    states.insert(store.version().0, state);
                }
                _ if names.is_empty() => {}
                _ => {
                    store.drop_snapshot(&names.swap_remove(random.index(names.len()))).unwrap();
                    let state = states.last_key_value().unwrap().1.clone();
                    states.insert(store.version().0, state);
                }
            }
            let context = format!("seed {seed}, step {step}");
            opens_without(&storage, "catalog-a", &states, &context);
            opens_without(&storage, "catalog-b", &states, &context);
        }
    }
}

/// A segment's header is on the disk before anything is written behind it. So one that doesn't read, before a record that continues the
/// log, is damage, although nothing after the record tells that it was durable.
#[test]
fn a_broken_header_before_the_newest_record_is_damage() {
    let storage = Arc::new(MemoryStorage::new());
    let open =
        |storage: &Arc<MemoryStorage>| Store::open_on(storage.clone(), small().checkpoint_bytes(8 << 20));
    let store = open(&storage).unwrap();
    let (next, mut last) = ("segment-00000001", 0);
    while storage.open(next).is_err() {
        last += 1;
        let mut txn = store.begin().unwrap();
        txn.truncate(1).unwrap();
        txn.write(PageId(0), &contents(0, last)).unwrap();
        txn.commit().unwrap();
    }
    // As a killed process leaves it.
    let storage = copy_of(&*storage);
    drop(store);
    let file = storage.open(next).unwrap();
    for at in [0, 8, 40, 60] {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        let write = |byte: u8| file.write_all_at(&[IoSlice::new(&[byte])], at).unwrap();
        write(byte[0] ^ 1);
        let error = open(&storage).unwrap_err();
        let is_told = matches!(&error, Error::Corrupt { file, offset: 0, .. } if file.ends_with(next));
        assert!(is_told, "byte {at}: {error:?}");
        write(byte[0]);
    }
    let store = open(&storage).unwrap();
    assert_eq!(store.view().page(PageId(0)).unwrap(), Some(&contents(0, last)[..]));
}
