//! `snapshot`, `hold`, `bookmark`: versions that are kept or remembered by name.

use std::path::Path;
use std::time::{Duration, SystemTime};

use vellum::{Error, NamedSnapshot, Naming, Snapshot, Store};

use crate::args::{BookmarkCommand, HoldCommand, Show, SnapshotCommand};
use crate::error::Failure;
use crate::output::{Field, Report};
use crate::place::open_to_read;

pub(crate) fn snapshot(command: &SnapshotCommand, show: Show) -> Result<(), Failure> {
    match command {
        SnapshotCommand::Create { dir, name, label, expires } => {
            let store = open_to_read(dir)?;
            let mut naming = Naming::new();
            for (key, value) in label {
                naming = naming.label(key, value);
            }
            if let Some(time) = expires {
                naming = naming.expires_in(*time);
            }
            drop(store.create_snapshot_with(name, naming)?);
            let report = about(&find(&store, name)?);
            store.close()?;
            report.print(show)
        }
        SnapshotCommand::Ls(args) => {
            let snapshots = open_to_read(&args.dir)?.snapshots();
            Report::new().with("snapshots", Field::List(snapshots.iter().map(about).collect())).print(show)
        }
        SnapshotCommand::Space(args) => {
            let store = open_to_read(&args.dir)?;
            let line = |space: vellum::SnapshotSpace| {
                Report::new()
                    .text("name", &space.name)
                    .count("version", space.version.get())
                    .bytes("page_bytes", space.page_bytes)
                    .bytes("unique_bytes", space.unique_bytes)
            };
            let lines = store.snapshot_space()?.into_iter().map(line).collect();
            Report::new().with("snapshots", Field::List(lines)).print(show)
        }
        SnapshotCommand::Rm { dir, names, when_released, dry_run } => {
            remove(dir, names, (*when_released, *dry_run), show)
        }
        SnapshotCommand::Rename { dir, from, to } => {
            let store = open_to_read(dir)?;
            store.rename_snapshot(from, to)?;
            let report = about(&find(&store, to)?);
            store.close()?;
            report.print(show)
        }
        SnapshotCommand::Diff { dir, from, to } => diff(dir, from, to.as_deref(), show),
        SnapshotCommand::Rollback { dir, name } => {
            let store = open_to_read(dir)?;
            let done = store.rollback_to(&store.open_snapshot(name)?)?;
            let mut report = Report::new()
                .count("version", done.version.get())
                .count("pages_written", done.pages_written)
                .count("pages_freed", done.pages_freed);
            if let Some(head) = &done.head {
                report = report.text("kept_as", head);
            }
            store.close()?;
            report.print(show)
        }
    }
}

fn remove(dir: &Path, names: &[String], how: (bool, bool), show: Show) -> Result<(), Failure> {
    let (when_released, is_dry_run) = how;
    let store = open_to_read(dir)?;
    let listed: Vec<&str> = names.iter().map(String::as_str).collect();
    let bytes = store.would_free(&listed)?;
    for name in names.iter().filter(|_| !is_dry_run) {
        match when_released {
            true => store.drop_snapshot_when_released(name)?,
            false => store.drop_snapshot(name)?,
        }
    }
    store.close()?;
    Report::new()
        .count("snapshots", names.len() as u64)
        .with("is_dry_run", Field::Flag(is_dry_run))
        .bytes("bytes_freed", bytes)
        .print(show)
}

