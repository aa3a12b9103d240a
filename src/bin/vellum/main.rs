//! `vellum`: stores from the command line.
//!
//! This file only parses, dispatches and turns failures into exit codes; each group of commands has a file of its own.
#![cfg_attr(fuzzing, no_main)]
#![cfg_attr(fuzzing, allow(dead_code, reason = "only the arguments are looked at"))]

mod args;
mod cat;
mod coding;
mod drill;
mod error;
mod export;
mod group;
mod keep;
mod load;
mod log;
mod manual;
mod map;
mod moment;
mod output;
mod part;
mod patch;
mod place;
mod progress;
mod resume;
mod scrub;
mod snapshot;
mod sources;
mod store;
mod top;
mod which;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use error::Failure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => return refuse(&refused),
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(cli.show.json),
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let show = cli.show;
    match &cli.command {
        Command::Init(args) => store::init(args, show),
        Command::Info(args) => store::info(args, show),
        Command::Stat(args) => store::stat(args, show),
        Command::Compact(args) => store::compact(args, show),
        Command::Ls(args) => store::ls(args, show),
        Command::Log(args) => log::log(args, show),
        Command::Load(args) => load::load(args, show),
        Command::Cat(args) => cat::cat(args, show),
        Command::Export(args) => export::export(args, show),
        Command::Import(args) => export::import(args, show),
        Command::Clone(args) => export::clone(args, show),
        Command::Apply(args) => export::apply(args, show),
        Command::Fold(args) => export::fold(args, show),
        Command::Verify(args) => export::verify(args, show),
        Command::Scrub(args) => scrub::scrub(args, show),
        Command::Top(args) => top::top(args, show),
        Command::Drill(args) => drill::drill(args, show),
        Command::Map(args) => map::map(args, show),
        Command::Snapshot(command) => snapshot::snapshot(command, show),
        Command::Hold(command) => snapshot::hold(command, show),
        Command::Bookmark(command) => snapshot::bookmark(command, show),
        Command::Group(command) => group::group(command, show),
        Command::Prune(args) => keep::prune(args, show),
        Command::Tick(args) => keep::tick(args, show),
        Command::History(args) => keep::history(args, show),
        Command::Completions(args) => manual::completions(args.shell, show),
        Command::Man(args) => manual::man(&args.dir, show),
    }
}

/// Help and version, which are no failures, or a command line that makes no sense.
fn refuse(refused: &clap::Error) -> ExitCode {
    // There is no parsed command line to ask.
    let is_json = std::env::args_os().skip(1).take_while(|arg| arg != "--").any(|arg| arg == "--json");
    if refused.use_stderr() && is_json {
        let text = refused.to_string();
        let text = text.trim().trim_start_matches("error: ");
        return Failure::Usage(text.to_owned()).report(true);
    }
    // Nobody is left to be told if this can't be written.
    let _ = refused.print();
    if refused.use_stderr() { ExitCode::from(error::USAGE) } else { ExitCode::SUCCESS }
}

// Any words as arguments are accepted or refused with a reason, never a panic. The input is the words, one a line; its first
// byte says whether `import` stands before them. The package in `fuzz` builds this.
#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    use clap::{CommandFactory, FromArgMatches};
    use std::os::unix::ffi::OsStrExt;
    use std::sync::LazyLock;

    /// Built once: it takes longer than the parsing.
    static COMMAND: LazyLock<clap::Command> = LazyLock::new(|| {
        let mut command = Cli::command();
        command.build();
        command
    });
    let Some((first, rest)) = input.split_first() else { return };
    let before: &[&[u8]] = if first % 2 == 0 { &[b"vellum", b"import"] } else { &[b"vellum"] };
    let words = before.iter().copied().chain(rest.split(|byte| *byte == b'\n'));
    let matches = COMMAND.clone().try_get_matches_from(words.map(std::ffi::OsStr::from_bytes));
    if let Err(refused) = matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        assert!(!refused.to_string().is_empty());
    }
});
