//! Goal: whatever goes wrong reaches SQLite as the code that says what to do, with a message that says why; a failed commit leaves the
//! state as it was and is never tried again behind SQLite's back; and nobody reads a cache that no version has.
//!
//! Method: bad input, limits, a simulated disk that fills up or fails at each of its calls, and pages written to the store
//! beside SQLite.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "tests count in small numbers"
)]

#[path = "common/sqlite.rs"]
mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Db, WAYS, check, extended, one, small};
use rusqlite::{Connection, ErrorCode, ffi};
use vellum::storage::Storage;
use vellum::storage::sim::{Fault, IoKind, SimDisk};
use vellum::{Budget, Error, PageId, RetainedPolicy, Store, sqlite};

/// A store on a disk of its own that can be made to fail.
fn on_disk(disk: &SimDisk, way: &'static str) -> Db {
    let storage: Arc<dyn Storage> = Arc::new(disk.storage());
    Db::on(Store::open_on(storage, small()).unwrap(), way)
}

#[test]
fn bad_input_has_its_code_and_its_message() {
    let home = tempfile::tempdir().unwrap();
    sqlite::use_paths().unwrap();
    let open =
        |path: &Path, more: &str| Connection::open(format!("file:{}?vfs=vellum{more}", path.display()));

    // A store whose pages are something else.
    let store = Store::in_memory(small()).unwrap();
    let mut txn = store.begin().unwrap();
    let id = txn.allocate().unwrap();
    txn.write(id, &[7; 4096]).unwrap();
    txn.commit().unwrap();
    let db = Db::on(store, "");
    let error = db.open().query_row("SELECT * FROM sqlite_schema", [], |_| Ok(())).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase));

    // A file, a directory that is something else, and none.
    let file = home.path().join("file");
    std::fs::write(&file, b"text").unwrap();
    assert_eq!(open(&file, "").unwrap_err().sqlite_error_code(), Some(ErrorCode::CannotOpen));
    assert!(sqlite::last_error().unwrap().contains("not a directory"));
    std::fs::create_dir(home.path().join("dir")).unwrap();
    std::fs::write(home.path().join("dir/something"), b"else").unwrap();
    assert_eq!(
        open(&home.path().join("dir"), "").unwrap_err().sqlite_error_code(),
        Some(ErrorCode::NotADatabase)
    );
    let missing = open(&home.path().join("missing"), "&mode=rw").unwrap_err();
    assert_eq!(missing.sqlite_error_code(), Some(ErrorCode::CannotOpen));
    assert!(!home.path().join("missing").exists());
    assert!(open(&home.path().join("odd"), "&page_size=1000").is_err());
    assert!(sqlite::last_error().unwrap().contains("power of two"));
    assert!(open(&home.path().join("odd"), "&page_size=big").is_err());

    // Open elsewhere.
    let elsewhere = home.path().join("elsewhere");
    let held = Store::open(&elsewhere, small()).unwrap();
    assert_eq!(open(&elsewhere, "").unwrap_err().sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    assert!(sqlite::last_error().unwrap().contains("in use"));
    // By name in this process, it works.
    sqlite::register(&held, "held.db").unwrap();
    assert!(sqlite::register(&held, "held.db").unwrap_err().to_string().contains("registered"));
    assert!(sqlite::register(&held, "a?b").is_err());
    Connection::open("file:held.db?vfs=vellum").unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(sqlite::unregister("held.db") && !sqlite::unregister("held.db"));

    // Without locks.
    let c = open(&home.path().join("unlocked"), "&nolock=1");
    assert!(c.is_err() || c.unwrap().execute_batch("CREATE TABLE u (x)").is_err());
}

