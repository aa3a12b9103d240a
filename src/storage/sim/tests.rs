//! Goal: the simulated disk loses all that a real one may lose, and nothing that it may not.
//! Method: small files with known bytes in each sector; each kind of fault by itself; many seeds where chance decides,
//! counting which outcomes were seen, so that a disk that has gone mild fails as well.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, IoSlice};

use super::IoKind::{self, Open, Remove, Sync, Write};
use super::medium::SECTOR_BYTES;
use super::{Fault, SimDisk, Survival, is_crash};
use crate::storage::{Storage, StorageFile};

/// Enough for outcomes of one in eight to be seen.
const SEEDS: u64 = if cfg!(miri) { 8 } else { 200 };

fn write(file: &dyn StorageFile, bytes: &[u8], offset: u64) {
    file.write_all_at(&[IoSlice::new(bytes)], offset).unwrap();
}

/// A disk whose file `a` durably holds `sectors` sectors of the byte 1.
fn disk_of_ones(sectors: usize) -> SimDisk {
    let disk = SimDisk::new(7);
    disk.put_file("a", &vec![1; sectors * SECTOR_BYTES]).unwrap();
    disk
}

/// The byte that each sector of `a` is full of.
fn sectors(disk: &SimDisk) -> Vec<u8> {
    let bytes = disk.read_file("a").unwrap();
    let uniform = |sector: &[u8]| {
        assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is written as a whole");
        sector[0]
    };
    bytes.chunks(SECTOR_BYTES).map(uniform).collect()
}

fn ensure_seen<T: Ord + std::fmt::Debug>(seen: &BTreeSet<T>, expected: impl IntoIterator<Item = T>) {
    if !cfg!(miri) {
        for outcome in expected {
            assert!(seen.contains(&outcome), "{outcome:?} was never seen: {seen:?}");
        }
    }
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    let disk = SimDisk::new(1);
    let storage = disk.storage();
    let file = storage.create("a", 2048).unwrap();
    write(&*file, &[5; 2048], 0);
    assert!(disk.unsynced() > 0);
    file.sync().unwrap();
    storage.sync_dir().unwrap();
    assert_eq!(disk.unsynced(), 0);
    for seed in 0..SEEDS {
        assert_eq!(disk.power_cut(seed).read_file("a").unwrap(), [5; 2048]);
    }
}

#[test]
fn each_unsynced_sector_survives_or_not_by_itself() {
    let disk = disk_of_ones(3);
    let storage = disk.storage();
    let file = storage.open("a").unwrap();
    write(&*file, &[2; 3 * SECTOR_BYTES], 0);
    let seen: BTreeSet<_> =
        (0..SEEDS).map(|seed| sectors(&disk.power_cut_with(Survival::Scattered, seed))).collect();
    let every = (0..8u8).map(|bits| (0..3).map(|sector| 1 + (bits >> sector & 1)).collect::<Vec<u8>>());
    ensure_seen(&seen, every);
    assert_eq!(sectors(&disk.power_cut_with(Survival::Nothing, 1)), [1, 1, 1]);
    assert_eq!(sectors(&disk.power_cut_with(Survival::Everything, 1)), [2, 2, 2]);
    assert_eq!(sectors(&disk), [2, 2, 2], "the disk itself is left as it was");
}

#[test]
fn a_lost_tail_is_lost_in_the_order_of_writing() {
    let disk = disk_of_ones(4);
    let storage = disk.storage();
    let file = storage.open("a").unwrap();
    for sector in [2, 0, 3, 1] {
        write(&*file, &[2; SECTOR_BYTES], sector * SECTOR_BYTES as u64);
    }
    let seen: BTreeSet<_> =
        (0..SEEDS).map(|seed| sectors(&disk.power_cut_with(Survival::TailLost, seed))).collect();
    let prefixes = [[1, 1, 1, 1], [1, 1, 2, 1], [2, 1, 2, 1], [2, 1, 2, 2]].map(|sectors| sectors.to_vec());
    assert!(seen.iter().all(|found| prefixes.contains(found)), "{seen:?}");
    ensure_seen(&seen, prefixes);
}

