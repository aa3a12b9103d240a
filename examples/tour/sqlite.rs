//! The database: built and changed by SQLite, while Rust keeps its own account of what must be in it.
//!
//! The account is a number of rows and a sum over the digests of all rows; a row's digest covers its table, its id and
//! every column. A sum does not depend on the order, and a row that changes is taken out and put in again, so SQLite
//! is never asked what it should contain until the day of reckoning ([`check`]).

use std::fmt;
use std::path::Path;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, params_from_iter};
use xxhash_rust::xxh3::xxh3_128;

use crate::{Outcome, PAGE};

const ITEMS: usize = 62_000;
const EVENTS: usize = 200_000;

/// What a database holds, in short: equal summaries, equal rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Summary {
    rows: [u64; 2],
    digest: u128,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} items, {} events, digest {:08x}", self.rows[0], self.rows[1], self.digest >> 96)
    }
}

/// Splitmix64: numbers that are the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits fit") % limit
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

#[derive(Clone, Copy)]
enum Table {
    Items,
    Events,
}

const TABLES: [Table; 2] = [Table::Items, Table::Events];

impl Table {
    fn select(self) -> &'static str {
        match self {
            Table::Items => "SELECT id, name, price, body FROM items",
            Table::Events => "SELECT id, item, at, note FROM events",
        }
    }

    fn insert(self) -> &'static str {
        match self {
            Table::Items => "INSERT INTO items (id, name, price, body) VALUES (?1, ?2, ?3, ?4)",
            Table::Events => "INSERT INTO events (id, item, at, note) VALUES (?1, ?2, ?3, ?4)",
        }
    }

    fn update(self) -> &'static str {
        match self {
            Table::Items => "UPDATE items SET name = ?2, price = ?3, body = ?4 WHERE id = ?1",
            Table::Events => "UPDATE events SET item = ?2, at = ?3, note = ?4 WHERE id = ?1",
        }
    }

    fn delete(self) -> &'static str {
        match self {
            Table::Items => "DELETE FROM items WHERE id = ?1",
            Table::Events => "DELETE FROM events WHERE id = ?1",
        }
    }

    /// A row with every kind of value that SQLite has.
    fn row(self, id: i64, random: &mut Random) -> [Value; 4] {
        let number = |random: &mut Random| i64::try_from(random.below(1 << 30)).expect("30 bits fit");
        let text = |random: &mut Random| format!("{:016x}", random.next());
        match self {
            Table::Items => {
                let price = f64::from(u32::try_from(random.below(1 << 20)).expect("20 bits fit")) / 64.0;
                let length = 100 + random.below(1300);
                let body = match random.below(16) {
                    0 => Value::Null,
                    _ => Value::Blob(random.bytes(length)),
                };
                [Value::Integer(id), Value::Text(text(random)), Value::Real(price), body]
            }
            Table::Events => {
                let (item, at) = (number(random), number(random));
                [Value::Integer(id), Value::Integer(item), Value::Integer(at), Value::Text(text(random))]
            }
        }
    }

    fn digest<'v>(self, columns: impl Iterator<Item = ValueRef<'v>>) -> u128 {
        let mut bytes = vec![self as u8];
        for column in columns {
            match column {
                ValueRef::Null => bytes.push(0),
                ValueRef::Integer(value) => {
                    bytes.push(1);
                    bytes.extend_from_slice(&value.to_le_bytes());
                }
                ValueRef::Real(value) => {
                    bytes.push(2);
                    bytes.extend_from_slice(&value.to_bits().to_le_bytes());
                }
                ValueRef::Text(value) | ValueRef::Blob(value) => {
                    bytes.push(if matches!(column, ValueRef::Text(_)) { 3 } else { 4 });
                    bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
                    bytes.extend_from_slice(value);
                }
            }
        }
        xxh3_128(&bytes)
    }
}

/// The live database and the account of it.
pub(crate) struct Database {
    connection: Connection,
    random: Random,
    /// The rows that must be there: id and digest, by table.
    rows: [Vec<(i64, u128)>; 2],
    next_id: i64,
    digest: u128,
}

