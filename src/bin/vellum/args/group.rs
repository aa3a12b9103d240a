//! The arguments of what is about several stores at once.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::names::About;

/// The stores of a group.
#[derive(Debug, Args)]
pub(crate) struct Members {
    /// The directories of all stores of the group, in any order.
    #[arg(value_name = "DIR", required = true)]
    pub(crate) dirs: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Give the contents of all stores, at one moment, a name
    ///
    /// Each store keeps a snapshot of that name, and knows the others.
    #[command(verbatim_doc_comment, after_help = "Example:\n  vellum group create nightly orders stock")]
    Create {
        /// The name.
        name: String,
        #[command(flatten)]
        members: Members,
        #[command(flatten)]
        about: About,
    },
    /// List the group snapshots of stores, and whether every member has them
    ///
    /// One that isn't complete was left by a crash, or by a store that isn't among these: it can only be dropped.
    #[command(verbatim_doc_comment, after_help = "Example:\n  vellum group ls orders stock")]
    Ls {
        #[command(flatten)]
        members: Members,
    },
    /// Drop a group snapshot in all its stores
    #[command(after_help = "Example:\n  vellum group rm nightly orders stock")]
    Rm {
        /// The name.
        name: String,
        #[command(flatten)]
        members: Members,
    },
    /// Write a group snapshot to a new directory: a stream for each store, and what holds them together
    #[command(after_help = "Example:\n  vellum group export nightly backup orders stock --jobs 2")]
    Export {
        /// The group snapshot's name.
        name: String,
        /// Where it goes: a new directory.
        #[arg(value_name = "OUT")]
        to: PathBuf,
        #[command(flatten)]
        members: Members,
        /// Stores that are written at the same time.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = jobs)]
        jobs: usize,
    },
    /// Check an exported group from end to end
    #[command(after_help = "Example:\n  vellum group verify backup")]
    Verify {
        /// The directory that it was exported to.
        dir: PathBuf,
        /// Streams that are checked at the same time.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = jobs)]
        jobs: usize,
    },
    /// Make new stores of an exported group
    ///
    /// They are OUT/member-00, OUT/member-01 and so on, in the order that `vellum group verify` lists.
    #[command(verbatim_doc_comment, after_help = "Example:\n  vellum group import backup restored")]
    Import {
        /// The directory that it was exported to.
        dir: PathBuf,
        /// Where the stores go: a new directory.
        #[arg(value_name = "OUT")]
        to: PathBuf,
        /// Stores that are made at the same time.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = jobs)]
        jobs: usize,
    },
}

fn jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(jobs @ 1..=64) => Ok(jobs),
        _ => Err(format!("{text:?} is no number from 1 to 64")),
    }
}