#[test]
fn a_sector_written_twice_may_survive_in_any_version() {
    let disk = disk_of_ones(1);
    let storage = disk.storage();
    let file = storage.open("a").unwrap();
    write(&*file, &[2; SECTOR_BYTES], 0);
    write(&*file, &[3; SECTOR_BYTES], 0);
    let seen: BTreeSet<_> = (0..SEEDS).flat_map(|seed| sectors(&disk.power_cut(seed))).collect();
    ensure_seen(&seen, [1, 2, 3]);
    assert!(seen.iter().all(|byte| (1..=3).contains(byte)));
}

#[test]
fn a_new_file_may_be_missing_empty_or_blank() {
    let disk = SimDisk::new(1);
    let storage = disk.storage();
    let file = storage.create("a", SECTOR_BYTES as u64).unwrap();
    write(&*file, &[9; SECTOR_BYTES], 0);
    let seen: BTreeSet<_> = (0..SEEDS).map(|seed| disk.power_cut(seed).read_file("a").ok()).collect();
    let outcomes = [None, Some(Vec::new()), Some(vec![0; SECTOR_BYTES]), Some(vec![9; SECTOR_BYTES])];
    assert!(seen.iter().all(|found| outcomes.contains(found)), "{seen:?}");
    ensure_seen(&seen, outcomes.clone());
    // A sync of the file makes its bytes durable, and its length, but not its name.
    file.sync().unwrap();
    let seen: BTreeSet<_> = (0..SEEDS).map(|seed| disk.power_cut(seed).read_file("a").ok()).collect();
    assert_eq!(seen, BTreeSet::from([outcomes[0].clone(), outcomes[3].clone()]));
}

#[test]
fn a_removed_file_may_come_back_until_the_directory_is_synced() {
    let disk = disk_of_ones(1);
    let storage = disk.storage();
    storage.remove("a").unwrap();
    let is_there = |seed| disk.power_cut(seed).read_file("a").is_ok();
    ensure_seen(&(0..SEEDS).map(is_there).collect(), [false, true]);
    // A second file of the same name doesn't inherit the first one's bytes.
    write(&*storage.create("a", 0).unwrap(), &[2; SECTOR_BYTES], 0);
    let seen: BTreeSet<_> = (0..SEEDS).map(|seed| disk.power_cut(seed).read_file("a").ok()).collect();
    ensure_seen(&seen, [None, Some(vec![]), Some(vec![1; SECTOR_BYTES]), Some(vec![2; SECTOR_BYTES])]);
    storage.remove("a").unwrap();
    storage.sync_dir().unwrap();
    assert!((0..SEEDS).all(|seed| !is_there(seed)));
}

#[test]
fn an_unsynced_length_survives_or_not_and_cut_bytes_may_come_back() {
    let disk = disk_of_ones(2);
    let storage = disk.storage();
    let file = storage.open("a").unwrap();
    file.set_len(0).unwrap();
    file.set_len(3 * SECTOR_BYTES as u64).unwrap();
    assert_eq!(sectors(&disk), [0, 0, 0]);
    let seen: BTreeSet<_> = (0..SEEDS).map(|seed| sectors(&disk.power_cut(seed))).collect();
    ensure_seen(&seen, [vec![], vec![1, 1], vec![0, 0, 0], vec![1, 0, 0]]);
    file.sync().unwrap();
    assert_eq!(sectors(&disk.power_cut(1)), [0, 0, 0]);
}

