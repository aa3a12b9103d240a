//! Goal: what SQLite promises holds on vellum, and what vellum adds holds too: every shape of transaction is one commit, readers keep
//! their snapshot and never wait, a writer with an old one is told so. (What fails: `sqlite_faults`.)
//!
//! Method: connections through rusqlite, to stores in memory and on disk, with and without batches of atomic writes.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests count in small numbers"
)]

#[path = "common/sqlite.rs"]
mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Db, WAYS, check, extended, one, small};
use rusqlite::{Connection, ErrorCode, params};
use vellum::{Options, Store, sqlite};

#[test]
fn this_sqlite_has_batches_so_that_both_ways_are_tested() {
    let db = Connection::open_in_memory().unwrap();
    let mut options = db.prepare("PRAGMA compile_options").unwrap();
    let options: BTreeSet<String> =
        options.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(options.contains("ENABLE_BATCH_ATOMIC_WRITE"), "see .cargo/config.toml");
}

#[test]
fn one_transaction_is_one_commit() {
    for way in WAYS {
        for synchronous in ["FULL", "NORMAL", "OFF"] {
            for mode in ["DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"] {
                let db = Db::new(small(), way);
                let c = db.open();
                c.execute_batch(&format!("PRAGMA synchronous={synchronous}; PRAGMA journal_mode={mode}"))
                    .unwrap();
                c.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, x)").unwrap();
                let before = db.store.version().0;
                c.execute("INSERT INTO t (x) VALUES (1)", []).unwrap();
                assert_eq!(db.store.version().0, before + 1, "{way} {synchronous} {mode}");
                // More than the cache holds: pages are spilled before the transaction is complete.
                c.execute_batch("PRAGMA cache_size=10; BEGIN").unwrap();
                for i in 0..400 {
                    c.execute("INSERT INTO t (x) VALUES (zeroblob(1000 + ?1))", [i]).unwrap();
                }
                assert_eq!(db.store.version().0, before + 1, "nothing of it is seen before the end");
                assert_eq!(one::<i64>(&c, "SELECT count(*) FROM t"), 401);
                c.execute_batch("COMMIT").unwrap();
                assert_eq!(db.store.version().0, before + 2, "{way} {synchronous} {mode}");
                if mode != "OFF" {
                    c.execute_batch(
                        "BEGIN; DELETE FROM t; INSERT INTO t (x) VALUES (zeroblob(500000)); ROLLBACK",
                    )
                    .unwrap();
                    assert_eq!(
                        db.store.version().0,
                        before + 2,
                        "a rollback leaves nothing: {way} {synchronous} {mode}"
                    );
                }
                assert_eq!(one::<i64>(&c, "SELECT count(*) FROM t"), 401);
                check(&db.open());
            }
        }
    }
}

/// SQLite refuses the pragma there, and goes on as before.
#[test]
fn a_pragma_that_sqlite_refuses_changes_no_durability() {
    let home = tempfile::tempdir().unwrap();
    sqlite::use_paths().unwrap();
    let c = Connection::open(sqlite::uri_of(&home.path().join("store"))).unwrap();
    c.execute_batch("CREATE TABLE t (x); BEGIN").unwrap();
    assert!(c.execute_batch("PRAGMA synchronous=OFF").is_err());
    c.execute_batch("INSERT INTO t VALUES (1); COMMIT").unwrap();
    let stat = |name: &str| one::<i64>(&c, &format!("SELECT value FROM vellum_stats WHERE name = '{name}'"));
    assert_eq!((one::<i64>(&c, "PRAGMA synchronous"), stat("durable_version")), (2, stat("version")));
    c.execute_batch("PRAGMA synchronous=OFF; INSERT INTO t VALUES (1)").unwrap();
    assert!(stat("durable_version") < stat("version"));
}

#[test]
fn savepoints_and_failed_statements_take_back_what_they_did() {
    for way in WAYS {
        let db = Db::new(small(), way);
        let c = db.open();
        c.execute_batch(
            "PRAGMA cache_size=10; CREATE TABLE t (id INTEGER PRIMARY KEY, x UNIQUE, y);
             BEGIN; INSERT INTO t VALUES (1, 1, zeroblob(90000));
             SAVEPOINT a; INSERT INTO t VALUES (2, 2, zeroblob(90000));
             SAVEPOINT b; INSERT INTO t VALUES (3, 3, zeroblob(90000)); ROLLBACK TO b; RELEASE b;
             INSERT INTO t VALUES (4, 4, zeroblob(90000)); ROLLBACK TO a; INSERT INTO t VALUES (5, 5, zeroblob(90000)); RELEASE a;",
        )
        .unwrap();
        // Fails at its last row, after it changed the others.
        let failed = c.execute("UPDATE t SET x = CASE id WHEN 5 THEN 2 ELSE x + 1 END", []).unwrap_err();
        assert_eq!(failed.sqlite_error_code(), Some(ErrorCode::ConstraintViolation));
        c.execute_batch("COMMIT").unwrap();
        assert_eq!(one::<String>(&db.open(), "SELECT group_concat(id || ':' || x) FROM t"), "1:1,5:5");
        check(&c);
    }
}