/// SQLite writes the super-journal through the main database's VFS. In memory it would be gone after a crash, and the ordinary file's
/// journal be taken for one that is done with: the file stayed half written.
#[test]
fn an_ordinary_file_is_never_written_under_a_super_journal_in_memory() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("plain.db");
    let dir = home.path().join("store");
    sqlite::use_paths().unwrap();
    for way in WAYS {
        let db = Db::new(small(), way);
        let _ = std::fs::remove_file(&file);
        let c = db.open();
        c.execute("ATTACH ?1 AS plain", [format!("file:{}?vfs=unix", file.display())]).unwrap();
        c.execute("ATTACH ?1 AS other", [sqlite::uri_of(&dir)]).unwrap();
        c.execute_batch(
            "CREATE TABLE main.t (x); CREATE TABLE plain.u (x); CREATE TABLE IF NOT EXISTS other.v (x); DELETE FROM v",
        )
        .unwrap();
        let both = "BEGIN; INSERT INTO t VALUES (1); INSERT INTO u VALUES (1); COMMIT";
        let error = c.execute_batch(both).unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen), "{error}");
        assert!(sqlite::last_error().unwrap().contains("ordinary file first"));
        assert!(c.is_autocommit(), "it was rolled back");
        let count = |table: &str| one::<i64>(&c, &format!("SELECT count(*) FROM {table}"));
        assert_eq!((count("t"), count("u")), (0, 0));

        // Files of vellum's alone, one of them by its path; and what the message says.
        c.execute_batch("BEGIN; INSERT INTO t VALUES (1); INSERT INTO v VALUES (1); COMMIT").unwrap();
        c.execute_batch("PRAGMA main.journal_mode=MEMORY").unwrap();
        c.execute_batch(both).unwrap();
        assert_eq!((count("t"), count("u"), count("v")), (2, 1, 1));
        drop(c);
        let c = Connection::open(&file).unwrap();
        c.execute("ATTACH ?1 AS other", [format!("file:{}?vfs=vellum{way}", db.name)]).unwrap();
        c.execute_batch(both).unwrap();
        assert_eq!(one::<i64>(&c, "SELECT count(*) FROM t, u"), 3 * 2);
        check(&c);
    }
}

#[test]
fn a_transaction_beyond_memory_is_refused_whole() {
    for way in WAYS {
        let db = Db::new(small().transaction_memory(1 << 20), way);
        let c = db.open();
        c.execute_batch("PRAGMA cache_size=10; CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
        let fingerprint = db.store.stats().fingerprint;
        let error = c.execute("INSERT INTO t VALUES (randomblob(3000000))", []).unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DiskFull), "{error}");
        assert!(one::<String>(&c, "SELECT vellum_error()").contains("transaction_memory"));
        assert_eq!(db.store.stats().fingerprint, fingerprint);
        c.execute("INSERT INTO t VALUES (2)", []).unwrap();
        assert_eq!(one::<i64>(&c, "SELECT sum(x) FROM t"), 3);
        check(&c);
    }
}

#[test]
fn a_failed_commit_is_never_tried_again_through_a_journal() {
    for way in WAYS {
        let disk = SimDisk::new(1);
        let db = on_disk(&disk, way);
        let c = db.open();
        c.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
        let fingerprint = db.store.stats().fingerprint;
        for index in disk.io_count()..disk.io_count() + 200 {
            disk.fail_at(index, Fault::EIO);
        }
        let error = c.execute("INSERT INTO t VALUES (2)", []).unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure), "{error}");
        assert_eq!(db.store.stats().fingerprint, fingerprint, "the state is unchanged");
        assert_eq!(one::<i64>(&c, "SELECT sum(x) FROM t"), 1, "and is read");
        // The disk is well again, but the store can't know what it holds: it must be opened anew.
        disk.clear_faults();
        let error = c.execute("INSERT INTO t VALUES (4)", []).unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure), "{error}");
        assert!(one::<String>(&c, "SELECT vellum_error()").contains("takes no more writes"));
        assert_eq!(one::<i64>(&c, "SELECT sum(x) FROM t"), 1);
        check(&db.open());
    }
}

#[test]
fn a_full_disk_refuses_a_transaction_and_nothing_else() {
    for way in WAYS {
        let disk = SimDisk::new(1);
        let db = on_disk(&disk, way);
        let c = db.open();
        c.execute_batch("CREATE TABLE t (x)").unwrap();
        let (mut rows, mut refused) = (0, 0);
        for ahead in 0..4 {
            disk.fail_at(disk.io_count() + ahead, Fault::ShortWrite);
            match c.execute("INSERT INTO t VALUES (randomblob(9000))", []) {
                Ok(_) => rows += 1,
                Err(error) => {
                    refused += 1;
                    disk.clear_faults();
                    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DiskFull), "{error}");
                    assert_eq!(one::<i64>(&c, "SELECT count(*) FROM t"), rows);
                    check(&db.open());
                    break;
                }
            }
        }
        assert_eq!(refused, 1);
        c.execute("INSERT INTO t VALUES (4)", []).unwrap();
        assert_eq!(one::<i64>(&db.open(), "SELECT count(*) FROM t"), rows + 1);
        check(&c);
    }
}

