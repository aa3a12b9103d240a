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
#[path = "../frame/mod.rs"]
mod frame;
mod ground;
mod kept;
mod reads;
mod reopen;
mod space;
mod sparse;
mod table;
mod threads;

use frame::{Measure, Result, measure, report};
use ground::Ground;

/// All figures, in the order in which they disturb each other least; the heaviest writers come last.
const FIGURES: [(&str, Measure<Ground>); 19] = [
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
    frame::run(&FIGURES, &args, Ground::prepare, Ground::dir)
}
