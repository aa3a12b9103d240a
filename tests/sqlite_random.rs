//! Goal: on vellum SQLite gives the answers that it gives on files, to the last row and error.
//!
//! Method: two connections of the same SQLite, one to a file through its own VFS, one to a store, are given the same random
//! statements: schemas, rows of all kinds and sizes, savepoints, rollbacks, VACUUM, attached databases, small caches, connections
//! closed and opened. After each the results are equal, or the errors are; whole contents are compared now and then and at the end,
//! where a raw export, opened as a file, must agree too. Readers that began earlier see what was there then.
//!
//! `VELLUM_SEED` replays one run; `VELLUM_SQLITE_RUNS` and `VELLUM_SQLITE_STATEMENTS` make it longer (8 and 600 by default).
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests count in small numbers"
)]

mod common;

use std::path::Path;

use common::{Random, env, seed};
use rusqlite::Connection;
use rusqlite::types::Value;
use vellum::{Options, Store, sqlite};

type Rows = Vec<Vec<Value>>;

/// What a statement gave: rows, or an extended result code.
fn run(db: &Connection, sql: &str) -> Result<Rows, i32> {
    let done = || -> rusqlite::Result<Rows> {
        let mut rows = Vec::new();
        let mut statement = db.prepare(sql)?;
        let columns = statement.column_count();
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            rows.push((0..columns).map(|column| row.get(column)).collect::<rusqlite::Result<_>>()?);
        }
        Ok(rows)
    };
    match done() {
        Ok(rows) => Ok(rows),
        Err(rusqlite::Error::SqliteFailure(error, _) | rusqlite::Error::SqlInputError { error, .. }) => {
            Err(error.extended_code)
        }
        Err(other) => panic!("{sql}: {other}"),
    }
}

/// Everything that a database holds, in a fixed order.
fn dump(db: &Connection, schema: &str) -> Vec<(String, Rows)> {
    let tables =
        run(db, &format!("SELECT name, sql FROM {schema}.sqlite_schema ORDER BY type, name")).unwrap();
    let mut all = vec![("schema".to_owned(), tables.clone())];
    for table in tables {
        let Value::Text(name) = &table[0] else { panic!("a schema without names") };
        if let Ok(rows) = run(db, &format!("SELECT rowid, * FROM {schema}.\"{name}\" ORDER BY rowid")) {
            all.push((name.clone(), rows));
        }
    }
    all
}

struct Pair {
    stock: Connection,
    ours: Connection,
}

struct Run {
    random: Random,
    names: [String; 2],
    dir: tempfile::TempDir,
    pragmas: String,
    way: &'static str,
}

impl Run {
    fn open(&self) -> Pair {
        let [main, other] = &self.names;
        let uri = |name: &str| format!("file:{name}?vfs=vellum{}", self.way);
        let stock = Connection::open(self.dir.path().join("main.db")).unwrap();
        let ours = Connection::open(uri(main)).unwrap();
        stock.execute("ATTACH ?1 AS other", [self.dir.path().join("other.db").to_str().unwrap()]).unwrap();
        ours.execute("ATTACH ?1 AS other", [uri(other)]).unwrap();
        for db in [&stock, &ours] {
            db.execute_batch(&self.pragmas).unwrap();
        }
        stock.execute_batch("PRAGMA synchronous=OFF; PRAGMA other.synchronous=OFF").unwrap();
        Pair { stock, ours }
    }

    fn value(&mut self) -> String {
        let random = &mut self.random;
        match random.below(8) {
            0 => "NULL".to_owned(),
            1 => format!("{}", random.next() as i64 >> (random.below(60))),
            2 => format!("{}.5", random.below(1 << 20)),
            3 => format!("'text {:x}'", random.next()),
            4 => format!("x'{:016x}'", random.next()),
            5 => format!("zeroblob({})", random.below(30_000)),
            6 => format!("printf('%.*c', {}, 'y')", random.below(6000)),
            _ => format!("{}", random.below(50)),
        }
    }

