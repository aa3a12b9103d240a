//! Goal: a store is a file. What was written is read back, to the byte and at every length; nothing of it is in the store before it is
//! committed, and all of it afterwards; each snapshot and each raw export is the file of its time; and what others commit is never
//! taken for what this file knows.
//!
//! Method: random writes, lengths, commits, discards and reopenings beside a plain vector of bytes, at several page sizes
//! (`VELLUM_SEED` replays); and others that write pages before a commit.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use common::{Random, seed};
use vellum::{Durability, Error, Options, PageId, Store, StoreFile};

const FILE_MAX: u64 = 40_000;

fn all_of(file: &StoreFile) -> Vec<u8> {
    let len = usize::try_from(file.len()).unwrap();
    // One byte more than there is, and none of it as it was.
    let mut bytes = vec![0xAA; len + 1];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), len);
    assert_eq!(bytes.pop(), Some(0), "what lies beyond the end is zeros");
    bytes
}

/// What a version keeps of a file: whole pages, the last one filled up with zeros.
fn padded(bytes: &[u8], page_size: usize) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(page_size), 0);
    padded
}

fn bytes_of(random: &mut Random) -> Vec<u8> {
    let len = 1 + random.index(9_000);
    (0..len).map(|_| random.next().to_le_bytes()[0]).collect()
}

#[test]
fn what_was_written_is_read_and_a_commit_is_all_of_it() {
    let seed = seed("file");
    for page_size in [512, 1024, 4096] {
        let mut random = Random(seed ^ u64::from(page_size));
        let store = Store::in_memory(Options::new().page_size(page_size)).unwrap();
        let page_size = page_size as usize;
        let mut file = StoreFile::new(store.snapshot());
        // What is written, and what is committed, as plain bytes.
        let (mut bytes, mut committed) = (Vec::new(), Vec::new());
        let mut kept = Vec::new();
        for step in 0..1_500 {
            let offset = random.below(FILE_MAX);
            match random.below(20) {
                0..10 => {
                    let part = bytes_of(&mut random);
                    // Now and then exactly pages.
                    let offset =
                        if random.below(3) == 0 { offset - offset % page_size as u64 } else { offset };
                    let start = usize::try_from(offset).unwrap();
                    if start + part.len() > bytes.len() {
                        bytes.resize(start + part.len(), 0);
                    }
                    bytes[start..start + part.len()].copy_from_slice(&part);
                    file.write_at(&part, offset).unwrap();
                }
                10..14 => {
                    bytes.resize(usize::try_from(offset).unwrap(), 0);
                    file.set_len(offset).unwrap();
                }
                14..17 => {
                    let before = store.snapshot();
                    let version = file.commit(Durability::Sync).unwrap();
                    bytes = padded(&bytes, page_size);
                    assert!(
                        version.is_some() || bytes == committed,
                        "step {step}: a change without a version"
                    );
                    assert_eq!(version.unwrap_or(before.version()), store.snapshot().version());
                    committed.clone_from(&bytes);
                    if random.below(4) == 0 {
                        kept.push((store.snapshot(), committed.clone()));
                    }
                }
                17 => {
                    file.discard();
                    bytes.clone_from(&committed);
                }
                18 => {
                    // Nothing that wasn't committed is there.
                    file = StoreFile::new(store.snapshot());
                    bytes.clone_from(&committed);
                }
                _ => {
                    let mut part = vec![0xAA; 1 + random.index(9_000)];
                    let have = file.read_at(&mut part, offset).unwrap();
                    let start = usize::try_from(offset).unwrap().min(bytes.len());
                    let expected = &bytes[start..bytes.len().min(start + part.len())];
                    assert_eq!(&part[..have], expected, "step {step}: at {offset}");
                    assert!(part[have..].iter().all(|byte| *byte == 0));
                }
            }
            assert_eq!(file.len(), bytes.len() as u64, "step {step}");
            assert!(all_of(&file) == bytes, "step {step}: other bytes than were written");
            assert!(
                all_of(&StoreFile::new(store.snapshot())) == committed,
                "step {step}: what isn't committed"
            );
        }
        assert!(kept.len() > 10, "{}", kept.len());
        for (snapshot, expected) in kept {
            let mut raw = Vec::new();
            snapshot.export_raw(&mut raw, &mut ()).unwrap();
            assert!(raw == expected, "the raw export of {}", snapshot.version());
            assert!(all_of(&StoreFile::new(snapshot)) == expected);
        }
    }
}