#[test]
fn every_page_size_on_every_page_size() {
    for store_page in [512, 4096, 65536] {
        for page in [512, 1024, 4096, 16384, 65536] {
            for way in WAYS {
                let db = Db::new(
                    Options::new().page_size(store_page).segment_size(4 << 20).background(false),
                    way,
                );
                let c = db.open();
                c.execute_batch(&format!(
                    "PRAGMA page_size={page}; CREATE TABLE t (id INTEGER PRIMARY KEY, x);
                     WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
                     INSERT INTO t SELECT i, randomblob(700) FROM n; DELETE FROM t WHERE id % 3 = 0; CREATE INDEX i ON t (x)"
                ))
                .unwrap();
                assert_eq!(one::<i64>(&c, "PRAGMA page_size"), page);
                c.execute_batch("DELETE FROM t WHERE id > 20; VACUUM").unwrap();
                let sum: i64 = one(&c, "SELECT sum(id) FROM t");
                drop(c);
                let c = db.open();
                assert_eq!(one::<i64>(&c, "SELECT sum(id) FROM t"), sum);
                check(&c);
                let pages = one::<i64>(&c, "PRAGMA page_count");
                assert!((pages * page) as u64 <= db.store.view().page_count() * u64::from(store_page));
                let home = tempfile::tempdir().unwrap();
                let file = home.path().join("raw.db");
                assert_eq!(sqlite::export_file(&db.store.snapshot(), &file).unwrap(), (pages * page) as u64);
                let stock = Connection::open(&file).unwrap();
                assert_eq!(one::<i64>(&stock, "SELECT sum(id) FROM t"), sum, "{store_page} {page}");
                check(&stock);
            }
        }
    }
}

#[test]
fn vacuum_changes_the_page_size_and_gives_room_back_in_one_commit() {
    for way in WAYS {
        let db = Db::new(small(), way);
        let c = db.open();
        c.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(3000000)); DELETE FROM t")
            .unwrap();
        let (version, pages) = (db.store.version().0, db.store.view().page_count());
        c.execute_batch("VACUUM").unwrap();
        assert_eq!(db.store.version().0, version + 1);
        assert!(db.store.view().page_count() < 10 && pages > 700);
        c.execute_batch("PRAGMA page_size=8192; VACUUM").unwrap();
        assert_eq!(one::<i64>(&db.open(), "PRAGMA page_size"), 8192);
        check(&c);
    }
}

#[test]
fn auto_vacuum_cuts_the_file_in_the_same_commit() {
    for way in WAYS {
        for mode in ["FULL", "INCREMENTAL"] {
            let db = Db::new(small(), way);
            let c = db.open();
            c.execute_batch(&format!(
                "PRAGMA auto_vacuum={mode}; CREATE TABLE t (id INTEGER PRIMARY KEY, x)"
            ))
            .unwrap();
            c.execute_batch("INSERT INTO t VALUES (1, zeroblob(900000)), (2, 'stays')").unwrap();
            let version = db.store.version().0;
            c.execute("DELETE FROM t WHERE id = 1", []).unwrap();
            if mode == "INCREMENTAL" {
                // It frees a page a step.
                let mut vacuum = c.prepare("PRAGMA incremental_vacuum").unwrap();
                let mut steps = vacuum.query([]).unwrap();
                while steps.next().unwrap().is_some() {}
            }
            assert_eq!(db.store.version().0, version + if mode == "FULL" { 1 } else { 2 });
            assert!(db.store.view().page_count() < 10, "{} pages", db.store.view().page_count());
            check(&db.open());
        }
    }
}

#[test]
fn attached_databases_each_have_their_store() {
    let (a, b) = (Db::new(small(), ""), Db::new(small(), ""));
    let c = a.open();
    c.execute("ATTACH ?1 AS other", [format!("file:{}?vfs=vellum", b.name)]).unwrap();
    c.execute_batch(
        "CREATE TABLE t (x); CREATE TABLE other.u (x);
         BEGIN; INSERT INTO t VALUES (1); INSERT INTO u VALUES (2); COMMIT;
         BEGIN; INSERT INTO t VALUES (3); INSERT INTO u VALUES (4); ROLLBACK",
    )
    .unwrap();
    assert_eq!(one::<i64>(&a.open(), "SELECT sum(x) FROM t"), 1);
    assert_eq!(one::<i64>(&b.open(), "SELECT sum(x) FROM u"), 2);
    assert_eq!(one::<i64>(&c, "SELECT vellum_snapshot('kept', 'other')"), b.store.version().0 as i64);
    assert_eq!(b.store.snapshots().len(), 1);
    assert_eq!(one::<String>(&c, "SELECT name FROM vellum_snapshots('other')"), "kept");
    assert_eq!(one::<i64>(&c, "SELECT count(*) FROM vellum_snapshots"), 0);
}

