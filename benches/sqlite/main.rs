//! SQLite on vellum against SQLite on files with a WAL, side by side: `cargo bench --features sqlite-bundled --bench sqlite`.
//!
//! Each figure's floor is the same work by the same SQLite on a file beside the store, in WAL mode, round by round in turn. Nothing is
//! asserted: a person reads the table.
//!
//! `--quick` takes a database of 64 MiB instead of 1 GiB, `--json` prints JSON lines, names choose some of the figures (`-- inserts
//! backup`), and `VELLUM_BENCH_DIR` says on which disk.

#[path = "../figures/machine.rs"]
mod machine;
#[allow(dead_code)]
#[path = "../figures/measure.rs"]
mod measure;
#[allow(dead_code)]
#[path = "../figures/report.rs"]
mod report;

mod copies;
mod databases;
mod reads;
mod writes;

use std::error::Error;

use databases::Databases;
use report::Report;

/// Anything that keeps a figure from being measured ends the run.
type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Measures some figures and puts them into the report.
type Measure = fn(&Databases, &mut Report) -> Result;

const FIGURES: [(&str, Measure); 6] = [
    ("inserts", writes::inserts),
    ("bulk", writes::bulk),
    ("selects", reads::selects),
    ("readers", reads::readers),
    ("clone", copies::clone),
    ("backup", copies::backup),
];

fn main() -> Result {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (flags, names): (Vec<&str>, Vec<&str>) =
        args.iter().map(String::as_str).partition(|arg| arg.starts_with("--"));
    if let Some(unknown) = flags.iter().find(|arg| !["--bench", "--quick", "--json"].contains(arg)) {
        return Err(format!("unknown argument {unknown}: --quick and --json are possible").into());
    }
    if let Some(unknown) = names.iter().find(|name| FIGURES.iter().all(|(figure, _)| figure != *name)) {
        let known = FIGURES.map(|(figure, _)| figure).join(", ");
        return Err(format!("no figures called {unknown}: {known} are possible").into());
    }
    let mebibytes = if flags.contains(&"--quick") { 64 } else { 1024 };
    let databases = Databases::prepare(mebibytes)?;
    let mut report = Report::default();
    for (name, measure) in FIGURES {
        if names.is_empty() || names.contains(&name) {
            measure(&databases, &mut report)?;
        }
    }
    report.machine(machine::describe(databases.dir()));
    match flags.contains(&"--json") {
        true => report.print_json(),
        false => report.print_table(),
    }
    Ok(())
}
