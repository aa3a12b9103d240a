//! Goal: compressed, encrypted and marked streams are the same snapshots, whoever takes them; nothing else is ever taken for one; and what
//! can't be read says why.
//!
//! Method: every coding through every way that a stream can go (verified, imported, applied, folded, checked as a chain); then each coding
//! damaged at every byte, cut at each length, and with records dropped, repeated and swapped at every boundary; frames that would unpack
//! to more than they say; keys that are missing or wrong, and records that were changed by one who mends every checksum.
#![cfg(all(feature = "zstd", feature = "encrypt"))]
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::io::Read;

use common::files::records;
use common::{PAGE, Random, contents, small};
use vellum::{
    DeltaBase, Error, ExportOptions, ImportOptions, Options, PageId, Snapshot, Store, StreamKey, fold_as,
    verify_chain_as, verify_stream, verify_stream_as,
};

fn key() -> StreamKey {
    StreamKey::new([7; 32])
}

fn reading() -> ImportOptions {
    ImportOptions::new().key(key())
}

/// Every way to write a stream, with a name for messages.
fn codings() -> Vec<(&'static str, ExportOptions)> {
    let marked = || ExportOptions::new().mark_every(8 << 10);
    vec![
        ("plain", ExportOptions::new()),
        ("marked", marked()),
        ("zstd", marked().compress(3)),
        ("encrypted", marked().encrypt(key())),
        ("zstd and encrypted", marked().compress(1).encrypt(key())),
    ]
}

/// A page that can be made shorter, unless its id is divisible by five.
fn page(id: u64, tag: u64) -> Vec<u8> {
    if id.is_multiple_of(5) { contents(id, tag) } else { contents(id, tag)[..16].repeat(PAGE / 16) }
}

/// A store with an older and a newer snapshot.
fn sample(pages: u64) -> (Store, Snapshot, Snapshot) {
    let store = Store::in_memory(small()).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(pages).unwrap();
    (0..pages).filter(|id| id % 7 != 3).for_each(|id| txn.write(PageId(id), &page(id, 1)).unwrap());
    txn.set_meta(b"first").unwrap();
    txn.commit().unwrap();
    let old = store.snapshot();
    let mut txn = store.begin().unwrap();
    (0..pages).filter(|id| id % 11 == 2).for_each(|id| txn.write(PageId(id), &page(id, 2)).unwrap());
    (0..pages).filter(|id| id % 7 == 4).for_each(|id| txn.free(PageId(id)).unwrap());
    txn.set_meta(b"second").unwrap();
    txn.commit().unwrap();
    let new = store.snapshot();
    (store, old, new)
}

fn full(of: &Snapshot, options: &ExportOptions) -> Vec<u8> {
    let mut stream = Vec::new();
    let summary = of.export_as(&mut stream, options, &mut ()).unwrap();
    assert_eq!(summary.bytes, stream.len() as u64);
    stream
}

fn delta(from: &Snapshot, to: &Snapshot, options: &ExportOptions) -> Vec<u8> {
    let mut stream = Vec::new();
    to.export_since_as(from, &mut stream, options, &mut ()).unwrap();
    stream
}

fn folded(streams: &[&[u8]], options: &ExportOptions) -> Vec<u8> {
    let mut readers: Vec<&[u8]> = streams.to_vec();
    let mut readers: Vec<&mut dyn Read> = readers.iter_mut().map(|stream| stream as &mut dyn Read).collect();
    let mut out = Vec::new();
    fold_as(&mut readers, &mut out, &reading(), options, &mut ()).unwrap();
    out
}