    fn table(&mut self) -> String {
        let schema = if self.random.below(4) == 0 { "other." } else { "" };
        format!("{schema}t{}", self.random.below(4))
    }

    fn statement(&mut self) -> String {
        let (table, value, other) = (self.table(), self.value(), self.value());
        let (id, few) = (self.random.below(400), self.random.below(40));
        match self.random.below(34) {
            0 => format!("CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY, a, b)"),
            1 => format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY, a UNIQUE, b DEFAULT 7) STRICT"),
            2 => format!("CREATE TABLE {table} (id PRIMARY KEY, a, b) WITHOUT ROWID"),
            3 if self.random.below(3) == 0 => format!("DROP TABLE {table}"),
            4 => format!(
                "CREATE INDEX {}_{few} ON {} (a, b)",
                table.replace('.', ".i"),
                table.replace("other.", "")
            ),
            5 => format!("ALTER TABLE {table} ADD COLUMN c{few} DEFAULT {value}"),
            6..=9 => format!("INSERT INTO {table} (id, a, b) VALUES ({id}, {value}, {other})"),
            10 => format!(
                "INSERT OR REPLACE INTO {table} (id, a, b) VALUES ({id}, {value}, {other}), ({few}, {other}, {value})"
            ),
            11 => format!(
                "WITH RECURSIVE n(i) AS (SELECT {id} UNION ALL SELECT i + 1 FROM n WHERE i < {id} + {few})
                 INSERT OR IGNORE INTO {table} (id, a, b) SELECT i, i * 3, {value} FROM n"
            ),
            12 => {
                format!("INSERT INTO {table} (a, b) VALUES ({value}, 1) ON CONFLICT DO UPDATE SET b = b + 1")
            }
            13..=15 => {
                format!("UPDATE {table} SET a = {value}, b = {other} WHERE id BETWEEN {id} AND {id} + {few}")
            }
            16 => format!("UPDATE {table} SET id = id + {few} WHERE id > {id}"),
            17 | 18 => format!("DELETE FROM {table} WHERE id % 10 = {} RETURNING id", few % 10),
            19 if few == 0 => format!("DELETE FROM {table}"),
            20 => format!("SELECT count(*), sum(id), max(length(a)), min(b) FROM {table}"),
            21 => format!("SELECT id, typeof(a), length(b) FROM {table} ORDER BY a, id LIMIT {few}"),
            22 => format!(
                "SELECT x.id, y.a FROM {table} x JOIN t0 y ON x.id = y.id WHERE x.b > {few} ORDER BY 1 LIMIT 20"
            ),
            23 => "BEGIN".to_owned(),
            24 => "BEGIN IMMEDIATE".to_owned(),
            25 | 26 => "COMMIT".to_owned(),
            27 => "ROLLBACK".to_owned(),
            28 => format!("SAVEPOINT s{}", few % 3),
            29 => format!("RELEASE s{}", few % 3),
            30 => format!("ROLLBACK TO s{}", few % 3),
            31 if few < 10 => "VACUUM".to_owned(),
            32 => format!("PRAGMA cache_size={}", 5 + few),
            33 if few < 10 => "PRAGMA integrity_check".to_owned(),
            _ => format!("SELECT * FROM {table} WHERE id = {id}"),
        }
    }
}

