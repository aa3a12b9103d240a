//! Transactions of one row, and of a thousand.

use std::time::Instant;

use rusqlite::{Connection, params};

use crate::Result;
use crate::databases::{Databases, On};
use crate::measure::{pair, rate};
use crate::report::{Report, Target};

const ROUNDS: usize = 11;

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
    for (synchronous, count) in [("FULL", 300), ("NORMAL", 4000)] {
        let (ours, stock) =
            (databases.open(On::Vellum, synchronous)?, databases.open(On::File, synchronous)?);
        let run = |db: &Connection| {
            let begun = Instant::now();
            insert(db, count)?;
            Ok(rate(count, begun.elapsed()))
        };
        let found = pair(ROUNDS, &mut || run(&ours), &mut || run(&stock))?;
        let figure = format!("inserts of one row, synchronous={synchronous}");
        report.pair(figure, "/s", &found, Target::RatioAtLeast(1.0));
    }
    Ok(())
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
