//! Goal: what one version of vellum wrote, every later one reads; and an export's bytes change only with its format.
//!
//! Method: `tests/golden/v1` holds a store as format 1 has it (killed with a log behind its checkpoint) and an export of it.
//! A copy is opened and compared with what it is known to hold, and its export with the one that is kept.
//! `VELLUM_WRITE_GOLDEN=1` writes them anew; that is for a new format only, in a directory of its own.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{contents, small};
use vellum::{Durability, PageId, Store, Version};

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// What the store holds: every third page is freed, the last writes came after the checkpoint.
fn tag(id: u64) -> Option<u64> {
    match id % 3 {
        1 => None,
        _ if id >= 60 => Some(2),
        _ => Some(1),
    }
}

fn write(dir: &Path) {
    let store = Store::open(dir.join("store"), small()).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(70).unwrap();
    for id in 0..70 {
        txn.write(PageId(id), &contents(id, 1)).unwrap();
    }
    txn.set_meta(b"golden").unwrap();
    txn.commit().unwrap();
    let mut txn = store.begin().unwrap();
    (0..70).filter(|id| id % 3 == 1).for_each(|id| txn.free(PageId(id)).unwrap());
    txn.commit().unwrap();
    store.maintain(vellum::Budget::unlimited()).unwrap();
    for id in (60..70).filter(|id| id % 3 != 1) {
        let mut txn = store.begin().unwrap();
        txn.write(PageId(id), &contents(id, 2)).unwrap();
        txn.commit_with(if id == 69 { Durability::Sync } else { Durability::Buffered }).unwrap();
    }
    store.snapshot().export(&mut fs::File::create(dir.join("export")).unwrap()).unwrap();
    // Killed, not closed: the log's tail is part of the format too.
    let killed = dir.join("killed");
    copy(&dir.join("store"), &killed);
    drop(store);
    fs::remove_dir_all(dir.join("store")).unwrap();
    fs::rename(killed, dir.join("store")).unwrap();
}

#[test]
fn what_format_1_wrote_is_read() {
    if std::env::var_os("VELLUM_WRITE_GOLDEN").is_some() {
        write(&kept());
    }
    let home = tempfile::tempdir().unwrap();
    copy(&kept().join("store"), &home.path().join("store"));
    let store = Store::open(home.path().join("store"), small().create(false)).unwrap();
    let imported =
        Store::import(&mut fs::File::open(kept().join("export")).unwrap(), home.path().join("copy")).unwrap();
    for store in [&store, &imported] {
        let snapshot = store.snapshot();
        assert_eq!(
            (snapshot.version(), snapshot.page_count(), snapshot.meta()),
            (Version(9), 70, &b"golden"[..])
        );
        for id in 0..70 {
            let expected = tag(id).map(|tag| contents(id, tag));
            assert_eq!(snapshot.view().page(PageId(id)).unwrap().map(<[u8]>::to_vec), expected, "page {id}");
        }
        store.verify(&mut ()).unwrap();
    }
    assert!(store.recovery().batches > 0, "the store was killed, not closed");
    let mut stream = Vec::new();
    store.snapshot().export(&mut stream).unwrap();
    assert!(stream == fs::read(kept().join("export")).unwrap(), "the export's bytes have changed");
}
