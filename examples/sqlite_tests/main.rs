//! A test suite of 200 cases against a database with schema and fixtures, each case on a database of its own; and what the ways to
//! get one cost.
//!
//! ```sh
//! cargo run --release --features sqlite-bundled --example sqlite_tests
//! ```
//! The ways take turns, case by case, so that they meet the same machine. Every case checks the same things whichever way its
//! database came: a case that fails ends the program with an error.

mod shop;

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use vellum::sqlite::Template;

use shop::{CASES, Outcome};

/// What one way took, case by case: to get the database, and to run the case on it.
struct Way {
    name: &'static str,
    ready: Vec<Duration>,
    run: Vec<Duration>,
}

impl Way {
    fn new(name: &'static str) -> Way {
        Way { name, ready: Vec::new(), run: Vec::new() }
    }

    fn case(&mut self, case: usize, open: impl FnOnce() -> Outcome<Connection>) -> Outcome {
        let begun = Instant::now();
        let db = open()?;
        self.ready.push(begun.elapsed());
        let begun = Instant::now();
        shop::run(&db, case).map_err(|error| format!("{}, case {case}: {error}", self.name))?;
        self.run.push(begun.elapsed());
        Ok(())
    }

    fn print(&mut self) {
        let total: Duration = self.ready.iter().chain(&self.run).sum();
        self.ready.sort();
        self.run.sort();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (ready, run) = (self.ready[self.ready.len() / 2], self.run[self.run.len() / 2]);
        println!("{:<44} {:>11.3} {:>11.3} {:>11.2}", self.name, ms(ready), ms(run), total.as_secs_f64());
    }
}

/// As on files, but with nothing synced: tests don't outlive a power cut.
fn plain(path: &Path) -> Outcome<Connection> {
    let db = Connection::open(path)?;
    db.execute_batch("PRAGMA synchronous=OFF; PRAGMA foreign_keys=ON")?;
    Ok(db)
}

fn forked(uri: &str) -> Outcome<Connection> {
    let db = Connection::open(uri)?;
    db.execute_batch("PRAGMA foreign_keys=ON")?;
    Ok(db)
}

fn main() -> Outcome {
    let home = tempfile::tempdir()?;
    let golden = home.path().join("golden.db");
    shop::build(&plain(&golden)?)?;
    let template = Template::build(|uri| shop::build(&Connection::open(uri)?))?;
    println!("{CASES} cases, a database of {} KiB\n", std::fs::metadata(&golden)?.len() / 1024);

    let mut fork = Way::new("forked from a template (vellum)");
    let mut clone = Way::new("cloned into a directory (vellum)");
    let mut copy = Way::new("the file copied (SQLite)");
    let mut create = Way::new("schema and fixtures created again (SQLite)");
    let mut memory = Way::new("created again in memory (SQLite)");
    for case in 0..CASES {
        let mut database = None;
        fork.case(case, || forked(database.insert(template.fork()?).uri()))?;
        drop(database);

        let dir = home.path().join("clone");
        let mut cloned = None;
        clone.case(case, || forked(cloned.insert(template.clone_to(&dir)?).uri()))?;
        drop(cloned);

        let path = home.path().join("copy.db");
        copy.case(case, || {
            std::fs::copy(&golden, &path)?;
            plain(&path)
        })?;
        std::fs::remove_file(&path)?;

        let path = home.path().join("new.db");
        create.case(case, || {
            let db = plain(&path)?;
            shop::build(&db)?;
            Ok(db)
        })?;
        std::fs::remove_file(&path)?;

        memory.case(case, || {
            let db = plain(Path::new(":memory:"))?;
            shop::build(&db)?;
            Ok(db)
        })?;
    }
    println!("{:<44} {:>11} {:>11} {:>11}", "", "ready, ms", "case, ms", "all, s");
    for way in [&mut fork, &mut clone, &mut copy, &mut create, &mut memory] {
        way.print();
    }
    Ok(())
}
