//! Goal: an export is exactly its snapshot, and nothing else is ever taken for one.
//!
//! Method: round trips through streams and raw files, beside a writer; then a small stream damaged in every way that a
//! stream can be: each byte flipped, cut at each length, records dropped, repeated and swapped, two streams spliced.
//! Each must be refused with a typed error, and an import must leave nothing behind.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::Path;

use common::files::records;
use common::{PAGE, usual};
use vellum::{Durability, Error, PageId, Progress, Store, verify_stream};

fn filled(seed: u64) -> Vec<u8> {
    (0..PAGE as u64).map(|index| (seed.wrapping_mul(31) + index) as u8).collect()
}

/// A store with holes, freed pages and meta bytes.
fn sample(pages: u64) -> Store {
    let store = Store::in_memory(usual().page_size(512).segment_size(64 << 10)).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(pages).unwrap();
    for id in (0..pages).filter(|id| id % 7 != 3) {
        txn.write(PageId(id), &filled(id)).unwrap();
    }
    txn.set_meta(b"where the root is").unwrap();
    txn.commit().unwrap();
    let mut txn = store.begin().unwrap();
    txn.free(PageId(1)).unwrap();
    txn.write(PageId(2), &filled(99)).unwrap();
    txn.commit().unwrap();
    store
}

fn stream_of(store: &Store) -> Vec<u8> {
    let mut stream = Vec::new();
    let summary = store.snapshot().export(&mut stream).unwrap();
    assert_eq!(summary.bytes, stream.len() as u64);
    stream
}

fn entries(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn an_import_is_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    for pages in [0, 1, 5, 63, 64, 65, 1000] {
        let store = sample(pages.max(5));
        let stream = stream_of(&store);
        assert_eq!(stream, stream_of(&store), "equal states give equal bytes");
        let snapshot = store.snapshot();
        let path = dir.path().join(format!("store-{pages}"));
        let imported = Store::import(&mut &stream[..], &path).unwrap();
        for reopened in [false, true] {
            let imported = match reopened {
                false => imported.clone(),
                true => continue,
            };
            let copy = imported.snapshot();
            assert_eq!(copy.fingerprint(), snapshot.fingerprint());
            assert_eq!((copy.version(), copy.meta()), (snapshot.version(), snapshot.meta()));
            assert_eq!(
                (copy.page_count(), copy.created_at()),
                (snapshot.page_count(), snapshot.created_at())
            );
            let (copy, original) = (copy.view(), snapshot.view());
            for id in (0..snapshot.page_count()).map(PageId) {
                assert_eq!(copy.page(id).unwrap(), original.page(id).unwrap());
            }
        }
        assert_ne!(imported.id(), store.id(), "an import has an identity of its own");
        imported.verify(&mut ()).unwrap();
        drop(imported);
        let again = Store::open(&path, usual().create(false)).unwrap();
        assert_eq!(again.snapshot().fingerprint(), snapshot.fingerprint());
        let mut txn = again.begin().unwrap();
        txn.write(PageId(0), &filled(7)).unwrap();
        assert_eq!(txn.commit().unwrap().0, snapshot.version().0 + 1, "and goes on from there");
    }
    assert!(entries(dir.path()).iter().all(|name| name.starts_with("store-")), "no staging place is left");
}

#[test]
fn an_empty_store_can_be_exported_and_imported() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::in_memory(usual()).unwrap();
    let stream = stream_of(&store);
    let imported = Store::import(&mut &stream[..], dir.path().join("empty")).unwrap();
    assert_eq!((imported.version().0, imported.snapshot().page_count()), (0, 0));
}

