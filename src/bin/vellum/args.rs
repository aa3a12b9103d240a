//! The command line, and all the help there is. What stands here is what the user reads, so it teaches.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

const AFTER: &str = "\
Exit codes:
  0  done
  1  failed for another reason than these
  2  the command line makes no sense
  3  damage: a store or a stream is not what was written
  4  the store is in use by another process
  5  not found: no file, no store, no such page
  6  the disk is full

Every command locks the store while it runs, those that only read too: a store that a program has open answers with
exit code 4. With --json each command prints one JSON object on standard output, and failures are printed on standard
error as {\"error\": {\"kind\": ..., \"message\": ..., ...}}.

Example:
  vellum load shop shop.sqlite && vellum export shop shop.vellum && vellum verify shop.vellum";

/// Works with vellum page stores: creates, fills, inspects, checks, exports and imports them.
#[derive(Debug, Parser)]
#[command(name = "vellum", version, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) show: Show,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How results are shown.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Show {
    /// Print one JSON object instead of text; failures too, on standard error.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Show no progress. It is only ever shown on a terminal.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an empty store
    ///
    /// DIR is created if it isn't there, though not its parents; an empty directory will do as well. Anything else is
    /// refused and left as it is.
    #[command(verbatim_doc_comment, after_help = "Example:\n  vellum init shop --page-size 8192")]
    Init(Init),
    /// Tell what a store is: identity, version, pages, and what opening it found
    ///
    /// `created_at` is when the current version was committed. `recovery` tells what opening the store had to do:
    /// nothing, if it was closed properly.
    ///
    /// Locks the store while it runs. Opening a store that wasn't closed repairs its log's end.
    #[command(verbatim_doc_comment, after_help = "Example:\n  vellum info shop --json")]
    Info(Dir),
    /// Make a page file, such as a SQLite database, the contents of a store
    ///
    /// Page N of the store becomes bytes N * page_size and on of FILE, in one atomic transaction: after a failure the
    /// store is as it was. Only pages that differ from the store's current version are written; if none does and the
    /// length is the same, there is no new version. A page of zeros is a page like any other.
    ///
    /// If there is no store in DIR, one is created. Its page size is --page-size, or what the header of a SQLite
    /// database says, or 4096.
    ///
    /// A kill (Ctrl-C) may leave a store that is still empty; loading again fills it.
    ///
    /// FILE must not change meanwhile. Close a SQLite database first: what is still in its -wal file isn't loaded.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum load shop shop.sqlite\n  vellum export shop - --raw | cmp - shop.sqlite"
    )]
    Load(Load),
    /// List the versions that a store keeps: the current one and the named ones
    ///
    /// Locks the store while it runs.
    #[command(verbatim_doc_comment, visible_alias = "log", after_help = "Example:\n  vellum ls shop")]
    Ls(Dir),
    /// Print the bytes of a page
    ///
    /// The bytes go to standard output as they are; with --hex as a dump for people, with --json as a string of
    /// hexadecimal digits. A page that holds nothing, or lies beyond the end, is exit code 5.
    ///
    /// Locks the store while it runs.
    #[command(verbatim_doc_comment, after_help = "Example:\n  vellum cat shop 0 --hex | head -n 2")]
    Cat(Cat),
    /// Write a version to a file or a pipe, whole or as what changed since another
    ///
    /// The export is a stream that describes and checks itself; `vellum import` makes a store of it, `vellum verify`
    /// checks it. With --since it is a delta, which `vellum apply` and `vellum fold` take. With --raw it is the pages one
    /// after the other and nothing else: what was loaded from a SQLite database is one again.
    ///
    /// A file is written as FILE.part beside it, synced, and renamed to FILE when it is whole, so that FILE is never
    /// half an export. A failure removes FILE.part; a kill (Ctrl-C) may leave it, and the next export to FILE overwrites
    /// it.
    ///
    /// Locks the store while it runs.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum export shop shop.vellum\n  vellum export shop - | ssh host vellum import shop\n  \
                      vellum export shop tuesday.delta --snapshot tuesday --since monday"
    )]
    Export(Export),
    /// Make a new store from an exported stream
    ///
    /// The store stands at the exported version, with its contents and fingerprint, under an identity of its own. It is
    /// built beside DIR under the name .DIR.importing-* and moved to DIR when the whole stream was checked; a failure
    /// leaves nothing, a kill (Ctrl-C) may leave that directory, which can then be removed.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum import copy shop.vellum\n  vellum export shop | vellum import copy"
    )]
    Import(Import),
    /// Apply a delta to a store that stands where the delta begins
    ///
    /// What counts is the fingerprint: an import of the version that the delta was made since, or a store that took all the
    /// deltas before. The whole stream is checked before anything changes, and the change is one atomic commit. An empty
    /// store takes a full stream too.
    #[command(verbatim_doc_comment, after_help = "Example:\n  vellum apply copy tuesday.delta")]
    Apply(Apply),
    /// Make one stream of several that follow one another
    ///
    /// Deltas become one delta; a full stream and the deltas after it become a full stream, the same as an export of the last
    /// version. Needs no store, and little memory. The streams are checked on the way.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum fold --out tuesday.vellum monday.vellum tuesday.delta"
    )]
    Fold(Fold),
    /// Make an independent store of a version, without copying its pages
    ///
    /// The files are hard links, so a store of any size is cloned at once and takes no room of its own until either store
    /// changes; each can be written to, and either can be removed first. Where there can be no links (another file system)
    /// blocks are shared if the file system can do that, and otherwise bytes are copied: the output tells.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum clone shop shop-test\n  vellum clone shop was --snapshot monday"
    )]
    Clone(CloneTo),
    /// Check every byte of a store, of an exported stream, or of a chain of streams
    ///
    /// A directory is opened as a store, and each page, each node of the page table and all totals of the current version
    /// are checked; a file, or `-` for standard input, is checked as a stream. Of several files each must also begin where
    /// the one before it ends. Damage is exit code 3.
    ///
    /// Locks a store while it runs.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum verify shop || echo restore it\n  vellum verify monday.vellum tuesday.delta"
    )]
    Verify(Verify),
    /// Keep versions by name: create, list, drop, compare, go back
    #[command(
        subcommand,
        after_help = "Example:\n  vellum snapshot create shop monday --label by=hand --expires 30d"
    )]
    Snapshot(SnapshotCommand),
    /// Keep a named snapshot from being dropped, or let it go
    #[command(subcommand, after_help = "Example:\n  vellum hold add shop monday audit --expires 1d")]
    Hold(HoldCommand),
    /// Remember versions without keeping their pages, as the base of deltas to come
    #[command(subcommand, after_help = "Example:\n  vellum bookmark create shop sent --snapshot monday")]
    Bookmark(BookmarkCommand),
    /// Give back disk space that nobody needs
    ///
    /// Segment files that are a fifth empty or more are rewritten without what no version sees, dead ones are removed. A
    /// store in use does this by itself as it goes; call it when much was deleted and the space should come back now.
    ///
    /// Locks the store while it runs. A kill (Ctrl-C) does no harm.
    #[command(verbatim_doc_comment, after_help = "Example:\n  vellum compact shop")]
    Compact(Dir),
    /// Print a store's numbers: sizes, segments, counters
    ///
    /// Counters begin at zero when the store is opened, so here they tell what opening did. Locks the store while it runs.
    #[command(verbatim_doc_comment, after_help = "Example:\n  vellum stat shop")]
    Stat(Dir),
}