#[test]
fn blobs_are_written_in_place() {
    for way in WAYS {
        let db = Db::new(small(), way);
        let c = db.open();
        c.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(2000000))").unwrap();
        let mut blob = c.blob_open("main", "t", "x", 1, false).unwrap();
        std::io::Seek::seek(&mut blob, std::io::SeekFrom::Start(1_234_567)).unwrap();
        std::io::Write::write_all(&mut blob, b"needle").unwrap();
        drop(blob);
        let found: Vec<u8> = one(&db.open(), "SELECT substr(x, 1234568, 6) FROM t");
        assert_eq!(found, b"needle");
    }
}

#[test]
fn readers_keep_their_snapshot_across_any_number_of_commits() {
    let db = Db::new(small(), "");
    let writer = db.open();
    writer.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (0)").unwrap();
    let readers: Vec<Connection> = (0..5)
        .map(|i| {
            let reader = db.open();
            reader.execute_batch("BEGIN").unwrap();
            assert_eq!(one::<i64>(&reader, "SELECT x FROM t"), i);
            writer.execute("UPDATE t SET x = x + 1", []).unwrap();
            reader
        })
        .collect();
    writer.execute_batch("BEGIN EXCLUSIVE; DELETE FROM t; CREATE TABLE u (y)").unwrap();
    for (i, reader) in readers.iter().enumerate() {
        assert_eq!(one::<i64>(reader, "SELECT x FROM t"), i as i64, "beside a writer that holds everything");
    }
    writer.execute_batch("COMMIT; DROP TABLE t").unwrap();
    for (i, reader) in readers.iter().enumerate() {
        assert_eq!(one::<i64>(reader, "SELECT x FROM t"), i as i64);
        reader.execute_batch("COMMIT").unwrap();
        assert_eq!(
            one::<i64>(reader, "SELECT count(*) FROM sqlite_schema"),
            1,
            "and the newest one afterwards"
        );
    }
}

#[test]
fn a_stale_upgrade_is_refused_and_immediate_writers_queue() {
    let db = Db::new(small(), "");
    let (a, b) = (db.open(), db.open());
    for c in [&a, &b] {
        c.busy_timeout(Duration::from_secs(20)).unwrap();
    }
    a.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (0)").unwrap();
    a.execute_batch("BEGIN").unwrap();
    assert_eq!(one::<i64>(&a, "SELECT x FROM t"), 0);
    b.execute("UPDATE t SET x = 1", []).unwrap();
    let refused = a.execute("UPDATE t SET x = 2", []).unwrap_err();
    assert_eq!(extended(&refused), rusqlite::ffi::SQLITE_BUSY_SNAPSHOT);
    a.execute_batch("ROLLBACK").unwrap();
    // A name makes a version, but changes nothing that was read.
    a.execute_batch("BEGIN").unwrap();
    assert_eq!(one::<i64>(&a, "SELECT x FROM t"), 1);
    db.store.create_snapshot("meanwhile").unwrap();
    a.execute_batch("UPDATE t SET x = 3; COMMIT").unwrap();

    let writers = 4;
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                let c = db.open();
                c.busy_timeout(Duration::from_mins(1)).unwrap();
                for _ in 0..25 {
                    c.execute_batch("BEGIN IMMEDIATE; UPDATE t SET x = x + 1; COMMIT").unwrap();
                }
            });
        }
    });
    assert_eq!(one::<i64>(&b, "SELECT x FROM t"), 3 + writers * 25);
    let c = db.open();
    c.busy_timeout(Duration::ZERO).unwrap();
    a.execute_batch("BEGIN IMMEDIATE").unwrap();
    let busy = c.execute_batch("BEGIN IMMEDIATE").unwrap_err();
    assert_eq!(busy.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    assert_eq!(one::<i64>(&c, "SELECT x FROM t"), 3 + writers * 25, "a reader is never busy");
}

