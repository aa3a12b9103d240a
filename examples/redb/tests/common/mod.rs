//! What the tests share: seeded randomness, a small store, a table and what is in it.
#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]

use std::collections::BTreeMap;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use vellum::{Options, Snapshot, Store};
use vellum_redb::open_at;

/// Values of some bytes or some pages.
pub const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("values");

/// What the table is to hold.
pub type Model = BTreeMap<u64, Vec<u8>>;

/// SplitMix64: small, seeded, the same everywhere.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// Some bytes, fewer than `limit`, and at least one.
    pub fn bytes(&mut self, limit: u64) -> Vec<u8> {
        let len = 1 + self.below(limit - 1);
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// A number from the environment, or `default`.
pub fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A seed from `VELLUM_SEED`, or a new one; printed either way, so that a failure can be replayed.
pub fn seed(test: &str) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = env("VELLUM_SEED", u64::from(now.subsec_nanos()));
    println!("replay with: VELLUM_SEED={seed} cargo test --test {test} -- --nocapture");
    seed
}

/// A store whose log and checkpoints move on while a test runs.
pub fn small() -> Options {
    Options::new().segment_size(1 << 20).checkpoint_bytes(1 << 20).background(false)
}

/// What a database's table holds.
pub fn contents(db: &impl ReadableDatabase) -> Model {
    let txn = db.begin_read().unwrap();
    match txn.open_table(TABLE) {
        Ok(table) => table
            .iter()
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|(key, value)| (key.value(), value.value().to_vec()))
            .collect(),
        Err(redb::TableError::TableDoesNotExist(_)) => Model::new(),
        Err(error) => panic!("{error}"),
    }
}

/// The version opens as a database that holds this, and so does a file that it is exported to, which redb finds nothing wrong with.
pub fn check_version(snapshot: &Snapshot, expected: &Model) {
    let version = snapshot.version();
    assert!(contents(&open_at(snapshot).unwrap()) == *expected, "{version} as it lies");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("exported.redb");
    snapshot.export_raw(&mut std::fs::File::create(&path).unwrap(), &mut ()).unwrap();
    let mut db = Database::open(&path).unwrap();
    assert!(contents(&db) == *expected, "{version} as a file");
    assert!(db.check_integrity().unwrap(), "{version} as a file");
}

/// The current version, by its number.
pub fn version(store: &Store) -> u64 {
    store.snapshot().version().get()
}
