//! Goal: what the store's thread does ahead costs no commit, whatever the disk does meanwhile, and brings what it is for; and
//! packing leaves the disk to commits that need it.
//!
//! Method: small synced commits over several segments, the thread's steps called in between, on the simulated disk with a power
//! cut and a failure at each I/O call; each time all that was acknowledged must be there, nothing that wasn't asked for, and
//! the store must go on. The rest is counted.

mod damage;
mod spares;

use std::sync::Arc;

use crate::log::ahead::{SPARE, SpareInMaking};
use crate::log::segment::file_name;
use crate::space::{Budget, Effort, Rest};
use crate::storage::sim::{Fault, IoKind, SimDisk, Survival};
use crate::sync::atomic::Ordering;
use crate::{Durability, Error, Options, PageId, Store};

const PAGE: usize = 512;
const PAGES: u64 = 16;
const SEGMENT: u64 = 64 << 10;

fn open(disk: &SimDisk) -> crate::Result<Store> {
    // The thread's steps are called by hand; the segments are small, so that the log soon comes to others.
    let options = Options::new().page_size(512).segment_size(64 << 10).checkpoint_bytes(8 << 20);
    Store::open_on(Arc::new(disk.storage()), options.background(false).pool_segments(2))
}

fn put(store: &Store, tag: u64) -> crate::Result<()> {
    put_with(store, tag, Durability::Sync)
}

fn put_with(store: &Store, tag: u64, durability: Durability) -> crate::Result<()> {
    let mut txn = store.begin()?;
    if txn.page_count() == 0 {
        txn.truncate(PAGES)?;
    }
    let mut page = [0; PAGE];
    page[..8].copy_from_slice(&tag.to_le_bytes());
    txn.write(PageId(tag % PAGES), &page)?;
    txn.commit_with(durability).map(drop)
}

/// As if the log had last grown by `pace`.
fn ahead_by(store: &Store, pace: u64) -> crate::Result<()> {
    store.core().prepare_ahead(pace).and_then(|()| store.core().make_spare(&mut None, pace))
}

/// So far that a spare file is written whole.
fn ahead(store: &Store) -> crate::Result<()> {
    ahead_by(store, 2 * SEGMENT)
}

/// Bytes written to a spare file.
fn written_to_spare(disk: &SimDisk) -> u64 {
    let calls = disk.calls().into_iter();
    calls.filter(|call| call.kind == IoKind::Write && call.file == SPARE).map(|call| call.len).sum()
}

/// Commits, and counts in `acknowledged` those that succeeded.
fn work(disk: &SimDisk, acknowledged: &mut u64) -> crate::Result<()> {
    for _ in 0..2 {
        let store = open(disk)?;
        for step in 0..50 {
            put(&store, *acknowledged + 1)?;
            *acknowledged += 1;
            // What fails there and matters, the next commit says.
            if step % 12 == 5 {
                let _ = ahead(&store);
            }
            if step % 9 == 7 {
                let _ = store.core().make_next_ready();
            }
            if step % 17 == 16 {
                let _ = store.core().write_checkpoint();
            }
        }
    }
    Ok(())
}

/// The same, with spare files that are written in part, into and through which the log goes: first as they are, then made ready.
fn work_in_parts(disk: &SimDisk, acknowledged: &mut u64) -> crate::Result<()> {
    let store = open(disk)?;
    for step in 0..150 {
        put(&store, *acknowledged + 1)?;
        *acknowledged += 1;
        if step % 8 == 5 {
            let _ = ahead_by(&store, SEGMENT / 4);
        }
        if step > 75 && disk.read_file(SPARE).is_ok() {
            let _ = store.core().make_next_ready();
        }
        if step % 40 == 39 {
            let _ = store.core().write_checkpoint();
        }
    }
    Ok(())
}