#[test]
fn named_snapshots_open_read_only_and_rollbacks_reach_every_connection() {
    let db = Db::new(small(), "");
    let (a, b) = (db.open(), db.open());
    a.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES ('first')").unwrap();
    let version: i64 = one(&a, "SELECT vellum_snapshot('first')");
    assert_eq!(one::<i64>(&a, "SELECT vellum_version()"), version);
    a.execute_batch("UPDATE t SET x = 'second'; CREATE TABLE u (y)").unwrap();
    assert_eq!(one::<String>(&b, "SELECT x FROM t"), "second");
    let old = db.open_with("&snapshot=first");
    assert_eq!(one::<String>(&old, "SELECT x FROM t"), "first");
    let refused = old.execute("UPDATE t SET x = 'third'", []).unwrap_err();
    assert_eq!(refused.sqlite_error_code(), Some(ErrorCode::ReadOnly));
    // Nor does who may only read change the names: one that it gave would be that of a state which it doesn't read.
    for reader in [&old, &db.open_with("&mode=ro")] {
        for change in ["vellum_snapshot('its')", "vellum_drop_snapshot('first')", "vellum_rollback('first')"]
        {
            let refused = reader.query_row(&format!("SELECT {change}"), [], |_| Ok(())).unwrap_err();
            assert_eq!(refused.sqlite_error_code(), Some(ErrorCode::ReadOnly), "{change}: {refused}");
        }
    }
    assert_eq!(db.store.snapshots().len(), 1);

    // Rolled back, and brought to where the counters in the header were before: nobody may take old pages for true.
    assert_eq!(one::<i64>(&a, "SELECT count(*) FROM u"), 0);
    one::<i64>(&a, "SELECT vellum_rollback('first')");
    assert_eq!(one::<String>(&a, "SELECT x FROM t"), "first");
    assert!(a.prepare("SELECT * FROM u").is_err(), "the table came later");
    a.execute_batch("CREATE TABLE u (z, w); INSERT INTO u VALUES (7, 8); UPDATE t SET x = 'other'").unwrap();
    assert_eq!(one::<String>(&b, "SELECT x FROM t"), "other");
    assert_eq!(one::<i64>(&b, "SELECT w FROM u"), 8);
    check(&b);
    let before: String = one(&a, "SELECT name FROM vellum_snapshots WHERE name LIKE 'before-rollback%'");
    assert_eq!(one::<String>(&db.open_with(&format!("&snapshot={before}")), "SELECT x FROM t"), "second");

    // A dropped snapshot is kept by who has it open.
    a.query_row("SELECT vellum_drop_snapshot('first')", [], |_| Ok(())).unwrap();
    assert_eq!(one::<String>(&old, "SELECT x FROM t"), "first");
    let gone = Connection::open(format!("file:{}?vfs=vellum&snapshot=first", db.name)).unwrap_err();
    assert_eq!(gone.sqlite_error_code(), Some(ErrorCode::CannotOpen));
    assert!(sqlite::last_error().unwrap().contains("no snapshot named \"first\""));
}

#[test]
fn a_rollback_beside_sqlite_is_noticed_by_its_cache() {
    // Through the store, so that the counters in the header go back to what a connection remembers.
    let db = Db::new(small(), "");
    let (a, b) = (db.open(), db.open());
    a.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    let first = db.store.snapshot();
    a.execute_batch("UPDATE t SET x = 2").unwrap();
    assert_eq!(one::<i64>(&b, "SELECT x FROM t"), 2);
    db.store.rollback_to(&first).unwrap();
    a.execute_batch("UPDATE t SET x = x + 10").unwrap();
    assert_eq!(one::<i64>(&b, "SELECT x FROM t"), 11, "the same counter, other contents");
}

