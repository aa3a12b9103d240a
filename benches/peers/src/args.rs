//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// vellum beside the stores that a user would pick instead.
///
/// A whole run and its page, from the project's root:
///
///     cargo run --release --manifest-path benches/peers/Cargo.toml -- run --out target/peers.jsonl
///     cargo run --release --manifest-path benches/peers/Cargo.toml -- plot target/peers.jsonl
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Measures; prints a table, and one JSON line a figure into a file.
    Run(Run),
    /// Makes the page with its pictures from a run's JSON lines.
    Plot(Plot),
    /// Lists the peers that were built and the groups of works.
    List,
    /// One peer, told by its parent what to do.
    #[command(hide = true)]
    Child(Child),
}

#[derive(clap::Args)]
pub(crate) struct Run {
    /// An eighth of the pages and few rounds: some minutes, for the shape only.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Which peers, by name (`list` shows them); the floor and vellum are peers too. RocksDB and libmdbx are there if the
    /// program was built with the features of those names.
    #[arg(long, value_delimiter = ',')]
    pub(crate) peers: Vec<String>,
    /// Which groups of works, by name (`list` shows them).
    #[arg(long, value_delimiter = ',')]
    pub(crate) works: Vec<String>,
    /// Pages of 4 KiB in each store [default: 262144, 1 GiB; with --quick 32768].
    #[arg(long)]
    pub(crate) pages: Option<u64>,
    /// Rounds; of works that copy or overwrite everything at most as many as by default [default: 3; with --quick 3, and 1].
    #[arg(long)]
    pub(crate) rounds: Option<u32>,
    /// Milliseconds that a sample takes about [default: 150; with --quick 80].
    #[arg(long)]
    pub(crate) millis: Option<u64>,
    /// Peers whose stores are there at once, beside the floor's and vellum's, which are measured anew with each such heat: the machine's
    /// memory should hold them all.
    #[arg(long, value_name = "PEERS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) together: u32,
    /// Memory that each peer may use, page cache and all, in MiB: a control group of its own for each. Needs the right to
    /// make one.
    #[arg(long, value_name = "MIB")]
    pub(crate) memory: Option<u64>,
    /// Where the stores are made, and removed at the end [default: beside the program, which is on a disk].
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// The file for the JSON lines [default: standard output].
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct Plot {
    /// Files of JSON lines; a peer is held against what vellum did in the same run.
    #[arg(required = true)]
    pub(crate) lines: Vec<PathBuf>,
    /// The page.
    #[arg(long, default_value = "benches/README.md")]
    pub(crate) page: PathBuf,
    /// The directory of its pictures.
    #[arg(long, default_value = "benches/pictures")]
    pub(crate) pictures: PathBuf,
}

#[derive(clap::Args)]
pub(crate) struct Child {
    #[arg(long)]
    pub(crate) peer: String,
    /// Holds `store`, `oracle` and `scratch`.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    #[arg(long)]
    pub(crate) pages: u64,
    /// Bytes of memory that it may use.
    #[arg(long)]
    pub(crate) memory: Option<u64>,
    /// The control group that it enters.
    #[arg(long)]
    pub(crate) group: Option<PathBuf>,
}
