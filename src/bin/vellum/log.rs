//! `log`: the history of a store, as far as it is kept.

use std::collections::BTreeMap;
use std::time::SystemTime;

use vellum::{Error, Fingerprint, Snapshot, Store};

use crate::args::{Log, Show};
use crate::error::Failure;
use crate::output::{Field, Report};
use crate::place::open_to_read;
use crate::progress::Waiting;

/// What is known of one version.
struct Entry {
    created_at: SystemTime,
    fingerprint: Fingerprint,
    /// None of one that is only remembered.
    kept: Option<Snapshot>,
    names: Vec<String>,
    bookmarks: Vec<String>,
}

impl Entry {
    fn of(snapshot: Snapshot) -> Entry {
        let (created_at, fingerprint) = (snapshot.created_at(), snapshot.fingerprint());
        Entry { created_at, fingerprint, kept: Some(snapshot), names: Vec::new(), bookmarks: Vec::new() }
    }
}

pub(crate) fn log(args: &Log, show: Show) -> Result<(), Failure> {
    let store = open_to_read(&args.dir, show)?;
    let waiting = Waiting::new("compare", show);
    let limit = args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let entries = entries(&store)?;
    let current = store.version().get();
    let mut lines = Vec::new();
    for (version, entry) in entries.iter().rev().take(limit) {
        let before = entries.range(..version).rev().find_map(|(_, entry)| entry.kept.as_ref());
        let (written, freed) = match (&entry.kept, before) {
            (Some(snapshot), Some(before)) => {
                let changes = snapshot.diff(before)?;
                let written = changes.iter().filter(|(_, is_written)| *is_written).count();
                (Field::Count(written as u64), Field::Count((changes.len() - written) as u64))
            }
            _ => (Field::Unknown, Field::Unknown),
        };
        let live = entry.kept.as_ref().map_or(Field::Unknown, |kept| Field::Count(kept.live_pages()));
        lines.push(
            Report::new()
                .count("version", *version)
                .with("created_at", Field::Time(entry.created_at))
                .with("is_current", Field::Flag(*version == current))
                .with("snapshots", Field::Texts(entry.names.clone()))
                .with("bookmarks", Field::Texts(entry.bookmarks.clone()))
                .with("pages_written", written)
                .with("pages_freed", freed)
                .with("live_pages", live)
                .text("fingerprint", &entry.fingerprint),
        );
    }
    drop(entries);
    drop(store);
    drop(waiting);
    Report::new().with("versions", Field::List(lines)).print(show)
}

/// All versions that the store knows, by number.
fn entries(store: &Store) -> Result<BTreeMap<u64, Entry>, Error> {
    let current = store.snapshot();
    let mut entries = BTreeMap::from([(current.version().get(), Entry::of(current))]);
    for named in store.snapshots() {
        let snapshot = store.open_snapshot(&named.name)?;
        let entry = entries.entry(named.version.get()).or_insert_with(|| Entry::of(snapshot));
        entry.names.push(named.name);
    }
    for kept in store.history() {
        let snapshot = store.snapshot_at(kept.version)?;
        entries.entry(kept.version.get()).or_insert_with(|| Entry::of(snapshot));
    }
    for bookmark in store.bookmarks() {
        let entry = entries.entry(bookmark.version.get()).or_insert_with(|| Entry {
            created_at: bookmark.created_at,
            fingerprint: bookmark.fingerprint,
            kept: None,
            names: Vec::new(),
            bookmarks: Vec::new(),
        });
        entry.bookmarks.push(bookmark.name);
    }
    Ok(entries)
}