#[test]
fn functions_say_what_is_wrong() {
    let db = Db::new(small(), "");
    let c = db.open();
    let says = |c: &Connection, sql: &str, what: &str| {
        let error = c.query_row(sql, [], |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains(what), "{sql}: {error}");
    };
    says(&c, "SELECT vellum_snapshot(NULL)", "can't be NULL");
    says(&c, "SELECT vellum_snapshot()", "1 to 2 arguments");
    says(&c, "SELECT vellum_rollback('nothing')", "no snapshot named");
    c.query_row("SELECT vellum_snapshot('empty')", [], |_| Ok(())).unwrap();
    c.execute_batch("CREATE TABLE t (x)").unwrap();
    says(&c, "SELECT vellum_rollback('empty')", "holds no SQLite database");
    says(&c, "SELECT vellum_snapshot('empty')", "already");
    c.execute_batch("BEGIN IMMEDIATE").unwrap();
    says(&c, "SELECT vellum_snapshot('inside')", "commit or roll back first");
    let other = db.open();
    says(&other, "SELECT vellum_rollback('empty')", "another connection is writing");
    let busy = other.query_row("SELECT vellum_rollback('empty')", [], |_| Ok(())).unwrap_err();
    assert_eq!(busy.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    // What fails in a function has nothing to do with the transaction around it.
    c.execute_batch("INSERT INTO t VALUES (5)").unwrap();
    says(&c, "SELECT vellum_export('/nowhere/at/all.db')", "/nowhere/at/all.db");
    c.execute_batch("COMMIT").unwrap();
    assert_eq!(one::<i64>(&other, "SELECT x FROM t"), 5);
    let plain = Connection::open_in_memory().unwrap();
    says(&plain, "SELECT vellum_version()", "no database on vellum");
    says(&c, "SELECT vellum_version('temp')", "no database on vellum");
    // A schema can't call what writes files.
    let home = tempfile::tempdir().unwrap();
    let never = home.path().join("never.db");
    c.execute_batch(&format!("CREATE VIEW v AS SELECT vellum_export('{}') AS x", never.display())).unwrap();
    says(&c, "SELECT * FROM v", "unsafe use of vellum_export");
    assert!(!never.exists());
    assert!(one::<i64>(&c, "SELECT value FROM vellum_stats WHERE name = 'transactions'") > 0);
}

#[test]
fn exports_are_files_and_clones_are_stores() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let uri = |name: &str| format!("file:{}?vfs=vellum", path(name));
    sqlite::use_paths().unwrap();
    let c = Connection::open(uri("store")).unwrap();
    c.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    c.query_row("SELECT vellum_snapshot('one')", [], |_| Ok(())).unwrap();
    c.execute("UPDATE t SET x = 2", []).unwrap();
    let exports: i64 = c
        .query_row(
            "SELECT vellum_export(?1) + vellum_export(?2, 'one')",
            [path("two.db"), path("one.db")],
            |row| row.get(0),
        )
        .unwrap();
    assert!(exports > 0);
    c.query_row("SELECT vellum_clone(?1, 'one')", [path("clone")], |_| Ok(())).unwrap();
    assert_eq!(one::<i64>(&Connection::open(path("two.db")).unwrap(), "SELECT x FROM t"), 2);
    assert_eq!(one::<i64>(&Connection::open(path("one.db")).unwrap(), "SELECT x FROM t"), 1);
    let refused = c.query_row("SELECT vellum_export(?1)", [path("two.db")], |_| Ok(())).unwrap_err();
    assert!(refused.to_string().contains("already exists"), "{refused}");
    // Both are opened in one process, and each twice.
    let clone = Connection::open(uri("clone")).unwrap();
    clone.execute("UPDATE t SET x = x + 10", []).unwrap();
    assert_eq!(one::<i64>(&Connection::open(uri("clone")).unwrap(), "SELECT x FROM t"), 11);
    assert_eq!(one::<i64>(&Connection::open(uri("store")).unwrap(), "SELECT x FROM t"), 2);
    assert!(std::fs::read_dir(home.path()).unwrap().all(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        !name.contains("journal") && !name.contains("exporting")
    }));
    // Closed with the last connection, so that others can have it.
    drop((c, clone));
    assert_eq!(Store::open(home.path().join("clone"), small()).unwrap().snapshots().len(), 0);
}

/// As a segment that isn't one, an export kept the store from opening again.
#[test]
fn exports_and_clones_into_the_stores_own_directory_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    sqlite::use_paths().unwrap();
    let c = Connection::open(sqlite::uri_of(&dir)).unwrap();
    c.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    for name in ["segment-00000001", "spare", "copy.db"] {
        for function in ["vellum_export", "vellum_clone"] {
            let target = dir.join(name);
            let error = c
                .query_row(&format!("SELECT {function}(?1)"), [target.to_str()], |row| row.get::<_, i64>(0))
                .unwrap_err();
            assert!(error.to_string().contains("outside the store's own directory"), "{function} {error}");
            assert!(!target.exists());
        }
    }
    drop(c);
    let c = Connection::open(sqlite::uri_of(&dir)).unwrap();
    assert_eq!(one::<i64>(&c, "SELECT count(*) FROM t"), 1);
}

/// Whoever came second removed what the first was writing.
#[test]
fn of_several_exports_to_one_file_one_succeeds_and_the_others_say_that_it_is_there() {
    let home = tempfile::tempdir().unwrap();
    let db = Db::new(small(), "");
    db.open().execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(3000000))").unwrap();
    // As long as a file's name may be.
    for file in ["copy.db".to_owned(), "x".repeat(255)].map(|name| home.path().join(name)) {
        let start = std::sync::Barrier::new(2);
        let export = || {
            start.wait();
            sqlite::export_file(&db.store.snapshot(), &file)
        };
        let done = std::thread::scope(|scope| {
            [scope.spawn(export), scope.spawn(export)].map(|thread| thread.join().unwrap())
        });
        assert!(done.iter().any(Result::is_ok), "{done:?}");
        assert!(done.iter().any(|one| matches!(one, Err(vellum::Error::AlreadyExists { .. }))), "{done:?}");
        check(&Connection::open(&file).unwrap());
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 2);
}