fn compare(seed: u64, way: &'static str) {
    let mut random = Random(seed);
    let sizes = [512, 1024, 4096, 8192, 65536];
    let page_size = sizes[random.index(sizes.len())];
    let store_page = if random.below(3) == 0 { sizes[random.index(sizes.len())] } else { page_size };
    let vacuum = ["NONE", "FULL", "INCREMENTAL"][random.index(3)];
    let mode = ["DELETE", "MEMORY", "TRUNCATE", "PERSIST"][random.index(4)];
    println!(
        "seed {seed}{way}: pages of {page_size} on {store_page}, auto_vacuum {vacuum}, journal_mode {mode}"
    );
    let stores = [0, 1].map(|_| {
        let options = Options::new().page_size(store_page).segment_size(4 << 20).checkpoint_bytes(1 << 20);
        Store::in_memory(options.background(false)).unwrap()
    });
    let names = [0, 1].map(|i| format!("random-{seed}{}-{i}", way.replace(['&', '='], "-")));
    for (store, name) in stores.iter().zip(&names) {
        sqlite::register(store, name).unwrap();
    }
    let pragma = |schema: &str| {
        format!(
            "PRAGMA {schema}page_size={page_size}; PRAGMA {schema}auto_vacuum={vacuum}; PRAGMA {schema}journal_mode={mode};"
        )
    };
    let pragmas = pragma("") + &pragma("other.");
    let mut run_of = Run { random, names, dir: tempfile::tempdir().unwrap(), pragmas, way };
    let mut pair = run_of.open();
    let mut readers: Vec<(Connection, Vec<(String, Rows)>)> = Vec::new();
    for step in 0..env("VELLUM_SQLITE_STATEMENTS", 600) {
        let sql = run_of.statement();
        let (stock, ours) = (run(&pair.stock, &sql), run(&pair.ours, &sql));
        assert!(stock == ours, "seed {seed}, step {step}: {sql}\nstock {stock:?}\nours {ours:?}");
        assert_eq!(pair.stock.is_autocommit(), pair.ours.is_autocommit(), "seed {seed}, step {step}: {sql}");
        if step % 150 == 149 {
            assert!(
                dump(&pair.stock, "main") == dump(&pair.ours, "main"),
                "seed {seed}, step {step}: contents differ"
            );
            assert!(
                dump(&pair.stock, "other") == dump(&pair.ours, "other"),
                "seed {seed}, step {step}: contents differ"
            );
        }
        if pair.ours.is_autocommit() && step % 97 == 0 {
            // A reader that stays; what it sees is what the file holds now.
            let reader = Connection::open(format!("file:{}?vfs=vellum", run_of.names[0])).unwrap();
            // It begins with its first read.
            reader.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema").unwrap();
            readers.push((reader, dump(&pair.stock, "main")));
            if readers.len() > 3 {
                let (reader, seen) = readers.remove(0);
                assert!(
                    dump(&reader, "main") == seen,
                    "seed {seed}, step {step}: a reader's snapshot changed"
                );
            }
        }
        if run_of.random.below(120) == 0 {
            // Whatever was open is rolled back.
            drop(pair);
            pair = run_of.open();
        }
    }
    for (reader, seen) in &readers {
        assert!(dump(reader, "main") == *seen, "seed {seed}: a reader's snapshot changed");
    }
    for db in [&pair.stock, &pair.ours] {
        if !db.is_autocommit() {
            db.execute_batch("ROLLBACK").unwrap();
        }
    }
    let last = dump(&pair.stock, "main");
    assert!(dump(&pair.ours, "main") == last, "seed {seed}: final contents differ");
    assert_eq!(run(&pair.ours, "PRAGMA integrity_check").unwrap(), vec![vec![Value::Text("ok".to_owned())]]);
    let file = run_of.dir.path().join("exported.db");
    check_export(&stores[0], &file, &last);
    drop((pair, readers));
    for name in &run_of.names {
        assert!(sqlite::unregister(name));
    }
    for store in &stores {
        store.audit().unwrap();
    }
}

fn check_export(store: &Store, file: &Path, expected: &[(String, Rows)]) {
    sqlite::export_file(&store.snapshot(), file).unwrap();
    let exported = Connection::open(file).unwrap();
    assert!(dump(&exported, "main") == expected, "the exported file's contents differ");
    assert_eq!(run(&exported, "PRAGMA integrity_check").unwrap(), vec![vec![Value::Text("ok".to_owned())]]);
}

#[test]
fn every_statement_gives_what_it_gives_on_a_file() {
    let first = seed("sqlite_random");
    for run in 0..env("VELLUM_SQLITE_RUNS", 8) {
        compare(first.wrapping_add(run), if run % 2 == 0 { "" } else { "&batches=0" });
    }
}
