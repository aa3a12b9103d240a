//! The tour: a real SQLite database lives on in a vellum store, from its first page to the power going out.
//!
//! `cargo run --release --example tour [DIRECTORY]` takes some 15 seconds and a GB of disk. Whatever isn't as it should be
//! ends it with a message and exit code 1. With a directory, what was made stays there, and `sqlite3
//! DIRECTORY/state-16.db` opens the database as it was after the 16th change.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Ends the function with an error unless the condition holds.
macro_rules! ensure {
    ($ok:expr, $($message:tt)*) => {
        if !$ok {
            return Err(format!($($message)*).into());
        }
    };
}

mod check;
mod crash;
mod exports;
mod report;
mod sqlite;
mod states;

use report::Report;
use vellum::{Options, Store};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Bytes of a page, of SQLite's and of vellum's.
const PAGE: usize = 4096;
/// Changes of the database after it was built.
const CHANGES: usize = 32;
/// How often the crash is repeated.
const CRASHES: usize = 3;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    // The tour starts itself with these words to have somebody to kill.
    if let [word, dir, lifetime] = &arguments[..]
        && word == "crash"
    {
        let Err(error) = crash::child(Path::new(dir), &lifetime.to_string_lossy());
        eprintln!("the child that was to be killed failed: {error}");
        return ExitCode::FAILURE;
    }
    match with_place(arguments.first()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nTHE TOUR FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the tour in the directory that was given, or in one that is removed at the end.
fn with_place(asked: Option<&OsString>) -> Outcome<()> {
    let Some(dir) = asked else {
        let dir = tempfile::tempdir()?;
        return tour(dir.path(), false);
    };
    let dir = PathBuf::from(dir);
    fs::create_dir_all(&dir)?;
    ensure!(fs::read_dir(&dir)?.next().is_none(), "{} is not empty: give a new directory", dir.display());
    tour(&dir, true)
}

fn tour(dir: &Path, is_kept: bool) -> Outcome<()> {
    let mut report = Report::new();

    let database_path = dir.join("live.db");
    let mut database = sqlite::Database::create(&database_path)?;
    let bytes = fs::metadata(&database_path)?.len();
    ensure!(bytes >= 50 << 20, "the database has only {bytes} bytes");
    report.say(&format!("SQLite built {} MB: {}", bytes / 1_000_000, database.summary()));

    let store_dir = dir.join("store");
    let store = Store::open(&store_dir, Options::new().page_size(4096))?;
    let mirror = states::Mirror::new(&database_path, store.clone())?;
    let loaded = mirror.commit_state()?;
    report.state(0, "loaded", &loaded);

    let story = states::change_and_hold(&mut database, &mirror, loaded, dir, &mut report)?;
    let last = database.summary();

    let held_bytes = store.stats().allocated_bytes;
    let files = check::Files { dir, is_kept };
    check::everything(story, &files, &mut report)?;
    drop(mirror);
    check::reopened(store, &store_dir, last, held_bytes, &files, &mut report)?;

    let rounds = crash::rounds(&dir.join("crash"), CRASHES, &report)?;
    report.crashes(&rounds);
    if is_kept {
        report.say(&format!("everything is in {}", dir.display()));
    }
    report.print();
    Ok(())
}
