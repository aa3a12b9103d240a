//! A delta: what leads from an older version, or from a bookmark, to a snapshot.

use std::io::Write;

use super::StreamSummary;
use super::export::header_of;
use super::options::ExportOptions;
use super::runs::Runs;
use super::write::{Plan, StreamWriter};
use crate::error::{Error, Result};
use crate::format::stream::{BaseState, StreamHeader};
use crate::id::{Fingerprint, PageId};
use crate::names::Bookmark;
use crate::pins::PinKind;
use crate::progress::{Meter, Observer};
use crate::snapshot::Snapshot;
use crate::table::diff::for_each_difference;
use crate::table::node::Entry;
use crate::table::since::for_each_since;

/// Changes that are looked up at a time, while the table's nodes stay in memory.
const STRETCH: usize = 4096;

/// What a delta begins at.
#[derive(Clone, Copy, Debug)]
pub enum DeltaBase<'a> {
    /// An older snapshot of the same store.
    Snapshot(&'a Snapshot),
    /// A bookmark of the same store: its pages need not be there any more. The delta then also names ids that held nothing
    /// in either version, where it can't know; applied, it is the same.
    Bookmark(&'a Bookmark),
}

impl<'a> From<&'a Snapshot> for DeltaBase<'a> {
    fn from(snapshot: &'a Snapshot) -> Self {
        DeltaBase::Snapshot(snapshot)
    }
}

impl<'a> From<&'a Bookmark> for DeltaBase<'a> {
    fn from(bookmark: &'a Bookmark) -> Self {
        DeltaBase::Bookmark(bookmark)
    }
}

impl DeltaBase<'_> {
    pub(super) fn state(&self) -> BaseState {
        match self {
            DeltaBase::Snapshot(base) => {
                BaseState { version: base.version(), fingerprint: base.fingerprint() }
            }
            DeltaBase::Bookmark(base) => BaseState { version: base.version, fingerprint: base.fingerprint },
        }
    }
}

/// One change: ids that hold nothing, or a page.
type Change = (PageId, u64, Option<Entry>);

impl Snapshot {
    /// Writes what leads from `base` to this snapshot, as a stream that [`Store::apply`](crate::Store::apply) takes. Costs in
    /// proportion to what changed, in time and in bytes; otherwise as [`Snapshot::export`].
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// # let home = tempfile::tempdir().unwrap();
    /// use vellum::{Options, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// let mut txn = store.begin()?;
    /// let id = txn.allocate()?;
    /// txn.write(id, &[1; 4096])?;
    /// txn.commit()?;
    /// let (mut full, mut delta) = (Vec::new(), Vec::new());
    /// let monday = store.snapshot();
    /// monday.export(&mut full)?;
    ///
    /// let mut txn = store.begin()?;
    /// txn.write(id, &[2; 4096])?;
    /// txn.commit()?;
    /// let tuesday = store.snapshot();
    /// tuesday.export_since(&monday, &mut delta)?;
    ///
    /// let copy = Store::import(&mut &full[..], home.path().join("copy"))?;
    /// copy.apply(&mut &delta[..])?;
    /// assert_eq!(copy.snapshot().fingerprint(), tuesday.fingerprint());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::export`]; [`Error::InvalidOption`] if the base is of another store or newer than this snapshot,
    /// [`Error::SnapshotNotFound`] if the store has no such bookmark (any more).
    pub fn export_since<'a>(
        &self,
        base: impl Into<DeltaBase<'a>>,
        w: &mut dyn Write,
    ) -> Result<StreamSummary> {
        self.export_since_with(base, w, &mut ())
    }

    /// As [`Snapshot::export_since`], watched. How many pages there will be is not known beforehand.
    ///
    /// # Errors
    /// As [`Snapshot::export_since`], and [`Error::Cancelled`].
    pub fn export_since_with<'a>(
        &self,
        base: impl Into<DeltaBase<'a>>,
        w: &mut dyn Write,
        observer: &mut dyn Observer,
    ) -> Result<StreamSummary> {
        self.export_since_as(base, w, &ExportOptions::new(), observer)
    }

    /// As [`Snapshot::export_since_with`], compressed, encrypted or at a rate.
    ///
    /// # Errors
    /// As [`Snapshot::export_since_with`]; [`Error::InvalidOption`] and [`Error::Unsupported`] for options that can't be honoured.
    pub fn export_since_as<'a>(
        &self,
        base: impl Into<DeltaBase<'a>>,
        w: &mut dyn Write,
        options: &ExportOptions,
        observer: &mut dyn Observer,
    ) -> Result<StreamSummary> {
        let base = base.into();
        self.check_base(&base)?;
        self.export_delta(base, w, &Plan::of(options)?, observer)
    }

    /// Writes a delta as planned. The base was checked.
    pub(super) fn export_delta(
        &self,
        base: DeltaBase<'_>,
        w: &mut dyn Write,
        plan: &Plan<'_>,
        observer: &mut dyn Observer,
    ) -> Result<StreamSummary> {
        let _in_use = self.in_use_by(PinKind::Export, "export")?;
        let _base_in_use = match base {
            DeltaBase::Snapshot(base) => Some(base.in_use_by(PinKind::Export, "export (as its base)")?),
            DeltaBase::Bookmark(_) => None,
        };
        let header = StreamHeader { base: Some(base.state()), ..header_of(self) };
        let mut meter = Meter::new("export", None, observer);
        meter.report()?;
        let table = self.core().segments.table();
        let mut runs = Runs::new(StreamWriter::begin(w, header.clone(), plan)?, &header);
        let mut changes = Changes::new(self, base, plan.first_id())?;
        while let Some(stretch) = changes.next_stretch()? {
            for (first, count, entry) in stretch {
                let page = match entry {
                    Some(entry) => self.core().segments.verified_page(&table, first, entry)?,
                    None => None,
                };
                match page {
                    Some((bytes, checksum)) => runs.page((first, bytes, checksum), &mut meter)?,
                    None => runs.free(first, count, &mut meter)?,
                }
            }
        }
        changes.check()?;
        let summary = runs.finish(&mut meter)?;
        meter.report()?;
        Ok(summary)
    }

    pub(super) fn check_base(&self, base: &DeltaBase<'_>) -> Result<()> {
        let core = self.core();
        match base {
            DeltaBase::Snapshot(base) => base.check_of(core, "base")?,
            DeltaBase::Bookmark(base) => {
                if core.names.lock().bookmark(&base.name).map(Bookmark::new)? != **base {
                    return Err(Error::SnapshotNotFound { name: base.name.clone() });
                }
            }
        }
        let (found, newest) = (base.state().version, self.version());
        if found > newest {
            let (value, expected) = (found.to_string(), format!("one of {newest} or before is"));
            return Err(Error::InvalidOption { option: "base", value, expected });
        }
        Ok(())
    }
}

