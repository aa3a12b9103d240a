//! Goal: a stream that was cut anywhere is gone on with, at either end, and is then byte for byte the one that wasn't; the token keeps what
//! it needs, over restarts, and no longer than it should.
//!
//! Method: streams with many marks, of every coding, cut at every mark and between them, sent on to an inbox that has what was there;
//! directed tests of tokens (restart, rename, end, expiry, another store); and, on the simulated disk, a power cut and a fault at each I/O
//! call of an inbox that receives and of an export that is begun.
#![cfg(all(feature = "zstd", feature = "encrypt"))]
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::{Random, fill, small};
use vellum::storage::MemoryStorage;
use vellum::{
    Budget, DeltaBase, Error, ExportOptions, ExportToken, ImportOptions, Inbox, PageId, ResumePoint,
    Snapshot, Store, StreamKey, resume_point, verify_stream_as,
};

const HOUR: Duration = Duration::from_hours(1);

fn key() -> StreamKey {
    StreamKey::new([9; 32])
}

fn reading() -> ImportOptions {
    ImportOptions::new().key(key())
}

fn codings() -> Vec<ExportOptions> {
    let marked = || ExportOptions::new().mark_every(4 << 10);
    vec![marked(), marked().compress(2), marked().encrypt(key()), marked().compress(2).encrypt(key())]
}

fn sample(store: &Store) -> (Snapshot, Snapshot) {
    fill(store, (0..300).filter(|id| id % 9 != 4), 1);
    let old = store.snapshot();
    // Neighbours, so that a delta goes on at a page that was changed.
    fill(store, (0..350).filter(|id| id % 3 > 0), 2);
    let mut txn = store.begin().unwrap();
    (0..300).filter(|id| id % 10 == 5).for_each(|id| txn.free(PageId(id)).unwrap());
    txn.commit().unwrap();
    (old, store.snapshot())
}

fn run(store: &Store, token: &ExportToken, from: Option<&ResumePoint>) -> Vec<u8> {
    let mut out = Vec::new();
    let options = ExportOptions::new().encrypt(key());
    let summary = store.run_export(token, from, &mut out, &options, &mut ()).unwrap();
    assert_eq!(summary.bytes, out.len() as u64 + from.map_or(0, ResumePoint::offset));
    out
}

#[test]
fn a_cut_export_goes_on_with_the_bytes_of_an_uncut_one() {
    let store = Store::in_memory(small()).unwrap();
    let (old, new) = sample(&store);
    store.create_bookmark("old", &old).unwrap();
    let bookmark = store.bookmark("old").unwrap();
    let mut points = 0;
    for options in codings() {
        for base in [None, Some(DeltaBase::from(&old)), Some(DeltaBase::from(&bookmark))] {
            let token = new.begin_export(base, &options, HOUR).unwrap();
            let whole = run(&store, &token, None);
            assert!(whole == run(&store, &token, None), "a token stands for one stream");
            let summary = verify_stream_as(&mut &whole[..], &reading(), &mut ()).unwrap();
            assert_eq!(summary.fingerprint, new.fingerprint());
            let at = |cut: usize| resume_point(&mut &whole[..cut], &reading(), &mut ()).unwrap();
            // Every mark: each is the last one of what ends just before the next.
            let mut marks: Vec<ResumePoint> = Vec::new();
            let mut cut = whole.len();
            while let Some(point) = at(cut) {
                marks.insert(0, point);
                cut = usize::try_from(point.offset()).unwrap() - 1;
            }
            for cut in (0..whole.len()).step_by(3001) {
                let expected = marks.iter().rfind(|mark| mark.offset() <= cut as u64).copied();
                assert_eq!(at(cut), expected, "cut at {cut}");
            }
            for mark in &marks {
                let cut = usize::try_from(mark.offset()).unwrap();
                assert_eq!(at(cut), Some(*mark));
                // A word is enough to hand it on.
                let point: ResumePoint = mark.to_string().parse().unwrap();
                assert_eq!(point, *mark);
                assert!(whole[cut..] == run(&store, &token, Some(&point))[..], "cut at {cut}");
            }
            points += marks.len();
            store.end_export(&token).unwrap();
        }
    }
    assert!(points > 40, "{points} marks");
}

