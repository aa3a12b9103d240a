//! The command line, and all the help there is. What stands here is what the user reads, so it teaches.

mod endpoint;
mod group;
mod keep;
mod names;
mod streams;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

pub(crate) use endpoint::Endpoint;
pub(crate) use group::{GroupCommand, Members};
pub(crate) use keep::{HistoryArgs, Prune, Rules, Tick};
pub(crate) use names::{About, BookmarkCommand, HoldCommand, SnapshotCommand};
pub(crate) use streams::{Apply, CloneTo, Drill, Export, Fold, Import, Reading, ScrubArgs, Verify, Writing};

use crate::moment::{At, at, duration};

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
    #[arg(long, global = true, display_order = 100)]
    pub(crate) json: bool,
    /// Show no progress. It is only ever shown on a terminal.
    #[arg(long, short, global = true, display_order = 100)]
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
    /// What was remembered without being kept is listed by `vellum bookmark ls`; what changed from one version to the
    /// next by `vellum log`. Locks the store while it runs.
    #[command(verbatim_doc_comment, after_help = "Example:\n  vellum ls shop")]
    Ls(Dir),
    /// Tell a store's history: its versions, the newest first, with what changed from one to the next
    ///
    /// A store keeps the current version, those that have names, and those that `vellum history` keeps; these are told, and
    /// the bookmarks between them. Pages written and freed are counted against the kept version before; against a bookmark
    /// nothing can be counted, since its pages are gone.
    ///
    /// Locks the store while it runs.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum log shop --limit 5\n  vellum log shop --json | jq '.versions[0].pages_written'"
    )]
    Log(Log),
    /// Print the bytes of a page, as they are or were
    ///
    /// The bytes go to standard output as they are; with --hex as a dump for people, with --json as a string of
    /// hexadecimal digits. A page that holds nothing, or lies beyond the end, is exit code 5.
    ///
    /// Locks the store while it runs.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum cat shop 0 --hex | head -n 2\n  vellum cat shop 0 --snapshot monday > page"
    )]
    Cat(Cat),
    /// Write a version to a file or a pipe, whole or as what changed since another
    ///
    /// The export is a stream that describes and checks itself; `vellum import` makes a store of it, `vellum verify`
    /// checks it. With --since it is a delta, which `vellum apply` and `vellum fold` take. With --raw it is the pages one
    /// after the other and nothing else: what was loaded from a SQLite database is one again. With both it is a raw delta,
    /// which `vellum apply` brings to the raw file of the version before.
    ///
    /// A file is written as FILE.part beside it, synced, and renamed to FILE when it is whole, so that FILE is never
    /// half an export. A failure removes FILE.part; a kill (Ctrl-C) may leave it, and the next export to FILE overwrites
    /// it.
    ///
    /// With --resume both are kept, with a token in FILE.token for which the store holds the version; the same command,
    /// given again, goes on from the last mark before the cut. To begin anew, let go with --end and remove FILE.part. For a
    /// pipe, --token-file says where the token is kept, --from from where on the other end needs the stream (`vellum import
    /// DIR --point` tells), and --end that it has all of it.
    ///
    /// Locks the store while it runs.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum export shop shop.vellum\n  vellum export shop - | ssh host vellum import shop\n  \
                      vellum export shop tuesday.delta --snapshot tuesday --since monday\n  \
                      vellum export shop shop.vellum --compress --key-file backup.key --rate 50000000 --resume"
    )]
    Export(Export),
    /// Make a new store from an exported stream
    ///
    /// The store stands at the exported version, with its contents and fingerprint, under an identity of its own. It is
    /// built beside DIR under the name .DIR.importing-* and moved to DIR when the whole stream was checked; a failure
    /// leaves nothing, a kill (Ctrl-C) may leave that directory, which can then be removed.
    ///
    /// With --resume what arrives is kept in DIR.inbox, as far as it was checked; after a cut, which is exit code 3, the same
    /// command takes the rest of the stream, from standard input, or all of it again, from a file.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum import copy shop.vellum\n  vellum export shop | vellum import copy\n  \
                      POINT=$(vellum import copy --point)\n  \
                      vellum export shop - --token-file shop.token --from \"$POINT\" | vellum import copy --resume"
    )]
    Import(Import),
    /// Apply a delta to a store that stands where the delta begins
    ///
    /// What counts is the fingerprint: an import of the version that the delta was made since, or a store that took all the
    /// deltas before. The whole stream is checked before anything changes, and the change is one atomic commit. An empty
    /// store takes a full stream too.
    ///
    /// A raw delta (`export --raw --since`) is for a raw file (`export --raw`), which doesn't say what it holds: see to it
    /// that it is the version that the delta was made since. The whole delta is checked before the file is touched. After a
    /// crash on the way apply it again: twice does no harm.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum apply copy tuesday.delta\n  \
                      vellum export shop tuesday.raw --raw --since monday && vellum apply monday.sqlite tuesday.raw"
    )]
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
    /// Check every page that any kept version sees, list what is damaged, and mend it from somewhere else
    ///
    /// Unlike `verify` this goes on where damage is found, and looks at all versions that the store keeps, at each page once.
    /// With --repair-from damaged pages are mended in all versions from a clone, a restored copy, or an export, in
    /// the order given, stores first. A source need not be trusted: only bytes with the checksum that the store
    /// keeps of the page are used.
    ///
    /// Damage that is left is exit code 3, after the report. Damaged nodes of the page table can't be mended: restore the
    /// store from an export. `offset` is the page's place in its segment.
    ///
    /// Locks the store while it runs, and the stores that it repairs from.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum scrub shop --rate 16777216\n  \
                      vellum scrub shop --repair-from shop-clone --repair-from shop.vellum"
    )]
    Scrub(ScrubArgs),
    /// Rehearse a restore: in a scratch place, with everything read back
    ///
    /// A chain of streams (a full one and the deltas after it) or a version of a store is restored as it would be in
    /// earnest, each link's fingerprint is compared, every page is read back, and all of it is removed again. With --run a
    /// command of yours is the last to look: it finds the restored pages, one after the other as `export --raw` writes them,
    /// in the file that $VELLUM_RAW names, and says by its exit code whether they are as they should be.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum drill shop.vellum tuesday.delta\n  \
                      vellum drill shop --run 'sqlite3 $VELLUM_RAW .schema'"
    )]
    Drill(Drill),
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
    /// Keep several stores as of one moment: create, list, drop, export, check, bring back
    #[command(subcommand, after_help = "Example:\n  vellum group create nightly orders stock")]
    Group(GroupCommand),
    /// Drop the named snapshots that no rule keeps, and tell why the others stay
    ///
    /// A snapshot stays if any rule keeps it, if somebody holds it, or if its expiry hasn't come; one that has expired goes
    /// whatever the rules say. Without any rule only what has expired goes. Hours, days, weeks, months and years are those of
    /// the calendar in UTC, and count back from the newest snapshot. N is 1 or more: what is to go for good is named to
    /// `vellum snapshot rm`.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum prune shop --keep-last 3 --keep-daily 7 --keep-monthly 12 --dry-run"
    )]
    Prune(Prune),
    /// Make the snapshot that a schedule has due now, if any, and drop its old ones
    ///
    /// To be called by cron or a timer, as often as the snapshots should be punctual: what was made is told by their labels, so
    /// nothing is made twice, and what was missed is counted. The rules are about the schedule's own snapshots only.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum tick shop hourly --every 1h --keep-hourly 24 --keep-daily 31"
    )]
    Tick(Tick),
    /// Tell or choose which versions are kept without a name
    ///
    /// Those can be given to every --at, by number or by time, and `vellum log` lists them. The choice is a part of the
    /// store, and holds for programs that open it too.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum history shop --within 7d --one-per 1m\n  vellum cat shop 0 --at 2h --hex"
    )]
    History(HistoryArgs),
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
    /// Show who keeps old versions and what a store does, now: also of a store in use
    ///
    /// Another process has the store open as a rule. It is the one to tell, if it opened the store with
    /// `Options::status_every` (feature `status`); what it wrote last is shown, and drawn anew as it goes on, until Ctrl-C. A
    /// store that nobody has open is opened, shown once, and closed.
    ///
    /// KEEPS ALONE is what would come back if that one pin went, VERSION KEEPS if all pins of its version went.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum top shop\n  vellum top shop --json | jq '.stats.disk_bytes'"
    )]
    Top(Top),
    /// Draw a store: pages by age, segments by liveness, snapshots by unique bytes
    ///
    /// The picture is an SVG, which browsers show; what is under the pointer is told in words. It is of the same size however
    /// large the store is: then each cell stands for more pages, and each bar for more segments.
    ///
    /// Reads the page table twice, and no pages. Locks the store while it runs.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum map shop shop.svg\n  vellum map shop - | rsvg-convert --output shop.png"
    )]
    Map(Map),
    /// Print a script that completes this tool's command lines in a shell
    ///
    /// Put it where the shell looks for such scripts, or have it read when a shell starts.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum completions bash > ~/.local/share/bash-completion/completions/vellum\n  \
                      vellum completions fish > ~/.config/fish/completions/vellum.fish"
    )]
    Completions(Completions),
    /// Write the manual pages, one for each command, into a directory
    ///
    /// They are named vellum.1, vellum-export.1 and so on, as `man` wants them; those that are there are replaced. DIR is
    /// created if it isn't there, though not its parents.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum man ~/.local/share/man/man1 && man vellum-export"
    )]
    Man(Dir),
}