#[test]
fn every_coding_is_the_same_snapshot() {
    let home = tempfile::tempdir().unwrap();
    let (_store, old, new) = sample(400);
    for (name, options) in codings() {
        let (first, then) = (full(&old, &options), delta(&old, &new, &options));
        let summaries = verify_chain_as(&mut [&mut &first[..], &mut &then[..]], &reading(), &mut ()).unwrap();
        assert_eq!(summaries[0].fingerprint, old.fingerprint(), "{name}");
        assert_eq!(summaries[1].fingerprint, new.fingerprint(), "{name}");
        let dir = home.path().join(name);
        let copy = Store::import_as(&mut &first[..], &dir, Options::new(), &reading(), &mut ()).unwrap();
        assert_eq!(copy.snapshot().fingerprint(), old.fingerprint(), "{name}");
        copy.apply_as(&mut &then[..], &reading(), &mut ()).unwrap();
        assert_eq!(copy.snapshot().fingerprint(), new.fingerprint(), "{name}");
        assert_eq!(copy.snapshot().meta(), b"second");
        let (copied, view) = (copy.snapshot(), new.view());
        for id in (0..400).map(PageId) {
            assert_eq!(copied.view().page(id).unwrap(), view.page(id).unwrap(), "{name}: {id}");
        }
        copy.verify(&mut ()).unwrap();
        // The fold law, into every coding from every coding.
        for (into, writing) in codings() {
            let folded = folded(&[&first, &then], &writing);
            let summary = verify_stream_as(&mut &folded[..], &reading(), &mut ()).unwrap();
            assert_eq!(summary.fingerprint, new.fingerprint(), "{name} into {into}");
            if !into.contains("encrypted") {
                assert!(folded == full(&new, &writing), "{name} into {into}: equal states give equal bytes");
            }
        }
    }
}

#[test]
fn equal_states_give_equal_bytes_and_compression_pays() {
    let (_store, _, new) = sample(400);
    let options = ExportOptions::new().compress(3);
    let (plain, packed) = (full(&new, &ExportOptions::new()), full(&new, &options));
    assert!(packed == full(&new, &options));
    assert!(packed.len() * 2 < plain.len(), "{} of {} bytes", packed.len(), plain.len());
    // Pages that can't be made shorter are kept as they are.
    let store = Store::in_memory(small()).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(200).unwrap();
    (0..200).for_each(|id| txn.write(PageId(id), &contents(id, 1)).unwrap());
    txn.commit().unwrap();
    let random = store.snapshot();
    assert_eq!(full(&random, &options).len(), full(&random, &ExportOptions::new()).len());
    // Encrypted, two exports of one state show nothing of it, not even that it is one.
    let options = ExportOptions::new().encrypt(key());
    let (one, other) = (full(&new, &options), full(&new, &options));
    assert_eq!(one.len(), other.len());
    assert!(one != other);
    for secret in [&page(1, 1)[..32], b"second", &new.fingerprint().0.to_le_bytes()[..]] {
        assert!(!one.windows(secret.len()).any(|found| found == secret));
    }
}

fn refused(stream: &[u8], what: &str) {
    match verify_stream_as(&mut &stream[..], &reading(), &mut ()) {
        Err(Error::BadStream { .. } | Error::Unsupported { .. }) => {}
        other => panic!("{what}: {other:?}"),
    }
}

/// A full stream and a delta in each coding.
fn streams() -> Vec<(String, Vec<u8>)> {
    let (_store, old, new) = sample(200);
    let mut streams = Vec::new();
    for (name, options) in codings() {
        streams.push((format!("{name}, full"), full(&new, &options)));
        streams.push((format!("{name}, delta"), delta(&old, &new, &options)));
    }
    streams
}

#[test]
fn every_flipped_byte_and_every_cut_is_found() {
    for (name, stream) in streams() {
        verify_stream_as(&mut &stream[..], &reading(), &mut ()).unwrap();
        let mut random = Random(stream.len() as u64);
        for index in 0..stream.len() {
            // Of the many bytes of pages some, of everything else all.
            if index > 600 && index + 600 < stream.len() && random.below(8) != 0 {
                continue;
            }
            let mut damaged = stream.clone();
            damaged[index] ^= 1 << (index % 8);
            refused(&damaged, &format!("{name}: byte {index} flipped"));
            refused(&stream[..index], &format!("{name}: cut at {index}"));
        }
        refused(&[&stream[..], &[0]].concat(), &format!("{name}: one byte more"));
    }
}