/// Some times the size of a database of `rows` rows of a page each is kept by whoever reads an old version.
fn grow(c: &Connection, rows: i64) {
    c.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT OR REPLACE INTO t SELECT i, randomblob(3000) FROM n"
    ))
    .unwrap();
}

#[test]
fn a_revoked_snapshot_is_told_and_the_next_transaction_reads_on() {
    for mapped in [0, 1_000_000_000] {
        let db = Db::new(small().retained_limit(1 << 19, RetainedPolicy::Revoke), "");
        let writer = db.open();
        grow(&writer, 200);
        let reader = db.open();
        reader.execute_batch(&format!("PRAGMA cache_size=10; PRAGMA mmap_size={mapped}; BEGIN")).unwrap();
        let before: i64 = one(&reader, "SELECT sum(length(x)) FROM t");
        for _ in 0..4 {
            grow(&writer, 200);
        }
        db.store.maintain(Budget::unlimited()).unwrap();
        // What SQLite has in its cache it need not read.
        reader.execute_batch("PRAGMA shrink_memory").unwrap();
        let error = reader.query_row("SELECT sum(unicode(hex(x))) FROM t", [], |_| Ok(())).unwrap_err();
        assert_eq!(extended(&error), ffi::SQLITE_BUSY_SNAPSHOT, "{error}");
        assert!(one::<String>(&reader, "SELECT vellum_error()").contains("revoked"));
        reader.execute_batch("ROLLBACK").unwrap();
        assert_eq!(one::<i64>(&reader, "SELECT sum(length(x)) FROM t"), before);
        check(&reader);
    }
}

#[test]
fn readers_are_refused_while_old_versions_keep_too_much() {
    let db = Db::new(small().retained_limit(1 << 20, RetainedPolicy::Refuse), "");
    let (holder, c) = (db.open(), db.open());
    grow(&c, 200);
    holder.execute_batch("BEGIN").unwrap();
    let sum: i64 = one(&holder, "SELECT sum(length(x)) FROM t");
    let kept = db.store.create_snapshot("kept").unwrap();
    grow(&c, 200);
    let second = db.store.create_snapshot("second").unwrap();
    grow(&c, 200);
    c.busy_timeout(Duration::ZERO).unwrap();
    let error = c.query_row("SELECT sum(length(x)) FROM t", [], |_| Ok(())).unwrap_err();
    assert_eq!(extended(&error), ffi::SQLITE_BUSY, "{error}");
    let why: String = one(&c, "SELECT vellum_error()");
    assert!(why.contains("kept") || why.contains("second"), "{why}");
    assert_eq!(one::<i64>(&holder, "SELECT sum(length(x)) FROM t"), sum, "who reads goes on");
    holder.execute_batch("COMMIT").unwrap();
    drop((kept, second));
    db.store.drop_snapshot("kept").unwrap();
    db.store.drop_snapshot("second").unwrap();
    db.store.maintain(Budget::unlimited()).unwrap();
    assert_eq!(one::<i64>(&c, "SELECT sum(length(x)) FROM t"), sum);
}

/// Two tables of a page each, and a change of the second one's page by somebody who isn't SQLite.
fn with_two_tables(way: &'static str) -> (Db, impl Fn(&Db, &'static str, &'static str)) {
    let db = Db::new(small(), way);
    db.open()
        .execute_batch(
            "CREATE TABLE t (x); CREATE TABLE u (x);
             INSERT INTO t VALUES (0); INSERT INTO u VALUES ('the first word')",
        )
        .unwrap();
    let beside = |db: &Db, from: &str, to: &str| {
        let mut txn = db.store.begin().unwrap();
        let page = txn.page_mut(PageId(2)).unwrap();
        let at = page.windows(from.len()).position(|bytes| bytes == from.as_bytes()).unwrap();
        page[at..at + to.len()].copy_from_slice(to.as_bytes());
        txn.commit().unwrap();
    };
    (db, beside)
}

