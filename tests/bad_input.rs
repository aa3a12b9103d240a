//! Goal: what can't be done is refused with an error that says why and what to do, and leaves no trace.
//!
//! Method: one test for each kind of bad input; after each refusal the directory, the store and the transaction are compared
//! with what they were.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{PAGE, contents, small};
use vellum::{Durability, Error, Options, PageId, Store, verify_stream};

/// Names, lengths and contents of everything below a directory.
fn listing(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => {
                found.push((path.clone(), Vec::new()));
                found.extend(listing(&path));
            }
            false => found.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

/// Runs what must fail in a directory, and sees that nothing in it changes.
fn refused<T>(dir: &Path, act: impl FnOnce() -> vellum::Result<T>) -> Error {
    let before = listing(dir);
    let error = act().err().expect("this is refused");
    assert!(listing(dir) == before, "{error}: something was left behind");
    assert!(error.to_string().len() > 20, "an error explains itself: {error}");
    error
}

fn sample() -> Store {
    let store = Store::in_memory(small()).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(10).unwrap();
    txn.write(PageId(3), &contents(3, 1)).unwrap();
    txn.commit().unwrap();
    store
}

#[test]
fn options_out_of_range() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let bad = [
        ("page_size", Options::new().page_size(0)),
        ("page_size", Options::new().page_size(256)),
        ("page_size", Options::new().page_size(1000)),
        ("page_size", Options::new().page_size(131_072)),
        ("page_size", Options::new().page_size(u32::MAX)),
        ("segment_size", Options::new().segment_size(0)),
        ("segment_size", Options::new().segment_size(100_000)),
        ("segment_size", Options::new().segment_size(2 << 30)),
        ("segment_size", Options::new().segment_size(u64::MAX)),
        ("segment_size", Options::new().page_size(65536).segment_size(64 << 10)),
        ("limbo_bytes", Options::new().limbo_bytes(0)),
        ("transaction_memory", Options::new().transaction_memory(0)),
        ("transaction_memory", Options::new().page_size(8192).transaction_memory(4096)),
        ("checkpoint_bytes", Options::new().checkpoint_bytes(0)),
    ];
    for (name, options) in bad {
        for error in [
            refused(home.path(), || Store::open(&dir, options.clone())),
            refused(home.path(), || Store::in_memory(options.clone())),
            refused(home.path(), || Store::import_with(&mut &b""[..], &dir, options.clone(), &mut ())),
        ] {
            assert!(matches!(&error, Error::InvalidOption { option, .. } if *option == name), "{error}");
        }
    }
}

#[test]
fn every_page_size_works() {
    for shift in 9..=16u32 {
        let size = 1u32 << shift;
        let store = Store::in_memory(Options::new().page_size(size).segment_size(1 << 20)).unwrap();
        assert_eq!(store.page_size(), size as usize);
        let mut txn = store.begin().unwrap();
        let id = txn.allocate().unwrap();
        txn.write(id, &vec![7; size as usize]).unwrap();
        txn.commit().unwrap();
        assert_eq!(store.view().page(id).unwrap().unwrap(), vec![7; size as usize]);
        store.verify(&mut ()).unwrap();
    }
}

#[test]
fn another_page_size_than_the_stores() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    Store::open(&dir, small()).unwrap().close().unwrap();
    let error = refused(home.path(), || Store::open(&dir, Options::new().page_size(4096)));
    assert!(matches!(error, Error::PageSizeMismatch { asked: 4096, found: 512 }), "{error}");
    // Without a size, the store's own counts.
    assert_eq!(Store::open(&dir, Options::new()).unwrap().page_size(), 512);
}

#[test]
fn pages_beyond_the_end() {
    let store = sample();
    let before = store.version();
    let snapshot = store.snapshot();
    for id in [10, 11, 64, 4096, 1 << 32, 1 << 47, u64::MAX].map(PageId) {
        let is_beyond =
            |error: Error| matches!(error, Error::PageOutOfRange { page, page_count: 10 } if page == id);
        let mut buf = vec![9; PAGE];
        assert!(is_beyond(snapshot.view().page(id).unwrap_err()));
        assert!(is_beyond(snapshot.read(id, &mut buf).unwrap_err()));
        let mut txn = store.begin().unwrap();
        assert!(is_beyond(txn.read(id, &mut buf).unwrap_err()));
        assert!(is_beyond(txn.write(id, &contents(1, 1)).unwrap_err()));
        assert!(is_beyond(txn.page_mut(id).err().unwrap()));
        assert!(is_beyond(txn.free(id).unwrap_err()));
        assert_eq!(buf, [9; PAGE], "a refused read leaves the buffer alone");
        // The transaction is as it was: there is nothing to commit.
        assert_eq!(txn.commit().unwrap(), before);
    }
    let mut txn = store.begin().unwrap();
    for count in [(1 << 48) + 1, u64::MAX] {
        assert!(matches!(txn.truncate(count).unwrap_err(), Error::TooManyPages { .. }), "{count}");
    }
    assert_eq!(txn.commit().unwrap(), before);
}

