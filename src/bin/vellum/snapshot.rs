//! `snapshot`, `hold`, `bookmark`: versions that are kept or remembered by name.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use vellum::{Error, Hold, NamedSnapshot, Naming, Store};

use crate::args::{About, BookmarkCommand, HoldCommand, Show, SnapshotCommand, Which};
use crate::error::Failure;
use crate::output::{Field, Report};
use crate::place::open_to_read;
use crate::progress::Waiting;

pub(crate) fn snapshot(command: &SnapshotCommand, show: Show) -> Result<(), Failure> {
    match command {
        SnapshotCommand::Create { dir, name, about: noted } => {
            let naming = naming(noted)?;
            let store = open_to_read(dir, show)?;
            drop(store.create_snapshot_with(name, naming)?);
            tell(store, name, show)
        }
        SnapshotCommand::Ls(args) => {
            let snapshots = open_to_read(&args.dir, show)?.snapshots();
            Report::new().with("snapshots", Field::List(snapshots.iter().map(about).collect())).print(show)
        }
        SnapshotCommand::Space(args) => {
            let store = open_to_read(&args.dir, show)?;
            let waiting = Waiting::new("compare", show);
            let line = |space: vellum::SnapshotSpace| {
                Report::new()
                    .text("name", &space.name)
                    .count("version", space.version.get())
                    .bytes("page_bytes", space.page_bytes)
                    .bytes("unique_bytes", space.unique_bytes)
            };
            let lines = store.snapshot_space()?.into_iter().map(line).collect();
            drop((waiting, store));
            Report::new().with("snapshots", Field::List(lines)).print(show)
        }
        SnapshotCommand::Rm { dir, names, when_released, dry_run } => {
            remove(dir, names, (*when_released, *dry_run), show)
        }
        SnapshotCommand::Rename { dir, from, to } => {
            let store = open_to_read(dir, show)?;
            // The library would take a bookmark's name too.
            find(&store, from)?;
            store.rename_snapshot(from, to)?;
            tell(store, to, show)
        }
        SnapshotCommand::Describe { dir, name, about: noted } => {
            let naming = naming(noted)?;
            let store = open_to_read(dir, show)?;
            store.describe_snapshot(name, naming)?;
            tell(store, name, show)
        }
        SnapshotCommand::Diff { dir, from, to } => diff(dir, from, to.as_deref(), show),
        SnapshotCommand::Rollback { dir, name, at } => {
            let store = open_to_read(dir, show)?;
            let waiting = Waiting::new("roll back", show);
            let which = Which { snapshot: name.clone(), at: *at };
            let done = store.rollback_to(&which.open(&store)?)?;
            let mut report = Report::new()
                .count("version", done.version.get())
                .count("pages_written", done.pages_written)
                .count("pages_freed", done.pages_freed);
            if let Some(head) = &done.head {
                report = report.text("kept_as", head);
            }
            store.close()?;
            drop(waiting);
            report.print(show)
        }
    }
}

pub(crate) fn naming(noted: &About) -> Result<Naming, Failure> {
    let mut naming = Naming::new();
    for (key, value) in labels(noted)? {
        naming = naming.label(key, value);
    }
    Ok(match noted.expires {
        Some(time) => naming.expires_in(time),
        None => naming,
    })
}

/// The labels that were given, each with one value: the library would take the last.
pub(crate) fn labels(noted: &About) -> Result<&[(String, String)], Failure> {
    let mut keys = BTreeSet::new();
    match noted.label.iter().find(|(key, _)| !keys.insert(key)) {
        Some((key, _)) => Err(Failure::Usage(format!("the label {key:?} is given twice: give it one value"))),
        None => Ok(&noted.label),
    }
}

/// Closes the store, and tells what is known of a named snapshot that was changed.
fn tell(store: Store, name: &str, show: Show) -> Result<(), Failure> {
    let report = about(&find(&store, name)?);
    store.close()?;
    report.print(show)
}

