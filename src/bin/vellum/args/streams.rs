//! The arguments of what moves whole stores: exports, imports, clones, deltas, checks.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};

use super::{Endpoint, Which};
use crate::moment::duration;

/// How a stream is written.
#[derive(Debug, Args)]
pub(crate) struct Writing {
    /// Compress with zstd, at this level: 1 (fast) to 19 (small) [without a level: 3].
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, require_equals = true, default_missing_value = "3")]
    pub(crate) compress: Option<i32>,
    /// Encrypt with the key in this file: 32 bytes, or 64 hexadecimal digits.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Write at most so many bytes a second, at least 1048576.
    #[arg(long, value_name = "BYTES")]
    pub(crate) rate: Option<u64>,
    /// Bytes between two marks, from each of which the stream can be gone on with; at least 4096 [default: 67108864].
    #[arg(long, value_name = "BYTES")]
    pub(crate) mark_every: Option<u64>,
}

/// How a stream is read.
#[derive(Debug, Args)]
pub(crate) struct Reading {
    /// The key of an encrypted stream is in this file: 32 bytes, or 64 hexadecimal digits.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Read at most so many bytes a second, at least 1048576.
    #[arg(long, value_name = "BYTES")]
    pub(crate) rate: Option<u64>,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Export {
    /// The store's directory.
    pub(crate) dir: PathBuf,
    /// The file to write, or `-` for standard output, which is the default unless that is a terminal.
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) file: Option<Endpoint>,
    /// Write the pages and nothing else; those that hold nothing as zeros.
    #[arg(long, conflicts_with_all = ["compress", "key_file", "rate", "mark_every"])]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Write only what changed since this named snapshot or bookmark.
    #[arg(long, value_name = "NAME")]
    pub(crate) since: Option<String>,
    #[command(flatten)]
    pub(crate) writing: Writing,
    /// Go on where an earlier run was cut, or begin so that a later one can.
    #[arg(long, conflicts_with = "raw")]
    pub(crate) resume: bool,
    /// Where the token of such an export is kept [default: FILE.token].
    #[arg(long, value_name = "TOKEN", conflicts_with = "raw")]
    pub(crate) token_file: Option<PathBuf>,
    /// Write to standard output from this point on, as the other end told it; nothing: from the beginning.
    #[arg(long, value_name = "POINT", requires = "token_file", conflicts_with = "resume")]
    pub(crate) from: Option<String>,
    /// Let go of what the token held, and write nothing: the other end has it all, or nobody wants it any more.
    #[arg(long, conflicts_with_all = ["from", "resume"])]
    pub(crate) end: bool,
    /// The token holds the version for this time at most [default: 7d].
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) expires: Option<Duration>,
    /// Replace FILE if it is there.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Where the store goes: a new or empty directory.
    pub(crate) dir: PathBuf,
    /// The stream, or `-` for standard input, which is the default unless that is a terminal.
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) file: Option<Endpoint>,
    /// Bytes of a segment file, as for `init` [default: 67108864].
    #[arg(long, value_name = "BYTES")]
    pub(crate) segment_size: Option<u64>,
    #[command(flatten)]
    pub(crate) reading: Reading,
    /// Go on where an earlier run was cut, or begin so that a later one can.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Print from where on the rest of the stream is needed, as `export --from` takes it, and do nothing else.
    #[arg(long, conflicts_with_all = ["resume", "file"])]
    pub(crate) point: bool,
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
    /// The store's directory; or the raw file, of a raw delta.
    #[arg(value_name = "DIR|RAW")]
    pub(crate) dir: PathBuf,
    /// The delta, or `-` for standard input, which is the default unless that is a terminal.
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) file: Option<Endpoint>,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Debug, Args)]
pub(crate) struct Fold {
    /// The streams, in their order.
    #[arg(required = true, value_hint = ValueHint::AnyPath)]
    pub(crate) files: Vec<Endpoint>,
    /// The file to write, or `-` for standard output.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub(crate) out: Endpoint,
    /// Compress with zstd, at this level: 1 (fast) to 19 (small) [without a level: 3].
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, require_equals = true, default_missing_value = "3")]
    pub(crate) compress: Option<i32>,
    /// Read encrypted streams, and write the new one, with the key in this file: 32 bytes, or 64 hexadecimal digits.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Replace the file if it is there.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A store's directory, or exported streams in their order; `-` for a stream on standard input.
    #[arg(value_name = "DIR|FILE", required = true, value_hint = ValueHint::AnyPath)]
    pub(crate) paths: Vec<Endpoint>,
    #[command(flatten)]
    pub(crate) reading: Reading,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Check every version that the store keeps, not only the current one.
    #[arg(long, conflicts_with_all = ["snapshot", "at"])]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Drill {
    /// Exported streams in their order, or a store's directory; `-` for a stream on standard input.
    #[arg(value_name = "DIR|FILE", required = true, value_hint = ValueHint::AnyPath)]
    pub(crate) paths: Vec<Endpoint>,
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) reading: Reading,
    /// Where the scratch directory is made [default: the system's temporary directory].
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch: Option<PathBuf>,
    /// Have this command, run by sh, look at the restored pages in the file $VELLUM_RAW.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) run: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ScrubArgs {
    /// The store's directory.
    pub(crate) dir: PathBuf,
    /// Read at most so many bytes a second, at least 65536.
    #[arg(long, value_name = "BYTES")]
    pub(crate) rate: Option<u64>,
    /// Mend damaged pages from this store's directory or exported stream; may be given several times.
    #[arg(long, value_name = "DIR|FILE", value_hint = ValueHint::AnyPath)]
    pub(crate) repair_from: Vec<Endpoint>,
    /// Read encrypted streams with the key in this file: 32 bytes, or 64 hexadecimal digits.
    #[arg(long, value_name = "FILE", requires = "repair_from")]
    pub(crate) key_file: Option<PathBuf>,
}