#[test]
fn pages_of_another_length() {
    let store = sample();
    let snapshot = store.snapshot();
    for len in [0, 1, PAGE - 1, PAGE + 1, 10 * PAGE] {
        let is_wrong =
            |error: Error| matches!(error, Error::WrongLength { expected: PAGE, found } if found == len);
        let mut txn = store.begin().unwrap();
        assert!(is_wrong(txn.write(PageId(3), &vec![0; len]).unwrap_err()));
        assert!(is_wrong(txn.read(PageId(3), &mut vec![0; len]).unwrap_err()));
        assert!(is_wrong(snapshot.read(PageId(3), &mut vec![0; len]).unwrap_err()));
        assert_eq!(txn.commit().unwrap(), store.version());
    }
    assert_eq!(store.view().page(PageId(3)).unwrap().unwrap(), contents(3, 1));
}

#[test]
fn pages_that_hold_nothing() {
    let store = sample();
    assert!(store.view().page(PageId(4)).unwrap().is_none());
    let mut buf = vec![9; PAGE];
    assert!(!store.snapshot().read(PageId(4), &mut buf).unwrap());
    assert_eq!(buf, [9; PAGE]);
    let mut txn = store.begin().unwrap();
    assert!(matches!(txn.free(PageId(4)), Err(Error::PageNotAllocated { page: PageId(4) })));
    txn.free(PageId(3)).unwrap();
    assert!(matches!(txn.free(PageId(3)), Err(Error::PageNotAllocated { page: PageId(3) })));
}

#[test]
fn meta_that_is_too_large() {
    let store = sample();
    let mut txn = store.begin().unwrap();
    let limit = match txn.set_meta(&vec![1; 1 << 20]).unwrap_err() {
        Error::MetaTooLarge { limit, found } => {
            assert_eq!(found, 1 << 20);
            limit
        }
        error => panic!("{error}"),
    };
    assert!(txn.meta().is_empty());
    txn.set_meta(&vec![1; limit]).unwrap();
    txn.commit().unwrap();
    assert_eq!(store.view().meta(), vec![1; limit]);
}

#[test]
fn transactions_that_are_too_large() {
    let store = Store::in_memory(small().transaction_memory(64 << 10)).unwrap();
    let mut txn = store.begin().unwrap();
    let error = loop {
        if let Err(error) = txn.allocate() {
            break error;
        }
        assert!(txn.page_count() < 1000);
    };
    assert!(matches!(error, Error::TransactionTooLarge { limit: 65536 }), "{error}");
    drop(txn);
    assert_eq!((store.version().0, store.view().page_count()), (0, 0));
    // Smaller steps do it.
    for _ in 0..20 {
        let mut txn = store.begin().unwrap();
        for _ in 0..20 {
            txn.allocate().unwrap();
        }
        txn.commit_with(Durability::Buffered).unwrap();
    }
    assert_eq!(store.view().page_count(), 400);
}

#[test]
fn paths_that_are_no_directory() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "a letter").unwrap();
    for path in [file.clone(), file.join("below")] {
        for create in [false, true] {
            let error = refused(home.path(), || Store::open(&path, Options::new().create(create)));
            assert!(matches!(&error, Error::NotADirectory { path } if *path == file), "{error}");
        }
        let store = sample();
        let mut stream = Vec::new();
        store.snapshot().export(&mut stream).unwrap();
        let error = refused(home.path(), || Store::import(&mut &stream[..], &path));
        assert!(matches!(&error, Error::NotADirectory { .. }), "{error}");
    }
}

#[test]
fn directories_without_a_store() {
    let home = tempfile::tempdir().unwrap();
    for name in ["missing", "empty"] {
        let dir = home.path().join(name);
        if name == "empty" {
            fs::create_dir(&dir).unwrap();
        }
        let error = refused(home.path(), || Store::open(&dir, Options::new().create(false)));
        assert!(matches!(&error, Error::NotFound { dir: found } if *found == dir), "{error}");
    }
    let deep = home.path().join("a/b/c");
    let error = refused(home.path(), || Store::open(&deep, Options::new()));
    assert!(matches!(&error, Error::Io { .. }), "parents are not made: {error}");
}