/// Which version of a store a command is about.
#[derive(Debug, Default, Args)]
pub(crate) struct Which {
    /// The named snapshot to take, instead of the current version.
    #[arg(long, value_name = "NAME")]
    pub(crate) snapshot: Option<String>,
    /// The version, or what was current at that time, instead: 1234, 2026-11-27T03:15, 12h (ago).
    #[arg(long, value_name = "VERSION|TIME", value_parser = at, conflicts_with = "snapshot")]
    pub(crate) at: Option<At>,
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
    #[arg(value_parser = clap::value_parser!(u64).range(..u64::MAX))]
    pub(crate) page: u64,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Print a hex dump instead of the bytes.
    #[arg(long, conflicts_with = "json")]
    pub(crate) hex: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Log {
    /// The store's directory.
    pub(crate) dir: PathBuf,
    /// Tell only of so many versions, the newest.
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell.
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Map {
    /// The store's directory.
    pub(crate) dir: PathBuf,
    /// The file to write, or `-` for standard output, which is the default unless that is a terminal.
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) file: Option<Endpoint>,
    /// Replace FILE if it is there.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// The store's directory.
    pub(crate) dir: PathBuf,
    /// Time between two looks: 1s, 15s, 1m.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) every: Duration,
    /// Show it once, as is done where standard output is no terminal.
    #[arg(long)]
    pub(crate) once: bool,
    /// Show so many pins at most.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) pins: usize,
}