#[test]
fn a_transaction_beside_which_pages_were_written_is_refused_whole() {
    for way in WAYS {
        let (db, beside) = with_two_tables(way);
        let c = db.open();
        assert_eq!(one::<String>(&c, "SELECT x FROM u"), "the first word");
        // Another page than the transaction's, which may have gone by what it held.
        c.execute_batch("BEGIN IMMEDIATE; UPDATE t SET x = 1").unwrap();
        beside(&db, "first", "other");
        let refused = c.execute_batch("COMMIT").unwrap_err();
        assert_eq!(extended(&refused), ffi::SQLITE_BUSY_SNAPSHOT, "{way}: {refused}");
        assert!(one::<String>(&c, "SELECT vellum_error()").contains("begin again"));
        let _ = c.execute_batch("ROLLBACK");
        assert_eq!(one::<String>(&c, "SELECT x FROM u"), "the other word", "{way}");
        assert_eq!(one::<i64>(&c, "SELECT x FROM t"), 0);

        // A name is no change.
        c.execute_batch("BEGIN IMMEDIATE; UPDATE t SET x = 2").unwrap();
        db.store.create_snapshot("meanwhile").unwrap();
        c.execute_batch("COMMIT").unwrap();
        assert_eq!(one::<i64>(&db.open(), "SELECT x FROM t"), 2);

        // A whole rollback is.
        let old = db.store.snapshot();
        c.execute_batch("UPDATE u SET x = 'the third word'").unwrap();
        c.execute_batch("BEGIN IMMEDIATE; UPDATE t SET x = 3").unwrap();
        db.store.rollback_to(&old).unwrap();
        let refused = c.execute_batch("COMMIT").unwrap_err();
        assert_eq!(extended(&refused), ffi::SQLITE_BUSY_SNAPSHOT, "{way}: {refused}");
        let _ = c.execute_batch("ROLLBACK");
        assert_eq!(one::<String>(&c, "SELECT x FROM u"), "the other word", "{way}");
        check(&c);
    }
}

#[test]
fn pages_written_right_behind_a_commit_are_never_hidden_by_a_cache() {
    for way in WAYS {
        let (db, _) = with_two_tables(way);
        let c = db.open();
        c.busy_timeout(Duration::from_mins(1)).unwrap();
        let (written, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1_000_000_u64.. {
                    let mut txn = db.store.begin().unwrap();
                    let page = txn.page_mut(PageId(2)).unwrap();
                    let at = page.windows(5).position(|bytes| bytes == b" word").unwrap();
                    page[at - 7..at].copy_from_slice(round.to_string().as_bytes());
                    txn.commit().unwrap();
                    written.store(round, Ordering::Release);
                    if is_done.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::sleep(Duration::from_micros(round % 50));
                }
            });
            let (mut done, mut refused) = (0, 0);
            while done < 300 {
                match c.execute_batch("BEGIN IMMEDIATE; UPDATE t SET x = x + 1; COMMIT") {
                    Ok(()) => done += 1,
                    Err(error) => {
                        assert_eq!(extended(&error), ffi::SQLITE_BUSY_SNAPSHOT, "{error}");
                        let _ = c.execute_batch("ROLLBACK");
                        refused += 1;
                    }
                }
                let before = written.load(Ordering::Acquire);
                let seen: String = one(&c, "SELECT x FROM u");
                // Until the first commit of the other, it isn't one.
                let number: u64 = seen["th".len().."th1000000".len()].parse().unwrap_or(0);
                assert!(number >= before, "{seen}, but {before} was committed before");
            }
            println!("{refused} refused");
            is_done.store(true, Ordering::Relaxed);
        });
        assert_eq!(one::<i64>(&c, "SELECT x FROM t"), 300);
        check(&c);
    }
}

/// The counters in the header, by which connections tell whether what they know still holds: of changes, and of the schema.
fn counters(db: &Db) -> (u32, u32) {
    let view = db.store.view();
    let page = view.page(PageId(0)).unwrap().unwrap();
    let word = |at: usize| u32::from_be_bytes(page[at..at + 4].try_into().unwrap());
    (word(24), word(40))
}

