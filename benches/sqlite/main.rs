//! SQLite on vellum against SQLite on files with a WAL, side by side: `cargo bench --features sqlite-bundled --bench sqlite`.
//!
//! Each figure's floor is the same work by the same SQLite on a file beside the store, in WAL mode, round by round in turn. Nothing is
//! asserted: a person reads the table.
//!
//! `--quick` takes a database of 64 MiB instead of 1 GiB, `--json` prints JSON lines, names choose some of the figures (`-- inserts
//! backup`), and `VELLUM_BENCH_DIR` says on which disk.

#[path = "../frame/mod.rs"]
mod frame;

mod copies;
mod databases;
mod reads;
mod writes;

use databases::Databases;
use frame::{Measure, Result, measure, report};

const FIGURES: [(&str, Measure<Databases>); 6] = [
    ("inserts", writes::inserts),
    ("bulk", writes::bulk),
    ("selects", reads::selects),
    ("readers", reads::readers),
    ("clone", copies::clone),
    ("backup", copies::backup),
];

fn main() -> Result {
    let args: Vec<String> = std::env::args().skip(1).collect();
    frame::run(&FIGURES, &args, Databases::prepare, Databases::dir)
}
