//! Goal: every storage keeps the same contract, so that what is proved over one holds over the others.
//! Method: one suite of promises, written against the trait, run over each implementation.

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

#[cfg(not(miri))]
use super::FileStorage;
use super::{MemoryStorage, Storage, StorageFile};

/// Runs the suite over one implementation: a test for each promise.
macro_rules! contract {
    ($name:ident, $with:ident, $($promise:ident),+ $(,)?) => {
        mod $name {
            $(
                #[test]
                fn $promise() {
                    super::$with(super::$promise);
                }
            )+
        }
    };
}

macro_rules! every_promise {
    ($name:ident, $with:ident) => {
        contract!(
            $name,
            $with,
            a_new_file_reads_as_zeros,
            names_are_unique_and_listed,
            names_lead_nowhere_else,
            a_missing_file_is_not_found,
            written_buffers_follow_each_other,
            empty_and_many_buffers_are_written,
            writing_past_the_end_lengthens,
            reading_past_the_end_is_an_error,
            an_empty_file_grows_and_shrinks,
            a_mapping_shows_later_writes,
            a_mapping_is_never_longer_than_its_file,
            a_mapping_and_a_handle_outlive_the_name,
            reserving_changes_nothing_to_be_seen,
            readers_and_a_writer_share_a_file,
        );
    };
}

every_promise!(memory, with_memory);
#[cfg(not(miri))]
every_promise!(file, with_file);

#[cfg(feature = "sim")]
every_promise!(sim, with_sim);

#[cfg(feature = "sim")]
fn with_sim(promise: fn(&dyn Storage)) {
    promise(&super::sim::SimDisk::new(1).storage());
}

fn with_memory(promise: fn(&dyn Storage)) {
    promise(&MemoryStorage::new());
}

#[cfg(not(miri))]
fn with_file(promise: fn(&dyn Storage)) {
    let dir = tempfile::tempdir().unwrap();
    promise(&FileStorage::open(&dir.path().join("store"), true).unwrap());
}

fn write(file: &dyn StorageFile, bytes: &[u8], offset: u64) {
    file.write_all_at(&[IoSlice::new(bytes)], offset).unwrap();
}

fn read(file: &dyn StorageFile, len: usize, offset: u64) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    file.read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

fn a_new_file_reads_as_zeros(storage: &dyn Storage) {
    let file = storage.create("segment", 10_000).unwrap();
    assert_eq!(file.len().unwrap(), 10_000);
    assert!(!file.is_empty().unwrap());
    assert_eq!(read(&*file, 10_000, 0), vec![0; 10_000]);
}