impl Database {
    pub(crate) fn create(path: &Path) -> Outcome<Database> {
        let connection = Connection::open(path)?;
        // The journal is deleted at each commit: between transactions the file alone is the database. Nothing here
        // depends on SQLite's own syncs, so it needn't make any.
        connection.execute_batch(&format!(
            "PRAGMA page_size = {PAGE}; PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF;
             PRAGMA temp_store = MEMORY; PRAGMA cache_size = -32000;
             CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, price REAL, body BLOB);
             CREATE TABLE events (id INTEGER PRIMARY KEY, item INTEGER, at INTEGER, note TEXT);
             CREATE INDEX events_by_item ON events (item, at);"
        ))?;
        connection.set_prepared_statement_cache_capacity(16);
        let rows = [Vec::new(), Vec::new()];
        let mut database = Database { connection, random: Random(7), rows, next_id: 1, digest: 0 };
        database.in_transaction(|database| {
            database.insert(Table::Items, ITEMS)?;
            database.insert(Table::Events, EVENTS)
        })?;
        Ok(database)
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary { rows: [self.rows[0].len() as u64, self.rows[1].len() as u64], digest: self.digest }
    }

    /// Makes the change with this number, as one transaction of SQLite's, and says what kind it was.
    pub(crate) fn change(&mut self, number: usize) -> Outcome<&'static str> {
        match number % 16 {
            6 => {
                self.in_transaction(|database| {
                    database.insert(Table::Items, 5000)?;
                    database.insert(Table::Events, 10_000)
                })?;
                Ok("growth")
            }
            12 => {
                self.in_transaction(|database| {
                    database.delete(Table::Items, 5000)?;
                    database.delete(Table::Events, 10_000)
                })?;
                Ok("deletes")
            }
            // What the deletes freed is given back: the file gets shorter, and nearly every page changes.
            13 => {
                self.connection.execute_batch("VACUUM")?;
                Ok("VACUUM")
            }
            _ => {
                self.in_transaction(|database| {
                    for (table, count) in [(Table::Items, 150), (Table::Events, 300)] {
                        database.insert(table, count)?;
                        database.update(table, count)?;
                        database.delete(table, count / 2)?;
                    }
                    Ok(())
                })?;
                Ok("mixed")
            }
        }
    }

    fn in_transaction(&mut self, work: impl FnOnce(&mut Database) -> Outcome<()>) -> Outcome<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        work(self)?;
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    fn insert(&mut self, table: Table, count: usize) -> Outcome<()> {
        let mut statement = self.connection.prepare_cached(table.insert())?;
        for _ in 0..count {
            let row = table.row(self.next_id, &mut self.random);
            statement.execute(params_from_iter(row.iter()))?;
            let digest = table.digest(row.iter().map(ValueRef::from));
            self.rows[table as usize].push((self.next_id, digest));
            self.digest = self.digest.wrapping_add(digest);
            self.next_id += 1;
        }
        Ok(())
    }

    fn update(&mut self, table: Table, count: usize) -> Outcome<()> {
        let mut statement = self.connection.prepare_cached(table.update())?;
        for _ in 0..count {
            let rows = &mut self.rows[table as usize];
            let at = self.random.below(rows.len());
            let (id, old) = rows[at];
            let row = table.row(id, &mut self.random);
            let changed = statement.execute(params_from_iter(row.iter()))?;
            ensure!(changed == 1, "SQLite updated {changed} rows with id {id}");
            let digest = table.digest(row.iter().map(ValueRef::from));
            rows[at] = (id, digest);
            self.digest = self.digest.wrapping_sub(old).wrapping_add(digest);
        }
        Ok(())
    }

    fn delete(&mut self, table: Table, count: usize) -> Outcome<()> {
        let mut statement = self.connection.prepare_cached(table.delete())?;
        for _ in 0..count {
            let rows = &mut self.rows[table as usize];
            let (id, old) = rows.swap_remove(self.random.below(rows.len()));
            let changed = statement.execute([id])?;
            ensure!(changed == 1, "SQLite deleted {changed} rows with id {id}");
            self.digest = self.digest.wrapping_sub(old);
        }
        Ok(())
    }
}

/// The day of reckoning: the file is a sound database and holds exactly the rows that it should.
pub(crate) fn check(path: &Path, expected: Summary) -> Outcome<()> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(verdict == "ok", "{}: integrity_check says {verdict}", path.display());
    let mut found = Summary::default();
    for table in TABLES {
        let mut statement = connection.prepare(table.select())?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let columns = [row.get_ref(0)?, row.get_ref(1)?, row.get_ref(2)?, row.get_ref(3)?];
            found.rows[table as usize] += 1;
            found.digest = found.digest.wrapping_add(table.digest(columns.into_iter()));
        }
    }
    ensure!(found == expected, "{}: holds {found}, but should hold {expected}", path.display());
    Ok(())
}