#[test]
fn an_inbox_receives_a_stream_in_any_number_of_pieces() {
    let store = Store::in_memory(small()).unwrap();
    let (_, new) = sample(&store);
    let mut random = Random(4);
    for options in codings() {
        let token = new.begin_export(None, &options, HOUR).unwrap();
        let whole = run(&store, &token, None);
        for round in 0..6 {
            let storage = Arc::new(MemoryStorage::new());
            let (mut pieces, mut sent) = (0, 0);
            loop {
                let inbox = Inbox::open_on(storage.clone()).unwrap();
                let point = inbox.resume_point(&reading(), &mut ()).unwrap();
                let rest = run(&store, &token, point.as_ref());
                let is_last = round == 0 || random.below(4) == 0;
                let len = if is_last { rest.len() } else { random.index(rest.len()) };
                sent += len;
                pieces += 1;
                match inbox.receive(&mut &rest[..len], &reading(), &mut ()) {
                    Ok(summary) => {
                        assert_eq!(summary.fingerprint, new.fingerprint());
                        // Once more: there is nothing to do.
                        inbox.receive(&mut &b"not read"[..], &reading(), &mut ()).unwrap();
                        break;
                    }
                    Err(Error::BadStream { .. }) if len < rest.len() => {}
                    Err(error) => panic!("{error:?}"),
                }
                // What comes from elsewhere changes nothing.
                let foreign = inbox.receive(&mut &whole[16..], &reading(), &mut ());
                assert!(matches!(foreign, Err(Error::BadStream { .. })), "{foreign:?}");
                assert_eq!(
                    inbox.resume_point(&reading(), &mut ()).unwrap().is_some(),
                    point.is_some() || inbox.len().unwrap() > 0
                );
            }
            let inbox = Inbox::open_on(storage).unwrap();
            let mut found = Vec::new();
            std::io::Read::read_to_end(&mut inbox.reader().unwrap(), &mut found).unwrap();
            assert!(found == whole, "after {pieces} pieces and {sent} bytes");
            let copy = Store::in_memory(small()).unwrap();
            copy.apply_as(&mut inbox.reader().unwrap(), &reading(), &mut ()).unwrap();
            assert_eq!(copy.snapshot().fingerprint(), new.fingerprint());
            inbox.clear().unwrap();
            assert!(inbox.is_empty().unwrap());
        }
        store.end_export(&token).unwrap();
    }
}

#[test]
fn a_token_keeps_its_versions_over_restarts() {
    let home = Arc::new(MemoryStorage::new());
    let open = || Store::open_on(home.clone(), small()).unwrap();
    let mut store = open();
    let (old, new) = sample(&store);
    fill(&store, 0..350, 3);
    // Neither has a name, and neither is the current version.
    let token = new.begin_export(Some(DeltaBase::from(&old)), &codings()[0], HOUR).unwrap();
    let (whole, fingerprint) = (run(&store, &token, None), new.fingerprint());
    let word = token.to_string();
    drop((old, new));
    for round in 0..4 {
        fill(&store, 0..350, 4 + round);
        store.maintain(Budget::unlimited()).unwrap();
        drop(store);
        store = open();
        store.audit().unwrap();
        let token: ExportToken = word.parse().unwrap();
        assert!(run(&store, &token, None) == whole);
        let listed = store.snapshots();
        assert_eq!(listed.len(), 2);
        assert!(listed.iter().all(|named| named.is_leaving && named.holds[0].owner == token.owner()));
        for named in &listed {
            assert!(matches!(store.drop_snapshot(&named.name), Err(Error::SnapshotHeld { .. })));
        }
    }
    assert_eq!(verify_stream_as(&mut &whole[..], &reading(), &mut ()).unwrap().fingerprint, fingerprint);
    store.end_export(&token).unwrap();
    assert!(store.snapshots().is_empty(), "their names were the token's");
    assert!(matches!(store.end_export(&token), Err(Error::TokenUnknown { .. })));
    let again = store.run_export(&token, None, &mut Vec::new(), &ExportOptions::new(), &mut ());
    assert!(matches!(again, Err(Error::TokenUnknown { .. })));
    let stats = |store: &Store| {
        store.maintain(Budget::unlimited()).unwrap();
        store.audit().unwrap();
        let stats = store.stats();
        (stats.allocated_bytes, stats.live_bytes)
    };
    let (allocated, live) = stats(&store);
    assert_eq!(allocated, live, "nothing is kept any more");
    drop(store);
    let store = open();
    assert!(store.snapshots().is_empty());
    store.verify(&mut ()).unwrap();
}