/// The number of the last commit whose page is there; all others must be there too, as far as they weren't overwritten.
fn last(store: &Store) -> u64 {
    let view = store.view();
    let tag = |id| {
        // Cut before the first commit, the store has no pages.
        if view.page_count() == 0 {
            return 0;
        }
        let page = view.page(PageId(id)).unwrap();
        page.map_or(0, |page| u64::from_le_bytes(page[..8].try_into().unwrap()))
    };
    let last = (0..PAGES).map(tag).max().unwrap_or(0);
    for tag_before in last.saturating_sub(PAGES - 1).max(1)..=last {
        assert_eq!(tag(tag_before % PAGES), tag_before);
    }
    last
}

fn check(disk: &SimDisk, acknowledged: u64, when: &str) {
    let store = open(disk).unwrap();
    let found = last(&store);
    assert!(found == acknowledged || found == acknowledged + 1, "{when}: {found} of {acknowledged} commits");
    assert!(disk.read_file(SPARE).is_err(), "{when}: a spare file that nobody knows of is left");
    for tag in found + 1..found + 40 {
        put(&store, tag).unwrap();
        if tag % 10 == 0 {
            ahead(&store).unwrap();
        }
        if tag % 7 == 0 {
            store.core().make_next_ready().unwrap();
        }
    }
    assert_eq!(last(&store), found + 39, "{when}");
    store.audit().unwrap();
}

#[test]
fn no_commit_is_lost_to_what_is_made_ahead() {
    let rehearsal = sweep(work);
    assert!(written_to_spare(&rehearsal) >= SEGMENT);
}

#[test]
fn no_commit_is_lost_to_a_spare_file_that_is_written_in_part() {
    let rehearsal = sweep(work_in_parts);
    let calls = rehearsal.calls();
    let adopted =
        calls.iter().filter(|call| call.kind == IoKind::Rename && call.file == SPARE).count() as u64;
    let written = written_to_spare(&rehearsal);
    assert!(adopted >= 2 && written <= (adopted + 1) * SEGMENT / 2, "{adopted} files, {written} bytes");
}

/// Lets each I/O call of `work` fail, and cuts the power there. Returns the disk on which nothing failed.
fn sweep(work: fn(&SimDisk, &mut u64) -> crate::Result<()>) -> SimDisk {
    let (rehearsal, mut all) = (SimDisk::new(1), 0);
    work(&rehearsal, &mut all).unwrap();
    let mut refused = 0;
    for index in 0..rehearsal.io_count() {
        let failing = [Fault::ENOSPC, Fault::ShortWrite, Fault::SyncFails][(index % 3) as usize];
        for fault in [Fault::Crash, failing] {
            let (disk, mut acknowledged) = (SimDisk::new(1), 0);
            disk.fail_at(index, fault);
            let when = format!("{fault:?} at {index}");
            match work(&disk, &mut acknowledged) {
                Err(_) => refused += 1,
                Ok(()) => assert_eq!(acknowledged, all, "{when}"),
            }
            let survivals = match fault {
                Fault::Crash => &[Survival::Nothing, Survival::Everything, Survival::Scattered][..],
                _ => &[Survival::Nothing],
            };
            for survival in survivals {
                disk.crash();
                check(&disk.power_cut_with(*survival, index), acknowledged, &format!("{when}, {survival:?}"));
            }
        }
    }
    println!("{} I/O calls, {refused} runs that something was refused in", rehearsal.io_count());
    assert!(refused > 0);
    rehearsal
}