#[test]
fn a_killed_process_loses_nothing_and_is_dead() {
    let disk = disk_of_ones(1);
    let storage = disk.storage();
    let file = storage.open("a").unwrap();
    write(&*file, &[2; SECTOR_BYTES], 0);
    disk.crash();
    assert!(is_crash(&file.len().unwrap_err()));
    assert!(is_crash(&storage.list().unwrap_err()));
    let next = disk.storage();
    assert_eq!(sectors(&disk), [2]);
    assert!(next.open("a").is_ok());
    // Neither what the dead process left behind nor its end reaches the next one.
    assert!(is_crash(&file.sync().unwrap_err()));
    drop(storage);
    assert_eq!(disk.try_storage().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(disk.unsynced(), 1);
}

#[test]
fn one_session_has_the_disk_at_a_time() {
    let disk = SimDisk::new(1);
    let first = disk.storage();
    let file = first.create("a", 1).unwrap();
    assert_eq!(disk.clone().try_storage().unwrap_err().kind(), ErrorKind::WouldBlock);
    disk.clone_state().try_storage().unwrap();
    drop(first);
    write(&*file, b"x", 0);
    let _second = disk.try_storage().unwrap();
    assert!(is_crash(&file.sync().unwrap_err()), "a file of an ended session is no back door");
}

#[test]
fn an_error_strikes_once_and_changes_nothing() {
    let disk = disk_of_ones(1);
    disk.fail_at(1, Fault::ENOSPC);
    disk.fail_at(3, Fault::EIO);
    disk.fail_at(5, Fault::Error(ErrorKind::PermissionDenied));
    let storage = disk.storage();
    let file = storage.open("a").unwrap();
    let full = file.write_all_at(&[IoSlice::new(&[2; SECTOR_BYTES])], 0).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    assert_eq!((sectors(&disk), disk.unsynced()), (vec![1], 0));
    write(&*file, &[2; SECTOR_BYTES], 0);
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(5));
    assert_eq!(disk.unsynced(), 1);
    file.sync().unwrap();
    assert_eq!(disk.unsynced(), 0);
    assert_eq!(storage.remove("a").unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(disk.files(), [("a".to_owned(), SECTOR_BYTES as u64)]);
    let kinds: Vec<IoKind> = disk.calls().iter().map(|call| call.kind).collect();
    assert_eq!(kinds, [Open, Write, Write, Sync, Sync, Remove]);
    assert_eq!(disk.calls()[2].to_string(), "Write \"a\" 0+512");
}

#[test]
fn a_short_write_leaves_a_prefix() {
    let mut lengths = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        disk.put_file("a", &[1; 8]).unwrap();
        disk.fail_at(1, Fault::ShortWrite);
        let file = disk.storage().open("a").unwrap();
        let error = file.write_all_at(&[IoSlice::new(&[2; 3]), IoSlice::new(&[2; 3])], 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        let bytes = disk.read_file("a").unwrap();
        let written = bytes[1..].iter().take_while(|byte| **byte == 2).count();
        assert!(
            written < 6 && bytes[0] == 1 && bytes[1 + written..].iter().all(|byte| *byte == 1),
            "{bytes:?}"
        );
        lengths.insert(written);
    }
    ensure_seen(&lengths, 0..6);
}

#[test]
fn a_failed_sync_loses_sectors_that_later_syncs_do_not_save() {
    let mut durable = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        disk.put_file("a", &[1; 2 * SECTOR_BYTES]).unwrap();
        disk.fail_at(2, Fault::SyncFails);
        let storage = disk.storage();
        let file = storage.open("a").unwrap();
        write(&*file, &[2; 2 * SECTOR_BYTES], 0);
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(5));
        file.sync().unwrap();
        assert_eq!((sectors(&disk), disk.unsynced()), (vec![2, 2], 0), "all looks well");
        let on_disk = sectors(&disk.power_cut_with(Survival::Everything, seed));
        let (all, saved) = (on_disk.len(), on_disk.iter().map(|byte| usize::from(byte - 1)).sum::<usize>());
        assert_eq!(all - saved, disk.lost_sectors());
        durable.insert(on_disk);
        // Writing the same bytes again makes them dirty again, and so durable with the next sync.
        write(&*file, &[2; 2 * SECTOR_BYTES], 0);
        file.sync().unwrap();
        assert_eq!(disk.lost_sectors(), 0);
        assert_eq!(sectors(&disk.power_cut(seed)), [2, 2]);
    }
    assert!(!durable.contains(&vec![2, 2]), "a failed sync loses something");
    ensure_seen(&durable, [vec![1, 1], vec![1, 2], vec![2, 1]]);
}

