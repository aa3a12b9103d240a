//! Goal: a delta leads from its base to its snapshot and from nowhere else to anywhere else; several folded are one; a
//! rollback is the old state again, and nothing is lost by it.
//!
//! Method: random histories with snapshots and bookmarks, where every pair of states is tried in every way that leads
//! from the one to the other, compared by fingerprint and byte by byte; then streams damaged in every way.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::collections::BTreeMap;
use std::io::Read;

use common::{PAGE, Random, contents, env, seed, small};
use vellum::{
    Bookmark, Budget, Durability, Error, PageId, Snapshot, Store, fold, verify_chain, verify_stream,
};

type Model = BTreeMap<u64, u64>;

/// One random transaction, in the store and in the model.
fn step(store: &Store, model: &mut Model, random: &mut Random, tag: u64) {
    let mut txn = store.begin().unwrap();
    for _ in 0..random.below(30) {
        let count = txn.page_count();
        match random.below(12) {
            0 => {
                let to = random.below(400);
                txn.truncate(to).unwrap();
                model.retain(|id, _| *id < to);
            }
            1 => txn.set_meta(&tag.to_le_bytes()).unwrap(),
            2..5 if count > 0 => {
                let id = random.below(count);
                if model.remove(&id).is_some() {
                    txn.free(PageId(id)).unwrap();
                }
            }
            _ => {
                let id = random.below(count + 20);
                if id >= count {
                    txn.truncate(id + 1).unwrap();
                }
                txn.write(PageId(id), &contents(id, tag)).unwrap();
                model.insert(id, tag);
            }
        }
    }
    txn.commit().unwrap();
}

fn check(store: &Store, model: &Model, like: &Snapshot) {
    let snapshot = store.snapshot();
    let view = snapshot.view();
    for id in 0..snapshot.page_count() {
        let expected = model.get(&id).map(|tag| contents(id, *tag));
        assert!(view.page(PageId(id)).unwrap() == expected.as_deref(), "page {id}");
    }
    assert_eq!(snapshot.live_pages(), model.len() as u64);
    let parts = |of: &Snapshot| (of.fingerprint(), of.page_count(), of.meta().to_vec());
    assert_eq!(parts(&snapshot), parts(like));
    drop(view);
    store.audit().unwrap();
}

fn full(snapshot: &Snapshot) -> Vec<u8> {
    let mut stream = Vec::new();
    snapshot.export(&mut stream).unwrap();
    stream
}

fn delta(from: &Snapshot, to: &Snapshot) -> Vec<u8> {
    let mut stream = Vec::new();
    let summary = to.export_since(from, &mut stream).unwrap();
    assert_eq!(summary, verify_stream(&mut &stream[..], &mut ()).unwrap());
    assert_eq!(summary.base.unwrap().fingerprint, from.fingerprint());
    stream
}

fn folded(streams: &[&[u8]]) -> Vec<u8> {
    let mut readers: Vec<&[u8]> = streams.to_vec();
    let mut readers: Vec<&mut dyn Read> = readers.iter_mut().map(|stream| stream as &mut dyn Read).collect();
    let mut out = Vec::new();
    fold(&mut readers, &mut out, &mut ()).unwrap();
    out
}

/// A store at the state of a snapshot.
fn copy_of(snapshot: &Snapshot, home: &tempfile::TempDir, name: &str) -> Store {
    Store::import_with(&mut &full(snapshot)[..], home.path().join(name), small().create(true), &mut ())
        .unwrap()
}

