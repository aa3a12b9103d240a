//! A redb database in a store, from its first commit to a rollback; each promise is checked on the way.
//!
//! ```sh
//! cargo run --release --manifest-path examples/redb/Cargo.toml
//! ```
//! Takes a second or two. Whatever isn't as it should be ends it with a message and exit code 1.

use std::error::Error;
use std::fs::File;
use std::time::{Duration, Instant};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use vellum::{Options, Store};
use vellum_redb::{RedbStore, open_at};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const ACCOUNTS: TableDefinition<u64, i64> = TableDefinition::new("accounts");
const COUNT: u64 = 100_000;
const TRANSFERS: u64 = 200;

/// Ends the function with an error unless the condition holds.
macro_rules! ensure {
    ($ok:expr, $($message:tt)*) => {
        if !$ok {
            return Err(format!($($message)*).into());
        }
    };
}

fn main() -> Outcome {
    let home = tempfile::tempdir()?;
    let store = Store::open(home.path().join("store"), Options::new())?;
    let redb = RedbStore::new(store.clone())?;
    let db = redb.open()?;
    found(&db)?;
    println!("founded: {COUNT} accounts in {} pages", store.snapshot().page_count());

    let before = store.snapshot().version();
    let took = transfer(&db, TRANSFERS)?;
    let versions = store.snapshot().version().get() - before.get();
    ensure!(versions == TRANSFERS, "{TRANSFERS} commits made {versions} versions");
    println!(
        "{TRANSFERS} durable commits, as many versions: {} us each",
        took.as_micros() / u128::from(TRANSFERS)
    );

    // Beside it, the same on a file of redb's own.
    let stock = Database::create(home.path().join("stock.redb"))?;
    found(&stock)?;
    let took = transfer(&stock, TRANSFERS)?;
    println!("(redb on a file of its own: {} us each)", took.as_micros() / u128::from(TRANSFERS));
    drop(stock);

    let snapshot = store.create_snapshot("before")?;
    let expected = state(&db)?;
    let txn = db.begin_write()?;
    txn.open_table(ACCOUNTS)?.retain(|account, _| account % 2 == 0)?;
    txn.commit()?;
    let begun = Instant::now();
    let past = open_at(&snapshot)?;
    let took = begun.elapsed();
    ensure!(state(&past)? == expected, "the named snapshot holds something else");
    ensure!(state(&db)?.0 == COUNT / 2, "the current version wasn't changed");
    println!(
        "half of the accounts deleted; the version named \"before\" opened beside it in {} us",
        took.as_micros()
    );

    let path = home.path().join("exported.redb");
    snapshot.export_raw(&mut File::create(&path)?, &mut ())?;
    let mut exported = Database::open(&path)?;
    ensure!(exported.check_integrity()?, "redb finds something wrong with the export");
    ensure!(state(&exported)? == expected, "the export holds something else");
    println!("exported, {} MiB: an ordinary redb file, checked by redb", path.metadata()?.len() >> 20);

    let tried = RedbStore::new(snapshot.fork()?)?.open()?;
    transfer(&tried, 1)?;
    println!("forked: a private database to try things in");

    drop((past, db));
    store.rollback_to(&snapshot)?;
    let mut db = redb.open()?;
    ensure!(state(&db)? == expected, "the rollback led somewhere else");
    transfer(&db, 1)?;
    ensure!(db.check_integrity()?, "redb finds something wrong after the rollback");
    store.verify(&mut ())?;
    println!("rolled back, written on, checked by redb and by vellum");
    Ok(())
}

fn found(db: &Database) -> Outcome {
    let txn = db.begin_write()?;
    let mut accounts = txn.open_table(ACCOUNTS)?;
    for account in 0..COUNT {
        accounts.insert(account, 100)?;
    }
    drop(accounts);
    Ok(txn.commit()?)
}

/// Moves money, a commit each.
fn transfer(db: &Database, count: u64) -> Outcome<Duration> {
    let begun = Instant::now();
    for number in 0..count {
        let mut txn = db.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        let mut accounts = txn.open_table(ACCOUNTS)?;
        for (account, amount) in [(number * 7_919 % COUNT, 10), (number * 104_729 % COUNT, -10)] {
            let balance = accounts.get(account)?.map_or(0, |balance| balance.value());
            accounts.insert(account, balance + amount)?;
        }
        drop(accounts);
        txn.commit()?;
    }
    Ok(begun.elapsed())
}

/// How many accounts there are, and the sum of the money, weighed so that a transfer shows.
fn state(db: &impl ReadableDatabase) -> Outcome<(u64, i64)> {
    let txn = db.begin_read()?;
    let accounts = txn.open_table(ACCOUNTS)?;
    let mut sum = 0;
    for entry in accounts.iter()? {
        let (account, balance) = entry?;
        sum += balance.value() * (1 + i64::try_from(account.value() % 1_000)?);
    }
    Ok((accounts.len()?, sum))
}