#[test]
fn a_token_holds_names_that_are_there_already() {
    let store = Store::in_memory(small()).unwrap();
    sample(&store);
    let nightly = store.create_snapshot("nightly").unwrap();
    let token = nightly.begin_export(None, &codings()[0], HOUR).unwrap();
    let whole = run(&store, &token, None);
    assert!(matches!(store.drop_snapshot("nightly"), Err(Error::SnapshotHeld { .. })));
    store.rename_snapshot("nightly", "last night").unwrap();
    assert!(run(&store, &token, None) == whole, "a renamed snapshot is the same one");
    assert_eq!(store.snapshots().len(), 1, "no name was made");
    store.end_export(&token).unwrap();
    store.drop_snapshot("last night").unwrap();
}

#[test]
fn two_exports_of_one_snapshot_hold_it_each_for_itself() {
    let store = Store::in_memory(small()).unwrap();
    sample(&store);
    let nightly = store.create_snapshot("nightly").unwrap();
    let begin = || nightly.begin_export(None, &codings()[0], HOUR).unwrap();
    let (first, second) = (begin(), begin());
    assert_ne!(first.owner(), second.owner());
    let owners =
        || -> Vec<String> { store.snapshots()[0].holds.iter().map(|hold| hold.owner.clone()).collect() };
    assert_eq!(owners().len(), 2);
    store.end_export(&first).unwrap();
    assert_eq!(owners(), [second.owner()]);
    assert!(matches!(store.drop_snapshot("nightly"), Err(Error::SnapshotHeld { .. })));
    run(&store, &second, None);
    store.end_export(&second).unwrap();
    store.drop_snapshot("nightly").unwrap();
}

#[test]
fn an_expired_token_is_refused_and_what_it_kept_goes() {
    let store = Store::in_memory(small()).unwrap();
    let (_, new) = sample(&store);
    let token = new.begin_export(None, &codings()[0], Duration::ZERO).unwrap();
    assert!(token.expires_at() <= SystemTime::now());
    let refused = store.run_export(&token, None, &mut Vec::new(), &ExportOptions::new(), &mut ());
    assert!(matches!(refused, Err(Error::TokenExpired { .. })), "{refused:?}");
    store.maintain(Budget::unlimited()).unwrap();
    assert!(store.snapshots().is_empty());
    assert!(matches!(store.end_export(&token), Err(Error::TokenUnknown { .. })));
}