#[test]
fn deltas_lead_from_their_base_to_their_snapshot() {
    let mut random = Random(seed("delta"));
    for round in 0..env("VELLUM_CASES", 6) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path().join("source"), small()).unwrap();
        let mut model = Model::new();
        let mut states: Vec<(Snapshot, Model, Bookmark)> = Vec::new();
        for tag in 1..=25 {
            step(&store, &mut model, &mut random, tag);
            if tag % 5 == 0 {
                let name = format!("at {tag}");
                store.create_bookmark(&name, &store.snapshot()).unwrap();
                states.push((store.snapshot(), model.clone(), store.bookmark(&name).unwrap()));
            }
            if tag % 9 == 0 {
                store.maintain(Budget::unlimited()).unwrap();
            }
        }
        for from in 0..states.len() {
            for to in from..states.len() {
                let (base, _, bookmark) = &states[from];
                let (target, expected, _) = &states[to];
                let copy = copy_of(base, &home, &format!("{round}-{from}-{to}"));
                let stream = delta(base, target);
                assert_eq!(stream, delta(base, target), "equal states give equal bytes");
                copy.apply(&mut &stream[..]).unwrap();
                check(&copy, expected, target);
                if to > from {
                    // Once more is once too often, unless nothing differs.
                    let again = copy.apply(&mut &stream[..]);
                    assert!(
                        matches!(again, Err(Error::WrongBase { .. }))
                            || base.fingerprint() == target.fingerprint()
                    );
                }
                let marked = copy_of(base, &home, &format!("{round}-{from}-{to}-marked"));
                let mut since = Vec::new();
                target.export_since(bookmark, &mut since).unwrap();
                marked.apply(&mut &since[..]).unwrap();
                check(&marked, expected, target);
                drop((copy, marked));
                let reopened =
                    Store::open(home.path().join(format!("{round}-{from}-{to}")), small()).unwrap();
                check(&reopened, expected, target);
            }
        }
        // A full stream and the deltas after it, folded, are the full stream of the last; any two deltas are one.
        let links: Vec<Vec<u8>> = states.windows(2).map(|pair| delta(&pair[0].0, &pair[1].0)).collect();
        let first = full(&states[0].0);
        let (last, expected, _) = states.last().unwrap();
        let chain: Vec<&[u8]> = std::iter::once(&first[..]).chain(links.iter().map(Vec::as_slice)).collect();
        assert_eq!(folded(&chain), full(last));
        for middle in 1..links.len() {
            let (left, right) =
                (folded(&[&links[middle - 1]]), folded(&[&links[middle - 1], &links[middle]]));
            let copy = copy_of(&states[middle - 1].0, &home, &format!("{round}-{middle}-left"));
            copy.apply(&mut &left[..]).unwrap();
            check(&copy, &states[middle].1, &states[middle].0);
            let copy = copy_of(&states[middle - 1].0, &home, &format!("{round}-{middle}-right"));
            copy.apply(&mut &right[..]).unwrap();
            check(&copy, &states[middle + 1].1, &states[middle + 1].0);
        }
        let copy = copy_of(&states[0].0, &home, &format!("{round}-all"));
        let parts: Vec<&[u8]> = links.iter().map(Vec::as_slice).collect();
        copy.apply(&mut &folded(&parts)[..]).unwrap();
        check(&copy, expected, last);
        let mut readers: Vec<&[u8]> = chain.clone();
        let mut readers: Vec<&mut dyn Read> =
            readers.iter_mut().map(|stream| stream as &mut dyn Read).collect();
        let seen = verify_chain(&mut readers, &mut ()).unwrap();
        assert_eq!(seen.last().unwrap().fingerprint, last.fingerprint());
        let mut readers: Vec<&[u8]> = vec![&first, &links[1]];
        let mut readers: Vec<&mut dyn Read> =
            readers.iter_mut().map(|stream| stream as &mut dyn Read).collect();
        assert!(matches!(verify_chain(&mut readers, &mut ()), Err(Error::WrongBase { .. })));
    }
}

