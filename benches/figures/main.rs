//! What vellum promises, measured against what the machine can do: `cargo bench --bench figures`.
//!
//! Each figure has a target; where the target is relative, its floor (a bare write and sync, a plain mapping, `cp`) is
//! measured in the same run, round by round in turn with ours, because the machines that this runs on are shared and
//! what they can do changes from minute to minute. Nothing is asserted: a person reads the table.
//!
//! `--quick` does an eighth of the work, `--json` prints JSON lines, `VELLUM_BENCH_DIR` says on which disk.

mod commits;
mod export;
mod floor;
mod ground;
mod machine;
mod measure;
mod reads;
mod reopen;
mod report;
mod threads;

use std::error::Error;

use ground::{Ground, Scale};
use report::Report;

/// Anything that keeps a figure from being measured ends the run.
type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> Result {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, dir, batches] = args.as_slice()
        && first == reopen::CHILD
    {
        return reopen::child(dir.as_ref(), batches.parse()?);
    }
    let has = |name: &str| args.iter().any(|arg| arg == name);
    if let Some(unknown) = args.iter().find(|arg| !["--bench", "--quick", "--json"].contains(&arg.as_str())) {
        return Err(format!("unknown argument {unknown}: --quick and --json are possible").into());
    }
    let scale = if has("--quick") { Scale::quick() } else { Scale::full() };
    let ground = Ground::prepare(scale)?;
    let mut report = Report::default();
    reads::pins(&ground, &mut report);
    reads::lookups(&ground, &mut report)?;
    reads::old_and_new(&ground, &mut report)?;
    commits::durable(&ground, &mut report)?;
    threads::many(&ground, &mut report)?;
    commits::buffered(&ground, &mut report)?;
    commits::bytes(&ground, &mut report)?;
    export::beside_writer(&ground, &mut report)?;
    reopen::after_kill(&ground, &mut report)?;
    report.machine(machine::describe(ground.dir()));
    if has("--json") {
        report.print_json();
    } else {
        report.print_table();
    }
    Ok(())
}