#[test]
fn a_failed_sync_of_the_directory_loses_names() {
    let mut found = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        disk.fail_at(2, Fault::SyncFails);
        let storage = disk.storage();
        for name in ["a", "b"] {
            storage.create(name, 0).unwrap();
        }
        assert!(storage.sync_dir().is_err());
        storage.sync_dir().unwrap();
        assert_eq!((disk.files().len(), disk.unsynced()), (2, 0));
        found.insert(disk.power_cut(seed).files().len());
    }
    ensure_seen(&found, [0, 1]);
    assert!(!found.contains(&2));
}

#[test]
fn a_crash_in_a_write_tears_it_and_ends_the_session() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        disk.put_file("a", &[1; 2 * SECTOR_BYTES]).unwrap();
        disk.fail_at(1, Fault::Crash);
        let storage = disk.storage();
        let file = storage.open("a").unwrap();
        assert!(is_crash(&file.write_all_at(&[IoSlice::new(&[2; 2 * SECTOR_BYTES])], 0).unwrap_err()));
        assert!(
            disk.has_crashed()
                && is_crash(&file.sync().unwrap_err())
                && is_crash(&storage.sync_dir().unwrap_err())
        );
        assert_eq!(disk.io_count(), 2, "a dead process makes no calls");
        seen.insert(sectors(&disk));
    }
    ensure_seen(&seen, [vec![1, 1], vec![1, 2], vec![2, 1], vec![2, 2]]);
}

#[test]
fn a_flipped_bit_is_silent() {
    let disk = disk_of_ones(1);
    disk.fail_at(1, Fault::BitFlip);
    disk.fail_at(3, Fault::BitFlip);
    disk.fail_at(4, Fault::BitFlip);
    let storage = disk.storage();
    let file = storage.open("a").unwrap();
    let ones = |bytes: &[u8]| bytes.iter().map(|byte| byte.count_ones()).sum::<u32>();
    let differs = |bytes: &[u8]| bytes.iter().filter(|byte| **byte != 1).count();
    let mut bytes = [0; SECTOR_BYTES];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!((differs(&bytes), ones(&bytes).abs_diff(512)), (1, 1));
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(differs(&bytes), 0, "what is stored was left alone");
    write(&*file, &[1; SECTOR_BYTES], 0);
    file.sync().unwrap();
    assert_eq!(differs(&disk.power_cut(1).read_file("a").unwrap()), 1, "now it is stored so");
}

#[test]
fn every_fault_at_every_call_is_an_error_or_silent_but_no_panic() {
    let workload = |storage: &dyn Storage| -> io::Result<()> {
        let file = storage.create("b", 100)?;
        file.reserve(0, 1000)?;
        file.write_all_at(&[IoSlice::new(&[3; 700])], 50)?;
        file.set_len(800)?;
        file.sync()?;
        storage.sync_dir()?;
        file.map(10)?;
        file.read_exact_at(&mut [0; 10], 0)?;
        storage.open("a")?;
        storage.list()?;
        storage.remove("a")
    };
    let start = disk_of_ones(1);
    let rehearsal = start.clone_state();
    workload(&rehearsal.storage()).unwrap();
    assert_eq!(rehearsal.io_count(), 11);
    let faults = [
        Fault::EIO,
        Fault::EDQUOT,
        Fault::Error(ErrorKind::OutOfMemory),
        Fault::ShortWrite,
        Fault::SyncFails,
        Fault::Crash,
        Fault::BitFlip,
    ];
    for index in 0..rehearsal.io_count() {
        for fault in faults {
            let disk = start.clone_state();
            disk.fail_at(index, fault);
            let outcome = workload(&disk.storage());
            assert_eq!(outcome.is_ok(), fault == Fault::BitFlip, "{fault:?} at {index}: {outcome:?}");
            assert_eq!(disk.has_crashed(), fault == Fault::Crash);
            // A power cut's disk is settled: a second one changes nothing.
            let after = disk.power_cut(index);
            let again = after.power_cut(index + 1);
            assert_eq!((after.unsynced(), after.files()), (0, again.files()));
        }
    }
}