#[test]
fn dropped_repeated_swapped_and_spliced_records_are_found() {
    for (name, stream) in streams() {
        let parts = records(&stream);
        assert!(parts.len() > 5, "{name}: {} records", parts.len());
        for index in 0..parts.len() {
            let mut dropped = parts.clone();
            dropped.remove(index);
            refused(&dropped.concat(), &format!("{name}: record {index} dropped"));
            let mut repeated = parts.clone();
            repeated.insert(index, parts[index]);
            refused(&repeated.concat(), &format!("{name}: record {index} repeated"));
            for other in index + 1..parts.len() {
                let mut swapped = parts.clone();
                swapped.swap(index, other);
                refused(&swapped.concat(), &format!("{name}: records {index} and {other} swapped"));
            }
            refused(&parts[..index].concat(), &format!("{name}: cut before record {index}"));
        }
    }
}

/// XXH3-64, as the format has it, to mend what was changed.
fn sum(seed: u64, bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed)
}

/// Gives the records of a stream right numbers, links and checksums, whatever they hold.
fn mended(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut out = parts[0].clone();
    let mut previous = sum(0, &parts[0]);
    for (sequence, part) in (0u64..).zip(&parts[1..]) {
        let mut prefix = part[..40].to_vec();
        prefix[16..24].copy_from_slice(&sequence.to_le_bytes());
        prefix[24..32].copy_from_slice(&sum(sequence, &part[48..]).to_le_bytes());
        prefix[32..40].copy_from_slice(&previous.to_le_bytes());
        previous = sum(0, &prefix);
        out.extend_from_slice(&prefix);
        out.extend_from_slice(&previous.to_le_bytes());
        out.extend_from_slice(&part[48..]);
    }
    out
}

#[test]
fn one_who_mends_every_checksum_is_found_by_the_key() {
    let (_store, _, new) = sample(200);
    let stream = full(&new, &ExportOptions::new().mark_every(8 << 10).encrypt(key()));
    let parts: Vec<Vec<u8>> = records(&stream).into_iter().map(<[u8]>::to_vec).collect();
    assert!(mended(&parts) == stream, "what isn't changed needs no mending");
    let other = full(&new, &ExportOptions::new().mark_every(8 << 10).encrypt(key()));
    let others = records(&other);
    for index in 2..parts.len() {
        let mut flipped = parts.clone();
        flipped[index][60] ^= 1;
        refused(&mended(&flipped), &format!("record {index} changed"));
        let mut dropped = parts.clone();
        dropped.remove(index);
        refused(&mended(&dropped), &format!("record {index} dropped"));
        let mut repeated = parts.clone();
        repeated.insert(index, parts[index].clone());
        refused(&mended(&repeated), &format!("record {index} repeated"));
        let mut swapped = parts.clone();
        swapped.swap(index, if index + 1 < parts.len() { index + 1 } else { 2 });
        refused(&mended(&swapped), &format!("record {index} swapped"));
        let mut spliced = parts.clone();
        spliced[index] = others[index].to_vec();
        refused(&mended(&spliced), &format!("record {index} of another stream"));
        let mut bare = parts.clone();
        bare[index][2] &= !2;
        refused(&mended(&bare), &format!("record {index} said to be in clear"));
    }
}