#[derive(Debug, Args)]
pub(crate) struct Dir {
    /// The store's directory.
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Where the store goes: a new or empty directory.
    pub(crate) dir: PathBuf,
    /// Bytes of a page: a power of two from 512 to 65536; fixed for good [default: 4096].
    #[arg(long, value_name = "N")]
    pub(crate) page_size: Option<u32>,
    /// Bytes of a segment file: a power of two of at least 8 pages, from 65536 to 1073741824 [default: 67108864].
    #[arg(long, value_name = "BYTES")]
    pub(crate) segment_size: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// The store's directory; created if there is none.
    pub(crate) dir: PathBuf,
    /// The page file. Its length must be a multiple of the page size.
    pub(crate) file: PathBuf,
    /// The page size of a new store; for one that is there it must be the store's.
    #[arg(long, value_name = "N")]
    pub(crate) page_size: Option<u32>,
    /// Most bytes of memory that the pages that differ may take.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    pub(crate) memory: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// The store's directory.
    pub(crate) dir: PathBuf,
    /// The page's number, from 0 on.
    pub(crate) page: u64,
    /// Print a hex dump instead of the bytes.
    #[arg(long, conflicts_with = "json")]
    pub(crate) hex: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The store's directory.
    pub(crate) dir: PathBuf,
    /// The file to write, or `-` for standard output, which is the default unless that is a terminal.
    pub(crate) file: Option<PathBuf>,
    /// Write the pages and nothing else; those that hold nothing as zeros.
    #[arg(long)]
    pub(crate) raw: bool,
    /// The named snapshot to write, instead of the current version.
    #[arg(long, value_name = "NAME")]
    pub(crate) snapshot: Option<String>,
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
    /// The named snapshot to clone, instead of the current version.
    #[arg(long, value_name = "NAME")]
    pub(crate) snapshot: Option<String>,
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
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Give the current contents a name, under which they are kept
    Create {
        /// The store's directory.
        dir: PathBuf,
        /// The name.
        name: String,
        /// A label; can be given several times.
        #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
        label: Vec<(String, String)>,
        /// After this time retention may drop it: 90s, 15m, 12h, 7d, 2w.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expires: Option<Duration>,
    },
    /// List the named snapshots
    Ls(Dir),
    /// Tell what each named snapshot costs
    ///
    /// Unique bytes are what dropping that one alone would give back; with several gone, more may come back than the sum.
    #[command(verbatim_doc_comment)]
    Space(Dir),
    /// Drop named snapshots
    Rm {
        /// The store's directory.
        dir: PathBuf,
        /// The names.
        #[arg(required = true)]
        names: Vec<String>,
        /// Drop those that are held as soon as they aren't.
        #[arg(long)]
        when_released: bool,
        /// Drop nothing, and tell what would come back.
        #[arg(long)]
        dry_run: bool,
    },
    /// Give a named snapshot another name
    Rename {
        /// The store's directory.
        dir: PathBuf,
        /// The name it has.
        from: String,
        /// The name it gets.
        to: String,
    },
    /// List the pages that differ between two versions
    Diff {
        /// The store's directory.
        dir: PathBuf,
        /// The named snapshot to compare with.
        from: String,
        /// The named snapshot to compare, instead of the current version.
        to: Option<String>,
    },
    /// Make the contents of a named snapshot the current ones again
    ///
    /// What was there before is kept as the snapshot before-rollback-VERSION, which expires after a week.
    #[command(verbatim_doc_comment)]
    Rollback {
        /// The store's directory.
        dir: PathBuf,
        /// The named snapshot.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum HoldCommand {
    /// Keep a named snapshot from being dropped
    Add {
        /// The store's directory.
        dir: PathBuf,
        /// The named snapshot.
        name: String,
        /// Who holds it.
        owner: String,
        /// The hold ends by itself after this time: 90s, 15m, 12h, 7d, 2w.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expires: Option<Duration>,
    },
    /// End a hold
    Rm {
        /// The store's directory.
        dir: PathBuf,
        /// The named snapshot.
        name: String,
        /// Who holds it.
        owner: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BookmarkCommand {
    /// Remember a version
    Create {
        /// The store's directory.
        dir: PathBuf,
        /// The bookmark's name.
        name: String,
        /// The named snapshot to remember, instead of the current version.
        #[arg(long, value_name = "NAME")]
        snapshot: Option<String>,
    },
    /// List the bookmarks
    Ls(Dir),
    /// Forget a bookmark
    Rm {
        /// The store's directory.
        dir: PathBuf,
        /// The bookmark's name.
        name: String,
    },
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: a number and s, m, h, d or w, such as 12h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}