#[test]
fn a_bookmarks_pages_may_be_long_gone() {
    let mut random = Random(seed("bookmark"));
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path().join("source"), small()).unwrap();
    let mut model = Model::new();
    step(&store, &mut model, &mut random, 1);
    store.create_bookmark("sent", &store.snapshot()).unwrap();
    let copy = copy_of(&store.snapshot(), &home, "copy");
    for tag in 2..60 {
        step(&store, &mut model, &mut random, tag);
        store.maintain(Budget::unlimited()).unwrap();
        if tag % 10 == 0 {
            let now = store.snapshot();
            let mut stream = Vec::new();
            now.export_since(&store.bookmark("sent").unwrap(), &mut stream).unwrap();
            copy.apply(&mut &stream[..]).unwrap();
            check(&copy, &model, &now);
            assert_eq!(copy.version(), now.version(), "a copy that follows has the same versions");
            store.drop_bookmark("sent").unwrap();
            store.create_bookmark("sent", &store.snapshot()).unwrap();
        }
    }
    let gone = store.bookmark("sent").unwrap();
    store.drop_bookmark("sent").unwrap();
    let refused = store.snapshot().export_since(&gone, &mut Vec::new()).unwrap_err();
    assert!(matches!(refused, Error::SnapshotNotFound { .. }), "{refused}");
}

#[test]
fn a_delta_costs_what_changed() {
    let store = Store::in_memory(small()).unwrap();
    let pages = 20_000;
    for from in (0..pages).step_by(1000) {
        let mut txn = store.begin().unwrap();
        txn.truncate(pages).unwrap();
        (from..from + 1000).for_each(|id| txn.write(PageId(id), &contents(id, 1)).unwrap());
        txn.commit().unwrap();
    }
    let base = store.snapshot();
    let mut txn = store.begin().unwrap();
    (0..200).for_each(|id| txn.write(PageId(id * 100), &contents(id, 2)).unwrap());
    txn.commit().unwrap();
    let stream = delta(&base, &store.snapshot());
    // The pages, an id and a checksum each, four records of them and three others, and what is in those.
    let most = 200 * (PAGE + 16) + 4 * 16 + 7 * 48 + 16 + 192 + 16 + 56;
    assert!(stream.len() <= most, "{} bytes", stream.len());
}

