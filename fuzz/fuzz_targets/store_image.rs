//! A store whose files were changed in any way: a typed error or the truth, never a panic and never a wrong byte.
//!
//! The input is a list of changes to the files of a small store that was killed with a log behind its last checkpoint. With
//! checksums as they are, whatever is read must be what some version held; with checksums ignored (which leads to what is
//! behind them) it must only end well.
#![no_main]

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::{Arc, OnceLock};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use vellum::storage::{MemoryStorage, Storage};
use vellum::{Durability, Error, Options, PageId, Store, fuzzing};

const PAGES: u64 = 40;

#[derive(Arbitrary, Debug)]
enum Change {
    /// Overwrites bytes; small offsets and slot borders are where structures begin.
    Write { file: u8, slot: u8, offset: u16, bytes: Vec<u8> },
    Flip { file: u8, slot: u8, offset: u16, bit: u8 },
    Cut { file: u8, len: u32 },
    Copy { from: u8, to: u8, slot_from: u8, slot_to: u8 },
    Remove { file: u8 },
}

#[derive(Arbitrary, Debug)]
struct Input {
    ignores_checksums: bool,
    changes: Vec<Change>,
}

/// A version's pages by id.
type State = BTreeMap<u64, Vec<u8>>;

struct Image {
    files: Vec<(String, Vec<u8>)>,
    states: BTreeMap<u64, State>,
}

fn options() -> Options {
    Options::new().page_size(512).segment_size(64 << 10).checkpoint_bytes(64 << 10).background(false)
}

fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let storage = Arc::new(MemoryStorage::new());
        let store = Store::open_on(storage.clone(), options()).expect("a store in memory");
        let mut states = BTreeMap::from([(0, State::new())]);
        for version in 1..=60u64 {
            let mut state = states.last_key_value().expect("there is a first").1.clone();
            let mut txn = store.begin().expect("it takes writes");
            txn.truncate(PAGES).expect("few pages");
            for step in 0..1 + version % 5 {
                let id = (version * 7 + step * 3) % PAGES;
                let page = vec![(version ^ step) as u8; 512];
                txn.write(PageId(id), &page).expect("a page");
                state.insert(id, page);
            }
            let durability = if version % 3 == 0 { Durability::Sync } else { Durability::Buffered };
            let version = txn.commit_with(durability).expect("it takes writes").0;
            states.insert(version, state);
            if version == 40 {
                store.maintain(vellum::Budget::unlimited()).expect("it takes writes");
            }
        }
        let mut files = Vec::new();
        for name in storage.list().expect("in memory") {
            let file = storage.open(&name).expect("in memory");
            let mut bytes = vec![0; file.len().expect("in memory") as usize];
            file.read_exact_at(&mut bytes, 0).expect("in memory");
            files.push((name, bytes));
        }
        files.sort();
        assert!(files.iter().any(|(name, _)| name.starts_with("packed-")), "no segment was packed: nothing to damage");
        Image { files, states }
    })
}

fn apply(files: &mut Vec<(String, Vec<u8>)>, change: &Change) {
    let count = files.len();
    if count == 0 {
        return;
    }
    match change {
        Change::Write { file, slot, offset, bytes } => {
            let target = &mut files[*file as usize % count].1;
            let start = *slot as usize * 512 + *offset as usize % 512;
            for (place, byte) in target.iter_mut().skip(start).zip(bytes) {
                *place = *byte;
            }
        }
        Change::Flip { file, slot, offset, bit } => {
            let target = &mut files[*file as usize % count].1;
            if let Some(place) = target.get_mut(*slot as usize * 512 + *offset as usize % 512) {
                *place ^= 1 << (bit % 8);
            }
        }
        Change::Cut { file, len } => files[*file as usize % count].1.truncate(*len as usize),
        Change::Copy { from, to, slot_from, slot_to } => {
            let source = &files[*from as usize % count].1;
            let start = *slot_from as usize * 512;
            let Some(bytes) = source.get(start..start + 512).map(<[u8]>::to_vec) else { return };
            let target = &mut files[*to as usize % count].1;
            if let Some(place) = target.get_mut(*slot_to as usize * 512..*slot_to as usize * 512 + 512) {
                place.copy_from_slice(&bytes);
            }
        }
        Change::Remove { file } => drop(files.remove(*file as usize % count)),
    }
}

fuzz_target!(|input: Input| {
    let image = image();
    fuzzing::ignore_checksums(input.ignores_checksums);
    let mut files = image.files.clone();
    for change in &input.changes {
        apply(&mut files, change);
    }
    let storage = MemoryStorage::new();
    for (name, bytes) in &files {
        let file = storage.create(name, bytes.len() as u64).expect("in memory");
        file.write_all_at(&[IoSlice::new(bytes)], 0).expect("in memory");
    }
    let is_expected = |error: &Error| {
        matches!(
            error,
            Error::Corrupt { .. } | Error::Unsupported { .. } | Error::NotAStore { .. } | Error::NotFound { .. }
        )
    };
    let store = match Store::open_on(Arc::new(storage), options().create(false)) {
        Ok(store) => store,
        Err(error) => {
            assert!(is_expected(&error) || input.ignores_checksums, "{error:?}");
            return;
        }
    };
    let snapshot = store.snapshot();
    let state = image.states.get(&snapshot.version().0);
    for id in 0..snapshot.page_count().min(2 * PAGES) {
        match snapshot.view().page(PageId(id)) {
            Ok(found) if !input.ignores_checksums => {
                let state = state.expect("a version that was committed");
                assert_eq!(found, state.get(&id).map(|page| &page[..]), "page {id}");
            }
            Ok(_) => {}
            Err(error) => assert!(is_expected(&error) || input.ignores_checksums, "{error:?}"),
        }
    }
    if !input.ignores_checksums {
        let mut txn = store.begin().expect("nothing was written yet");
        let Ok(id) = txn.allocate() else { return };
        if txn.write(id, &[1; 512]).is_ok() {
            let _ = txn.commit();
        }
        let _ = store.maintain(vellum::Budget::unlimited());
    }
});