#[test]
fn vacuum_into_makes_stores_and_files() {
    let home = tempfile::tempdir().unwrap();
    let db = Db::new(small(), "");
    let c = db.open();
    c.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (5)").unwrap();
    let (store, file) = (home.path().join("store"), home.path().join("file.db"));
    c.execute("VACUUM INTO ?1", [format!("file:{}?vfs=vellum", store.display())]).unwrap();
    c.execute("VACUUM INTO ?1", [format!("file:{}?vfs=unix", file.display())]).unwrap();
    assert!(store.is_dir() && file.is_file());
    assert_eq!(one::<i64>(&Connection::open(&file).unwrap(), "SELECT x FROM t"), 5);
    assert_eq!(
        one::<i64>(
            &Connection::open(format!("file:{}?vfs=vellum", store.display())).unwrap(),
            "SELECT x FROM t"
        ),
        5
    );
}

#[test]
fn sqlites_own_backup_works_both_ways() {
    let db = Db::new(small(), "");
    let c = db.open();
    c.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(300000))").unwrap();
    let mut plain = Connection::open_in_memory().unwrap();
    rusqlite::backup::Backup::new(&c, &mut plain).unwrap().step(-1).unwrap();
    check(&plain);
    plain.execute("INSERT INTO t VALUES (1)", []).unwrap();
    let other = Db::new(small(), "");
    let mut target = other.open();
    rusqlite::backup::Backup::new(&plain, &mut target).unwrap().step(-1).unwrap();
    assert_eq!(one::<i64>(&other.open(), "SELECT count(*) FROM t"), 2);
    check(&target);
}

#[test]
fn a_file_that_had_a_wal_opens_and_none_is_made() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("wal.db");
    let stock = Connection::open(&file).unwrap();
    stock.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (x); INSERT INTO t VALUES (9)").unwrap();
    drop(stock);
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes[18..20], [2, 2]);
    let store = Store::in_memory(small()).unwrap();
    let mut txn = store.begin().unwrap();
    for page in bytes.chunks(4096) {
        let id = txn.allocate().unwrap();
        txn.write(id, page).unwrap();
    }
    txn.commit().unwrap();
    let db = Db::on(store, "");
    let c = db.open();
    assert_eq!(one::<i64>(&c, "SELECT x FROM t"), 9);
    assert_eq!(one::<String>(&c, "PRAGMA journal_mode=WAL"), "delete");
    c.execute_batch("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; UPDATE t SET x = 10; PRAGMA locking_mode=NORMAL")
        .unwrap();
    assert_eq!(one::<i64>(&c, "SELECT x FROM t"), 10);
    drop(c);
    assert_eq!(one::<i64>(&db.open(), "SELECT x FROM t"), 10);
}

/// SQLite takes the beginning of a mode's name for it, and answers with the mode that stays where there can be no WAL.
#[test]
fn a_wal_that_is_asked_for_leaves_the_mode_and_says_which_one_it_is() {
    let db = Db::new(small(), "");
    for locking in ["NORMAL", "EXCLUSIVE"] {
        let c = db.open();
        c.execute_batch(&format!("PRAGMA locking_mode={locking}; CREATE TABLE IF NOT EXISTS t (x)")).unwrap();
        for mode in ["delete", "truncate", "persist", "memory", "off"] {
            assert_eq!(one::<String>(&c, &format!("PRAGMA journal_mode={mode}")), mode);
            for wal in ["WAL", "'wal'", "wa", "w"] {
                assert_eq!(one::<String>(&c, &format!("PRAGMA journal_mode={wal}")), mode, "{locking} {wal}");
                assert_eq!(one::<String>(&c, "PRAGMA journal_mode"), mode);
                c.execute("INSERT INTO t VALUES (1)", []).unwrap();
            }
        }
        check(&c);
    }
}

#[test]
fn pages_are_lent_where_they_lie() {
    let db = Db::new(small(), "");
    let c = db.open();
    c.execute_batch(
        "PRAGMA mmap_size=1000000000; CREATE TABLE t (id INTEGER PRIMARY KEY, x);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         INSERT INTO t SELECT i, randomblob(500) FROM n",
    )
    .unwrap();
    assert_eq!(one::<i64>(&c, "PRAGMA mmap_size"), 1_000_000_000);
    let reader = db.open();
    reader.execute_batch("PRAGMA mmap_size=1000000000; PRAGMA cache_size=10; BEGIN").unwrap();
    let sum: i64 = one(&reader, "SELECT sum(unicode(hex(x)) + id) FROM t");
    for round in 0..20 {
        c.execute("UPDATE t SET x = randomblob(500) WHERE id % 20 = ?1", [round]).unwrap();
        // Within the transaction that changes them, too.
        c.execute_batch("BEGIN; UPDATE t SET x = zeroblob(500) WHERE id % 7 = 3").unwrap();
        assert_eq!(one::<i64>(&c, "SELECT count(*) FROM t WHERE x = zeroblob(500) AND id % 7 = 3"), 429);
        c.execute_batch("ROLLBACK").unwrap();
        assert_eq!(one::<i64>(&reader, "SELECT sum(unicode(hex(x)) + id) FROM t"), sum);
    }
    check(&c);
    check(&reader);
}

