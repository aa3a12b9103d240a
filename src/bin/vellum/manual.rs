//! `completions`, `man`: what helps in using this tool, made from the same text as its help.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::{Cli, Show};
use crate::error::Failure;
use crate::output::{Report, put};

pub(crate) fn completions(shell: Shell, show: Show) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vellum", &mut script);
    if show.json {
        let script = String::from_utf8_lossy(&script);
        return Report::new().text("shell", &shell).text("script", &script).print(show);
    }
    put(&script)
}

pub(crate) fn man(dir: &Path, show: Show) -> Result<(), Failure> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(Failure::file("create", dir, error));
        }
        _ => {}
    }
    let mut command = Cli::command();
    command.build();
    let pages = pages(&command, dir)?;
    Report::new().text("dir", &dir.display()).count("pages", pages).print(show)
}

/// Writes the page of `command` and those of all below it; says how many.
fn pages(command: &clap::Command, dir: &Path) -> Result<u64, Failure> {
    let page = clap_mangen::Man::new(command.clone());
    let file = dir.join(page.get_filename());
    let mut text = Vec::new();
    let written = page.render(&mut text).and_then(|()| fs::write(&file, &text));
    written.map_err(|error| Failure::file("write to", &file, error))?;
    let mut count = 1;
    // `help` is a command of every command, and its page would say nothing of its own.
    for child in command.get_subcommands().filter(|child| child.get_name() != "help" && !child.is_hide_set())
    {
        count += pages(child, dir)?;
    }
    Ok(count)
}
