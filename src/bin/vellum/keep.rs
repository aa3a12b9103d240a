//! `prune`, `tick`, `history`: which versions stay, and which are made by the clock.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::SystemTime;

use vellum::{CatchUp, History, NamedSnapshot, Retention, Schedule};

use crate::args::{HistoryArgs, Prune, Rules, Show, Tick};
use crate::error::Failure;
use crate::output::{Field, Report};
use crate::place::open_to_read;
use crate::progress::Waiting;
use crate::snapshot::labels;

fn retention(rules: &Rules) -> Retention {
    type Rule = fn(Retention, usize) -> Retention;
    let counted: [(Option<NonZeroUsize>, Rule); 6] = [
        (rules.last, Retention::keep_last),
        (rules.hourly, Retention::keep_hourly),
        (rules.daily, Retention::keep_daily),
        (rules.weekly, Retention::keep_weekly),
        (rules.monthly, Retention::keep_monthly),
        (rules.yearly, Retention::keep_yearly),
    ];
    let mut policy = Retention::new();
    for (count, rule) in counted {
        if let Some(count) = count {
            policy = rule(policy, count.get());
        }
    }
    if let Some(time) = rules.within {
        policy = policy.keep_within(time);
    }
    rules.labelled.iter().fold(policy, |policy, (key, value)| policy.keep_label(key, value))
}

pub(crate) fn prune(args: &Prune, show: Show) -> Result<(), Failure> {
    let store = open_to_read(&args.dir, show)?;
    let waiting = Waiting::new("prune", show);
    let only = |policy: Retention, (key, value): &(String, String)| policy.only_label(key, value);
    let policy = args.only_label.iter().fold(retention(&args.rules), only);
    let now = SystemTime::now();
    // Nobody else has the store open, so what is done is what was planned.
    let plan = store.plan_retention(&policy, now)?;
    let lines = plan.decisions.iter().map(|decision| {
        let named: &NamedSnapshot = &decision.snapshot;
        let told = decision.to_string();
        let why = told.split_once(": ").map_or(&*told, |(_, why)| why);
        Report::new()
            .text("name", &named.name)
            .count("version", named.version.get())
            .with("created_at", Field::Time(named.created_at))
            .with("stays", Field::Flag(decision.is_kept()))
            .text("why", why)
    });
    let lines: Vec<Report> = lines.collect();
    let (kept, mut dropped, mut freed) =
        (plan.kept().count() as u64, plan.dropped().count() as u64, plan.freed_bytes);
    if !args.dry_run {
        let done = store.prune(&policy, now)?;
        (dropped, freed) = (done.dropped.len() as u64, done.freed_bytes);
    }
    store.close()?;
    drop(waiting);
    Report::new()
        .with("is_dry_run", Field::Flag(args.dry_run))
        .count("kept", kept)
        .count("dropped", dropped)
        .bytes("bytes_freed", freed)
        .with("snapshots", Field::List(lines))
        .print(show)
}

pub(crate) fn tick(args: &Tick, show: Show) -> Result<(), Failure> {
    let mut schedule = Schedule::every(&args.name, args.every);
    if let Some(offset) = args.offset {
        schedule = schedule.at(offset);
    }
    if let Some(most) = args.jitter {
        schedule = schedule.jitter(most, seed(&args.dir));
    }
    if let Some(late) = args.if_within {
        schedule = schedule.catch_up(CatchUp::IfWithin(late));
    }
    for (key, value) in labels(&args.about)? {
        schedule = schedule.label(key, value);
    }
    if let Some(time) = args.about.expires {
        schedule = schedule.expires_in(time);
    }
    // Without a rule nothing but what has expired goes, so it does no harm.
    schedule = schedule.keep(retention(&args.rules));
    let store = open_to_read(&args.dir, show)?;
    let waiting = Waiting::new("tick", show);
    let done = store.tick(&schedule, SystemTime::now())?;
    store.close()?;
    drop(waiting);
    Report::new()
        .with("snapshot", done.snapshot.map_or(Field::No("nothing was due"), Field::Text))
        .with("due", done.due.map_or(Field::Unknown, Field::Time))
        .count("missed", done.missed)
        .with("next", Field::Time(done.next))
        .with("is_clock_behind", Field::Flag(done.is_clock_behind))
        .with("dropped", Field::Texts(done.pruned.dropped))
        .bytes("bytes_freed", done.pruned.freed_bytes)
        .print(show)
}

/// Another for each directory, and always the same for one: FNV-1a of its path.
fn seed(dir: &Path) -> u64 {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    dir.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

pub(crate) fn history(args: &HistoryArgs, show: Show) -> Result<(), Failure> {
    let asked = match (args.off, args.versions, args.within) {
        (true, ..) => Some(History::off()),
        (false, Some(count), _) => Some(History::versions(count)),
        (false, None, Some(time)) => Some(History::within(time)),
        (false, None, None) => None,
    };
    let asked = match (asked, args.one_per) {
        (Some(history), Some(interval)) => Some(history.one_per(interval)),
        (None, Some(_)) => {
            let reason = "--one-per thins out what --versions or --within keeps: give one of these too";
            return Err(Failure::Usage(reason.to_owned()));
        }
        (asked, _) => asked,
    };
    let store = open_to_read(&args.dir, show)?;
    if let Some(history) = asked {
        store.set_history(history)?;
    }
    let (policy, kept) = (store.history_policy(), store.history());
    store.close()?;
    let oldest = kept.first();
    Report::new()
        .text("keeps", &policy)
        .with("is_on", Field::Flag(policy != History::off()))
        .count("versions", kept.len() as u64)
        .with("oldest_version", oldest.map_or(Field::Unknown, |oldest| Field::Count(oldest.version.get())))
        .with("oldest_created_at", oldest.map_or(Field::Unknown, |oldest| Field::Time(oldest.created_at)))
        .print(show)
}