/// Commits that nobody waits for, with a sync now and then. Counts what was begun, and what of it a sync covered.
fn work_buffered(disk: &SimDisk, begun: &mut u64, synced: &mut u64) -> crate::Result<()> {
    let store = open(disk)?;
    for step in 0..400 {
        *begun += 1;
        put_with(&store, *begun, Durability::Buffered)?;
        match step % 50 {
            // What fails there and matters, the next commit says.
            7 | 23 | 39 => drop(store.core().make_next_ready()),
            // The group goes to the file, and nothing is synced.
            19 | 31 => store.core().idle_work(),
            49 if step % 100 == 99 => drop(store.core().write_checkpoint()),
            49 => {
                store.sync()?;
                *synced = *begun;
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn a_segment_made_ready_is_whole_on_the_disk_before_anything_is_written_behind_its_header() {
    let (rehearsal, mut begun, mut synced) = (SimDisk::new(1), 0, 0);
    work_buffered(&rehearsal, &mut begun, &mut synced).unwrap();
    let mut segments = rehearsal.calls();
    segments.retain(|call| call.kind == IoKind::Create && call.file.starts_with("segment"));
    assert!(segments.len() > 3, "{segments:?}");
    for index in 0..rehearsal.io_count() {
        for seed in 0..4 {
            let (disk, mut begun, mut synced) = (SimDisk::new(1), 0, 0);
            disk.fail_at(index, Fault::Crash);
            // What is cut off at the end may be what nobody waits for.
            let _ = work_buffered(&disk, &mut begun, &mut synced);
            disk.crash();
            let survival = if seed == 0 { Survival::Nothing } else { Survival::Scattered };
            let when = format!("cut at {index}, {survival:?} {seed}");
            let store = open(&disk.power_cut_with(survival, index * 4 + seed))
                .unwrap_or_else(|error| panic!("{when}: {error}"));
            let found = last(&store);
            assert!((synced..=begun).contains(&found), "{when}: {found} of {begun}, {synced} synced");
            put(&store, found + 1).unwrap();
            store.core().make_next_ready().unwrap();
            put(&store, found + 2).unwrap();
            store.audit().unwrap();
        }
    }
}

#[test]
fn what_is_made_ahead_spares_commits_the_writing_of_zeros() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let zeros = || store.core().gauges.prepared.load(Ordering::Relaxed);
    let position = || store.core().log.lock().appender.position();
    // Where nobody syncs there is no pace, and nothing is prepared.
    ahead_by(&store, 0).unwrap();
    assert_eq!(zeros(), 0);
    put(&store, 1).unwrap();
    let mut tag = 1;
    while position().slot < store.core().segments.geometry().segment_slots() / 2 {
        assert!(tag < 1000, "{:?}", position());
        tag += 1;
        put(&store, tag).unwrap();
    }
    assert!(store.core().log.lock().appender.wants_spare(SEGMENT / 2).is_some());
    ahead(&store).unwrap();
    let (before, segment, next) = (zeros(), position().segment, position().next);
    assert!(disk.read_file(SPARE).is_ok());
    assert_eq!(store.stats().free_segments, 1);
    // To the end of this segment, whose rest was prepared, and through the spare one.
    while position().segment == segment || position().segment == next {
        assert!(tag < 1000, "{:?}", position());
        assert_eq!(zeros(), before, "at commit {tag}, in segment {}", position().segment);
        tag += 1;
        put(&store, tag).unwrap();
    }
    assert!(disk.read_file(SPARE).is_err() && disk.read_file(&file_name(next)).is_ok());
    assert_eq!(last(&store), tag);
}

#[test]
fn what_was_loaded_without_a_sync_is_not_synced_for_the_sake_of_zeros() {
    let disk = SimDisk::new(1);
    let options = Options::new().page_size(4096).segment_size(16 << 20).background(false);
    let store = Store::open_on(Arc::new(disk.storage()), options).unwrap();
    let load = |pages: u64| {
        let mut txn = store.begin().unwrap();
        txn.truncate(pages.max(txn.page_count())).unwrap();
        (0..pages).for_each(|id| txn.write(PageId(id), &[7; 4096]).unwrap());
        txn.commit_with(Durability::Buffered).unwrap();
    };
    let zeros = || {
        ahead_by(&store, 2 << 20).unwrap();
        store.core().gauges.prepared.load(Ordering::Relaxed)
    };
    store.sync().unwrap();
    load(512);
    assert_eq!(zeros(), 0, "2 MiB would have to be written first");
    store.sync().unwrap();
    load(3);
    let after = zeros();
    assert!(after >= 2 << 20, "{after}");
    assert!(!store.core().wants_ahead(2 << 20), "and are not written again");
}

/// The segments' slots are few, so that it goes through many, most of them used again.
#[test]
fn the_log_enters_a_ready_segment_without_a_call_of_the_disk() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let position = || store.core().log.lock().appender.position();
    let put_buffered = |tag: u64| put_with(&store, tag, Durability::Buffered).unwrap();
    put(&store, 1).unwrap();
    // The end of a session's first segment is blanked, which takes a sync.
    let first = position().segment;
    while position().segment == first {
        put_buffered(2);
    }
    let (mut entered, mut recycled) = (0, 0);
    for tag in 3..2_000 {
        let before = position();
        store.core().make_next_ready().unwrap();
        let calls = disk.io_count();
        put_buffered(tag);
        if position().segment != before.segment {
            entered += 1;
            recycled += u32::from(!before.next_is_fresh);
            let calls = disk.calls().split_off(usize::try_from(calls).unwrap());
            let kinds: Vec<IoKind> = calls.iter().map(|call| call.kind).collect();
            assert!(!kinds.iter().any(|kind| matches!(kind, IoKind::Sync | IoKind::Create)), "{kinds:?}");
            assert_eq!(position().sequence, before.sequence + 1);
            store.sync().unwrap();
            let after_cut = open(&disk.power_cut_with(Survival::Nothing, tag)).unwrap();
            assert_eq!((after_cut.version(), last(&after_cut)), (store.version(), tag));
            after_cut.audit().unwrap();
            if entered % 3 == 0 {
                store.core().write_only_checkpoint().unwrap();
                store.core().settle();
            }
        }
    }
    assert!(entered >= 10 && recycled > 3, "{entered}, {recycled} of them used before");
    store.sync().unwrap();
    store.audit().unwrap();
    let version = store.version();
    drop(store);
    assert_eq!(open(&disk).unwrap().version(), version);
}

#[test]
fn an_empty_segment_is_left_as_one_that_recovery_goes_through() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    put(&store, 1).unwrap();
    let durable = store.version();
    for _ in 0..2 {
        while !store.core().log.lock().appender.wants_next() {
            put_with(&store, 1, Durability::Buffered).unwrap();
        }
        store.core().make_next_ready().unwrap();
        let mut log = store.core().log.lock();
        log.appender.seal(durable).unwrap();
        assert_eq!(log.appender.position().slot, 1);
        log.appender.seal(durable).unwrap();
        drop(log);
        put(&store, 1).unwrap();
    }
    put(&store, 2).unwrap();
    let version = store.version();
    let store = open(&disk.power_cut_with(Survival::Nothing, 1)).unwrap();
    assert_eq!((store.version(), last(&store)), (version, 2));
    store.audit().unwrap();
}

#[test]
fn a_batch_that_is_given_up_in_a_ready_segment_leaves_the_log_where_it_was() {
    // Whatever call fails, from the one on that makes the segment ready, until the log has come to a further one.
    let begin = |disk: &SimDisk| {
        let store = open(disk).unwrap();
        put(&store, 1).unwrap();
        let mut tag = 1;
        while !store.core().log.lock().appender.wants_next() {
            tag += 1;
            put(&store, tag).unwrap();
        }
        (store, tag)
    };
    let large = |store: &Store, tag: u64| {
        let mut txn = store.begin()?;
        txn.truncate(400)?;
        for id in 0..250 {
            txn.write(PageId(id), &[tag.to_le_bytes()[0]; PAGE])?;
        }
        txn.commit().map(drop)
    };
    let rehearsal = SimDisk::new(1);
    let (store, tag) = begin(&rehearsal);
    let from = rehearsal.io_count();
    store.core().make_next_ready().unwrap();
    large(&store, tag + 1).unwrap();
    assert!(store.core().log.lock().appender.position().sequence >= 2);
    for index in from..rehearsal.io_count() {
        for fault in [Fault::ENOSPC, Fault::ShortWrite, Fault::Errno(24)] {
            let disk = SimDisk::new(1);
            let (store, tag) = begin(&disk);
            disk.fail_at(index, fault);
            let _ = store.core().make_next_ready();
            let first = large(&store, tag + 1);
            let when = format!("{fault:?} at {index}: {first:?}");
            let second = if first.is_ok() { Ok(()) } else { large(&store, tag + 1) };
            let version = store.version();
            if let Err(Error::Poisoned { .. }) = second {
                continue;
            }
            second.unwrap_or_else(|error| panic!("{when}: {error}"));
            store.core().make_next_ready().unwrap();
            large(&store, tag + 2).unwrap();
            store.audit().unwrap();
            let store = open(&disk.power_cut_with(Survival::Nothing, index)).unwrap();
            assert_eq!(store.version(), version.next(), "{when}");
            store.audit().unwrap();
        }
    }
}

#[test]
fn packing_does_the_least_while_commits_need_the_disk() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(2_000).unwrap();
    for id in 0..2_000 {
        txn.write(PageId(id), &[1; PAGE]).unwrap();
    }
    txn.commit().unwrap();
    // A third of the pages, spread: more waste than a quarter of what is alive, less than three quarters.
    for id in (0..2_000).step_by(3) {
        let mut txn = store.begin().unwrap();
        txn.write(PageId(id), &[2; PAGE]).unwrap();
        txn.commit_with(Durability::Buffered).unwrap();
    }
    for _ in 0..2 {
        store.core().write_catalog_anew().unwrap();
        store.core().settle();
    }
    let tidy = |effort| store.core().tidy(effort, Budget::unlimited()).unwrap().segments_packed;
    assert_eq!(tidy(Effort::Least), 0);
    assert!(tidy(Effort::Kept) > 0);
    store.audit().unwrap();
}