#[test]
fn bytes_that_were_cut_off_never_come_back() {
    let store = Store::in_memory(Options::new().page_size(512)).unwrap();
    let mut file = StoreFile::new(store.snapshot());
    file.write_at(&[7; 2000], 0).unwrap();
    file.commit(Durability::Sync).unwrap();
    for is_committed_between in [false, true] {
        file.set_len(700).unwrap();
        if is_committed_between {
            file.commit(Durability::Sync).unwrap();
        }
        file.set_len(2048).unwrap();
        file.commit(Durability::Sync).unwrap();
        let bytes = all_of(&StoreFile::new(store.snapshot()));
        assert!(bytes[..700].iter().all(|byte| *byte == 7) && bytes[700..].iter().all(|byte| *byte == 0));
        file.write_at(&[7; 2000], 0).unwrap();
        file.commit(Durability::Sync).unwrap();
    }
    // To whole pages, and up again, in one commit.
    file.set_len(0).unwrap();
    file.set_len(2048).unwrap();
    assert!(file.commit(Durability::Sync).unwrap().is_some());
    assert!(all_of(&StoreFile::new(store.snapshot())).iter().all(|byte| *byte == 0));
}

/// A page of somebody else's.
fn meddle(store: &Store, byte: u8) {
    let mut txn = store.begin().unwrap();
    txn.page_mut(PageId(0)).unwrap()[0] = byte;
    txn.commit().unwrap();
}

#[test]
fn what_others_commit_is_never_taken_for_what_the_file_knows() {
    let store = Store::in_memory(Options::new().page_size(512)).unwrap();
    let mut file = StoreFile::new(store.snapshot());
    file.write_at(&[1; 2048], 0).unwrap();
    file.commit(Durability::Sync).unwrap();

    // A name is a version, and changes no page.
    file.write_at(&[2; 10], 1024).unwrap();
    store.create_snapshot("name").unwrap();
    assert!(file.commit(Durability::Sync).unwrap().is_some());

    // A page that this transaction doesn't touch.
    file.write_at(&[3; 10], 1024).unwrap();
    meddle(&store, 9);
    assert!(matches!(file.commit(Durability::Sync), Err(Error::Conflict { .. })));
    let mut byte = [0];
    file.read_at(&mut byte, 1024).unwrap();
    assert_eq!(byte, [2], "what was refused is gone");
    file.read_at(&mut byte, 0).unwrap();
    assert_eq!(byte, [1], "and the file reads the version that it did");
    // It stays refused: what this file knows is no version's.
    file.write_at(&[3; 10], 1024).unwrap();
    assert!(matches!(file.commit(Durability::Sync), Err(Error::Conflict { .. })));

    // A rollback is somebody else's change, too.
    let mut file = StoreFile::new(store.snapshot());
    file.write_at(&[4; 10], 1024).unwrap();
    store.rollback_to(&store.open_snapshot("name").unwrap()).unwrap();
    assert!(matches!(file.commit(Durability::Sync), Err(Error::Conflict { .. })));
}

#[test]
fn what_goes_beyond_limits_is_an_error() {
    let store = Store::in_memory(Options::new().page_size(512).transaction_memory(1 << 20)).unwrap();
    let mut file = StoreFile::new(store.snapshot());
    file.write_at(&[1; 100], 0).unwrap();
    file.commit(Durability::Sync).unwrap();
    assert!(matches!(file.write_at(&[1; 2], u64::MAX - 1), Err(Error::TooManyPages { .. })));
    assert!(matches!(file.set_len(u64::MAX), Err(Error::TooManyPages { .. })));
    assert!(matches!(file.write_at(&vec![1; 2 << 20], 0), Err(Error::TransactionTooLarge { .. })));
    file.discard();
    assert_eq!(file.len(), 512);
    let mut buf = [7; 10];
    assert_eq!(file.read_at(&mut buf, u64::MAX).unwrap(), 0);
    assert_eq!(file.read_at(&mut buf, 510).unwrap(), 2);
    assert_eq!(buf, [0; 10]);
    file.write_at(&[], 5_000).unwrap();
    assert_eq!(file.len(), 512, "no bytes, no growth");
}