#[test]
fn exports_beside_writers_are_their_moment() {
    let store = sample(600);
    let snapshot = store.snapshot();
    let before = stream_of(&store);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..400u64 {
                let mut txn = store.begin().unwrap();
                txn.write(PageId(round % 600), &filled(round + 1000)).unwrap();
                txn.commit_with(Durability::Buffered).unwrap();
            }
        });
        for _ in 0..8 {
            let mut stream = Vec::new();
            snapshot.export(&mut stream).unwrap();
            assert!(stream == before, "an export is the snapshot's moment, whatever is written since");
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_raw_export_has_each_page_at_its_offset() {
    let store = sample(100);
    let snapshot = store.snapshot();
    let mut raw = Vec::new();
    let summary = snapshot.export_raw(&mut raw, &mut ()).unwrap();
    assert_eq!((summary.page_count, summary.bytes), (100, 100 * PAGE as u64));
    let view = snapshot.view();
    for (id, bytes) in (0..).zip(raw.chunks(PAGE)) {
        assert_eq!(bytes, view.page(PageId(id)).unwrap().unwrap_or(&[0; PAGE]));
    }
}

fn refused(stream: &[u8], what: &str) {
    match verify_stream(&mut &stream[..], &mut ()) {
        Err(Error::BadStream { .. } | Error::Unsupported { .. }) => {}
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn every_flipped_byte_is_found() {
    let stream = stream_of(&sample(80));
    for index in 0..stream.len() {
        let mut damaged = stream.clone();
        damaged[index] ^= 1 << (index % 8);
        refused(&damaged, &format!("byte {index} flipped"));
    }
}

#[test]
fn every_cut_is_found() {
    let stream = stream_of(&sample(80));
    for len in 0..stream.len() {
        refused(&stream[..len], &format!("cut at {len}"));
    }
    let mut longer = stream.clone();
    longer.push(0);
    refused(&longer, "one byte more");
    let mut twice = stream.clone();
    twice.extend_from_slice(&stream);
    refused(&twice, "the stream twice");
}

#[test]
fn dropped_repeated_swapped_and_spliced_records_are_found() {
    let stream = stream_of(&sample(500));
    let parts = records(&stream);
    assert!(parts.len() > 8);
    for index in 0..parts.len() {
        let mut dropped = parts.clone();
        dropped.remove(index);
        refused(&dropped.concat(), "a record dropped");
        let mut repeated = parts.clone();
        repeated.insert(index, parts[index]);
        refused(&repeated.concat(), "a record repeated");
        for other in index + 1..parts.len() {
            let mut swapped = parts.clone();
            swapped.swap(index, other);
            refused(&swapped.concat(), "records swapped");
        }
    }
    let other = stream_of(&sample(500));
    let others = records(&other);
    for at in 2..parts.len() {
        refused(&[&parts[..at], &others[at..]].concat().concat(), "two streams spliced");
    }
}

#[test]
fn a_refused_import_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let stream = stream_of(&sample(300));
    for len in [0, 10, 100, 1000, stream.len() / 2, stream.len() - 1] {
        assert!(matches!(Store::import(&mut &stream[..len], &path), Err(Error::BadStream { .. })));
        assert!(entries(dir.path()).is_empty(), "cut at {len}: {:?}", entries(dir.path()));
    }
    let mut foreign = stream.clone();
    foreign[0] = b'x';
    assert!(matches!(Store::import(&mut &foreign[..], &path), Err(Error::BadStream { offset: 0, .. })));
    let mut newer = stream.clone();
    newer[8] = 9;
    assert!(matches!(Store::import(&mut &newer[..], &path), Err(Error::Unsupported { .. })));
    let asked = usual().page_size(4096);
    let wrong = Store::import_with(&mut &stream[..], &path, asked, &mut ());
    assert!(matches!(wrong, Err(Error::PageSizeMismatch { asked: 4096, found: 512 })));
    let mut calls = 0;
    let stop = &mut |_: Progress| {
        calls += 1;
        if calls > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let cancelled = Store::import_with(&mut &stream[..], &path, usual(), stop);
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    assert!(entries(dir.path()).is_empty());
    std::fs::write(&path, b"a file").unwrap();
    assert!(matches!(Store::import(&mut &stream[..], &path), Err(Error::NotADirectory { .. })));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("mine"), b"a file").unwrap();
    assert!(matches!(Store::import(&mut &stream[..], &path), Err(Error::AlreadyExists { .. })));
    assert_eq!(entries(&path), ["mine"]);
}

/// Gives and takes one byte at a time, and is interrupted now and then.
struct Slow<T>(T, u32);

impl<T: Read> Read for Slow<T> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.1 += 1;
        if self.1.is_multiple_of(5) {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let len = buf.len().min(1);
        self.0.read(&mut buf[..len])
    }
}

impl<T: Write> Write for Slow<T> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.1 += 1;
        if self.1.is_multiple_of(5) {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        self.0.write(&buf[..buf.len().min(1)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn short_and_interrupted_reads_and_writes_change_nothing() {
    let store = sample(100);
    let mut slow = Slow(Vec::new(), 0);
    store.snapshot().export(&mut slow).unwrap();
    assert_eq!(slow.0, stream_of(&store));
    verify_stream(&mut Slow(&slow.0[..], 0), &mut ()).unwrap();
}

#[test]
fn a_failing_writer_or_reader_is_a_typed_error() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
    }
    let store = sample(10);
    assert!(matches!(store.snapshot().export(&mut Broken), Err(Error::Stream { .. })));
    assert!(matches!(store.snapshot().export_raw(&mut Broken, &mut ()), Err(Error::Stream { .. })));
    assert!(matches!(verify_stream(&mut Broken, &mut ()), Err(Error::Stream { .. })));
    let stop = &mut |_: Progress| ControlFlow::Break(());
    assert!(matches!(store.snapshot().export_with(&mut Vec::new(), stop), Err(Error::Cancelled)));
}

#[cfg(feature = "sim")]
#[test]
fn an_import_that_was_cut_off_is_no_store_an_empty_one_or_the_whole() {
    use std::sync::Arc;

    use vellum::ImportOptions;
    use vellum::storage::sim::{Fault, SimDisk};

    // Larger than a segment, so that it is appended in parts.
    let source = sample(300);
    let (stream, fingerprint) = (stream_of(&source), source.snapshot().fingerprint());
    let options =
        || usual().page_size(512).segment_size(64 << 10).checkpoint_bytes(64 << 10).background(false);
    let import = |disk: &SimDisk| {
        let storage = Arc::new(disk.storage());
        Store::import_on(&mut &stream[..], storage, options(), &ImportOptions::new(), &mut ())
    };
    let rehearsal = SimDisk::new(1);
    assert_eq!(import(&rehearsal).unwrap().snapshot().fingerprint(), fingerprint);
    let (mut none, mut empty, mut whole) = (0, 0, 0);
    for index in 0..rehearsal.io_count() {
        for fault in [Fault::Crash, Fault::ENOSPC, Fault::SyncFails, Fault::ShortWrite] {
            let disk = SimDisk::new(index);
            disk.fail_at(index, fault);
            let done = import(&disk).map(drop);
            let after = disk.power_cut(index);
            match Store::open_on(Arc::new(after.storage()), options().create(false)) {
                Ok(store) if store.version().get() == 0 => {
                    assert!(done.is_err(), "index {index}: {fault:?} went unnoticed");
                    assert_eq!((store.snapshot().live_pages(), store.snapshot().page_count()), (0, 0));
                    empty += 1;
                }
                Ok(store) => {
                    assert_eq!(store.snapshot().fingerprint(), fingerprint, "index {index}: {fault:?}");
                    store.verify(&mut ()).unwrap();
                    store.audit().unwrap();
                    whole += 1;
                }
                Err(error) => {
                    assert!(done.is_err(), "index {index}: {fault:?} went unnoticed");
                    assert!(matches!(error, Error::NotFound { .. }), "index {index}: {error}");
                    none += 1;
                }
            }
        }
    }
    println!("{} calls: {none} no store, {empty} empty, {whole} whole", rehearsal.io_count());
    assert!(none > 5 && empty > 20 && whole > 5);
}