#[test]
fn keys_that_are_missing_or_wrong_are_told() {
    let home = tempfile::tempdir().unwrap();
    let (store, old, new) = sample(50);
    let options = ExportOptions::new().encrypt(key());
    let stream = full(&new, &options);
    let other = ImportOptions::new().key(StreamKey::new([8; 32]));
    let path = home.path().join("store");
    assert!(matches!(verify_stream(&mut &stream[..], &mut ()), Err(Error::WrongKey { is_given: false })));
    assert!(matches!(
        verify_stream_as(&mut &stream[..], &other, &mut ()),
        Err(Error::WrongKey { is_given: true })
    ));
    assert!(matches!(Store::import(&mut &stream[..], &path), Err(Error::WrongKey { .. })));
    let then = delta(&old, &new, &options);
    let before = store.version();
    assert!(matches!(store.apply_as(&mut &then[..], &other, &mut ()), Err(Error::WrongKey { .. })));
    assert_eq!(store.version(), before);
    assert!(std::fs::read_dir(home.path()).unwrap().next().is_none(), "nothing is left behind");
    let shown = format!("{:?} {:?}", options, reading());
    assert!(!shown.contains("7, 7"), "{shown}");
    // A key does no harm where none is needed.
    let plain = full(&new, &ExportOptions::new());
    verify_stream_as(&mut &plain[..], &reading(), &mut ()).unwrap();
}

#[test]
fn a_frame_that_holds_more_or_less_than_it_says_is_refused() {
    let (_store, _, new) = sample(200);
    let stream = full(&new, &ExportOptions::new().compress(3));
    let parts: Vec<Vec<u8>> = records(&stream).into_iter().map(<[u8]>::to_vec).collect();
    let index = (1..parts.len()).find(|index| parts[*index][0] == 3 && parts[*index][60] == 1).unwrap();
    let count = u32::from_le_bytes(parts[index][56..60].try_into().unwrap()) as usize;
    // 64 MiB, one page less, nothing, and no frame at all.
    let frames = [
        zstd_of(&vec![0; 64 << 20]),
        zstd_of(&vec![0; (count - 1) * PAGE]),
        zstd_of(&[]),
        b"no frame".to_vec(),
    ];
    for frame in frames {
        let mut changed = parts.clone();
        let part = &mut changed[index];
        part.truncate(48 + 16 + count * 8);
        part.extend_from_slice(&(frame.len() as u64).to_le_bytes());
        part.extend_from_slice(&frame);
        part.resize(part.len().next_multiple_of(8), 0);
        let len = (part.len() - 48) as u64;
        part[8..16].copy_from_slice(&len.to_le_bytes());
        refused(&mended(&changed), &format!("a frame of {} bytes", frame.len()));
    }
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).unwrap()
}

#[test]
fn unknown_codings_say_what_they_are() {
    let (_store, _, new) = sample(20);
    let stream = full(&new, &ExportOptions::new());
    // Codec, cipher and features, in the header's payload.
    for (offset, value) in [(1, 9), (2, 9), (8, 0xf0)] {
        let mut parts: Vec<Vec<u8>> = records(&stream).into_iter().map(<[u8]>::to_vec).collect();
        parts[1][48 + offset] = value;
        match verify_stream(&mut &mended_header(&parts)[..], &mut ()) {
            Err(Error::Unsupported { found, .. }) => assert!(!found.is_empty()),
            other => panic!("{offset}: {other:?}"),
        }
    }
    let refusals = [
        ExportOptions::new().compress(0),
        ExportOptions::new().compress(20),
        ExportOptions::new().rate(1000),
        ExportOptions::new().mark_every(1),
    ];
    for options in refusals {
        let refused = new.export_as(&mut Vec::new(), &options, &mut ());
        assert!(matches!(refused, Err(Error::InvalidOption { .. })), "{options:?}");
    }
}

/// As [`mended`], of the header alone: it is refused before anything else is read.
fn mended_header(parts: &[Vec<u8>]) -> Vec<u8> {
    mended(&parts[..2])
}