#[test]
fn a_checkpoint_is_patient_with_commits_that_do_not_sync() {
    let disk = SimDisk::new(1);
    let options = Options::new().page_size(512).segment_size(64 << 10).checkpoint_bytes(64 << 10);
    let store = Store::open_on(Arc::new(disk.storage()), options.background(false)).unwrap();
    // Without a thread a committing one writes checkpoints; so it is told to be patient from the start.
    store.core().is_patient.store(true, Ordering::Relaxed);
    let mut most = 0;
    for tag in 1..1000 {
        put_with(&store, tag, Durability::Buffered).unwrap();
        most = most.max(store.core().log_since_checkpoint());
    }
    assert!(store.stats().checkpoints > 0);
    assert!((200 << 10..300 << 10).contains(&most), "{most}");
    store.core().is_patient.store(false, Ordering::Relaxed);
    for tag in 1000..2000 {
        put_with(&store, tag, Durability::Buffered).unwrap();
        assert!(store.core().log_since_checkpoint() < 80 << 10);
    }
}

#[test]
fn a_failed_sync_of_what_is_made_ahead_of_the_log_is_final() {
    let begin = |disk: &SimDisk| {
        let store = open(disk).unwrap();
        (1..15).for_each(|tag| put(&store, tag).unwrap());
        store
    };
    let rehearsal = SimDisk::new(1);
    let (store, before) = (begin(&rehearsal), rehearsal.io_count());
    store.core().prepare_ahead(SEGMENT).unwrap();
    let calls = rehearsal.calls();
    let mut ahead = (0..).zip(&calls).skip_while(|(index, _)| *index < before);
    let (sync, _) = ahead.find(|(_, call)| call.kind == IoKind::Sync).expect("a piece is synced");
    let disk = SimDisk::new(1);
    let store = begin(&disk);
    disk.fail_at(sync, Fault::SyncFails);
    assert!(store.core().prepare_ahead(SEGMENT).is_err());
    let refused = put(&store, 15);
    assert!(matches!(refused, Err(Error::Poisoned { .. })), "{refused:?}");
    assert_eq!(last(&store), 14);
}

#[test]
fn a_file_that_cannot_be_opened_for_a_sync_has_lost_nothing() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    put(&store, 1).unwrap();
    let mut txn = store.begin().unwrap();
    txn.write(PageId(2), &[2; PAGE]).unwrap();
    txn.commit_with(Durability::Buffered).unwrap();
    // The group's write, then the opening.
    disk.fail_at(disk.io_count() + 1, Fault::Errno(24));
    let refused = store.sync();
    assert!(matches!(refused, Err(Error::Io { operation: "open", .. })), "{refused:?}");
    assert_eq!(disk.calls().last().map(|call| call.kind), Some(IoKind::Open));
    store.sync().unwrap();
    put(&store, 3).unwrap();
}
