//! Goal: spare files are written as far as the log is likely to come, once, and are used or given up.
//!
//! Method: on the simulated disk, the thread's steps called by hand; what is written is counted, and cut behind what was prepared.

use super::*;

#[test]
fn a_spare_file_that_commits_interrupt_is_gone_on_with_or_given_up() {
    let disk = SimDisk::new(1);
    let options = Options::new().page_size(512).segment_size(1 << 20).background(false).pool_segments(1);
    let store = Store::open_on(Arc::new(disk.storage()), options).unwrap();
    let mut tag = 0;
    while store.core().log.lock().appender.wants_spare(1 << 19).is_none() {
        tag += 1;
        put(&store, tag).unwrap();
    }
    let segments = &store.core().segments;
    let mut begun = SpareInMaking::begin(segments).unwrap();
    assert!(!begun.step(segments, 1 << 20).unwrap());
    put(&store, tag + 1).unwrap();
    let mut begun = Some(begun);
    store.core().make_spare(&mut begun, 2 << 20).unwrap();
    assert!(begun.is_none());
    // Each byte once.
    assert_eq!((store.stats().free_segments, written_to_spare(&disk)), (1, 1 << 20));
    assert_eq!(store.core().log.lock().appender.take_spares(0), [SPARE]);
    // One of which more is written than is wanted by now is done.
    let mut begun = SpareInMaking::begin(segments).unwrap();
    assert!(!begun.step(segments, 1 << 20).unwrap() && !begun.step(segments, 1 << 20).unwrap());
    let (mut begun, before) = (Some(begun), written_to_spare(&disk));
    store.core().make_spare(&mut begun, 1 << 19).unwrap();
    assert_eq!((store.stats().free_segments, written_to_spare(&disk)), (1, before));
    let names = store.core().log.lock().appender.take_spares(0);
    assert_eq!(names, [SPARE]);
    // One whose disk fails leaves no file.
    let mut begun = Some(SpareInMaking::begin(segments).unwrap());
    disk.fail_at(disk.io_count() + 1, Fault::ENOSPC);
    assert!(store.core().make_spare(&mut begun, 1 << 19).is_err() && begun.is_none());
    assert!(disk.read_file(SPARE).is_err());
    assert_eq!(last(&store), tag + 1);
}

/// A piece, of 256 slots, in such a segment.
const PACE: u64 = 128 << 10;

/// A store whose log has come so near to the end of its first segment that a further [`PACE`] leads a little way beyond it.
fn begin_near_the_end(disk: &SimDisk) -> (Store, u64) {
    let options = Options::new().page_size(512).segment_size(1 << 20).background(false).pool_segments(1);
    let store = Store::open_on(Arc::new(disk.storage()), options).unwrap();
    let mut tag = 0;
    while store.core().log.lock().appender.wants_spare(PACE).is_none() {
        tag += 1;
        put(&store, tag).unwrap();
    }
    (store, tag)
}

#[test]
fn a_spare_file_has_zeros_as_far_as_the_log_is_likely_to_come_and_the_log_goes_on_behind_them() {
    let disk = SimDisk::new(1);
    let (store, mut tag) = begin_near_the_end(&disk);
    ahead_by(&store, PACE).unwrap();
    // A piece, an eighth of the file, which has its length all the same.
    assert_eq!((written_to_spare(&disk), disk.read_file(SPARE).unwrap().len()), (128 << 10, 1 << 20));
    let position = || store.core().log.lock().appender.position();
    let room = || store.core().log.lock().appender.prepared_and_reserved();
    let zeros = || store.core().gauges.prepared.load(Ordering::Relaxed);
    let (first, next, before) = (position().segment, position().next, zeros());
    while position().segment == first {
        tag += 1;
        put(&store, tag).unwrap();
    }
    assert_eq!((position().segment, room()), (next, (256, 2048)));
    // Through the zeros that are there.
    while position().slot < 250 {
        tag += 1;
        put(&store, tag).unwrap();
    }
    assert_eq!((zeros(), room().0), (before, 256));
    // The thread prepares more, from there on.
    store.core().prepare_ahead(PACE).unwrap();
    let prepared = room().0;
    assert_eq!(prepared, position().slot + 256);
    assert_eq!(zeros() - before, u64::from(prepared - 256) * PAGE as u64);
    // Where it doesn't, commits do; and what they write in the rest of the file is there after a cut.
    let mut zeros_there = 0;
    while position().segment == next {
        zeros_there = zeros() - before;
        tag += 1;
        put(&store, tag).unwrap();
        assert!(room().0 >= position().slot);
        if tag % 50 == 0 || position().slot.abs_diff(prepared) < 4 {
            let after_cut = disk.power_cut_with(Survival::Nothing, tag);
            let store =
                Store::open_on(Arc::new(after_cut.storage()), Options::new().background(false)).unwrap();
            assert_eq!(last(&store), tag);
            store.audit().unwrap();
        }
    }
    let mut calls = disk.calls();
    calls.retain(|call| call.kind == IoKind::Reserve && call.file == file_name(next));
    assert!(calls.is_empty(), "blocks that the file had were set aside again: {calls:?}");
    assert_eq!(zeros_there, (2048 - 256) * PAGE as u64, "each byte once");
}

