//! The arguments of what moves whole stores: exports, imports, clones, deltas, checks.

use std::path::PathBuf;

use clap::Args;

use super::Which;

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The store's directory.
    pub(crate) dir: PathBuf,
    /// The file to write, or `-` for standard output, which is the default unless that is a terminal.
    pub(crate) file: Option<PathBuf>,
    /// Write the pages and nothing else; those that hold nothing as zeros.
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Write only what changed since this named snapshot or bookmark.
    #[arg(long, value_name = "NAME", conflicts_with = "raw")]
    pub(crate) since: Option<String>,
    /// Replace FILE if it is there.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Where the store goes: a new or empty directory.
    pub(crate) dir: PathBuf,
    /// The stream, or `-` for standard input, which is the default unless that is a terminal.
    pub(crate) file: Option<PathBuf>,
    /// Bytes of a segment file, as for `init` [default: 67108864].
    #[arg(long, value_name = "BYTES")]
    pub(crate) segment_size: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct CloneTo {
    /// The store's directory.
    pub(crate) dir: PathBuf,
    /// Where the clone goes: a new or empty directory.
    pub(crate) to: PathBuf,
    #[command(flatten)]
    pub(crate) which: Which,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// The store's directory.
    pub(crate) dir: PathBuf,
    /// The delta, or `-` for standard input, which is the default unless that is a terminal.
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Fold {
    /// The streams, in their order.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The file to write, or `-` for standard output.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A store's directory, or exported streams in their order; `-` for a stream on standard input.
    #[arg(value_name = "DIR|FILE", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Check every version that the store keeps, not only the current one.
    #[arg(long, conflicts_with_all = ["snapshot", "at"])]
    pub(crate) all: bool,
}
