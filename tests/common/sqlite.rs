//! What tests of SQLite on vellum share.
#![allow(dead_code, unreachable_pub, reason = "not every test needs all of it")]

use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use vellum::{Options, Store, sqlite};

/// A store in memory, registered under a name of its own.
pub struct Db {
    pub store: Store,
    pub name: String,
    more: &'static str,
}

impl Db {
    pub fn new(options: Options, more: &'static str) -> Db {
        Db::on(Store::in_memory(options).unwrap(), more)
    }

    pub fn on(store: Store, more: &'static str) -> Db {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("test-{}.db", COUNT.fetch_add(1, Ordering::Relaxed));
        sqlite::register(&store, &name).unwrap();
        Db { store, name, more }
    }

    pub fn open(&self) -> Connection {
        self.open_with("")
    }

    pub fn open_with(&self, parameters: &str) -> Connection {
        Connection::open(format!("file:{}?vfs=vellum{}{parameters}", self.name, self.more)).unwrap()
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        assert!(sqlite::unregister(&self.name));
    }
}

pub fn small() -> Options {
    Options::new().segment_size(1 << 20).background(false)
}

/// With batches of atomic writes, and without: both ways must do the same.
pub const WAYS: [&str; 2] = ["", "&batches=0"];

pub fn one<T: rusqlite::types::FromSql>(db: &Connection, sql: &str) -> T {
    db.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

pub fn check(db: &Connection) {
    assert_eq!(one::<String>(db, "PRAGMA integrity_check"), "ok");
}

pub fn extended(error: &rusqlite::Error) -> i32 {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => failure.extended_code,
        other => panic!("not of SQLite's: {other}"),
    }
}
