//! Goal: a drill goes the whole way of a restore and says what is wrong, leaves the chain and the store as they are, and nothing behind;
//! raw deltas lead raw files from version to version.
//!
//! Method: drills of good and of damaged chains, with checks that pass, fail and panic; raw files patched and compared with raw exports.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::fs::{self, OpenOptions};
use std::io::Cursor;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::{PAGE, Random, contents, small};
use vellum::{
    Checked, Error, ImportOptions, PageId, Progress, Snapshot, Store, apply_patch, drill, verify_patch,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

fn sample() -> (Store, Vec<Snapshot>) {
    let store = Store::in_memory(small()).unwrap();
    let mut random = Random(11);
    let mut kept = Vec::new();
    for tag in 1..5 {
        let mut txn = store.begin().unwrap();
        txn.truncate(120 + random.below(60)).unwrap();
        for _ in 0..80 {
            let id = PageId(random.below(txn.page_count()));
            match random.below(4) {
                0 => drop(txn.free(id)),
                _ => txn.write(id, &contents(id.0, tag)).unwrap(),
            }
        }
        txn.commit().unwrap();
        kept.push(store.snapshot());
    }
    (store, kept)
}

fn chain(kept: &[Snapshot]) -> Vec<Vec<u8>> {
    let mut streams = vec![Vec::new()];
    kept[0].export(&mut streams[0]).unwrap();
    for pair in kept.windows(2) {
        let mut delta = Vec::new();
        pair[1].export_since(&pair[0], &mut delta).unwrap();
        streams.push(delta);
    }
    streams
}

fn run(
    streams: &[Vec<u8>],
    scratch: &Path,
    check: &mut dyn FnMut(&Store) -> Checked,
) -> vellum::Result<vellum::Drilled> {
    let mut readers: Vec<&[u8]> = streams.iter().map(Vec::as_slice).collect();
    let mut readers: Vec<&mut dyn std::io::Read> =
        readers.iter_mut().map(|stream| stream as &mut dyn std::io::Read).collect();
    drill(&mut readers, scratch, &ImportOptions::new(), check, &mut ())
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn a_drill_restores_the_chain_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (_store, kept) = sample();
    let streams = chain(&kept);
    let last = &kept[kept.len() - 1];
    let mut looked = 0;
    let done = run(&streams, home.path(), &mut |store| {
        looked += 1;
        assert!(!is_empty(home.path()), "the check sees the restored store");
        let (restored, view) = (store.snapshot(), last.view());
        assert_eq!(restored.version(), last.version());
        for id in (0..last.page_count()).map(PageId) {
            assert_eq!(restored.view().page(id)?, view.page(id)?);
        }
        // It may even be written to: it is a trial.
        let mut txn = store.begin()?;
        txn.write(PageId(0), &contents(0, 99))?;
        txn.commit()?;
        Ok(())
    })
    .unwrap();
    assert_eq!(looked, 1);
    assert_eq!(done.fingerprints, kept.iter().map(Snapshot::fingerprint).collect::<Vec<_>>());
    assert_eq!((done.version, done.pages), (last.version(), last.live_pages()));
    assert_eq!(done.page_bytes, last.live_pages() * PAGE as u64);
    assert_eq!(done.stream_bytes, streams.iter().map(|stream| stream.len() as u64).sum::<u64>());
    assert!(is_empty(home.path()));
}

#[test]
fn what_is_wrong_is_told_and_nothing_is_left() {
    let home = tempfile::tempdir().unwrap();
    let (_store, kept) = sample();
    let streams = chain(&kept);
    let fine = &mut |_: &Store| Ok(());
    let bad = run(&streams, home.path(), &mut |_| Err("the books don't balance".into()));
    match bad {
        Err(error @ Error::CheckFailed { .. }) => {
            assert!(error.to_string().contains("the books don't balance"));
        }
        other => panic!("{other:?}"),
    }
    assert!(is_empty(home.path()));
    let panicked =
        catch_unwind(AssertUnwindSafe(|| run(&streams, home.path(), &mut |_| panic!("a check that panics"))));
    assert!(panicked.is_err());
    assert!(is_empty(home.path()));
    for link in 0..streams.len() {
        let mut damaged = streams.clone();
        let middle = damaged[link].len() / 2;
        damaged[link][middle] ^= 1;
        assert!(matches!(run(&damaged, home.path(), fine), Err(Error::BadStream { .. })), "link {link}");
        let mut missing = streams.clone();
        missing.remove(link);
        let found = run(&missing, home.path(), fine);
        match link + 1 == streams.len() {
            true => assert!(found.is_ok()),
            false => assert!(matches!(found, Err(Error::WrongBase { .. })), "link {link}: {found:?}"),
        }
        assert!(is_empty(home.path()));
    }
    assert!(matches!(run(&[], home.path(), fine), Err(Error::InvalidOption { .. })));
    assert!(matches!(run(&streams, &home.path().join("none"), fine), Err(Error::Io { .. })));
}

#[test]
fn a_snapshot_is_drilled_and_held_meanwhile() {
    let home = tempfile::tempdir().unwrap();
    let (store, _) = sample();
    let named = store.create_snapshot("nightly").unwrap();
    let done = named
        .drill(
            home.path(),
            &mut |restored| {
                match store.drop_snapshot("nightly") {
                    Err(Error::SnapshotHeld { holders, .. }) => {
                        assert!(holders.iter().any(|who| who.starts_with("drill")));
                    }
                    other => panic!("{other:?}"),
                }
                assert_eq!(restored.snapshot().fingerprint(), named.fingerprint());
                Ok(())
            },
            &mut (),
        )
        .unwrap();
    assert_eq!(done.fingerprints, [named.fingerprint()]);
    let stop = &mut |progress: Progress| match progress.pages_done {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let stopped = named.drill(home.path(), &mut |_| panic!("it doesn't come to that"), stop);
    assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");
    assert!(is_empty(home.path()));
    store.drop_snapshot("nightly").unwrap();
}

#[test]
fn raw_deltas_lead_raw_files_from_version_to_version() {
    let home = tempfile::tempdir().unwrap();
    let (store, kept) = sample();
    let raw = |of: &Snapshot| {
        let mut out = Vec::new();
        of.export_raw(&mut out, &mut ()).unwrap();
        out
    };
    store.create_bookmark("first", &kept[0]).unwrap();
    let bookmark = store.bookmark("first").unwrap();
    let path = home.path().join("raw");
    for (from, old) in kept.iter().enumerate() {
        for new in &kept[from..] {
            let mut patches = vec![Vec::new()];
            let summary = new.export_raw_since(old, &mut patches[0], &mut ()).unwrap();
            assert_eq!(summary, verify_patch(&mut &patches[0][..], &mut ()).unwrap());
            if from == 0 {
                let mut patch = Vec::new();
                new.export_raw_since(&bookmark, &mut patch, &mut ()).unwrap();
                patches.push(patch);
            }
            for patch in patches {
                fs::write(&path, raw(old)).unwrap();
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                for round in 0..2 {
                    apply_patch(&mut Cursor::new(&patch), &file, &mut ()).unwrap();
                    assert!(fs::read(&path).unwrap() == raw(new), "round {round}");
                }
            }
        }
    }
}

#[test]
fn damaged_raw_deltas_change_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (_store, kept) = sample();
    let mut patch = Vec::new();
    kept[1].export_raw_since(&kept[0], &mut patch, &mut ()).unwrap();
    let path = home.path().join("raw");
    fs::write(&path, b"as it was").unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        let found = apply_patch(&mut Cursor::new(bytes), &file, &mut ());
        assert!(
            matches!(found, Err(Error::BadStream { .. } | Error::Unsupported { .. })),
            "{what}: {found:?}"
        );
    };
    for index in 0..patch.len() {
        if index < 400 || index % 5 == 0 {
            let mut damaged = patch.clone();
            damaged[index] ^= 1 << (index % 8);
            refused(&damaged, &format!("byte {index}"));
            refused(&patch[..index], &format!("cut at {index}"));
        }
    }
    refused(&[&patch[..], &[0]].concat(), "one byte more");
    assert_eq!(fs::read(&path).unwrap(), b"as it was");
}

