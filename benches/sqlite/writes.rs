//! Transactions of one row, and of a thousand.

use std::time::Instant;

use rusqlite::{Connection, params};

use crate::Result;
use crate::databases::{Databases, On};
use crate::measure::{pair, rate};
use crate::report::{Report, Target};

const ROUNDS: usize = 31;

fn insert(db: &Connection, rows: u32) -> Result {
    let mut insert = db.prepare_cached("INSERT INTO small (n, body) VALUES (?1, ?2)")?;
    for n in 0..rows {
        insert.execute(params![
            n,
            "a row as there are many, of about a hundred bytes: what an application notes of an event"
        ])?;
    }
    Ok(())
}

pub(crate) fn inserts(databases: &Databases, report: &mut Report) -> Result {
    let mut measure = |synchronous: &str, count, also: &str| {
        let (ours, stock) =
            (databases.open(On::Vellum, synchronous)?, databases.open(On::File, synchronous)?);
        let run = |db: &Connection| {
            let begun = Instant::now();
            insert(db, count)?;
            Ok(rate(count, begun.elapsed()))
        };
        let found = pair(ROUNDS, &mut || run(&ours), &mut || run(&stock))?;
        let figure = format!("inserts of one row, synchronous={synchronous}{also}");
        report.pair(figure, "/s", &found, Target::RatioAtLeast(1.0));
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    measure("FULL", 300, ", vellum's log in new files")?;
    measure("NORMAL", 4000, "")?;
    let also = if come_round(databases)? { "" } else { ", vellum's log still in new files" };
    measure("FULL", 300, also)
}

/// Writes until vellum's log goes on in files that were written before, as the WAL has from its second checkpoint on. Until then
/// it writes zeros ahead of itself. Whether it came to that.
fn come_round(databases: &Databases) -> Result<bool> {
    let open = |synchronous| -> Result<[Connection; 2]> {
        Ok([databases.open(On::Vellum, synchronous)?, databases.open(On::File, synchronous)?])
    };
    let (normal, full) = (open("NORMAL")?, open("FULL")?);
    for _ in 0..40 {
        normal.iter().try_for_each(|db| insert(db, 3000))?;
        let zeros = databases.store.stats().prepared_bytes;
        full.iter().try_for_each(|db| insert(db, 300))?;
        if databases.store.stats().prepared_bytes == zeros {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(crate) fn bulk(databases: &Databases, report: &mut Report) -> Result {
    for synchronous in ["FULL", "NORMAL"] {
        let (ours, stock) =
            (databases.open(On::Vellum, synchronous)?, databases.open(On::File, synchronous)?);
        let run = |db: &Connection| {
            let begun = Instant::now();
            for _ in 0..20 {
                db.execute_batch("BEGIN")?;
                insert(db, 1000)?;
                db.execute_batch("COMMIT")?;
            }
            Ok(rate(20_000, begun.elapsed()))
        };
        let found = pair(ROUNDS, &mut || run(&ours), &mut || run(&stock))?;
        let figure = format!("rows in transactions of 1,000, synchronous={synchronous}");
        report.pair(figure, "/s", &found, Target::RatioAtLeast(1.0 / 1.15));
    }
    Ok(())
}
