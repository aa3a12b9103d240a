//! Goal: money is never made nor lost: not for readers beside writers, not by a kill, not by a power cut.
//!
//! Method: TPC-B in small (accounts, tellers, branches, a history; one transaction moves an amount in all of them). Readers beside
//! it compare sums within one transaction. The same runs in a process that is killed at a random moment, and on a simulated disk
//! whose power is cut at calls spread over the run; what is recovered has every transaction that was acknowledged, and none in part.
//!
//! `VELLUM_SQLITE_KILLS` (6) and `VELLUM_SQLITE_CUTS` (40) make it longer; `VELLUM_SEED` replays.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests count in small numbers"
)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Random, env, seed};
use rusqlite::{Connection, params};
use vellum::storage::Storage;
use vellum::storage::sim::{Fault, SimDisk};
use vellum::{Options, Store, sqlite};

const BRANCHES: i64 = 3;
const TELLERS: i64 = 10 * BRANCHES;
const ACCOUNTS: i64 = 300 * BRANCHES;

fn found(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(&format!(
        "BEGIN;
         CREATE TABLE branches (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, filler);
         CREATE TABLE tellers (id INTEGER PRIMARY KEY, branch INTEGER, balance INTEGER NOT NULL, filler);
         CREATE TABLE accounts (id INTEGER PRIMARY KEY, branch INTEGER, balance INTEGER NOT NULL, filler);
         CREATE TABLE history (id INTEGER PRIMARY KEY, teller, branch, account, delta INTEGER, filler);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {BRANCHES})
         INSERT INTO branches SELECT i, 0, zeroblob(80) FROM n;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {TELLERS})
         INSERT INTO tellers SELECT i, 1 + i % {BRANCHES}, 0, zeroblob(80) FROM n;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ACCOUNTS})
         INSERT INTO accounts SELECT i, 1 + i % {BRANCHES}, 0, zeroblob(80) FROM n;
         COMMIT"
    ))
}

/// One transaction; gives the number of its row in the history.
fn transfer(db: &Connection, random: &mut Random) -> rusqlite::Result<i64> {
    let (account, teller) =
        (1 + random.below(ACCOUNTS as u64) as i64, 1 + random.below(TELLERS as u64) as i64);
    let (branch, delta) = (1 + teller % BRANCHES, random.below(2000) as i64 - 1000);
    let mut work = || {
        db.prepare_cached("UPDATE accounts SET balance = balance + ?1 WHERE id = ?2")?
            .execute([delta, account])?;
        db.prepare_cached("UPDATE tellers SET balance = balance + ?1 WHERE id = ?2")?
            .execute([delta, teller])?;
        db.prepare_cached("UPDATE branches SET balance = balance + ?1 WHERE id = ?2")?
            .execute([delta, branch])?;
        db.prepare_cached("INSERT INTO history (teller, branch, account, delta, filler) VALUES (?1, ?2, ?3, ?4, zeroblob(?5))")?
            .execute(params![teller, branch, account, delta, 20 + random.below(200) as i64])?;
        Ok(db.last_insert_rowid())
    };
    db.execute_batch("BEGIN IMMEDIATE")?;
    let done = work();
    match done {
        Ok(id) => db.execute_batch("COMMIT").map(|()| id),
        Err(error) => {
            let _ = db.execute_batch("ROLLBACK");
            Err(error)
        }
    }
}

/// Rows of history, if all sums agree.
fn audit(db: &Connection) -> rusqlite::Result<i64> {
    db.execute_batch("BEGIN")?;
    let sum = |sql: &str| db.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let accounts = sum("SELECT sum(balance) FROM accounts")?;
    let tellers = sum("SELECT sum(balance) FROM tellers")?;
    let branches = sum("SELECT sum(balance) FROM branches")?;
    let history = sum("SELECT coalesce(sum(delta), 0) FROM history")?;
    let rows = sum("SELECT count(*) FROM history")?;
    assert_eq!(
        sum("SELECT coalesce(max(id), 0) FROM history")?,
        rows,
        "a transaction is missing in the middle"
    );
    db.execute_batch("COMMIT")?;
    assert_eq!([tellers, branches, history], [accounts; 3]);
    Ok(rows)
}

