//! The arguments of what decides which versions stay.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::names::{About, label};
use crate::moment::duration;

/// Which named snapshots stay.
#[derive(Debug, Args)]
pub(crate) struct Rules {
    /// Keep the newest N.
    #[arg(long = "keep-last", value_name = "N")]
    pub(crate) last: Option<NonZeroUsize>,
    /// Keep the newest of each of the last N hours that have any.
    #[arg(long = "keep-hourly", value_name = "N")]
    pub(crate) hourly: Option<NonZeroUsize>,
    /// The same of days.
    #[arg(long = "keep-daily", value_name = "N")]
    pub(crate) daily: Option<NonZeroUsize>,
    /// The same of weeks.
    #[arg(long = "keep-weekly", value_name = "N")]
    pub(crate) weekly: Option<NonZeroUsize>,
    /// The same of months.
    #[arg(long = "keep-monthly", value_name = "N")]
    pub(crate) monthly: Option<NonZeroUsize>,
    /// The same of years.
    #[arg(long = "keep-yearly", value_name = "N")]
    pub(crate) yearly: Option<NonZeroUsize>,
    /// Keep all that are at most so much older than the newest: 90s, 15m, 12h, 7d, 2w.
    #[arg(long = "keep-within", value_name = "TIME", value_parser = duration)]
    pub(crate) within: Option<Duration>,
    /// Keep those with this label; can be given several times.
    #[arg(long = "keep-label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labelled: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// The store's directory.
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) rules: Rules,
    /// Only look at snapshots with this label; of several they must have all.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) only_label: Vec<(String, String)>,
    /// Drop nothing, and tell what would go, why the others stay, and what would come back.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Tick {
    /// The store's directory.
    pub(crate) dir: PathBuf,
    /// The schedule's name, with which its snapshots' names begin.
    pub(crate) name: String,
    /// How often a snapshot is due: 90s, 15m, 12h, 7d, 2w, counted from 1970 (UTC).
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) every: Duration,
    /// How much later than the full hour (day, week) each is due.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) offset: Option<Duration>,
    /// Up to how much later again, differently each time and for each directory.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) jitter: Option<Duration>,
    /// What is later than this isn't caught up on; without it, the last missed one is.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) if_within: Option<Duration>,
    #[command(flatten)]
    pub(crate) about: About,
    #[command(flatten)]
    pub(crate) rules: Rules,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The store's directory.
    pub(crate) dir: PathBuf,
    /// Keep the newest N versions from now on.
    #[arg(long, value_name = "N", conflicts_with_all = ["within", "off"])]
    pub(crate) versions: Option<usize>,
    /// Keep what is needed to go back by this time from now on: 90s, 15m, 12h, 7d, 2w.
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "off")]
    pub(crate) within: Option<Duration>,
    /// Of each stretch of this time only the last version.
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "off")]
    pub(crate) one_per: Option<Duration>,
    /// Keep no versions but those with names from now on, and let go what was kept.
    #[arg(long)]
    pub(crate) off: bool,
}