/// What a fingerprint becomes by one change.
fn led_on(mut fingerprint: Fingerprint, id: PageId, old: Entry, new: Entry) -> Fingerprint {
    if old.is_page() {
        fingerprint = fingerprint.minus(id, old.short_checksum());
    }
    if new.is_page() {
        fingerprint = fingerprint.plus(id, new.short_checksum());
    }
    fingerprint
}

/// The changes, found a stretch at a time.
pub(super) struct Changes<'a> {
    snapshot: &'a Snapshot,
    base: DeltaBase<'a>,
    from: Option<PageId>,
    /// What the base's pages and the changes come to, if the base is there to tell.
    fingerprint: Fingerprint,
}

impl<'a> Changes<'a> {
    /// The changes from `from` on. Of those before it only the fingerprint's part is looked up.
    pub(super) fn new(snapshot: &'a Snapshot, base: DeltaBase<'a>, from: PageId) -> Result<Changes<'a>> {
        let mut fingerprint = base.state().fingerprint;
        if let (DeltaBase::Snapshot(base), true) = (base, from.0 > 0) {
            let slab = &snapshot.core().slab;
            for_each_difference(slab, base.root(), snapshot.root(), PageId(0), &mut |id, old, new| {
                if id < from {
                    fingerprint = led_on(fingerprint, id, old, new);
                }
                Ok(id < from)
            })?;
        }
        Ok(Changes { snapshot, base, from: Some(from), fingerprint })
    }

    pub(super) fn next_stretch(&mut self) -> Result<Option<Vec<Change>>> {
        let Some(from) = self.from else { return Ok(None) };
        let (slab, root) = (&self.snapshot.core().slab, self.snapshot.root());
        let mut found: Vec<Change> = Vec::new();
        match self.base {
            DeltaBase::Snapshot(base) => {
                let (fingerprint, page_count) = (&mut self.fingerprint, root.page_count);
                for_each_difference(slab, base.root(), root, from, &mut |id, old, new| {
                    *fingerprint = led_on(*fingerprint, id, old, new);
                    if new.is_page() {
                        found.push((id, 1, Some(new)));
                    } else if old.is_page() && id.0 < page_count {
                        found.push((id, 1, None));
                    }
                    Ok(found.len() < STRETCH)
                })?;
            }
            DeltaBase::Bookmark(base) => {
                for_each_since(slab, root, base.version, from, &mut |first, count, entry| {
                    found.push((first, count, entry));
                    Ok(found.len() < STRETCH)
                })?;
            }
        }
        let is_last = found.len() < STRETCH;
        self.from = found.last().filter(|_| !is_last).map(|(first, count, _)| PageId(first.0 + count));
        Ok(Some(found))
    }

    /// An export never lies: changes that don't lead from the base's fingerprint to the snapshot's are an error.
    pub(super) fn check(&self) -> Result<()> {
        let expected = self.snapshot.fingerprint();
        match self.base {
            DeltaBase::Snapshot(_) if self.fingerprint != expected => {
                Err(Error::WrongBase { expected, found: self.fingerprint })
            }
            _ => Ok(()),
        }
    }
}