fn check(db: &Connection) -> i64 {
    let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    audit(db).unwrap()
}

fn unique(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{name}-{}.db", COUNT.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn readers_always_see_the_sum_and_are_never_busy() {
    let store = Store::in_memory(Options::new().segment_size(4 << 20)).unwrap();
    let name = unique("bank");
    sqlite::register(&store, &name).unwrap();
    let uri = format!("file:{name}?vfs=vellum");
    found(&Connection::open(&uri).unwrap()).unwrap();
    let (stop, audits, ahead) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let done = std::thread::scope(|scope| {
        for reader in 0..3 {
            let (uri, stop, audits, ahead) = (&uri, &stop, &audits, &ahead);
            scope.spawn(move || {
                let db = Connection::open(uri).unwrap();
                db.busy_timeout(Duration::ZERO).unwrap();
                if reader == 0 {
                    db.execute_batch("PRAGMA mmap_size=100000000; PRAGMA cache_size=10").unwrap();
                }
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    let rows = audit(&db).expect("readers are never busy");
                    assert!(rows >= last, "time goes on");
                    ahead.fetch_add(u64::from(rows > last), Ordering::Relaxed);
                    last = rows;
                    audits.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let uri = &uri;
                scope.spawn(move || {
                    let db = Connection::open(uri).unwrap();
                    db.busy_timeout(Duration::from_mins(1)).unwrap();
                    let mut random = Random(writer);
                    let until = Instant::now() + Duration::from_secs(env("VELLUM_SQLITE_SECONDS", 3));
                    let mut done = 0;
                    while Instant::now() < until {
                        transfer(&db, &mut random).unwrap();
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        let done: i64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        stop.store(true, Ordering::Relaxed);
        done
    });
    println!("{done} transfers, {} audits beside them", audits.load(Ordering::Relaxed));
    assert!(ahead.load(Ordering::Relaxed) > 0, "readers saw something of it");
    assert_eq!(check(&Connection::open(&uri).unwrap()), done);
    assert!(sqlite::unregister(&name));
    store.audit().unwrap();
}

#[test]
fn a_power_cut_costs_no_acknowledged_transaction() {
    let seed = seed("sqlite_bank");
    let options = || Options::new().segment_size(256 << 10).checkpoint_bytes(256 << 10).background(false);
    // Once without a cut, to learn how many calls there are.
    let run = |disk: &SimDisk, way: &str| -> i64 {
        let storage: Arc<dyn Storage> = Arc::new(disk.storage());
        let Ok(store) = Store::open_on(storage, options()) else { return 0 };
        let name = unique("cut");
        sqlite::register(&store, &name).unwrap();
        let db = Connection::open(format!("file:{name}?vfs=vellum{way}")).unwrap();
        let mut acknowledged = 0;
        // A cache that spills in the middle of transactions.
        let begun = db.execute_batch("PRAGMA cache_size=6").and_then(|()| found(&db));
        let mut random = Random(seed);
        if begun.is_ok() {
            for step in 0..40 {
                match transfer(&db, &mut random) {
                    Ok(id) => acknowledged = id,
                    Err(_) => break,
                }
                if step % 16 == 15 && db.execute_batch("VACUUM").is_err() {
                    break;
                }
                if step == 20 && db.query_row("SELECT vellum_snapshot('middle')", [], |_| Ok(())).is_err() {
                    break;
                }
            }
        }
        drop(db);
        assert!(sqlite::unregister(&name));
        acknowledged
    };
    for way in ["", "&batches=0"] {
        let whole = SimDisk::new(seed);
        assert_eq!(run(&whole, way), 40);
        let calls = whole.io_count();
        let cuts = env("VELLUM_SQLITE_CUTS", 40);
        let mut random = Random(seed ^ 1);
        let mut with_money = 0;
        for _ in 0..cuts {
            let index = random.below(calls);
            let disk = SimDisk::new(seed);
            disk.fail_at(index, Fault::Crash);
            let acknowledged = run(&disk, way);
            let disk = disk.power_cut(random.next());
            let storage: Arc<dyn Storage> = Arc::new(disk.storage());
            let store =
                Store::open_on(storage, options()).unwrap_or_else(|error| panic!("cut at {index}: {error}"));
            let name = unique("recovered");
            sqlite::register(&store, &name).unwrap();
            let db = Connection::open(format!("file:{name}?vfs=vellum")).unwrap();
            let tables: i64 =
                db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
            assert!(tables == 0 || tables == 4, "cut at {index}: {tables} tables");
            if tables == 4 {
                let rows = check(&db);
                assert!(
                    rows >= acknowledged && rows <= acknowledged + 1,
                    "cut at {index}: {rows}, {acknowledged} acknowledged"
                );
                with_money += i64::from(rows > 0);
                transfer(&db, &mut random).unwrap();
                assert_eq!(check(&db), rows + 1);
            } else {
                assert_eq!(acknowledged, 0, "cut at {index}");
            }
            drop(db);
            assert!(sqlite::unregister(&name));
        }
        assert!(with_money > 0, "the cuts met transactions");
    }
}

const CHILD_DIR: &str = "VELLUM_BANK_CHILD";

/// Not a test: the process that is killed. It tells each transaction that was acknowledged.
#[test]
#[ignore = "started by the test of kills"]
fn the_bank_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    sqlite::use_paths().unwrap();
    let way = if dir.ends_with('1') { "&batches=0" } else { "" };
    let uri = format!("file:{dir}?vfs=vellum{way}");
    let db = Connection::open(&uri).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let reader = Connection::open(&uri).unwrap();
                while audit(&reader).is_ok() {}
            });
        }
        let mut random = Random(u64::from(std::process::id()));
        loop {
            let id = transfer(&db, &mut random).unwrap();
            let mut out = std::io::stdout().lock();
            writeln!(out, "acknowledged {id}").and_then(|()| out.flush()).unwrap();
        }
    });
}