#[test]
fn a_rate_changes_no_byte() {
    let (_store, old, new) = sample(300);
    let slow = ExportOptions::new().rate(4 << 20);
    assert!(full(&new, &slow) == full(&new, &ExportOptions::new()));
    assert!(delta(&old, &new, &slow) == delta(&old, &new, &ExportOptions::new()));
    let stream = full(&new, &slow);
    verify_stream_as(&mut &stream[..], &ImportOptions::new().rate(4 << 20), &mut ()).unwrap();
    let _ = DeltaBase::from(&old);
}

/// As [`mended`], for plain streams: of pages only the list has a checksum there, and the trailer sums up all that came before.
fn mended_plain(parts: &[Vec<u8>]) -> Vec<u8> {
    let (mut out, mut prefixes) = (parts[0].clone(), Vec::new());
    let mut previous = sum(0, &parts[0]);
    for (sequence, part) in (0u64..).zip(&parts[1..]) {
        let (mut prefix, mut payload) = (part[..40].to_vec(), part[48..].to_vec());
        if part[0] == 6 {
            payload[8..16].copy_from_slice(&sequence.to_le_bytes());
            payload[32..48].copy_from_slice(&xxhash_rust::xxh3::xxh3_128(&prefixes).to_le_bytes());
        }
        let summed = if part[0] == 3 { 16 + pages_of(part) * list_bytes(&parts[1]) } else { payload.len() };
        prefix[16..24].copy_from_slice(&sequence.to_le_bytes());
        prefix[24..32].copy_from_slice(&sum(sequence, &payload[..summed]).to_le_bytes());
        prefix[32..40].copy_from_slice(&previous.to_le_bytes());
        previous = sum(0, &prefix);
        prefix.extend(previous.to_le_bytes());
        out.extend([&prefix[..], &payload].concat());
        prefixes.extend(prefix);
    }
    out
}

/// How many pages a record says that it has; no more than it has room for.
fn pages_of(part: &[u8]) -> usize {
    let count = u32::from_le_bytes(part[56..60].try_into().unwrap()) as usize;
    count.min((part.len() - 64) / 16)
}

/// Of each page in a record, by the stream's header.
fn list_bytes(header: &[u8]) -> usize {
    if header[48] == 1 { 16 } else { 8 }
}

fn put(part: &mut [u8], at: usize, number: u64) {
    part[48 + at..48 + at + 8].copy_from_slice(&number.to_le_bytes());
}

fn get(part: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(part[48 + at..48 + at + 8].try_into().unwrap())
}