#[test]
fn directories_of_somebody_else() {
    let home = tempfile::tempdir().unwrap();
    for files in [&["letter.txt"][..], &["LOCK", "CURRENT", "MANIFEST-000001"], &["data.mdb", "lock.mdb"]] {
        let dir = home.path().join(files[0]);
        fs::create_dir(&dir).unwrap();
        for file in files {
            fs::write(dir.join(file), "dear reader").unwrap();
        }
        for create in [false, true] {
            let error = refused(home.path(), || Store::open(&dir, Options::new().create(create)));
            assert!(matches!(&error, Error::NotAStore { dir: found, .. } if *found == dir), "{error}");
        }
        let store = sample();
        let mut stream = Vec::new();
        store.snapshot().export(&mut stream).unwrap();
        let error = refused(home.path(), || Store::import(&mut &stream[..], &dir));
        assert!(matches!(&error, Error::AlreadyExists { dir: found } if *found == dir), "{error}");
    }
}

#[test]
fn directories_that_cannot_be_written() {
    // The kernel's own file system refuses new files to root as well.
    let dir = Path::new("/sys/kernel");
    if !dir.exists() {
        println!("not checked: there is no {}", dir.display());
        return;
    }
    let fresh = dir.join("vellum-store");
    let error = Store::open(&fresh, Options::new()).unwrap_err();
    assert!(matches!(&error, Error::ReadOnly { dir: found, .. } if found == dir), "{error}");
    assert!(!fresh.exists());
}

/// Set for the process that `a_store_that_another_process_holds` starts: the store's directory.
const OPENS: &str = "VELLUM_TEST_OPENS";

#[test]
fn a_store_that_another_process_holds() {
    if let Some(dir) = std::env::var_os(OPENS) {
        let error = Store::open(&dir, Options::new()).unwrap_err();
        assert!(matches!(&error, Error::Locked { dir: found } if *found == *dir), "{error}");
        println!("it was locked");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let store = Store::open(&dir, small()).unwrap();
    let error = refused(home.path(), || Store::open(&dir, Options::new()));
    assert!(matches!(&error, Error::Locked { dir: found } if *found == dir), "{error}");
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_store_that_another_process_holds", "--nocapture"])
        .env(OPENS, &dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success() && said.contains("it was locked"), "{said}");
    // A snapshot keeps the store open, and locked, beyond the handle.
    let snapshot = store.snapshot();
    drop(store);
    assert!(matches!(Store::open(&dir, Options::new()), Err(Error::Locked { .. })));
    drop(snapshot);
    Store::open(&dir, Options::new()).unwrap();
}

#[test]
fn streams_that_are_newer_foreign_or_empty() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let mut stream = Vec::new();
    sample().snapshot().export(&mut stream).unwrap();
    let mut newer = stream.clone();
    newer[8] = 2;
    let check = |stream: &[u8], is_right: &dyn Fn(&Error) -> bool| {
        let error = refused(home.path(), || Store::import(&mut &stream[..], &dir));
        assert!(is_right(&error), "{error}");
        let error = verify_stream(&mut &stream[..], &mut ()).unwrap_err();
        assert!(is_right(&error), "{error}");
    };
    check(&newer, &|error| matches!(error, Error::Unsupported { .. }));
    for foreign in [&b""[..], b"x", b"SQLite format 3\0", &[0; 4096], &[255; 100]] {
        check(foreign, &|error| matches!(error, Error::BadStream { .. }));
    }
    let options = Options::new().page_size(4096);
    let error = refused(home.path(), || Store::import_with(&mut &stream[..], &dir, options, &mut ()));
    assert!(matches!(error, Error::PageSizeMismatch { asked: 4096, found: 512 }), "{error}");
    Store::import(&mut &stream[..], &dir).unwrap();
    let error = Store::import(&mut &stream[..], &dir).unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
}

#[test]
fn files_of_a_newer_format() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    Store::open(&dir, small()).unwrap().close().unwrap();
    for name in ["catalog-a", "catalog-b"] {
        let path = dir.join(name);
        let mut bytes = fs::read(&path).unwrap();
        let original = bytes.clone();
        // The format's number stands behind the magic; see src/format/control.rs.
        bytes[4] = 200;
        fs::write(&path, &bytes).unwrap();
        let error = refused(&dir, || Store::open(&dir, Options::new()));
        assert!(matches!(&error, Error::Unsupported { what, .. } if what.contains(name)), "{error}");
        fs::write(&path, original).unwrap();
    }
    Store::open(&dir, Options::new()).unwrap();
}

#[test]
fn snapshots_of_another_store() {
    let (one, other) = (sample(), sample());
    let error = one.snapshot().diff(&other.snapshot()).unwrap_err();
    assert!(matches!(error, Error::InvalidOption { option: "older", .. }), "{error}");
}

#[test]
fn imports_into_nowhere() {
    let home = tempfile::tempdir().unwrap();
    let mut stream = Vec::new();
    sample().snapshot().export(&mut stream).unwrap();
    let error = refused(home.path(), || Store::import(&mut &stream[..], home.path().join("a/b")));
    let parent = home.path().join("a");
    assert!(matches!(&error, Error::Io { file, .. } if *file == parent), "{error:?}");
}
