//! Goal: a crash costs no commit that redb acknowledged, and leaves none in part; redb finds nothing to complain about in what is
//! recovered.
//!
//! Method: commits whose number tells what the whole table must hold, with a cache so small that pages are spilled in the middle of
//! them. The power of a simulated disk is cut at calls spread over the run; a process is killed at a random moment, again and again.
//! `VELLUM_REDB_CUTS` (30) and `VELLUM_REDB_KILLS` (4) make it longer; `VELLUM_SEED` replays.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::{Model, Random, TABLE, check_version, contents, env, seed, small};
use redb::{Builder, Database, ReadableDatabase};
use vellum::storage::Storage;
use vellum::storage::sim::{Fault, SimDisk};
use vellum::{Error, Store};
use vellum_redb::RedbStore;

/// The key of the number of the last commit.
const LAST: u64 = u64::MAX;
const COMMITS: u64 = 60;

fn open(store: &Store) -> Result<Database, redb::DatabaseError> {
    let home = RedbStore::new(store.clone()).unwrap();
    Builder::new().set_cache_size(64 << 10).create_with_backend(home.file())
}

/// What commit `number` puts into the table.
fn values_of(number: u64) -> impl Iterator<Item = (u64, Vec<u8>)> {
    let mut random = Random(number);
    let entry = move |part: u64| (random.below(60), random.bytes(if part == 0 { 30_000 } else { 2_000 }));
    (0..12).map(entry).chain([(LAST, number.to_le_bytes().to_vec())])
}

/// What the table holds after commit `number`.
fn model_of(number: u64) -> Model {
    (1..=number).flat_map(values_of).collect()
}

fn commit(db: &Database, number: u64) -> Result<(), redb::Error> {
    let txn = db.begin_write()?;
    for (key, value) in values_of(number) {
        txn.open_table(TABLE)?.insert(key, &value[..])?;
    }
    Ok(txn.commit()?)
}

/// The number of the last commit, if the table holds exactly what it is to.
fn check(db: &mut Database) -> u64 {
    let found = contents(db);
    let number = found.get(&LAST).map_or(0, |bytes| u64::from_le_bytes(bytes[..].try_into().unwrap()));
    assert!(found == model_of(number), "commit {number} isn't whole");
    assert!(db.check_integrity().unwrap(), "redb's own check, after commit {number}");
    number
}

fn on_disk(disk: &SimDisk) -> Result<Store, Error> {
    let storage: Arc<dyn Storage> = Arc::new(disk.storage());
    Store::open_on(storage, small())
}

/// Commits until the end or the crash; the number of the last commit that was acknowledged.
fn run(disk: &SimDisk) -> u64 {
    let mut acknowledged = 0;
    let Ok(store) = on_disk(disk) else { return 0 };
    let Ok(db) = open(&store) else { return 0 };
    while acknowledged < COMMITS && commit(&db, acknowledged + 1).is_ok() {
        acknowledged += 1;
    }
    acknowledged
}

#[test]
fn a_database_is_created_whole_or_not_at_all() {
    let create = |disk: &SimDisk| on_disk(disk).is_ok_and(|store| open(&store).is_ok());
    let whole = SimDisk::new(1);
    assert!(create(&whole));
    for index in 0..whole.io_count() {
        for seed in 0..3 {
            let disk = SimDisk::new(1);
            disk.fail_at(index, Fault::Crash);
            create(&disk);
            let store =
                on_disk(&disk.power_cut(seed)).unwrap_or_else(|error| panic!("cut at {index}: {error}"));
            let mut db = open(&store).unwrap_or_else(|error| panic!("cut at {index}, seed {seed}: {error}"));
            assert_eq!(check(&mut db), 0);
            commit(&db, 1).unwrap();
            assert_eq!(check(&mut db), 1);
        }
    }
}

#[test]
fn a_power_cut_costs_no_acknowledged_commit() {
    let seed = seed("crash");
    let whole = SimDisk::new(seed);
    assert_eq!(run(&whole), COMMITS);
    let calls = whole.io_count();
    let mut random = Random(seed ^ 1);
    let mut recovered = 0;
    for _ in 0..env("VELLUM_REDB_CUTS", 30) {
        let index = random.below(calls);
        let disk = SimDisk::new(seed);
        disk.fail_at(index, Fault::Crash);
        let acknowledged = run(&disk);
        let store =
            on_disk(&disk.power_cut(random.next())).unwrap_or_else(|error| panic!("cut at {index}: {error}"));
        let mut db = open(&store).unwrap_or_else(|error| panic!("cut at {index}: {error}"));
        let number = check(&mut db);
        assert!(
            number == acknowledged || number == acknowledged + 1,
            "cut at {index}: {number}, {acknowledged} acknowledged"
        );
        recovered += number;
        commit(&db, number + 1).unwrap();
        assert_eq!(check(&mut db), number + 1);
        check_version(&store.snapshot(), &model_of(number + 1));
    }
    assert!(recovered > 0, "the cuts met commits");
}

const CHILD_DIR: &str = "VELLUM_REDB_CHILD";

/// Not a test: the process that is killed. It tells each commit that was acknowledged.
#[test]
#[ignore = "started by the test of kills"]
fn commits_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let store = Store::open(Path::new(&dir), small()).unwrap();
    let mut db = open(&store).unwrap();
    let mut number = check(&mut db);
    std::thread::scope(|scope| {
        let db = &db;
        scope.spawn(move || while db.begin_read().is_ok_and(|txn| txn.open_table(TABLE).is_ok()) {});
        loop {
            number += 1;
            commit(db, number).unwrap();
            let mut out = std::io::stdout().lock();
            writeln!(out, "acknowledged {number}").and_then(|()| out.flush()).unwrap();
        }
    });
}

#[test]
fn a_kill_costs_no_acknowledged_commit() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    {
        let store = Store::open(&dir, small()).unwrap();
        commit(&open(&store).unwrap(), 1).unwrap();
    }
    let mut random = Random(seed("crash"));
    let mut before = 1;
    for kill in 0..env("VELLUM_REDB_KILLS", 4) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "commits_until_it_is_killed", "--ignored", "--nocapture"])
            .env(CHILD_DIR, &dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let number =
            |line: &str| line.split("acknowledged ").nth(1).and_then(|number| number.trim().parse().ok());
        let mut acknowledged = before;
        let enough = before + 3 + random.below(25);
        while acknowledged < enough {
            let line = lines.next().expect("the child goes on until it is killed").unwrap();
            acknowledged = number(&line).unwrap_or(acknowledged);
        }
        // Somewhere in the next commit.
        std::thread::sleep(std::time::Duration::from_micros(random.below(3_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            acknowledged = number(&line).unwrap_or(acknowledged);
        }
        let store = Store::open(&dir, small()).unwrap();
        let found = check(&mut open(&store).unwrap());
        assert!(
            found == acknowledged || found == acknowledged + 1,
            "kill {kill}: {found}, {acknowledged} acknowledged"
        );
        assert!(found > before);
        before = found;
    }
}