fn diff(dir: &Path, from: &str, to: Option<&str>, show: Show) -> Result<(), Failure> {
    let store = open_to_read(dir)?;
    let changes = version_of(&store, to)?.diff(&store.open_snapshot(from)?)?;
    let mut runs: Vec<(u64, u64, bool)> = Vec::new();
    for (id, is_written) in &changes {
        let continues = |(first, count, before): &&mut (u64, u64, bool)| {
            *first + *count == id.get() && before == is_written
        };
        match runs.last_mut().filter(continues) {
            Some((_, count, _)) => *count += 1,
            None => runs.push((id.get(), 1, *is_written)),
        }
    }
    let line = |(first, count, is_written): (u64, u64, bool)| {
        let change = if is_written { "written" } else { "freed" };
        Report::new().text("change", change).count("first_page", first).count("pages", count)
    };
    let written = changes.iter().filter(|(_, is_written)| *is_written).count() as u64;
    Report::new()
        .count("pages_written", written)
        .count("pages_freed", changes.len() as u64 - written)
        .with("changes", Field::List(runs.into_iter().map(line).collect()))
        .print(show)
}

pub(crate) fn hold(command: &HoldCommand, show: Show) -> Result<(), Failure> {
    let (HoldCommand::Add { dir, name, .. } | HoldCommand::Rm { dir, name, .. }) = command;
    let store = open_to_read(dir)?;
    match command {
        HoldCommand::Add { owner, expires, .. } => {
            let until = |time: &Duration| SystemTime::now().checked_add(*time);
            store.hold_snapshot(name, owner, expires.as_ref().and_then(until))?;
        }
        HoldCommand::Rm { owner, .. } => store.release_snapshot(name, owner)?,
    }
    // One that was to be dropped with its last hold is gone now.
    let report = find(&store, name).map_or_else(|_| Report::new().text("name", name), |found| about(&found));
    store.close()?;
    report.print(show)
}

pub(crate) fn bookmark(command: &BookmarkCommand, show: Show) -> Result<(), Failure> {
    let about = |bookmark: &vellum::Bookmark| {
        Report::new()
            .text("name", &bookmark.name)
            .count("version", bookmark.version.get())
            .with("created_at", Field::Time(bookmark.created_at))
            .text("fingerprint", &bookmark.fingerprint)
    };
    match command {
        BookmarkCommand::Create { dir, name, snapshot } => {
            let store = open_to_read(dir)?;
            store.create_bookmark(name, &version_of(&store, snapshot.as_deref())?)?;
            let report = about(&store.bookmark(name)?);
            store.close()?;
            report.print(show)
        }
        BookmarkCommand::Ls(args) => {
            let bookmarks = open_to_read(&args.dir)?.bookmarks();
            Report::new().with("bookmarks", Field::List(bookmarks.iter().map(about).collect())).print(show)
        }
        BookmarkCommand::Rm { dir, name } => {
            let store = open_to_read(dir)?;
            store.drop_bookmark(name)?;
            store.close()?;
            Report::new().text("name", name).print(show)
        }
    }
}

/// A named snapshot, or the current version.
pub(crate) fn version_of(store: &Store, name: Option<&str>) -> Result<Snapshot, Error> {
    match name {
        Some(name) => store.open_snapshot(name),
        None => Ok(store.snapshot()),
    }
}

fn find(store: &Store, name: &str) -> Result<NamedSnapshot, Error> {
    let found = store.snapshots().into_iter().find(|snapshot| snapshot.name == name);
    found.ok_or_else(|| Error::SnapshotNotFound { name: name.to_owned() })
}

/// What is known of a named snapshot.
pub(crate) fn about(snapshot: &NamedSnapshot) -> Report {
    let joined = |parts: Vec<String>| parts.join(", ");
    let labels = snapshot.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let holders = snapshot.holds.iter().map(|hold| hold.owner.clone()).collect();
    let expires = match snapshot.expires_at {
        Some(time) => Field::Time(time),
        None => Field::Text("never".to_owned()),
    };
    Report::new()
        .text("name", &snapshot.name)
        .count("version", snapshot.version.get())
        .with("created_at", Field::Time(snapshot.created_at))
        .with("expires_at", expires)
        .count("live_pages", snapshot.live_pages)
        .text("fingerprint", &snapshot.fingerprint)
        .text("held_by", &joined(holders))
        .text("labels", &joined(labels))
}