fn names_are_unique_and_listed(storage: &dyn Storage) {
    assert!(storage.list().unwrap().is_empty());
    storage.create("a", 1).unwrap();
    storage.create("b", 0).unwrap();
    assert_eq!(storage.create("a", 1).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let mut names = storage.list().unwrap();
    names.sort();
    assert_eq!(names, ["a", "b"]);
    storage.remove("a").unwrap();
    storage.sync_dir().unwrap();
    assert_eq!(storage.list().unwrap(), ["b"]);
    assert_eq!(storage.create("a", 7).unwrap().len().unwrap(), 7);
    storage.rename("a", "c").unwrap();
    storage.sync_dir().unwrap();
    assert_eq!(storage.open("a").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(storage.open("c").unwrap().len().unwrap(), 7);
    storage.rename("c", "b").unwrap();
    assert_eq!(storage.list().unwrap(), ["b"]);
    assert_eq!(storage.open("b").unwrap().len().unwrap(), 7);
    assert_eq!(storage.rename("a", "b").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(storage.path("a").ends_with("a"));
    assert_eq!(storage.path("a").parent(), Some(&*storage.path("")));
}

fn names_lead_nowhere_else(storage: &dyn Storage) {
    for name in ["", ".", "..", "a/b", "/a", "../a", "a\\b", "a\0b", "LOCK", &"n".repeat(256)] {
        assert_eq!(storage.create(name, 1).unwrap_err().kind(), ErrorKind::InvalidInput, "create {name:?}");
        assert_eq!(storage.open(name).unwrap_err().kind(), ErrorKind::InvalidInput, "open {name:?}");
        assert_eq!(storage.remove(name).unwrap_err().kind(), ErrorKind::InvalidInput, "remove {name:?}");
        assert_eq!(storage.rename(name, "b").unwrap_err().kind(), ErrorKind::InvalidInput, "rename {name:?}");
        assert_eq!(
            storage.rename("a", name).unwrap_err().kind(),
            ErrorKind::InvalidInput,
            "rename to {name:?}"
        );
    }
    storage.create(&"n".repeat(255), 1).unwrap();
}

fn a_missing_file_is_not_found(storage: &dyn Storage) {
    assert_eq!(storage.open("a").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(storage.remove("a").unwrap_err().kind(), ErrorKind::NotFound);
}

fn written_buffers_follow_each_other(storage: &dyn Storage) {
    let file = storage.create("a", 8192).unwrap();
    file.write_all_at(&[IoSlice::new(b"one"), IoSlice::new(b"two"), IoSlice::new(b"three")], 4093).unwrap();
    file.sync().unwrap();
    let again = storage.open("a").unwrap();
    assert_eq!(read(&*again, 13, 4092), b"\0onetwothree\0");
    assert_eq!(again.len().unwrap(), 8192);
}

fn empty_and_many_buffers_are_written(storage: &dyn Storage) {
    let file = storage.create("a", 0).unwrap();
    file.write_all_at(&[], 5).unwrap();
    file.write_all_at(&[IoSlice::new(b""), IoSlice::new(b"")], 5).unwrap();
    assert!(file.is_empty().unwrap(), "writing nothing doesn't lengthen a file");
    // More than one system call takes, with empty ones in between.
    let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let mut bufs = vec![IoSlice::new(b"")];
    bufs.extend(bytes.chunks(2).flat_map(|chunk| [IoSlice::new(chunk), IoSlice::new(b"")]));
    file.write_all_at(&bufs, 3).unwrap();
    assert_eq!(read(&*file, 5000, 3), bytes);
}

fn writing_past_the_end_lengthens(storage: &dyn Storage) {
    let file = storage.create("a", 2).unwrap();
    write(&*file, b"x", 9000);
    assert_eq!(file.len().unwrap(), 9001);
    assert_eq!(read(&*file, 3, 8998), b"\0\0x");
    assert!(file.write_all_at(&[IoSlice::new(b"xy")], u64::MAX).is_err());
    assert!(file.write_all_at(&[IoSlice::new(b"x"), IoSlice::new(b"y")], u64::MAX - 1).is_err());
}

fn reading_past_the_end_is_an_error(storage: &dyn Storage) {
    let file = storage.create("a", 10).unwrap();
    for (len, offset) in [(1, 10), (11, 0), (1, u64::MAX >> 1), (2, 9)] {
        let mut buf = vec![0; len];
        let error = file.read_exact_at(&mut buf, offset).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{len} bytes at {offset}");
    }
    assert_eq!(read(&*file, 10, 0), [0; 10]);
    file.read_exact_at(&mut [], 10).unwrap();
}

fn an_empty_file_grows_and_shrinks(storage: &dyn Storage) {
    let file = storage.create("catalog", 0).unwrap();
    assert!(file.is_empty().unwrap());
    assert!(file.map(0).unwrap().is_empty());
    file.set_len(4096).unwrap();
    write(&*file, &[7; 4096], 0);
    file.set_len(8192).unwrap();
    assert_eq!(read(&*file, 2, 4095), [7, 0]);
    file.set_len(100).unwrap();
    file.set_len(200).unwrap();
    assert_eq!(read(&*file, 2, 99), [7, 0], "bytes that were cut off come back as zeros");
    file.set_len(0).unwrap();
    assert!(storage.open("catalog").unwrap().is_empty().unwrap());
}

fn a_mapping_shows_later_writes(storage: &dyn Storage) {
    let file = storage.create("a", 3 * 4096).unwrap();
    write(&*file, b"before", 4096);
    let mapping = file.map(3 * 4096).unwrap();
    let held = mapping.slice(4096, 6).unwrap();
    write(&*file, b"after", 8192);
    assert_eq!((held, mapping.slice(8192, 5).unwrap()), (&b"before"[..], &b"after"[..]));
    assert_eq!(mapping.slice(0, 1).unwrap().as_ptr().addr() % 4096, 0);
    // Advice beyond the end, too, is only advice.
    for (offset, len) in
        [(0, 3 * 4096), (5000, 1), (5000, usize::MAX), (usize::MAX, 1), (3 * 4096, 1), (0, 0)]
    {
        mapping.advise_sequential(offset, len);
    }
    assert_eq!(held, b"before");
}

fn a_mapping_is_never_longer_than_its_file(storage: &dyn Storage) {
    let file = storage.create("a", 5000).unwrap();
    assert_eq!(file.map(5001).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let mapping = file.map(4999).unwrap();
    assert_eq!(mapping.len(), 4999);
    assert_eq!(mapping.slice(4999, 0), Some(&[][..]));
    assert_eq!(mapping.slice(0, 4999).map(<[u8]>::len), Some(4999));
    for (offset, len) in
        [(4999, 1), (0, 5000), (5000, 0), (usize::MAX, 1), (1, usize::MAX), (usize::MAX, usize::MAX)]
    {
        assert_eq!(mapping.slice(offset, len), None, "{len} bytes at {offset}");
    }
}

fn a_mapping_and_a_handle_outlive_the_name(storage: &dyn Storage) {
    let file = storage.create("a", 4096).unwrap();
    write(&*file, b"kept", 0);
    let mapping = file.map(4096).unwrap();
    storage.remove("a").unwrap();
    write(&*file, b"also", 100);
    assert_eq!(read(&*file, 4, 100), b"also");
    drop(file);
    assert_eq!(mapping.slice(0, 4), Some(&b"kept"[..]));
}

fn reserving_changes_nothing_to_be_seen(storage: &dyn Storage) {
    let file = storage.create("a", 8192).unwrap();
    write(&*file, b"kept", 0);
    file.reserve(0, 8192).unwrap();
    file.reserve(4096, 1 << 20).unwrap();
    file.reserve(0, 0).unwrap();
    assert_eq!(file.len().unwrap(), 8192);
    assert_eq!(read(&*file, 4, 0), b"kept");
}

fn readers_and_a_writer_share_a_file(storage: &dyn Storage) {
    let pages: u8 = if cfg!(miri) { 3 } else { 100 };
    let file: Arc<dyn StorageFile> = storage.create("a", u64::from(pages) * 4096).unwrap();
    let mapping = file.map(usize::from(pages) * 4096).unwrap();
    std::thread::scope(|scope| {
        let (send, written) = std::sync::mpsc::channel::<u8>();
        let writer = Arc::clone(&file);
        scope.spawn(move || {
            for page in 0..pages {
                write(&*writer, &[page; 4096], u64::from(page) * 4096);
                writer.sync().unwrap();
                send.send(page).unwrap();
            }
        });
        // A reader looks only at pages that it was told of: that is how publishing works.
        for page in written {
            assert_eq!(mapping.slice(usize::from(page) * 4096, 4096), Some(&[page; 4096][..]));
            assert_eq!(read(&*file, 4096, u64::from(page) * 4096), [page; 4096]);
        }
    });
}