fn remove(dir: &Path, names: &[String], how: (bool, bool), show: Show) -> Result<(), Failure> {
    let (when_released, is_dry_run) = how;
    let store = open_to_read(dir, show)?;
    let waiting = Waiting::new("compare", show);
    // Each once, however often it was given.
    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    // Nobody else has the store open, so what is found here stays: either all can be dropped or none is.
    let mut free = Vec::new();
    for &name in &names {
        let found = find(&store, name)?;
        if found.holds.is_empty() {
            free.push(name);
        } else if !when_released {
            let holders = found.holds.into_iter().map(|hold| hold.owner).collect();
            return Err(Error::SnapshotHeld { name: found.name, holders }.into());
        }
    }
    let bytes = store.would_free(&free)?;
    // Weighing walks the trees: once, if nothing is held.
    let all_bytes = match free.len() == names.len() {
        true => bytes,
        false => store.would_free(&names.iter().copied().collect::<Vec<_>>())?,
    };
    for name in names.iter().filter(|_| !is_dry_run) {
        match when_released {
            true => store.drop_snapshot_when_released(name)?,
            false => store.drop_snapshot(name)?,
        }
    }
    store.close()?;
    drop(waiting);
    Report::new()
        .count("snapshots", names.len() as u64)
        .with("is_dry_run", Field::Flag(is_dry_run))
        .bytes("bytes_freed", bytes)
        .count("still_held", (names.len() - free.len()) as u64)
        .bytes("bytes_still_held", all_bytes.saturating_sub(bytes))
        .print(show)
}

fn diff(dir: &Path, from: &str, to: Option<&str>, show: Show) -> Result<(), Failure> {
    let store = open_to_read(dir, show)?;
    let waiting = Waiting::new("compare", show);
    let to = Which { snapshot: to.map(str::to_owned), at: None };
    let changes = to.open(&store)?.diff(&store.open_snapshot(from)?)?;
    drop((waiting, store));
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
    let (store, name) = match command {
        HoldCommand::Ls(args) => {
            let snapshots = open_to_read(&args.dir, show)?.snapshots();
            let line = |(snapshot, hold): (&NamedSnapshot, &Hold)| {
                Report::new()
                    .text("name", &snapshot.name)
                    .text("owner", &hold.owner)
                    .with("expires_at", until(hold.expires_at))
            };
            let held = snapshots.iter().flat_map(|found| found.holds.iter().map(move |hold| (found, hold)));
            return Report::new().with("holds", Field::List(held.map(line).collect())).print(show);
        }
        HoldCommand::Add { dir, name, owner, expires } => {
            let store = open_to_read(dir, show)?;
            let until = |time: &Duration| SystemTime::now().checked_add(*time);
            store.hold_snapshot(name, owner, expires.as_ref().and_then(until))?;
            (store, name)
        }
        HoldCommand::Rm { dir, name, owner } => {
            let store = open_to_read(dir, show)?;
            store.release_snapshot(name, owner)?;
            (store, name)
        }
    };
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
        BookmarkCommand::Create { dir, name, which } => {
            let store = open_to_read(dir, show)?;
            store.create_bookmark(name, &which.open(&store)?)?;
            let report = about(&store.bookmark(name)?);
            store.close()?;
            report.print(show)
        }
        BookmarkCommand::Ls(args) => {
            let bookmarks = open_to_read(&args.dir, show)?.bookmarks();
            Report::new().with("bookmarks", Field::List(bookmarks.iter().map(about).collect())).print(show)
        }
        BookmarkCommand::Rename { dir, from, to } => {
            let store = open_to_read(dir, show)?;
            // The library would take a snapshot's name too.
            store.bookmark(from).map_err(no_bookmark)?;
            store.rename_snapshot(from, to)?;
            let report = about(&store.bookmark(to)?);
            store.close()?;
            report.print(show)
        }
        BookmarkCommand::Rm { dir, name } => {
            let store = open_to_read(dir, show)?;
            store.drop_bookmark(name).map_err(no_bookmark)?;
            store.close()?;
            Report::new().text("name", name).print(show)
        }
    }
}

/// To the library snapshots and bookmarks are names alike.
fn no_bookmark(error: Error) -> Failure {
    match error {
        Error::SnapshotNotFound { name } => Failure::NoBookmark { name },
        error => error.into(),
    }
}

fn find(store: &Store, name: &str) -> Result<NamedSnapshot, Error> {
    let found = store.snapshots().into_iter().find(|snapshot| snapshot.name == name);
    found.ok_or_else(|| Error::SnapshotNotFound { name: name.to_owned() })
}

/// What is known of a named snapshot.
fn about(snapshot: &NamedSnapshot) -> Report {
    let holders = snapshot.holds.iter().map(|hold| hold.owner.clone()).collect();
    Report::new()
        .text("name", &snapshot.name)
        .count("version", snapshot.version.get())
        .with("created_at", Field::Time(snapshot.created_at))
        .with("expires_at", until(snapshot.expires_at))
        .count("live_pages", snapshot.live_pages)
        .text("fingerprint", &snapshot.fingerprint)
        .with("held_by", Field::Texts(holders))
        .with("is_leaving", Field::Flag(snapshot.is_leaving))
        .with("labels", Field::Pairs(snapshot.labels.clone()))
}

fn until(time: Option<SystemTime>) -> Field {
    time.map_or(Field::No("never"), Field::Time)
}