#[test]
fn wrong_tokens_and_points_are_typed_errors() {
    let store = Store::in_memory(small()).unwrap();
    let (old, new) = sample(&store);
    let other = Store::in_memory(small()).unwrap();
    sample(&other);
    let options = &codings()[0];
    let token = new.begin_export(None, options, HOUR).unwrap();
    let sink = &mut Vec::new();
    let elsewhere = other.run_export(&token, None, sink, options, &mut ());
    assert!(matches!(elsewhere, Err(Error::TokenOfAnotherStore { .. })), "{elsewhere:?}");
    assert!(matches!(other.end_export(&token), Err(Error::TokenOfAnotherStore { .. })));
    let delta = new.begin_export(Some(DeltaBase::from(&old)), options, HOUR).unwrap();
    let point = resume_point(&mut &run(&store, &delta, None)[..], &reading(), &mut ()).unwrap().unwrap();
    let wrong = store.run_export(&token, Some(&point), sink, options, &mut ());
    assert!(matches!(wrong, Err(Error::WrongResumePoint { .. })), "{wrong:?}");
    let sealed = new.begin_export(None, &codings()[2], HOUR).unwrap();
    let keyless = store.run_export(&sealed, None, sink, options, &mut ());
    assert!(matches!(keyless, Err(Error::WrongKey { is_given: false })), "{keyless:?}");
    let point = resume_point(&mut &run(&store, &sealed, None)[..], &reading(), &mut ()).unwrap().unwrap();
    let mine = ExportOptions::new().encrypt(StreamKey::new([1; 32]));
    let wrong = store.run_export(&sealed, Some(&point), sink, &mine, &mut ());
    assert!(matches!(wrong, Err(Error::WrongResumePoint { .. })), "{wrong:?}");
    assert!(sink.is_empty(), "nothing was written");
    let word = token.to_string();
    for end in 0..word.len() {
        assert!(word[..end].parse::<ExportToken>().is_err(), "cut at {end}");
    }
    for index in 0..word.len() {
        let mut bytes = word.clone().into_bytes();
        bytes[index] = if bytes[index] == b'0' { b'1' } else { b'0' };
        assert!(String::from_utf8(bytes).unwrap().parse::<ExportToken>().is_err(), "letter {index}");
    }
    assert!(matches!("vellum-export-zz".parse::<ExportToken>(), Err(Error::BadToken { .. })));
    assert!(matches!("héé".parse::<ResumePoint>(), Err(Error::BadToken { .. })));
    assert!(word.parse::<ResumePoint>().is_err());
    assert_eq!(format!(" {word}\n").parse::<ExportToken>().unwrap(), token);
}

#[test]
fn a_plain_stream_is_received_from_its_beginning() {
    let store = Store::in_memory(small()).unwrap();
    let (_, new) = sample(&store);
    let mut stream = Vec::new();
    new.export(&mut stream).unwrap();
    let inbox = Inbox::open_on(Arc::new(MemoryStorage::new())).unwrap();
    let none = ImportOptions::new();
    assert!(inbox.receive(&mut &stream[..stream.len() / 2], &none, &mut ()).is_err());
    assert!(inbox.resume_point(&none, &mut ()).unwrap().is_none());
    inbox.receive(&mut &stream[..], &none, &mut ()).unwrap();
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("mine")).unwrap();
    std::fs::write(home.path().join("mine/file"), b"mine").unwrap();
    assert!(matches!(Inbox::open(home.path().join("mine")), Err(Error::NotAStore { .. })));
}

#[cfg(feature = "sim")]
mod hostile {
    use super::*;
    use vellum::storage::sim::{Fault, SimDisk, Survival};

    /// A stream of a few dozen kilobytes with many marks.
    fn stream() -> (Store, ExportToken, Vec<u8>) {
        let store = Store::in_memory(small()).unwrap();
        fill(&store, 0..60, 1);
        let token = store.snapshot().begin_export(None, &codings()[0], HOUR).unwrap();
        let whole = run(&store, &token, None);
        (store, token, whole)
    }

