//! A store and its replica: whatever is done to the one, full exports and deltas bring the other to the same fingerprint; a
//! chain of them folds to one; one that was spoiled or is out of order is refused and changes nothing.
#![no_main]

use std::io::Read;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use vellum::{Durability, Error, Options, PageId, Snapshot, Store, fold, verify_stream};

#[derive(Arbitrary, Debug)]
enum Step {
    Write {
        id: u16,
        fill: u8,
    },
    Free {
        id: u16,
    },
    Truncate {
        count: u16,
    },
    Meta {
        len: u8,
    },
    Commit,
    /// Exports what is new to the replica.
    Send,
    /// The same, after trying a stream with a bit flipped.
    SendSpoiled {
        at: u32,
        bit: u8,
    },
    /// Tries a stream that the replica has had.
    Again {
        index: u8,
    },
    Fold {
        from: u8,
    },
    RollBack {
        index: u8,
    },
    Maintain,
}

fn store() -> Store {
    let options =
        Options::new().page_size(512).segment_size(64 << 10).checkpoint_bytes(64 << 10).background(false);
    Store::in_memory(options).expect("memory")
}

fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::BadStream { .. }
            | Error::Unsupported { .. }
            | Error::InvalidOption { .. }
            | Error::WrongBase { .. }
            | Error::PageSizeMismatch { .. }
    )
}

fn refused(replica: &Store, stream: &[u8], is_spoiled: bool) {
    let before = (replica.version(), replica.snapshot().fingerprint());
    match replica.apply(&mut &stream[..]) {
        Ok(_) if is_spoiled => panic!("a spoiled stream was applied"),
        // One that leads to where the replica is may be taken again.
        Ok(version) => assert_eq!(version, before.0, "a stream was applied to another state than its base"),
        Err(error) => assert!(is_refusal(&error), "{error:?}"),
    }
    assert_eq!((replica.version(), replica.snapshot().fingerprint()), before);
}

fuzz_target!(|steps: Vec<Step>| {
    let (source, replica) = (store(), store());
    let empty = replica.snapshot().fingerprint();
    let mut sent: Vec<(Snapshot, Vec<u8>)> = Vec::new();
    let mut txn = source.begin().expect("it takes writes");
    for step in steps.into_iter().take(200) {
        match step {
            Step::Write { id, fill } => {
                let id = u64::from(id % 700);
                if id >= txn.page_count() {
                    txn.truncate(id + 1).expect("few pages");
                }
                txn.write(PageId(id), &[fill; 512]).expect("a page");
            }
            Step::Free { id } => drop(txn.free(PageId(u64::from(id % 700)))),
            Step::Truncate { count } => txn.truncate(u64::from(count % 700)).expect("few pages"),
            Step::Meta { len } => txn.set_meta(&vec![7; usize::from(len)]).expect("within the limit"),
            Step::Commit => {
                txn.commit_with(Durability::Buffered).expect("nobody else commits");
                txn = source.begin().expect("it takes writes");
            }
            Step::Send | Step::SendSpoiled { .. } if sent.len() < 12 => {
                let snapshot = source.snapshot();
                if sent
                    .last()
                    .map_or(snapshot.version().0 == 0, |(last, _)| last.version() == snapshot.version())
                {
                    continue;
                }
                let mut stream = Vec::new();
                match sent.last() {
                    Some((last, _)) => {
                        drop(snapshot.export_since(last, &mut stream).expect("memory takes it"))
                    }
                    None => drop(snapshot.export(&mut stream).expect("memory takes it")),
                }
                if let Step::SendSpoiled { at, bit } = step {
                    let mut spoiled = stream.clone();
                    let at = at as usize % spoiled.len();
                    spoiled[at] ^= 1 << (bit % 8);
                    refused(&replica, &spoiled, true);
                    spoiled.truncate(at);
                    refused(&replica, &spoiled, true);
                }
                let version = replica.apply(&mut &stream[..]).expect("it is the next one");
                assert_eq!(version, snapshot.version());
                assert_eq!(replica.snapshot().fingerprint(), snapshot.fingerprint());
                sent.push((snapshot, stream));
            }
            Step::Again { index } if !sent.is_empty() => {
                let index = usize::from(index) % sent.len();
                let base = index.checked_sub(1).map_or(empty, |before| sent[before].0.fingerprint());
                // A replica that was led back to where a stream begins may take it again.
                if base != replica.snapshot().fingerprint() {
                    refused(&replica, &sent[index].1, false);
                }
            }
            Step::Fold { from } if !sent.is_empty() => {
                let from = usize::from(from) % sent.len();
                let mut sources: Vec<&[u8]> = sent[from..].iter().map(|(_, stream)| &stream[..]).collect();
                let mut readers: Vec<&mut dyn Read> =
                    sources.iter_mut().map(|source| source as &mut dyn Read).collect();
                let mut folded = Vec::new();
                fold(&mut readers, &mut folded, &mut ()).expect("a chain folds");
                let summary = verify_stream(&mut &folded[..], &mut ()).expect("what was folded verifies");
                assert_eq!(summary.fingerprint, replica.snapshot().fingerprint());
                if from == 0 {
                    let other = store();
                    other.apply(&mut &folded[..]).expect("a full stream");
                    assert_eq!(other.snapshot().fingerprint(), replica.snapshot().fingerprint());
                }
            }
            Step::RollBack { index } if !sent.is_empty() => {
                source.rollback_to(&sent[usize::from(index) % sent.len()].0).expect("it takes writes");
                txn = source.begin().expect("it takes writes");
            }
            Step::Maintain => drop(source.maintain(vellum::Budget::unlimited()).expect("it takes writes")),
            Step::Send
            | Step::SendSpoiled { .. }
            | Step::Again { .. }
            | Step::Fold { .. }
            | Step::RollBack { .. } => {}
        }
    }
    source.audit().expect("a whole store");
    replica.audit().expect("a whole store");
});