#[test]
fn no_spare_file_is_made_beside_a_segment_that_stands_ready() {
    let disk = SimDisk::new(1);
    let (store, tag) = begin_near_the_end(&disk);
    ahead_by(&store, PACE).unwrap();
    store.core().make_next_ready().unwrap();
    assert_eq!(store.core().log.lock().appender.pool_len(), 0);
    let before = disk.io_count();
    store.core().make_spare(&mut None, PACE).unwrap();
    assert_eq!(disk.io_count(), before);
    // But files that are written whole are wanted at rest, since this one isn't.
    let wanted = || store.core().log.lock().appender.files_wanted_at_rest();
    assert_eq!(wanted(), 1);
    let position = || store.core().log.lock().appender.position();
    let (first, mut tag) = (position().segment, tag);
    while position().segment == first {
        tag += 1;
        put(&store, tag).unwrap();
    }
    let room = store.core().log.lock().appender.prepared_and_reserved();
    assert_eq!(room, (256, 2048));
    assert_eq!(last(&store), tag);
}

#[test]
fn what_a_store_at_rest_gives_up_is_not_made_again() {
    let disk = SimDisk::new(1);
    let (store, _) = begin_near_the_end(&disk);
    // Written whole, and then the next segment's.
    ahead_by(&store, 2 << 20).unwrap();
    store.core().make_next_ready().unwrap();
    ahead_by(&store, PACE).unwrap();
    let mut rest = Rest::new();
    let mut look = || {
        store.core().give_back_at_rest(&mut rest, SEGMENT).unwrap();
        ahead_by(&store, PACE).unwrap();
    };
    for _ in 0..70 {
        look();
    }
    let before = written_to_spare(&disk);
    for _ in 0..10 {
        look();
    }
    assert_eq!(written_to_spare(&disk), before);
}

#[test]
fn a_store_at_rest_says_so_until_somebody_commits() {
    let disk = SimDisk::new(1);
    let (store, tag) = begin_near_the_end(&disk);
    let mut rest = Rest::new();
    let looks = |rest: &mut Rest, count| {
        for _ in 0..count {
            store.core().give_back_at_rest(rest, SEGMENT).unwrap();
        }
    };
    looks(&mut rest, 59);
    assert!(!rest.has_given_up());
    looks(&mut rest, 2);
    assert!(rest.has_given_up());
    put(&store, tag + 1).unwrap();
    looks(&mut rest, 1);
    assert!(!rest.has_given_up());
}

#[test]
fn of_several_spare_files_the_log_takes_the_one_of_which_the_most_was_written() {
    let disk = SimDisk::new(1);
    let (store, _) = begin_near_the_end(&disk);
    let mut log = store.core().log.lock();
    for (name, written) in [("b", 2048), ("a", 256), ("c", 2048)] {
        log.appender.keep_spare(name.to_owned(), written);
    }
    assert_eq!(log.appender.take_spares(2), ["a"]);
    assert_eq!(log.appender.take_spares(0), ["b", "c"]);
}

#[test]
fn without_a_pool_no_spare_file_is_made() {
    let disk = SimDisk::new(1);
    let options = Options::new().page_size(512).segment_size(64 << 10).background(false).pool_segments(0);
    let store = Store::open_on(Arc::new(disk.storage()), options).unwrap();
    for tag in 1..100 {
        put(&store, tag).unwrap();
        ahead(&store).unwrap();
    }
    assert!(disk.read_file(SPARE).is_err());
}
