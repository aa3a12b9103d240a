//! Goal: redb on a store is redb. What it commits is one version, whole, whatever its cache does; each version is a database of its time,
//! and an ordinary file of redb's when it is exported; readers go on beside the writer; what fails says why, and nothing is tried again.
//!
//! Method: a random workload beside a map, with a cache that is too small for it and pages smaller than redb's; a simulated disk
//! that fails; a rollback under an open database. `VELLUM_SEED` replays.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Model, Random, TABLE, check_version, contents, env, seed, small, version};
use redb::{Builder, CommitError, Database, DatabaseError, StorageBackend, StorageError};
use vellum::storage::Storage;
use vellum::storage::sim::{Fault, SimDisk};
use vellum::{Durability, Options, Store};
use vellum_redb::{RedbStore, open_at};

/// One commit of one value.
fn put(db: &Database, key: u64, value: &[u8]) -> Result<(), CommitError> {
    let txn = db.begin_write().unwrap();
    txn.open_table(TABLE).unwrap().insert(key, value).unwrap();
    txn.commit()
}

/// Changes some values, now and then large ones or many.
fn change(txn: &redb::WriteTransaction, model: &mut Model, random: &mut Random) {
    let mut table = txn.open_table(TABLE).unwrap();
    let count = if random.below(8) == 0 { 150 } else { 1 + random.below(10) };
    for _ in 0..count {
        let key = random.below(300);
        match random.below(4) {
            0 => assert_eq!(table.remove(key).unwrap().is_some(), model.remove(&key).is_some()),
            1 if count < 10 => {
                let value = random.bytes(40_000);
                table.insert(key, &value[..]).unwrap();
                model.insert(key, value);
            }
            _ => {
                let value = random.bytes(3_000);
                table.insert(key, &value[..]).unwrap();
                model.insert(key, value);
            }
        }
    }
}

#[test]
fn a_commit_is_a_version_and_every_version_is_a_database() {
    for (page_size, cache) in [(4096, 1 << 30), (4096, 64 << 10), (512, 200 << 10)] {
        let seed = seed("backend");
        let mut random = Random(seed);
        let store = Store::in_memory(small().page_size(page_size)).unwrap();
        let home = RedbStore::new(store.clone()).unwrap();
        let open = || Builder::new().set_cache_size(cache).create_with_backend(home.file()).unwrap();
        let mut db = open();
        let (mut model, mut kept) = (Model::new(), Vec::new());
        let mut opened = version(&store);
        let mut commits = 0;
        for step in 0..env("VELLUM_REDB_STEPS", 120) {
            match random.below(12) {
                0 => {
                    // Given up, with whatever it had spilled.
                    let txn = db.begin_write().unwrap();
                    change(&txn, &mut model.clone(), &mut random);
                    txn.abort().unwrap();
                }
                1 => {
                    // For readers at once, and in the store with the next one.
                    let mut txn = db.begin_write().unwrap();
                    txn.set_durability(redb::Durability::None).unwrap();
                    change(&txn, &mut model, &mut random);
                    let before = store.snapshot().fingerprint();
                    txn.commit().unwrap();
                    assert_eq!(store.snapshot().fingerprint(), before);
                }
                2 if step % 3 == 0 => {
                    db.close().unwrap();
                    kept.push((store.snapshot(), model.clone()));
                    db = open();
                    (opened, commits) = (version(&store), 0);
                }
                3 if step % 3 == 0 => {
                    // Moves pages to the front, and cuts the file.
                    db.compact().unwrap();
                    (opened, commits) = (version(&store), 0);
                }
                _ => {
                    let txn = db.begin_write().unwrap();
                    change(&txn, &mut model, &mut random);
                    txn.commit().unwrap();
                    commits += 1;
                    if random.below(10) == 0 {
                        kept.push((store.snapshot(), model.clone()));
                    }
                }
            }
            assert_eq!(version(&store), opened + commits, "step {step}: one version for one commit");
            assert!(contents(&db) == model, "step {step}: the live database");
        }
        assert!(kept.len() > 5);
        for (snapshot, model) in &kept {
            check_version(snapshot, model);
        }
        assert!(db.check_integrity().unwrap());
        drop(db);
        assert!(contents(&open()) == model, "after closing");
        store.verify(&mut ()).unwrap();
    }
}