/// A full stream and a delta, neither compressed nor encrypted, as records.
fn plain_streams() -> [(&'static str, Vec<Vec<u8>>); 2] {
    let (_store, old, new) = sample(200);
    let streams = [full(&new, &ExportOptions::new()), delta(&old, &new, &ExportOptions::new())];
    let [full, delta] = streams.map(|stream| {
        let parts: Vec<Vec<u8>> = records(&stream).into_iter().map(<[u8]>::to_vec).collect();
        assert!(mended_plain(&parts) == stream, "what isn't changed needs no mending");
        parts
    });
    [("full", full), ("delta", delta)]
}

fn of_kind(parts: &[Vec<u8>], kind: u8) -> Vec<usize> {
    (1..parts.len()).filter(|index| parts[*index][0] == kind).collect()
}

/// Numbers put into a record's payload, each at its offset.
type Numbers = Vec<(usize, u64)>;

/// What an exporter says of pages, said otherwise.
fn wrong_runs(name: &str, parts: &[Vec<u8>], end: u64) -> Vec<(usize, Numbers, &'static str)> {
    let mut changes: Vec<(usize, Numbers, &str)> = Vec::new();
    let runs = of_kind(parts, 3);
    for index in runs.iter().copied() {
        let (first, count_and_codec) = (get(&parts[index], 0), get(&parts[index], 8));
        let count = count_and_codec & 0xffff_ffff;
        changes.push((index, vec![(8, 0)], "a run of no pages"));
        changes.push((index, vec![(8, 65)], "a run of too many pages"));
        changes.push((index, vec![(8, count | 1 << 32)], "a frame in a plain stream"));
        changes.push((index, vec![(8, count | 7 << 32)], "a codec of no kind"));
        let is_full = name == "full";
        if is_full {
            changes.push((index, vec![(0, end)], "a run at the end"));
            changes.push((index, vec![(0, u64::MAX)], "a run at the end of all numbers"));
        } else {
            let last = 16 + (count as usize - 1) * 16;
            changes.push((index, vec![(last, end)], "a page at the end"));
            changes.push((index, vec![(0, end), (16, end)], "a run at the end"));
            changes.push((index, vec![(16, first + 1)], "a first page that isn't the first"));
        }
        match (is_full, count) {
            (true, 2..) => changes.push((index, vec![(0, end - count + 1)], "a run across the end")),
            (false, 2..) => changes.push((index, vec![(32, first)], "a page twice")),
            _ => {}
        }
        if !is_full && count > 2 {
            changes.push((index, vec![(48, get(&parts[index], 16))], "a page before another"));
        }
        if index != runs[0] {
            let ids = if is_full { vec![(0, 0)] } else { vec![(0, 0), (16, 0)] };
            changes.push((index, ids, "a run before the one before"));
        }
    }
    changes
}

/// What an exporter says of freed ids, said otherwise.
fn wrong_frees(parts: &[Vec<u8>], end: u64) -> Vec<(usize, Numbers, &'static str)> {
    let mut changes: Vec<(usize, Numbers, &str)> = Vec::new();
    let frees = of_kind(parts, 4);
    for index in frees.iter().copied() {
        changes.push((index, vec![(8, 0)], "no ids freed"));
        changes.push((index, vec![(0, end)], "ids freed at the end"));
        changes.push((index, vec![(8, end)], "ids freed across the end"));
        changes.push((index, vec![(0, u64::MAX)], "ids freed at the end of all numbers"));
        if index != frees[0] {
            changes.push((index, vec![(0, 0)], "ids freed before others"));
        }
    }
    changes
}

#[test]
fn what_no_exporter_writes_is_refused_though_every_checksum_is_right() {
    for (name, parts) in plain_streams() {
        let changes = [wrong_runs(name, &parts, 200), wrong_frees(&parts, 200)].concat();
        assert!(changes.len() > 12);
        for (index, numbers, what) in changes {
            let mut changed = parts.clone();
            for (at, number) in numbers {
                put(&mut changed[index], at, number);
            }
            let begin = changed[..index].iter().map(Vec::len).sum::<usize>() as u64;
            let context = format!("{name}, record {index}: {what}");
            match verify_stream(&mut &mended_plain(&changed)[..], &mut ()) {
                // Where it says so, and not because the pages are other ones than the list's.
                Err(Error::BadStream { offset, expected, .. }) => {
                    assert_eq!(offset, begin + 48, "{context}: {expected}");
                    assert!(!expected.contains("checksum"), "{context}: {expected}");
                }
                other => panic!("{context}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_pages_damage_is_told_where_the_page_lies() {
    for (name, parts) in plain_streams() {
        let stream = parts.concat();
        for index in of_kind(&parts, 3) {
            let count = pages_of(&parts[index]);
            let list_end = 48 + 16 + count * list_bytes(&parts[1]);
            let begin = parts[..index].iter().map(Vec::len).sum::<usize>();
            for page in 0..count {
                let at = begin + list_end + page * PAGE;
                let mut damaged = stream.clone();
                damaged[at + 17] ^= 1;
                match verify_stream(&mut &damaged[..], &mut ()) {
                    Err(Error::BadStream { offset, .. }) if offset == at as u64 => {}
                    other => panic!("{name}, page {page} at {at}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn records_of_a_type_that_nobody_knows_are_passed_over_if_they_may_be() {
    let mut unknown = vec![7; 48 + 9000];
    unknown[..16].copy_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0, 0x28, 0x23, 0, 0, 0, 0, 0, 0]);
    for (name, parts) in plain_streams() {
        let told = verify_stream(&mut &parts.concat()[..], &mut ()).unwrap();
        for index in 3..parts.len() {
            let mut longer = parts.clone();
            longer.insert(index, unknown.clone());
            let stream = mended_plain(&longer);
            let found = verify_stream(&mut &stream[..], &mut ()).unwrap();
            assert_eq!(
                (found.pages, found.fingerprint),
                (told.pages, told.fingerprint),
                "{name}, before {index}"
            );
            // They are checked like others.
            let begin = longer[..index].iter().map(Vec::len).sum::<usize>();
            let mut damaged = stream.clone();
            damaged[begin + 48 + 8999] ^= 1;
            refused(&damaged, &format!("{name}: damage in a record that is passed over"));
            for flags in [1, 3] {
                longer[index][2] = flags;
                match verify_stream(&mut &mended_plain(&longer)[..], &mut ()) {
                    Err(Error::Unsupported { .. }) => {}
                    other => panic!("{name}, before {index}, flags {flags}: {other:?}"),
                }
            }
        }
    }
}

/// Keeps what it gets to itself until it is flushed.
#[derive(Default)]
struct Hesitant {
    kept: Vec<u8>,
    given: Vec<u8>,
}

impl std::io::Write for Hesitant {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.kept.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.given.append(&mut self.kept);
        Ok(())
    }
}

#[test]
fn an_export_that_returned_has_flushed_all_of_it() {
    let (_store, old, new) = sample(100);
    for rate in [None, Some(64 << 20)] {
        for (name, options) in codings().into_iter().filter(|(name, _)| !name.contains("encrypted")) {
            let options = rate.map_or(options.clone(), |rate| options.rate(rate));
            let mut out = Hesitant::default();
            new.export_as(&mut out, &options, &mut ()).unwrap();
            assert!(out.given == full(&new, &options), "{name}, {rate:?}, full");
            let mut out = Hesitant::default();
            new.export_since_as(&old, &mut out, &options, &mut ()).unwrap();
            assert!(out.given == delta(&old, &new, &options), "{name}, {rate:?}, delta");
        }
    }
}

#[test]
fn headers_beyond_the_limits_are_refused_though_their_checksums_are_right() {
    let (_store, old, new) = sample(20);
    let stream = delta(&old, &new, &ExportOptions::new());
    let parts: Vec<Vec<u8>> = records(&stream).into_iter().map(<[u8]>::to_vec).collect();
    let (version, pages, live, base) = (80, 104, 112, 56);
    let told = |at: usize| get(&parts[1], at);
    assert_eq!((told(version), told(pages), told(base)), (new.version().0, 20, old.version().0));
    // The page size is the upper half of the number at its offset.
    let page_size = |size: u64| vec![(0, told(0) & 0xffff_ffff | size << 32)];
    for (numbers, what) in [
        (page_size(0), "no page size"),
        (page_size(256), "pages that are too small"),
        (page_size(768), "pages that are no power of two"),
        (page_size(1 << 17), "pages that are too large"),
        (vec![(version, u64::MAX)], "a version beyond the last"),
        (vec![(version, 0), (base, 0)], "pages before the first version"),
        (vec![(pages, (1 << 40) + 1)], "more pages than there are ids"),
        (vec![(live, 21)], "more pages that hold something than pages"),
        (vec![(base, new.version().0 + 1)], "a base after the version"),
    ] {
        let mut changed = parts.clone();
        for (at, number) in numbers {
            put(&mut changed[1], at, number);
        }
        match verify_stream(&mut &mended_plain(&changed)[..], &mut ()) {
            Err(Error::BadStream { expected, .. }) if expected == "a header within the limits" => {}
            other => panic!("{what}: {other:?}"),
        }
    }
}