/// Rows are looked up one by one while others move them, cut the file and let it grow again; a connection that copies its pages tells what
/// is right.
#[test]
fn what_is_lent_is_right_wherever_pages_went() {
    let db = Db::new(small(), "");
    let [writer, mapped, copied] = [db.open(), db.open(), db.open()];
    mapped.execute_batch("PRAGMA mmap_size=1000000000; PRAGMA cache_size=10").unwrap();
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT OR IGNORE INTO t SELECT i, randomblob(900) FROM n";
    writer.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, x)").unwrap();
    writer.execute_batch(fill).unwrap();
    for round in 0..24 {
        match round % 8 {
            3 => writer.execute_batch("DELETE FROM t WHERE id > 700; VACUUM").unwrap(),
            6 => writer.execute_batch(fill).unwrap(),
            part => {
                let moved = "UPDATE t SET x = randomblob(900) WHERE id * 7919 % 11 = ?1";
                writer.execute(moved, [part]).unwrap();
            }
        }
        for id in (1..=2000).map(|i| i * 1217 % 2003) {
            let x = |db: &Connection| -> Option<Vec<u8>> {
                let mut select = db.prepare_cached("SELECT max(x) FROM t WHERE id = ?1").unwrap();
                select.query_row([id], |row| row.get(0)).unwrap()
            };
            assert_eq!(x(&mapped), x(&copied), "row {id} in round {round}");
        }
        check(&mapped);
    }
}

#[test]
fn exclusive_locking_mode_holds_the_slot_and_commits() {
    for way in WAYS {
        let db = Db::new(small(), way);
        let c = db.open();
        c.execute_batch("PRAGMA locking_mode=EXCLUSIVE; CREATE TABLE t (x)").unwrap();
        for i in 0..10 {
            c.execute("INSERT INTO t VALUES (?1)", [i]).unwrap();
            db.store.create_snapshot(&format!("s{i}")).unwrap();
            let other = db.open();
            other.busy_timeout(Duration::ZERO).unwrap();
            assert_eq!(one::<i64>(&other, "SELECT count(*) FROM t"), i + 1);
            assert_eq!(
                other.execute("DELETE FROM t", []).unwrap_err().sqlite_error_code(),
                Some(ErrorCode::DatabaseBusy)
            );
        }
        c.execute_batch("PRAGMA locking_mode=NORMAL; SELECT * FROM t").unwrap();
        db.open().execute("DELETE FROM t", []).unwrap();
        check(&c);
    }
}

