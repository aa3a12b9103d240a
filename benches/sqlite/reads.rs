//! Selects alone, and beside a writer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use crate::Result;
use crate::databases::{Databases, On};
use crate::measure::{Random, pair, rate};
use crate::report::{Report, Target};

const ROUNDS: usize = 11;
const WITHIN: f64 = 1.0 / 1.15;

fn points(db: &Connection, random: &mut Random, rows: i64, count: u32) -> Result<f64> {
    let mut select = db.prepare_cached("SELECT n FROM big WHERE id = ?1")?;
    let begun = Instant::now();
    for _ in 0..count {
        let id = 1 + i64::try_from(random.below(rows.unsigned_abs()))?;
        let n: i64 = select.query_row([id], |row| row.get(0))?;
        if n != id % 1000 {
            return Err(format!("row {id} holds {n}").into());
        }
    }
    Ok(rate(count, begun.elapsed()))
}

fn ranges(db: &Connection, random: &mut Random, rows: i64) -> Result<f64> {
    const LENGTH: i64 = 10_000;
    let mut select =
        db.prepare_cached("SELECT count(n + length(body)) FROM big WHERE id BETWEEN ?1 AND ?2")?;
    let begun = Instant::now();
    let mut seen = 0;
    for _ in 0..10 {
        let first = 1 + i64::try_from(random.below((rows - LENGTH).unsigned_abs()))?;
        seen += select.query_row([first, first + LENGTH - 1], |row| row.get::<_, u32>(0))?;
    }
    Ok(rate(seen, begun.elapsed()))
}

pub(crate) fn selects(databases: &Databases, report: &mut Report) -> Result {
    let (ours, stock) = (databases.open(On::Vellum, "FULL")?, databases.open(On::File, "FULL")?);
    let rows = databases.rows;
    let mut random = [Random::new(1), Random::new(1)];
    let [one, two] = &mut random;
    for mapped in [false, true] {
        let also = if mapped { ", mmap_size of all of it" } else { "" };
        for db in [&ours, &stock] {
            db.execute_batch(if mapped { "PRAGMA mmap_size=4000000000" } else { "PRAGMA mmap_size=0" })?;
            points(db, &mut Random::new(2), rows, 20_000)?;
        }
        let found = pair(ROUNDS, &mut || points(&ours, one, rows, 20_000), &mut || {
            points(&stock, two, rows, 20_000)
        })?;
        report.pair(
            format!("point selects, one transaction each{also}"),
            "/s",
            &found,
            Target::RatioAtLeast(WITHIN),
        );
        let found = pair(ROUNDS, &mut || ranges(&ours, one, rows), &mut || ranges(&stock, two, rows))?;
        report.pair(format!("rows in range scans{also}"), "/s", &found, Target::RatioAtLeast(WITHIN));
        for db in [&ours, &stock] {
            db.execute_batch("BEGIN")?;
        }
        let found = pair(ROUNDS, &mut || points(&ours, one, rows, 20_000), &mut || {
            points(&stock, two, rows, 20_000)
        })?;
        report.pair(
            format!("point selects within a transaction{also}"),
            "/s",
            &found,
            Target::RatioAtLeast(WITHIN),
        );
        for db in [&ours, &stock] {
            db.execute_batch("COMMIT")?;
        }
    }
    Ok(())
}

/// A reader beside a writer that commits as fast as it can: selects a second, and how often the reader was busy.
fn beside(databases: &Databases, on: On, busy: &AtomicU64) -> Result<f64> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<()> {
            let db = databases.open(on, "NORMAL")?;
            let mut update = db.prepare("UPDATE big SET n = n WHERE id = ?1")?;
            let mut random = Random::new(9);
            while !stop.load(Ordering::Relaxed) {
                update.execute([1 + i64::try_from(random.below(databases.rows.unsigned_abs()))?])?;
            }
            Ok(())
        });
        let reads = || -> Result<f64> {
            let db = databases.open(on, "FULL")?;
            db.busy_timeout(Duration::ZERO)?;
            let mut random = Random::new(10);
            let (mut count, begun) = (0, Instant::now());
            while begun.elapsed() < Duration::from_millis(700) {
                match points(&db, &mut random, databases.rows, 100) {
                    Ok(_) => count += 100,
                    Err(error) => match error.downcast_ref::<rusqlite::Error>() {
                        Some(found) if found.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                            busy.fetch_add(1, Ordering::Relaxed);
                        }
                        _ => return Err(error),
                    },
                }
            }
            Ok(rate(count, begun.elapsed()))
        };
        let found = reads();
        stop.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| "the writer panicked")??;
        found
    })
}

pub(crate) fn readers(databases: &Databases, report: &mut Report) -> Result {
    let (ours, stock) = (AtomicU64::new(0), AtomicU64::new(0));
    let found = pair(ROUNDS, &mut || beside(databases, On::Vellum, &ours), &mut || {
        beside(databases, On::File, &stock)
    })?;
    report.pair("point selects beside a writer", "/s", &found, Target::RatioAtLeast(1.0));
    let busy = u32::try_from(ours.load(Ordering::Relaxed))?;
    report.figure("  times that the reader was busy", "", f64::from(busy), Target::AtMost(0.0));
    Ok(())
}
