//! The arguments of what keeps versions by name.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Dir, Which};
use crate::moment::{At, at, duration};

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Give the current contents a name, under which they are kept
    #[command(after_help = "Example:\n  vellum snapshot create shop monday --label by=hand --expires 30d")]
    Create {
        /// The store's directory.
        dir: PathBuf,
        /// The name.
        name: String,
        #[command(flatten)]
        about: About,
    },
    /// List the named snapshots
    #[command(after_help = "Example:\n  vellum snapshot ls shop")]
    Ls(Dir),
    /// Tell what each named snapshot costs
    ///
    /// Unique bytes are what dropping that one alone would give back; with several gone, more may come back than the sum.
    /// `vellum snapshot rm --dry-run` tells what any set of them would give back.
    #[command(verbatim_doc_comment, after_help = "Example:\n  vellum snapshot space shop")]
    Space(Dir),
    /// Drop named snapshots, and tell what comes back
    ///
    /// The bytes are exact, and come back on disk with `vellum compact` or as a program goes on using the store. If one of
    /// the snapshots isn't there or is held, none is dropped. With --when-released those that are held stay until their last
    /// hold ends, and what they keep is told as `bytes still held`.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum snapshot rm shop monday tuesday --dry-run\n  vellum snapshot rm shop monday tuesday"
    )]
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
    #[command(after_help = "Example:\n  vellum snapshot rename shop monday before-the-upgrade")]
    Rename {
        /// The store's directory.
        dir: PathBuf,
        /// The name it has.
        from: String,
        /// The name it gets.
        to: String,
    },
    /// Replace the labels and the expiry of a named snapshot
    ///
    /// What isn't given is taken away: without --expires it stays until it is dropped.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum snapshot describe shop monday --label keep=yes --label by=hand"
    )]
    Describe {
        /// The store's directory.
        dir: PathBuf,
        /// The named snapshot.
        name: String,
        #[command(flatten)]
        about: About,
    },
    /// List the pages that differ between two versions
    #[command(
        after_help = "Example:\n  vellum snapshot diff shop monday tuesday\n  vellum snapshot diff shop monday"
    )]
    Diff {
        /// The store's directory.
        dir: PathBuf,
        /// The named snapshot to compare with.
        from: String,
        /// The named snapshot to compare, instead of the current version.
        to: Option<String>,
    },
    /// Make the contents of a named snapshot, or of another version that is kept, the current ones again
    ///
    /// What was there before is kept as the snapshot before-rollback-VERSION, which expires after a week. The change is one
    /// atomic commit, and writes what differs.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  vellum snapshot rollback shop monday\n  vellum snapshot rollback shop --at 2h"
    )]
    Rollback {
        /// The store's directory.
        dir: PathBuf,
        /// The named snapshot.
        #[arg(required_unless_present = "at")]
        name: Option<String>,
        /// The version, or what was current at that time, instead: 1234, 2026-11-27T03:15, 12h (ago).
        #[arg(long, value_name = "VERSION|TIME", value_parser = at, conflicts_with = "name")]
        at: Option<At>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum HoldCommand {
    /// Keep a named snapshot from being dropped
    #[command(after_help = "Example:\n  vellum hold add shop monday audit --expires 1d")]
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
    /// List the holds of all named snapshots
    #[command(after_help = "Example:\n  vellum hold ls shop")]
    Ls(Dir),
    /// End a hold
    #[command(after_help = "Example:\n  vellum hold rm shop monday audit")]
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
    #[command(after_help = "Example:\n  vellum bookmark create shop sent --snapshot monday")]
    Create {
        /// The store's directory.
        dir: PathBuf,
        /// The bookmark's name.
        name: String,
        #[command(flatten)]
        which: Which,
    },
    /// List the bookmarks
    #[command(after_help = "Example:\n  vellum bookmark ls shop")]
    Ls(Dir),
    /// Give a bookmark another name
    #[command(after_help = "Example:\n  vellum bookmark rename shop sent sent-in-may")]
    Rename {
        /// The store's directory.
        dir: PathBuf,
        /// The name it has.
        from: String,
        /// The name it gets.
        to: String,
    },
    /// Forget a bookmark
    #[command(after_help = "Example:\n  vellum bookmark rm shop sent")]
    Rm {
        /// The store's directory.
        dir: PathBuf,
        /// The bookmark's name.
        name: String,
    },
}

/// What is noted with a named snapshot.
#[derive(Debug, Args)]
pub(crate) struct About {
    /// A label; can be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) label: Vec<(String, String)>,
    /// After this time retention may drop it: 90s, 15m, 12h, 7d, 2w.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) expires: Option<Duration>,
}

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