/// The lock of its first read is never dropped: what others then committed left the connection behind for good.
#[test]
fn exclusive_locking_mode_holds_the_slot_from_the_first_read_on() {
    for way in WAYS {
        let db = Db::new(small(), way);
        let (c, other) = (db.open(), db.open());
        other.execute_batch("CREATE TABLE t (x)").unwrap();
        other.busy_timeout(Duration::ZERO).unwrap();
        c.busy_timeout(Duration::ZERO).unwrap();
        c.execute_batch("PRAGMA locking_mode=EXCLUSIVE").unwrap();
        assert_eq!(one::<i64>(&c, "SELECT count(*) FROM t"), 0);
        let busy = other.execute("INSERT INTO t VALUES (1)", []).unwrap_err();
        assert_eq!(busy.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
        c.execute("INSERT INTO t VALUES (2)", []).unwrap();
        c.execute_batch("BEGIN; INSERT INTO t VALUES (3); ROLLBACK").unwrap();
        assert!(other.execute("INSERT INTO t VALUES (1)", []).is_err());
        assert_eq!(one::<i64>(&other, "SELECT sum(x) FROM t"), 2, "readers go on");
        one::<i64>(&c, "SELECT vellum_snapshot('two')");
        let refused = c.query_row("SELECT vellum_rollback('two')", [], |_| Ok(())).unwrap_err();
        assert!(refused.to_string().contains("EXCLUSIVE"), "{refused}");
        c.execute_batch("PRAGMA locking_mode=NORMAL; SELECT * FROM t").unwrap();
        other.execute("INSERT INTO t VALUES (1)", []).unwrap();
        one::<i64>(&c, "SELECT vellum_rollback('two')");
        assert_eq!(one::<i64>(&c, "SELECT sum(x) FROM t"), 2);

        // It waits for its turn like a writer, and leaves it when it is closed.
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let late = db.open();
        late.busy_timeout(Duration::ZERO).unwrap();
        late.execute_batch("PRAGMA locking_mode=EXCLUSIVE").unwrap();
        let busy = late.query_row("SELECT count(*) FROM t", [], |_| Ok(())).unwrap_err();
        assert_eq!(busy.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(one::<i64>(&late, "SELECT count(*) FROM t"), 1);
        drop(late);
        other.execute("INSERT INTO t VALUES (1)", []).unwrap();
    }
}

#[test]
fn two_names_of_one_store_share_the_writers_slot() {
    let db = Db::new(small(), "");
    sqlite::register(&db.store, "second-name.db").unwrap();
    let (a, b) = (db.open(), Connection::open("file:second-name.db?vfs=vellum").unwrap());
    a.execute_batch("CREATE TABLE t (x); BEGIN IMMEDIATE; INSERT INTO t VALUES (1)").unwrap();
    b.busy_timeout(Duration::ZERO).unwrap();
    assert_eq!(
        b.execute("INSERT INTO t VALUES (2)", []).unwrap_err().sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy)
    );
    a.execute_batch("COMMIT").unwrap();
    b.execute("INSERT INTO t VALUES (2)", params![]).unwrap();
    assert!(sqlite::unregister("second-name.db"));
    assert_eq!(one::<i64>(&b, "SELECT sum(x) FROM t"), 3, "open connections go on");
}

/// Connections with a shared cache share one file; the functions used it beside each other.
#[test]
fn functions_of_connections_that_share_a_cache_take_turns() {
    let db = Db::new(small(), "");
    db.open().execute_batch("CREATE TABLE t (x)").unwrap();
    let said = |c: &Connection| {
        assert!(c.query_row("SELECT vellum_snapshot(NULL)", [], |_| Ok(())).is_err());
        assert_eq!(one::<String>(c, "SELECT vellum_error()"), "a snapshot's name can't be NULL");
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let c = db.open_with("&cache=shared");
                (0..20_000).for_each(|_| said(&c));
            });
        }
    });
    let (a, b) = (db.open_with("&cache=shared"), db.open_with("&cache=shared"));
    a.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(
        b.query_row("SELECT vellum_snapshot('inside')", [], |_| Ok(())).is_err(),
        "one file, one transaction"
    );
    assert!(one::<i64>(&b, "SELECT count(*) FROM vellum_stats") > 0);
}

/// SQLite never asks for a lock again that it keeps already, so the slot has to be had when the pragma comes.
#[test]
fn exclusive_locking_mode_in_a_read_transaction_takes_the_slot_or_is_refused() {
    for way in WAYS {
        let db = Db::new(small(), way);
        let (c, other) = (db.open(), db.open());
        other.busy_timeout(Duration::ZERO).unwrap();
        c.execute_batch("CREATE TABLE t (x); BEGIN; SELECT * FROM t").unwrap();
        c.execute_batch("PRAGMA locking_mode=EXCLUSIVE; COMMIT").unwrap();
        let refused = other.execute("INSERT INTO t VALUES (1)", []).unwrap_err();
        assert_eq!(refused.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
        c.execute("INSERT INTO t VALUES (2)", []).unwrap();
        c.execute_batch("PRAGMA locking_mode=NORMAL; SELECT * FROM t; BEGIN; SELECT * FROM t").unwrap();
        other.execute("INSERT INTO t VALUES (3)", []).unwrap();
        let refused = c.execute_batch("PRAGMA locking_mode=EXCLUSIVE").unwrap_err();
        assert!(refused.to_string().contains("others have written"), "{refused}");
        c.execute_batch("COMMIT; INSERT INTO t VALUES (4)").unwrap();
        other.execute("INSERT INTO t VALUES (5)", []).unwrap();
        assert_eq!(one::<i64>(&c, "SELECT count(*) FROM t"), 4);
        check(&c);
    }
}

/// What was inserted may still be in SQLite's cache alone.
#[test]
fn no_snapshot_is_named_within_a_transaction_whatever_the_locking_mode() {
    for mode in ["NORMAL", "EXCLUSIVE"] {
        let db = Db::new(small(), "");
        let c = db.open();
        c.execute_batch(&format!(
            "PRAGMA locking_mode={mode}; CREATE TABLE t (x); BEGIN; INSERT INTO t VALUES (1)"
        ))
        .unwrap();
        let refused =
            c.query_row("SELECT vellum_snapshot('half')", [], |row| row.get::<_, i64>(0)).unwrap_err();
        assert!(refused.to_string().contains("commit or roll back first"), "{mode}: {refused}");
        c.execute_batch("COMMIT").unwrap();
        one::<i64>(&c, "SELECT vellum_snapshot('whole')");
    }
}
