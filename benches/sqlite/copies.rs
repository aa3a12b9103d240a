//! A clone, and a backup beside a writer.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use vellum::sqlite;

use crate::Result;
use crate::databases::{Databases, On};
use crate::measure::{Random, median, pair};
use crate::report::{Report, Target};

fn copy_file(from: &Path, to: &Path) -> Result {
    std::fs::copy(from, to)?;
    std::fs::File::open(to)?.sync_all()?;
    Ok(())
}

/// The store is written to before each clone, so that each has something to write out.
pub(crate) fn clone(databases: &Databases, report: &mut Report) -> Result {
    let db = databases.open(On::Vellum, "FULL")?;
    let path = databases.dir().join("clone");
    let mut times = Vec::new();
    for id in 1..=9 {
        db.execute("UPDATE big SET n = n WHERE id % 1000 = ?1", [id])?;
        databases.store.snapshot().clone_to(&path)?;
        std::fs::remove_dir_all(&path)?;
        db.execute("UPDATE big SET n = n WHERE id = ?1", [id])?;
        let begun = Instant::now();
        databases.store.snapshot().clone_to(&path)?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        std::fs::remove_dir_all(&path)?;
    }
    let size = databases.mebibytes;
    report.figure(format!("clone of {size} MiB"), "ms", median(times), Target::AtMost(10.0));
    let stock = databases.open(On::File, "FULL")?;
    stock.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    let copy = databases.dir().join("copy.db");
    let begun = Instant::now();
    copy_file(&databases.file(), &copy)?;
    report.figure("  a copy of the file, synced", "ms", begun.elapsed().as_secs_f64() * 1e3, Target::None);
    std::fs::remove_file(copy)?;
    Ok(())
}

/// Calls `work` beside a writer that commits some hundred times a second; gives the seconds, and the commits.
fn beside_writer(databases: &Databases, on: On, work: impl FnOnce() -> Result) -> Result<(f64, u64)> {
    let (stop, commits) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<()> {
            let db = databases.open(on, "NORMAL")?;
            let mut random = Random::new(5);
            while !stop.load(Ordering::Relaxed) {
                let id = 1 + i64::try_from(random.below(databases.rows.unsigned_abs()))?;
                db.execute("UPDATE big SET n = n WHERE id = ?1", [id])?;
                commits.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(3));
            }
            Ok(())
        });
        let begun = Instant::now();
        let done = work();
        let took = begun.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| "the writer panicked")??;
        done.map(|()| (took, commits.load(Ordering::Relaxed)))
    })
}

/// SQLite's own backup, page by page from a live database: begins again whenever another connection has written.
fn backup_api(databases: &Databases, path: &Path, within: Duration) -> Result<bool> {
    let source = databases.open(On::File, "NORMAL")?;
    let mut target = Connection::open(path)?;
    let backup = Backup::new(&source, &mut target)?;
    let until = Instant::now() + within;
    while Instant::now() < until {
        match backup.step(256)? {
            StepResult::Done => return Ok(true),
            _ => std::thread::sleep(Duration::from_micros(100)),
        }
    }
    Ok(false)
}

pub(crate) fn backup(databases: &Databases, report: &mut Report) -> Result {
    let path = databases.dir().join("backup.db");
    let remove = || std::fs::remove_file(&path);
    let mut ours = || {
        let (took, _) = beside_writer(databases, On::Vellum, || {
            sqlite::export_file(&databases.store.snapshot(), &path)?;
            Ok(())
        })?;
        remove()?;
        Ok(took)
    };
    let mut copy = || {
        let (took, _) = beside_writer(databases, On::File, || copy_file(&databases.file(), &path))?;
        remove()?;
        Ok(took)
    };
    let found = pair(3, &mut ours, &mut copy)?;
    let figure = format!("backup of {} MiB beside a writer (floor: cp, which tears)", databases.mebibytes);
    report.pair(figure, "s", &found, Target::RatioAtMost(1.5));
    let within = Duration::from_secs_f64(found.ours.mul_add(4.0, 2.0));
    let mut is_done = false;
    let (took, commits) = beside_writer(databases, On::File, || {
        is_done = backup_api(databases, &path, within)?;
        Ok(())
    })?;
    remove()?;
    let how = if is_done { "finished" } else { "given up" };
    #[expect(clippy::cast_precision_loss, reason = "a number for people")]
    let commits = commits as f64;
    report.figure(format!("  SQLite's backup API, {how}, beside {commits} commits"), "s", took, Target::None);
    Ok(())
}