#[test]
fn what_can_not_be_applied_is_refused_and_changes_nothing() {
    let mut random = Random(seed("refused"));
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path().join("source"), small()).unwrap();
    let mut model = Model::new();
    step(&store, &mut model, &mut random, 1);
    // A random step may leave nothing, and what begins at nothing is for an empty store too.
    let mut txn = store.begin().unwrap();
    txn.truncate(txn.page_count().max(1)).unwrap();
    txn.write(PageId(0), &contents(0, 1)).unwrap();
    txn.commit().unwrap();
    model.insert(0, 1);
    let (base, before) = (store.snapshot(), model.clone());
    step(&store, &mut model, &mut random, 2);
    step(&store, &mut model, &mut random, 3);
    let target = store.snapshot();
    let stream = delta(&base, &target);
    let copy = copy_of(&base, &home, "copy");
    for cut in 0..stream.len() {
        assert!(copy.apply(&mut &stream[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..stream.len() {
        let mut flipped = stream.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(copy.apply(&mut &flipped[..]).is_err(), "flipped at {at}");
    }
    check(&copy, &before, &base);
    // A full stream is for an empty store, a delta for one that stands at its base.
    assert!(matches!(copy.apply(&mut &full(&target)[..]), Err(Error::WrongBase { .. })));
    let imported = Store::import(&mut &stream[..], home.path().join("none"));
    assert!(matches!(imported, Err(Error::WrongBase { .. })));
    assert!(!home.path().join("none").exists());
    let other = Store::in_memory(small()).unwrap();
    other.apply(&mut &full(&target)[..]).unwrap();
    check(&other, &model, &target);
    let large = Store::in_memory(small().page_size(1024)).unwrap();
    assert!(matches!(large.apply(&mut &stream[..]), Err(Error::PageSizeMismatch { .. })));
    let foreign = other.snapshot().export_since(&base, &mut Vec::new()).unwrap_err();
    assert!(matches!(foreign, Error::InvalidOption { .. }), "{foreign}");
    let backwards = base.export_since(&target, &mut Vec::new()).unwrap_err();
    assert!(matches!(backwards, Error::InvalidOption { .. }), "{backwards}");
    copy.apply(&mut &stream[..]).unwrap();
    check(&copy, &model, &target);
    assert!(matches!(fold(&mut [], &mut Vec::new(), &mut ()), Err(Error::InvalidOption { .. })));
}

#[test]
fn a_large_delta_waits_in_a_file_that_goes() {
    let home = tempfile::tempdir().unwrap();
    let options = || small().page_size(4096).segment_size(1 << 20);
    let (store, copy) = (
        Store::open(home.path().join("source"), options()).unwrap(),
        Store::open(home.path().join("copy"), options()).unwrap(),
    );
    let (base, pages) = (store.snapshot(), 12_000);
    for from in (0..pages).step_by(1000) {
        let mut txn = store.begin().unwrap();
        txn.truncate(pages).unwrap();
        (from..from + 1000).for_each(|id| txn.write(PageId(id), &[(id % 251) as u8; 4096]).unwrap());
        txn.commit().unwrap();
    }
    let stream = delta(&base, &store.snapshot());
    let files = || std::fs::read_dir(home.path().join("copy")).unwrap().map(|file| file.unwrap().file_name());
    let waiting = || files().filter(|name| name.to_string_lossy().starts_with("waiting-")).count();
    let mut was_there = false;
    let mut observer = |_: vellum::Progress| {
        was_there |= waiting() > 0;
        std::ops::ControlFlow::Continue(())
    };
    copy.apply_with(&mut &stream[..], &mut observer).unwrap();
    assert!(was_there && waiting() == 0);
    assert_eq!(copy.snapshot().fingerprint(), store.snapshot().fingerprint());
    copy.verify(&mut ()).unwrap();
    copy.audit().unwrap();
    drop(copy);
    // One that a crash has left is removed.
    std::fs::write(home.path().join("copy").join("waiting-0123"), b"left over").unwrap();
    let copy = Store::open(home.path().join("copy"), options()).unwrap();
    assert_eq!(waiting(), 0);
    assert_eq!(copy.snapshot().fingerprint(), store.snapshot().fingerprint());
}

#[test]
fn rolling_back_is_the_old_state_again() {
    let mut random = Random(seed("rollback"));
    for _ in 0..env("VELLUM_CASES", 6) {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("store");
        let mut store = Store::open(&dir, small()).unwrap();
        let mut model = Model::new();
        let mut named: Vec<(String, Model)> = Vec::new();
        for tag in 1..=40 {
            step(&store, &mut model, &mut random, tag);
            match random.below(6) {
                0 => {
                    let name = format!("at {tag}");
                    store.create_snapshot(&name).unwrap();
                    named.push((name, model.clone()));
                }
                1 if !named.is_empty() => {
                    let (name, old) = named[random.index(named.len())].clone();
                    let target = store.open_snapshot(&name).unwrap();
                    let open = store.begin().unwrap();
                    let before = store.snapshot();
                    let done = store.rollback_to(&target).unwrap();
                    assert_eq!(done.version, store.version());
                    check(&store, &old, &target);
                    if let Some(head) = done.head {
                        let head_model = std::mem::replace(&mut model, old);
                        assert_eq!(store.open_snapshot(&head).unwrap().fingerprint(), before.fingerprint());
                        named.push((head, head_model));
                    } else {
                        model = old;
                    }
                    drop((open, target));
                    let again = store.rollback_to(&store.open_snapshot(&name).unwrap()).unwrap();
                    assert_eq!((again.head, again.pages_written, again.pages_freed), (None, 0, 0));
                }
                2 => drop(store.maintain(Budget::unlimited()).unwrap()),
                3 => {
                    drop(store);
                    store = Store::open(&dir, small()).unwrap();
                }
                _ => {}
            }
            for (name, old) in &named {
                let snapshot = store.open_snapshot(name).unwrap();
                let view = snapshot.view();
                for (id, tag) in old {
                    assert!(view.page(PageId(*id)).unwrap() == Some(&contents(*id, *tag)[..]));
                }
            }
        }
        check(&store, &model, &store.snapshot());
    }
}

#[test]
fn a_rollback_wins_over_open_transactions() {
    let store = Store::in_memory(small()).unwrap();
    let write = |id: u64, tag: u64| {
        let mut txn = store.begin().unwrap();
        if txn.page_count() <= id {
            txn.truncate(id + 1).unwrap();
        }
        txn.write(PageId(id), &contents(id, tag)).unwrap();
        txn
    };
    write(0, 1).commit().unwrap();
    write(5, 1).commit().unwrap();
    let target = store.snapshot();
    write(5, 2).commit().unwrap();
    write(9, 2).commit().unwrap();
    let (touched, cut, untouched) = (write(5, 3), write(9, 3), write(0, 3));
    store.rollback_to(&target).unwrap();
    assert!(touched.commit().unwrap_err().is_conflict());
    assert!(cut.commit().unwrap_err().is_conflict());
    untouched.commit().unwrap();
    let view = store.view();
    assert_eq!(view.page_count(), 6);
    assert!(view.page(PageId(5)).unwrap() == Some(&contents(5, 1)[..]));
    assert!(view.page(PageId(0)).unwrap() == Some(&contents(0, 3)[..]));
    drop(view);
    // Ids are given out as if it had always been so.
    let mut txn = store.begin().unwrap();
    let ids: Vec<u64> = (0..5).map(|_| txn.allocate().unwrap().get()).collect();
    assert!(ids.iter().all(|id| ![0, 5].contains(id)), "{ids:?}");
    let other = Store::in_memory(small()).unwrap();
    assert!(matches!(other.rollback_to(&target), Err(Error::InvalidOption { .. })));
}

#[test]
fn a_page_that_was_freed_before_is_freed_again_without_harm() {
    let store = Store::in_memory(small()).unwrap();
    let home = tempfile::tempdir().unwrap();
    let put = |id: u64, tag: Option<u64>| {
        let mut txn = store.begin().unwrap();
        txn.truncate(20).unwrap();
        match tag {
            Some(tag) => txn.write(PageId(id), &contents(id, tag)).unwrap(),
            None => txn.free(PageId(id)).unwrap(),
        }
        txn.commit().unwrap();
    };
    (0..10).for_each(|id| put(id, Some(1)));
    let base = store.snapshot();
    store.create_bookmark("0", &base).unwrap();
    let mut mark = store.bookmark("0").unwrap();
    let replica = copy_of(&base, &home, "replica");
    // The replica knows of page 5 only that it was freed, and is told so twice more.
    for round in 1..4u64 {
        if round > 1 {
            put(5, Some(round));
        }
        put(5, None);
        put(3, Some(round));
        let name = round.to_string();
        let mut stream = Vec::new();
        store.snapshot().export_since(&mark, &mut stream).unwrap();
        replica.apply(&mut &stream[..]).unwrap();
        let model: Model =
            (0..10).filter(|id| *id != 5).map(|id| (id, if id == 3 { round } else { 1 })).collect();
        check(&replica, &model, &store.snapshot());
        store.create_bookmark(&name, &store.snapshot()).unwrap();
        mark = store.bookmark(&name).unwrap();
    }
}

#[test]
fn what_was_applied_is_durable_unless_commits_are_not() {
    let store = Store::in_memory(small()).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    step(&store, &mut model, &mut Random(3), 1);
    let base = store.snapshot();
    step(&store, &mut model, &mut Random(4), 2);
    let stream = delta(&base, &store.snapshot());
    let durable = copy_of(&base, &home, "durable");
    durable.apply(&mut &stream[..]).unwrap();
    assert_eq!(durable.snapshot().fingerprint(), store.snapshot().fingerprint());
    assert_eq!(durable.stats().durable_version, durable.version());
    let lazy = Store::import_with(
        &mut &full(&base)[..],
        home.path().join("lazy"),
        small().create(true).durability(Durability::Buffered),
        &mut (),
    );
    let lazy = lazy.unwrap();
    let before = lazy.stats().durable_version;
    lazy.apply(&mut &stream[..]).unwrap();
    assert_eq!(lazy.stats().durable_version, before, "nobody asked for a sync");
    lazy.sync().unwrap();
    assert_eq!(lazy.stats().durable_version, lazy.version());
}
