//! vellum beside the stores that a user would pick instead: the same pages, the same promise about syncing, in turn on one
//! machine, and every byte checked.
//!
//! Each peer runs in a process of its own, which stands still (SIGSTOP) while it isn't its turn: what a peer does in the
//! background, it does in its own time; its memory and what it writes are its own too, and it can be killed. The
//! parent ([`run`], [`contender`]) tells the children ([`child`]) what to do, round by round, and prints one JSON line for each figure; [`plot`]
//! makes the page and the pictures from those lines.

mod args;
mod calm;
mod cgroup;
mod child;
mod contender;
mod engine;
mod engines;
mod figures;
#[path = "../../frame/machine.rs"]
mod machine;
mod measure;
#[path = "../../frame/numbers.rs"]
mod numbers;
mod pages;
mod plan;
mod plot;
mod process;
mod record;
mod run;
mod work;
mod works;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

/// Whatever keeps a figure from being measured.
type Fault = Box<dyn Error + Send + Sync>;
type Result<T = (), E = Fault> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Run(run) => run::run(&run),
        Command::Plot(plot) => plot::plot(&plot),
        Command::List => {
            run::list();
            Ok(())
        }
        Command::Child(child) => child::run(&child),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