#[test]
fn each_subset_of_the_unsynced_changes_can_be_all_that_survives() {
    let disk = SimDisk::new(1);
    disk.put_file("a", &[1; 3 * SECTOR_BYTES]).unwrap();
    let file = disk.storage().open("a").unwrap();
    write(&*file, &[2; 3 * SECTOR_BYTES], 0);
    assert_eq!(disk.unsynced(), 3);
    let found: BTreeSet<Vec<u8>> = (0..8).map(|changes| sectors(&disk.power_cut_sparing(changes))).collect();
    assert_eq!(found.len(), 8, "all subsets, and no two alike: {found:?}");
    assert_eq!(sectors(&disk.power_cut_sparing(0b101)), [2, 1, 2]);
}

#[test]
fn a_planted_panic_leaves_the_disk_as_it_was() {
    let disk = disk_of_ones(1);
    disk.fail_at(1, Fault::Panic);
    let storage = disk.storage();
    let file = storage.open("a").unwrap();
    let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        file.write_all_at(&[IoSlice::new(&[2; SECTOR_BYTES])], 0)
    }));
    assert!(written.is_err());
    assert_eq!((sectors(&disk), disk.unsynced()), (vec![1], 0));
    write(&*file, &[2; SECTOR_BYTES], 0);
}

#[test]
fn the_same_seeds_replay_the_same_disk() {
    let run = |seed| {
        let disk = SimDisk::new(seed);
        disk.fail_at(9, Fault::Crash);
        let storage = disk.storage();
        let file = storage.create("a", 0).unwrap();
        let failed = (0..20u8)
            .try_for_each(|turn| file.write_all_at(&[IoSlice::new(&[turn; 3000])], u64::from(turn) * 1000));
        assert!(failed.is_err());
        (0..20).map(|cut| disk.power_cut(cut).read_file("a").ok()).collect::<Vec<_>>()
    };
    // Without printing: these are many bytes.
    assert!(run(3) == run(3), "one seed, one disk");
    assert!((4..20).any(|seed| run(seed) != run(3)), "seeds make a difference");
}

#[test]
fn damage_reaches_the_disk_and_what_is_mapped() {
    let disk = disk_of_ones(2);
    let storage = disk.storage();
    let file = storage.open("a").unwrap();
    let mapping = file.map(1024).unwrap();
    disk.corrupt("a", 600, 0x81).unwrap();
    assert_eq!(mapping.slice(599, 3), Some(&[1, 0x80, 1][..]));
    assert_eq!(disk.power_cut_with(Survival::Nothing, 1).read_file("a").unwrap()[600], 0x80);
    // Damage is the medium's and doesn't go away with the write that was not synced.
    write(&*file, &[2; SECTOR_BYTES], 0);
    disk.corrupt("a", 0, 0x10).unwrap();
    assert_eq!(disk.read_file("a").unwrap()[0], 0x12);
    assert_eq!(disk.power_cut_with(Survival::Nothing, 1).read_file("a").unwrap()[0], 0x11);
    assert_eq!(disk.corrupt("a", 1024, 1).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(disk.corrupt("b", 0, 1).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.truncate("a", 100).unwrap_err().kind(), ErrorKind::ResourceBusy);
    drop(mapping);
    disk.truncate("a", 100).unwrap();
    disk.truncate("a", 300).unwrap();
    let cut = disk.power_cut_with(Survival::Nothing, 1).read_file("a").unwrap();
    assert_eq!((cut.len(), cut[99], &cut[100..]), (300, 1, &[0; 200][..]));
}

#[test]
fn a_copied_disk_goes_its_own_way() {
    let disk = disk_of_ones(1);
    let storage = disk.storage();
    let file = storage.open("a").unwrap();
    write(&*file, &[2; SECTOR_BYTES], 0);
    let copy = disk.clone_state();
    assert_eq!((copy.io_count(), copy.unsynced()), (0, 1));
    file.sync().unwrap();
    write(&*file, &[3; SECTOR_BYTES], 0);
    assert_eq!(sectors(&copy), [2]);
    assert_eq!(sectors(&copy.power_cut_with(Survival::Nothing, 1)), [1]);
    assert_eq!(sectors(&disk.power_cut_with(Survival::Nothing, 1)), [2]);
}