    /// Receives in two pieces, as far as the disk lets it.
    fn receive(disk: &SimDisk, store: &Store, token: &ExportToken) -> vellum::Result<()> {
        for part in [2, 1] {
            let inbox = Inbox::open_on(Arc::new(disk.storage()))?;
            let point = inbox.resume_point(&reading(), &mut ())?;
            let rest = run(store, token, point.as_ref());
            match inbox.receive(&mut &rest[..rest.len() / part], &reading(), &mut ()) {
                Ok(_) => return Ok(()),
                Err(Error::BadStream { .. }) if part == 2 => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the second piece is the rest")
    }

    fn is_whole(disk: &SimDisk, whole: &[u8]) -> bool {
        disk.read_file("stream").is_ok_and(|found| found == whole)
    }

    #[test]
    fn an_inbox_survives_every_power_cut_and_fault() {
        let (store, token, whole) = stream();
        let rehearsal = SimDisk::new(1);
        receive(&rehearsal, &store, &token).unwrap();
        let faults = [Fault::Crash, Fault::EIO, Fault::ENOSPC, Fault::ShortWrite, Fault::SyncFails];
        for index in 0..rehearsal.io_count() {
            for fault in faults {
                let disk = SimDisk::new(1);
                disk.fail_at(index, fault);
                let done = receive(&disk, &store, &token);
                let after: Vec<SimDisk> = match fault {
                    Fault::Crash => {
                        let survivals = [
                            Survival::Nothing,
                            Survival::TailLost,
                            Survival::Scattered,
                            Survival::Everything,
                        ];
                        survivals.map(|survival| disk.power_cut_with(survival, index)).into()
                    }
                    _ => {
                        disk.clear_faults();
                        vec![disk.power_cut(index), disk.clone_state()]
                    }
                };
                for after in after {
                    if done.is_ok() {
                        assert!(
                            is_whole(&after, &whole),
                            "index {index}, {fault:?}: acknowledged, so it is there"
                        );
                    }
                    receive(&after, &store, &token)
                        .unwrap_or_else(|error| panic!("index {index}, {fault:?}: {error:?}"));
                    assert!(is_whole(&after, &whole), "index {index}, {fault:?}");
                }
            }
        }
    }

    fn history(store: &Store) -> (Snapshot, Snapshot) {
        fill(store, 0..40, 1);
        let old = store.snapshot();
        fill(store, 20..50, 2);
        let new = store.snapshot();
        fill(store, 0..50, 3);
        (old, new)
    }

    #[test]
    fn a_begun_export_survives_every_power_cut_and_fault() {
        let open = |disk: &SimDisk| Store::open_on(Arc::new(disk.storage()), small());
        // What is done before is not under trial here.
        let attempt = |disk: &SimDisk, fault: Option<(u64, Fault)>| {
            let store = open(disk).unwrap();
            let (old, new) = history(&store);
            let before = disk.io_count();
            if let Some((index, fault)) = fault {
                disk.fail_at(before + index, fault);
            }
            let begun = new.begin_export(Some(DeltaBase::from(&old)), &codings()[0], HOUR);
            let expected = begun.as_ref().ok().and_then(|token| {
                let mut out = Vec::new();
                store.run_export(token, None, &mut out, &codings()[0], &mut ()).ok().map(|_| out)
            });
            let ended = match &begun {
                Ok(token) if fault.is_none_or(|(index, _)| index % 2 == 0) => Some(store.end_export(token)),
                _ => None,
            };
            let calls = disk.io_count() - before;
            (begun, expected, ended, calls)
        };
        let (.., calls) = attempt(&SimDisk::new(3), None);
        for index in 0..calls {
            for fault in [Fault::Crash, Fault::EIO, Fault::ENOSPC, Fault::SyncFails] {
                let disk = SimDisk::new(3);
                let (begun, expected, ended, _) = attempt(&disk, Some((index, fault)));
                let context = format!("index {index}, {fault:?}");
                disk.clear_faults();
                for after in [disk.power_cut(index), disk.power_cut_with(Survival::Nothing, index)] {
                    let store = open(&after).unwrap_or_else(|error| panic!("{context}: {error:?}"));
                    store.verify(&mut ()).unwrap();
                    store.audit().unwrap();
                    if let (Ok(token), Some(expected), None) = (&begun, &expected, &ended) {
                        assert!(run(&store, token, None) == *expected, "{context}");
                    }
                    if let (Ok(token), Some(Ok(()))) = (&begun, &ended) {
                        assert!(
                            matches!(store.end_export(token), Err(Error::TokenUnknown { .. })),
                            "{context}"
                        );
                    }
                    // Whatever is left of it can be ended by its owner's name.
                    for named in store.snapshots() {
                        store.release_snapshot(&named.name, &named.holds[0].owner).unwrap();
                    }
                    assert!(store.snapshots().is_empty(), "{context}");
                    fill(&store, 0..50, 9);
                    store.maintain(Budget::unlimited()).unwrap();
                    store.audit().unwrap();
                }
            }
        }
    }
}
