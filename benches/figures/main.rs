//! What vellum promises, measured against what the machine can do: `cargo bench --bench figures`.
//!
//! Each figure has a target; where the target is relative, its floor (a bare write and sync, a plain mapping, `cp`) is
//! measured in the same run, round by round in turn with ours, because the machines that this runs on are shared and
//! what they can do changes from minute to minute. Nothing is asserted: a person reads the table.
//!
//! `--quick` does an eighth of the work, `--json` prints JSON lines, names choose some of the figures (`-- durable
//! export`), and `VELLUM_BENCH_DIR` says on which disk.

mod buffered;
mod commits;
mod copies;
mod export;
mod floor;
mod ground;
mod kept;
mod machine;
mod measure;
mod reads;
mod reopen;
mod report;
mod space;
mod sparse;
mod table;
mod threads;

use std::error::Error;

use ground::{Ground, Scale};
use report::Report;

/// Anything that keeps a figure from being measured ends the run.
type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Measures some figures and puts them into the report.
type Measure = fn(&Ground, &mut Report) -> Result;

/// All figures, in the order in which they disturb each other least; the heaviest writers come last.
const FIGURES: [(&str, Measure); 19] = [
    ("pins", reads::pins),
    ("lookups", reads::lookups),
    ("export", export::beside_writer),
    ("import", export::import),
    ("snapshots", reads::old_and_new),
    ("durable", commits::durable),
    ("threads", threads::many),
    ("bytes", commits::bytes),
    ("buffered", buffered::buffered),
    ("scattered", export::scattered),
    ("reopen", reopen::after_kill),
    ("copies", copies::copies),
    ("kept", kept::thousand),
    ("window", kept::window),
    ("held", space::held),
    ("steady", space::steady),
    ("dropping", space::dropping),
    ("sizes", space::sizes),
    ("table", table::table),
];

fn main() -> Result {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, dir, batches] = args.as_slice()
        && [reopen::CHILD, reopen::CHILD_GOES_ON].contains(&first.as_str())
    {
        return reopen::child(dir.as_ref(), batches.parse()?, first == reopen::CHILD_GOES_ON);
    }
    let (flags, names): (Vec<&str>, Vec<&str>) =
        args.iter().map(String::as_str).partition(|arg| arg.starts_with("--"));
    if let Some(unknown) = flags.iter().find(|arg| !["--bench", "--quick", "--json"].contains(arg)) {
        return Err(format!("unknown argument {unknown}: --quick and --json are possible").into());
    }
    if let Some(unknown) = names.iter().find(|name| FIGURES.iter().all(|(figure, _)| figure != *name)) {
        let known = FIGURES.map(|(figure, _)| figure).join(", ");
        return Err(format!("no figures called {unknown}: {known} are possible").into());
    }
    let scale = if flags.contains(&"--quick") { Scale::quick() } else { Scale::full() };
    let ground = Ground::prepare(scale)?;
    let mut report = Report::default();
    for (name, measure) in FIGURES {
        if names.is_empty() || names.contains(&name) {
            measure(&ground, &mut report)?;
        }
    }
    report.machine(machine::describe(ground.dir()));
    if flags.contains(&"--json") {
        report.print_json();
    } else {
        report.print_table();
    }
    Ok(())
}