#[test]
fn readers_beside_the_writer_see_one_commit_each() {
    let store = Store::in_memory(small()).unwrap();
    let db = Builder::new()
        .set_cache_size(64 << 10)
        .create_with_backend(RedbStore::new(store.clone()).unwrap().file())
        .unwrap();
    // All values are alike in each commit.
    let write = |round: u64| {
        let mut txn = db.begin_write().unwrap();
        // Some stay in redb's cache, or are spilled before they are committed.
        if round % 3 == 1 {
            txn.set_durability(redb::Durability::None).unwrap();
        }
        for key in 0..100 {
            txn.open_table(TABLE).unwrap().insert(key, &[round.to_le_bytes()[0]; 1500][..]).unwrap();
        }
        txn.commit().unwrap();
    };
    write(0);
    let (is_done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (db, store, is_done, reads) = (&db, &store, &is_done, &reads);
            scope.spawn(move || {
                while !is_done.load(Ordering::Relaxed) {
                    let values = match reader {
                        0 => contents(&open_at(&store.snapshot()).unwrap()),
                        _ => contents(db),
                    };
                    assert_eq!(values.len(), 100);
                    let first = &values[&0];
                    assert!(values.values().all(|value| value == first), "half of a commit");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut round = 0;
        while round < 60 || reads.load(Ordering::Relaxed) < 30 {
            round += 1;
            write(round);
        }
        is_done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_name_before_a_change_leads_back() {
    let store = Store::in_memory(small()).unwrap();
    let home = RedbStore::new(store.clone()).unwrap();
    let db = home.open().unwrap();
    put(&db, 1, b"old").unwrap();
    store.create_snapshot("before").unwrap();
    put(&db, 1, b"new").unwrap();
    put(&db, 2, b"more").unwrap();
    let old = Model::from([(1, b"old".to_vec())]);
    check_version(&store.open_snapshot("before").unwrap(), &old);

    // Under an open database: it can't know of it, so its next commit is refused and the store stays what it was.
    store.rollback_to(&store.open_snapshot("before").unwrap()).unwrap();
    let fingerprint = store.snapshot().fingerprint();
    let error = put(&db, 3, b"lost").unwrap_err();
    assert!(error.to_string().contains("was committed in"), "{error}");
    assert!(matches!(
        db.begin_write().map(|_| ()),
        Err(redb::TransactionError::Storage(StorageError::PreviousIo))
    ));
    assert_eq!(store.snapshot().fingerprint(), fingerprint);
    drop(db);
    let db = home.open().unwrap();
    assert!(contents(&db) == old);
    put(&db, 3, b"kept").unwrap();
    assert_eq!(contents(&db).len(), 2);

    // A fork is a database to try things in.
    let child = store.snapshot().fork().unwrap();
    let tried = RedbStore::new(child).unwrap().open().unwrap();
    put(&tried, 4, b"tried").unwrap();
    assert_eq!((contents(&tried).len(), contents(&db).len()), (3, 2));
}

#[test]
fn a_database_is_open_once_and_a_snapshot_is_never_written() {
    let store = Store::in_memory(small()).unwrap();
    let home = RedbStore::new(store.clone()).unwrap();
    let first = home.open().unwrap();
    assert!(matches!(home.open(), Err(DatabaseError::DatabaseAlreadyOpen)));
    put(&first, 1, b"x").unwrap();
    drop(first);
    drop(home.open().unwrap());

    // Two that know nothing of each other: the one that commits second is refused.
    let elsewhere = RedbStore::new(store.clone()).unwrap();
    let (one, other) = (home.open().unwrap(), elsewhere.open());
    let refused = match other {
        Ok(other) => put(&other, 2, b"y").and_then(|()| put(&one, 3, b"z")).is_err(),
        Err(_) => true,
    };
    assert!(refused);
    drop(one);

    let past = vellum_redb::PastFile::new(store.snapshot());
    assert!(matches!(Builder::new().create_with_backend(past), Err(DatabaseError::DatabaseAlreadyOpen)));
    let empty = Store::in_memory(small()).unwrap();
    assert!(matches!(open_at(&empty.snapshot()), Err(DatabaseError::Storage(_))), "there is no database yet");
    let error = RedbStore::new(Store::in_memory(small().page_size(8192)).unwrap()).err().unwrap();
    assert!(error.to_string().contains("4096 or fewer"), "{error}");
}

#[test]
fn a_file_that_waited_for_its_turn_is_the_current_one() {
    let store = Store::in_memory(small()).unwrap();
    let home = RedbStore::new(store.clone()).unwrap();
    let late = home.file();
    let first = home.open().unwrap();
    put(&first, 1, b"x").unwrap();
    drop(first);
    let second = Builder::new().create_with_backend(late).unwrap();
    assert_eq!(contents(&second).len(), 1);
    put(&second, 2, b"y").unwrap();
}

/// redb never asks a file again that has failed, and looks at no bytes that it didn't write; the file doesn't rely on it.
#[test]
fn the_file_keeps_its_promises_whoever_asks() {
    let store = Store::in_memory(small()).unwrap();
    let home = RedbStore::new(store.clone()).unwrap();
    let file = home.file();
    file.write(0, &[1; 4 * 4096]).unwrap();
    file.sync_data().unwrap();
    let mut page = [9; 4096];

    // What was cut off doesn't come back, before it is committed or after.
    file.set_len(4096).unwrap();
    assert!(file.read(4096, &mut page).is_err());
    file.set_len(4 * 4096).unwrap();
    file.read(2 * 4096, &mut page).unwrap();
    assert_eq!(page, [0; 4096]);
    file.write(0, &[2; 320]).unwrap();
    file.sync_data().unwrap();
    file.read(2 * 4096, &mut page).unwrap();
    assert_eq!((page, version(&store)), ([0; 4096], 2));

    // Without a header there is nothing to commit; with it, everything is.
    file.write(3 * 4096, &[3; 4096]).unwrap();
    file.sync_data().unwrap();
    assert_eq!(version(&store), 2);
    file.write(0, &[3; 320]).unwrap();
    file.sync_data().unwrap();
    file.read(3 * 4096, &mut page).unwrap();
    assert_eq!((page, version(&store)), ([3; 4096], 3));
    assert!(file.set_len(100).is_err() && file.read(u64::MAX, &mut page).is_err());

    // A commit that failed is over: what it wrote is gone, so nothing is taken or shown any more, which somebody might think to be there.
    file.write(0, &[4; 320]).unwrap();
    let mut txn = store.begin().unwrap();
    txn.page_mut(vellum::PageId(2)).unwrap()[0] = 1;
    txn.commit().unwrap();
    assert!(file.sync_data().unwrap_err().to_string().contains("was committed in"));
    for done in [file.write(0, &[5; 320]), file.sync_data(), file.set_len(0)] {
        assert!(done.unwrap_err().to_string().contains("an earlier commit failed"));
    }
    for offset in [0, 4096] {
        assert!(file.read(offset, &mut page).unwrap_err().to_string().contains("an earlier commit failed"));
    }
    assert_eq!(version(&store), 4);
}

/// A database on a disk that can be made to fail.
fn on_disk(disk: &SimDisk, options: Options) -> (Store, RedbStore) {
    let storage: Arc<dyn Storage> = Arc::new(disk.storage());
    let store = Store::open_on(storage, options).unwrap();
    (store.clone(), RedbStore::new(store).unwrap())
}

#[test]
fn a_failed_commit_says_why_and_is_never_tried_again() {
    for (fault, expected) in [(Fault::EIO, "Input/output error"), (Fault::SyncFails, "Input/output error")] {
        let disk = SimDisk::new(1);
        let (store, home) = on_disk(&disk, small());
        let db = home.open().unwrap();
        put(&db, 1, b"kept").unwrap();
        let fingerprint = store.snapshot().fingerprint();
        for index in disk.io_count()..disk.io_count() + 100 {
            disk.fail_at(index, fault);
        }
        let error = put(&db, 2, b"lost").unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        disk.clear_faults();
        let calls = disk.io_count();
        assert!(db.begin_write().is_err());
        drop(db);
        assert_eq!(disk.io_count(), calls, "neither the next transaction nor closing writes anything");
        assert_eq!(store.snapshot().fingerprint(), fingerprint);
        // The store can't know what its disk holds: it takes no writes until it is opened again.
        let error = home.open().err().unwrap();
        assert!(error.to_string().contains("takes no more writes"), "{error}");
        assert_eq!(contents(&open_at(&store.snapshot()).unwrap()).len(), 1);
        drop((store, home));
        disk.crash();
        let (_, home) = on_disk(&disk.power_cut(7), small());
        let mut db = home.open().unwrap();
        assert!(db.check_integrity().unwrap());
        let found = contents(&db);
        assert!(found.len() <= 2 && found[&1] == b"kept");
    }
}

#[test]
fn a_full_disk_refuses_a_transaction_and_the_next_opening_goes_on() {
    let disk = SimDisk::new(1);
    let (store, home) = on_disk(&disk, small());
    let db = home.open().unwrap();
    put(&db, 0, b"kept").unwrap();
    let before = contents(&db);
    disk.fail_at(disk.io_count(), Fault::ShortWrite);
    let error = put(&db, 1, &vec![7; 100_000]).unwrap_err();
    assert!(error.to_string().contains("space"), "{error}");
    disk.clear_faults();
    drop(db);
    let mut db = home.open().unwrap();
    assert!(db.check_integrity().unwrap());
    assert!(contents(&db) == before);
    put(&db, 1, &vec![7; 100_000]).unwrap();
    check_version(&store.snapshot(), &contents(&db));
}

#[test]
fn a_transaction_beyond_memory_is_refused_whole() {
    let store = Store::in_memory(small().transaction_memory(1 << 20)).unwrap();
    let home = RedbStore::new(store.clone()).unwrap();
    let db = home.open().unwrap();
    put(&db, 1, b"kept").unwrap();
    let fingerprint = store.snapshot().fingerprint();
    let error = put(&db, 2, &vec![7; 3 << 20]).unwrap_err();
    assert!(error.to_string().contains("transaction_memory"), "{error}");
    drop(db);
    assert_eq!(store.snapshot().fingerprint(), fingerprint);
    assert_eq!(contents(&home.open().unwrap()).len(), 1);
}

#[test]
fn buffered_commits_are_there_at_once_and_durable_with_the_next_sync() {
    let disk = SimDisk::new(3);
    let (store, home) = on_disk(&disk, small());
    let db = home.durability(Durability::Buffered).open().unwrap();
    put(&db, 1, b"synced").unwrap();
    store.sync().unwrap();
    put(&db, 2, b"perhaps").unwrap();
    assert_eq!(contents(&open_at(&store.snapshot()).unwrap()).len(), 2);
    let (_, home) = on_disk(&disk.power_cut_with(vellum::storage::sim::Survival::Nothing, 1), small());
    let mut db = home.open().unwrap();
    assert!(db.check_integrity().unwrap());
    let found = contents(&db);
    assert!(found[&1] == b"synced" && found.len() <= 2);
}