#[test]
fn a_kill_costs_no_acknowledged_transaction() {
    sqlite::use_paths().unwrap();
    let home = tempfile::tempdir().unwrap();
    for way in 0..2 {
        let dir = home.path().join(format!("bank{way}"));
        let uri = format!("file:{}?vfs=vellum", dir.display());
        found(&Connection::open(&uri).unwrap()).unwrap();
        let mut random = Random(seed("sqlite_bank"));
        let mut before = 0;
        for kill in 0..env("VELLUM_SQLITE_KILLS", 6) / 2 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "the_bank_until_it_is_killed", "--ignored", "--nocapture"])
                .env(CHILD_DIR, &dir)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut acknowledged = 0;
            let mut count = 0;
            let enough = 5 + random.below(60);
            while count < enough {
                let line = lines.next().expect("the child goes on until it is killed").unwrap();
                if let Some(id) = line.split("acknowledged ").nth(1) {
                    acknowledged = id.trim().parse().unwrap();
                    count += 1;
                }
            }
            child.kill().unwrap();
            child.wait().unwrap();
            for line in lines.map_while(Result::ok) {
                if let Some(Ok(id)) = line.split("acknowledged ").nth(1).map(|id| id.trim().parse()) {
                    acknowledged = id;
                }
            }
            let db = Connection::open(&uri).unwrap();
            let rows = check(&db);
            assert!(
                rows >= acknowledged && rows <= acknowledged + 1,
                "kill {kill}: {rows}, {acknowledged} acknowledged"
            );
            assert!(rows > before);
            before = rows;
        }
    }
}
