//! The frame of the programs that measure figures: their arguments, the rounds, the table that a run ends in.
//!
//! `--quick` does a part of the work, `--json` prints JSON lines, names choose some of the figures, and `VELLUM_BENCH_DIR` says on which
//! disk.
#![allow(dead_code, reason = "each program measures in its own ways")]

mod machine;
pub(crate) mod measure;
mod numbers;
pub(crate) mod report;

use std::error::Error;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use report::Report;

/// Anything that keeps a figure from being measured ends the run.
pub(crate) type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Measures some figures, on what was prepared, and puts them into the report.
pub(crate) type Measure<On> = fn(&On, &mut Report) -> Result;

/// Does what the arguments say, on what `prepare` makes, for a quick run or a whole one; its files are in `dir`.
pub(crate) fn run<On>(
    figures: &[(&str, Measure<On>)],
    args: &[String],
    prepare: fn(bool) -> Result<On>,
    dir: fn(&On) -> &Path,
) -> Result {
    let (flags, names): (Vec<&str>, Vec<&str>) =
        args.iter().map(String::as_str).partition(|arg| arg.starts_with("--"));
    if let Some(unknown) = flags.iter().find(|arg| !["--bench", "--quick", "--json"].contains(arg)) {
        return Err(format!("unknown argument {unknown}: --quick and --json are possible").into());
    }
    if let Some(unknown) = names.iter().find(|name| figures.iter().all(|(figure, _)| figure != *name)) {
        let known: Vec<&str> = figures.iter().map(|(figure, _)| *figure).collect();
        return Err(format!("no figures called {unknown}: {} are possible", known.join(", ")).into());
    }
    let on = prepare(flags.contains(&"--quick"))?;
    let mut report = Report::default();
    for (name, measure) in figures {
        if names.is_empty() || names.contains(name) {
            measure(&on, &mut report)?;
        }
    }
    report.machine(describe(dir(&on)));
    match flags.contains(&"--json") {
        true => report.print_json(),
        false => report.print_table(),
    }
    Ok(())
}

fn describe(dir: &Path) -> Vec<(&'static str, String)> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        ("cores", cores.to_string()),
        ("cpu", machine::cpu()),
        ("kernel", machine::kernel()),
        ("file system", machine::file_system(dir)),
    ]
}

/// A directory on the disk that is measured; everything in it goes with it.
pub(crate) fn scratch() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("vellum-figures-").tempdir_in(place())?)
}

/// Where the asker says; else beside the build, because `/tmp` may be memory.
fn place() -> PathBuf {
    if let Some(asked) = std::env::var_os("VELLUM_BENCH_DIR") {
        return asked.into();
    }
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    if target.is_dir() { target } else { std::env::temp_dir() }
}