/// A raw delta of pages of 512 bytes with every checksum right, whatever it says. Of each entry its first three fields; pages are zeros.
fn forged(page_size: u32, page_count: u64, entries: &[(u64, u64, u64)]) -> Vec<u8> {
    let mut patch = b"VELLUMP\x1a".to_vec();
    patch.extend([1u32.to_le_bytes(), page_size.to_le_bytes()].concat());
    patch.extend([0; 48]);
    patch.extend(page_count.to_le_bytes());
    patch.extend(xxh3_64_with_seed(&patch, 0).to_le_bytes());
    let mut told = patch.clone();
    for (kind, second, third) in entries {
        let entry = [kind.to_le_bytes(), second.to_le_bytes(), third.to_le_bytes()].concat();
        patch.extend(&entry);
        told.extend(&entry);
        if *kind == 1 {
            patch.extend(vec![0; page_size as usize]);
        }
    }
    patch.extend([3, entries.len() as u64, xxh3_64_with_seed(&told, 0)].map(u64::to_le_bytes).concat());
    patch
}

#[test]
fn raw_deltas_that_nobody_writes_are_refused_though_their_checksums_are_right() {
    const END: u64 = 1 << 40;
    let page = |id: u64| (1, id, xxh3_64_with_seed(&[0; PAGE], id));
    let zeros = |first: u64, count: u64| (2, first, count);
    let taken = |patch: &[u8]| verify_patch(&mut &patch[..], &mut ());
    for (page_count, entries) in [
        (10, vec![page(0), page(1), zeros(2, 3), page(5), zeros(8, 1), page(9)]),
        (10, vec![zeros(0, 10)]),
        (0, vec![]),
        (END, vec![page(END - 2), zeros(END - 1, 1)]),
    ] {
        let summary = taken(&forged(512, page_count, &entries)).unwrap();
        assert_eq!(summary.page_count, page_count);
        assert_eq!(summary.pages, entries.iter().filter(|entry| entry.0 == 1).count() as u64);
    }
    let refused = |patch: &[u8], what: &str| match taken(patch) {
        Err(Error::BadStream { .. }) => {}
        other => panic!("{what}: {other:?}"),
    };
    for (entries, what) in [
        (vec![page(10)], "a page at the end"),
        (vec![page(u64::MAX)], "a page far beyond it"),
        (vec![page(3), page(3)], "a page twice"),
        (vec![page(3), page(2)], "pages that descend"),
        (vec![zeros(2, 3), page(4)], "a page within zeros"),
        (vec![page(3), zeros(3, 1)], "zeros over a page"),
        (vec![zeros(3, 0)], "no zeros"),
        (vec![zeros(3, 8)], "zeros beyond the end"),
        (vec![zeros(u64::MAX, 2)], "zeros around the end of all numbers"),
        (vec![(1, 3, 7)], "another page than its checksum's"),
        (vec![(4, 0, 0)], "an entry of no type"),
    ] {
        refused(&forged(512, 10, &entries), what);
    }
    refused(&forged(512, END + 1, &[]), "more pages than there are ids");
    for page_size in [0, 256, 768, 1 << 17] {
        refused(&forged(page_size, 0, &[]), &format!("pages of {page_size} bytes"));
    }
    let mut short = forged(512, 10, &[page(1), page(2)]);
    let end = short.len() - 16;
    short[end] = 1;
    refused(&short, "an end that tells another count");
}
