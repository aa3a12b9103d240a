//! `group`: snapshots of several stores at one moment, kept, exported and dropped as one.

use std::path::PathBuf;

use vellum::{Group, GroupSnapshot, GroupSummary, Options, Store, verify_group_export};

use crate::args::{GroupCommand, Members, Show};
use crate::error::Failure;
use crate::output::{Field, Report};
use crate::place::open_to_read;
use crate::progress::{Bar, Waiting};
use crate::snapshot::naming;

pub(crate) fn group(command: &GroupCommand, show: Show) -> Result<(), Failure> {
    match command {
        GroupCommand::Create { name, members, about } => {
            let naming = naming(about)?;
            let (group, stores) = open(members, show)?;
            let waiting = Waiting::new("create", show);
            let made = group.create_snapshot_with(name, naming, vellum::Quiesce::new())?;
            let lines = group.members().iter().zip(&made.snapshots).map(|(store, snapshot)| {
                Report::new()
                    .text("dir", &dir_of(&stores, store))
                    .text("store", &store.id())
                    .count("version", snapshot.version().get())
                    .text("fingerprint", &snapshot.fingerprint())
            });
            let report = Report::new()
                .text("name", name)
                .text("id", &made.id)
                .with("members", Field::List(lines.collect()));
            drop((made, group));
            close(stores)?;
            drop(waiting);
            report.print(show)
        }
        GroupCommand::Ls { members } => {
            let (group, _stores) = open(members, show)?;
            let line = |found: &GroupSnapshot| {
                Report::new()
                    .text("name", &found.name)
                    .with("created_at", Field::Time(found.created_at))
                    .with("is_complete", Field::Flag(found.is_complete()))
                    .count("members", found.members.len() as u64)
                    .with("missing", Field::Texts(found.missing.clone()))
                    .text("id", &found.id)
            };
            let lines = group.snapshots().iter().map(line).collect();
            Report::new().with("groups", Field::List(lines)).print(show)
        }
        GroupCommand::Rm { name, members } => {
            let (group, stores) = open(members, show)?;
            group.drop_snapshot(name)?;
            drop(group);
            close(stores)?;
            Report::new().text("name", name).count("stores", members.dirs.len() as u64).print(show)
        }
        GroupCommand::Export { name, to, members, jobs } => {
            let (group, stores) = open(members, show)?;
            let summary = group.export(name, to, *jobs, &mut Bar::new(show))?;
            drop((group, stores));
            about(&summary).text("dir", &to.display()).print(show)
        }
        GroupCommand::Verify { dir, jobs } => {
            about(&verify_group_export(dir, *jobs, &mut Bar::new(show))?).print(show)
        }
        GroupCommand::Import { dir, to, jobs } => {
            let options = Options::new().background(false);
            let stores = Group::import(dir, to, options, *jobs, &mut Bar::new(show))?;
            let lines = stores.iter().enumerate().map(|(index, store)| {
                let snapshot = store.snapshot();
                Report::new()
                    .text("dir", &to.join(format!("member-{index:02}")).display())
                    .text("id", &store.id())
                    .count("version", snapshot.version().get())
                    .text("fingerprint", &snapshot.fingerprint())
                    .count("pages", snapshot.live_pages())
            });
            let report = Report::new().with("members", Field::List(lines.collect()));
            drop(stores);
            report.print(show)
        }
    }
}

/// The members, opened, with the directories that they are in.
type Opened = Vec<(PathBuf, Store)>;

fn open(members: &Members, show: Show) -> Result<(Group, Opened), Failure> {
    for (index, dir) in members.dirs.iter().enumerate() {
        // Opening it a second time would find it locked by ourselves.
        if members.dirs[..index].contains(dir) {
            return Err(Failure::Usage(format!("{} is given twice: give each store once", dir.display())));
        }
    }
    let opened = members.dirs.iter().map(|dir| Ok((dir.clone(), open_to_read(dir, show)?)));
    let stores = opened.collect::<Result<Opened, Failure>>()?;
    let group = Group::new(&stores.iter().map(|(_, store)| store).collect::<Vec<_>>())?;
    Ok((group, stores))
}

fn close(stores: Opened) -> Result<(), Failure> {
    stores.into_iter().try_for_each(|(_, store)| Ok(store.close()?))
}

fn dir_of(stores: &Opened, store: &Store) -> String {
    let found = stores.iter().find(|(_, other)| other.id() == store.id());
    found.map_or_else(String::new, |(dir, _)| dir.display().to_string())
}

fn about(summary: &GroupSummary) -> Report {
    let lines = summary.members.iter().map(|member| {
        Report::new()
            .text("file", &member.file)
            .text("store", &member.store_id)
            .count("version", member.version.get())
            .text("fingerprint", &member.fingerprint)
            .count("pages", member.pages)
            .bytes("bytes", member.bytes)
    });
    Report::new()
        .text("name", &summary.name)
        .text("id", &summary.id)
        .with("members", Field::List(lines.collect()))
}