#[test]
fn a_rollback_whose_counters_could_not_be_written_is_made_good_before_the_next_writer() {
    let prepare = |disk: &SimDisk| {
        let db = on_disk(disk, "");
        let c = db.open();
        c.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES ('first')").unwrap();
        one::<i64>(&c, "SELECT vellum_snapshot('first')");
        c.execute_batch("UPDATE t SET x = 'second'; CREATE TABLE u (y)").unwrap();
        (db, c)
    };
    let disk = SimDisk::new(1);
    let (db, c) = prepare(&disk);
    let begin = disk.io_count();
    one::<i64>(&c, "SELECT vellum_rollback('first')");
    let calls = disk.calls();
    drop((c, db));
    let mut owed = 0;
    for index in begin..calls.len() as u64 {
        if calls[index as usize].kind != IoKind::Write {
            continue;
        }
        let disk = SimDisk::new(1);
        let (db, a) = prepare(&disk);
        let b = db.open();
        b.busy_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(one::<i64>(&b, "SELECT count(*) FROM u"), 0, "it knows the schema");
        let before = counters(&db);
        disk.fail_at(index, Fault::ENOSPC);
        // Where room could be made, it was.
        let Err(error) = a.query_row("SELECT vellum_rollback('first')", [], |_| Ok(())) else { continue };
        assert!(error.to_string().contains("free some space"), "call {index}: {error}");
        let is_owed = counters(&db) != before;
        let expected = if is_owed { "first" } else { "second" };
        assert_eq!(one::<String>(&b, "SELECT x FROM t"), expected);
        assert_eq!(one::<String>(&a, "SELECT x FROM t"), expected);
        // Its own schema, with counters that the other connection remembers if they weren't raised.
        a.busy_timeout(Duration::from_secs(5)).unwrap();
        if is_owed {
            owed += 1;
            a.execute_batch("CREATE TABLE u (z, w)").unwrap();
        } else {
            a.execute_batch("DROP TABLE u; CREATE TABLE u (z, w)").unwrap();
        }
        assert!(counters(&db) > before && counters(&db).1 > before.1, "{:?} {before:?}", counters(&db));
        // SQLite looks whether its schema still holds when it runs a statement, not when it counts columns.
        assert_eq!(one::<i64>(&b, "SELECT count(*) FROM u"), 0);
        b.execute_batch("INSERT INTO u VALUES (7, 8); UPDATE t SET x = x || ' again'").unwrap();
        assert_eq!(one::<i64>(&a, "SELECT w FROM u"), 8);
        assert_eq!(one::<String>(&a, "SELECT x FROM t"), format!("{expected} again"));
        check(&a);
        check(&b);
    }
    assert!(owed > 0, "the rollback itself was done, and what follows it failed");
}

#[test]
fn a_poisoned_store_says_so_to_every_writer_and_is_read_on() {
    let disk = SimDisk::new(1);
    let db = on_disk(&disk, "");
    let (a, b) = (db.open(), db.open());
    a.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    disk.fail_at(disk.io_count(), Fault::EIO);
    assert!(matches!(db.store.create_snapshot("never"), Err(Error::Poisoned { .. } | Error::Io { .. })));
    for c in [&a, &b] {
        c.busy_timeout(Duration::from_secs(1)).unwrap();
        for sql in ["BEGIN IMMEDIATE", "INSERT INTO t VALUES (2)", "VACUUM"] {
            let error = c.execute_batch(sql).unwrap_err();
            assert_eq!(extended(&error), ffi::SQLITE_IOERR_LOCK, "{sql}: {error}");
            assert!(one::<String>(c, "SELECT vellum_error()").contains("takes no more writes"));
        }
        let error = c.query_row("SELECT vellum_snapshot('never')", [], |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("takes no more writes"), "{error}");
        assert_eq!(one::<i64>(c, "SELECT sum(x) FROM t"), 1);
    }
}

#[test]
fn a_damaged_page_is_an_error_and_never_other_rows() {
    let disk = SimDisk::new(1);
    let db = on_disk(&disk, "");
    let c = db.open();
    c.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES ('a needle in the file')").unwrap();
    drop(c);
    db.store.clone().close().unwrap();
    drop(db);
    let needle = b"a needle in the file";
    let mut struck = 0;
    for (name, _) in disk.files() {
        let bytes = disk.read_file(&name).unwrap();
        for at in (0..bytes.len() - needle.len()).filter(|at| bytes[*at..].starts_with(needle)) {
            disk.corrupt(&name, at as u64, 1).unwrap();
            struck += 1;
        }
    }
    assert!(struck > 0);
    let db = on_disk(&disk, "");
    let c = db.open();
    let error = c.query_row("SELECT x FROM t", [], |_| Ok(())).unwrap_err();
    assert_eq!(extended(&error), ffi::SQLITE_IOERR_DATA, "{error}");
    assert!(one::<String>(&c, "SELECT vellum_error()").contains("checksum"));
}
