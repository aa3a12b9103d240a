//! Stores made from a snapshot without copying its pages: clones in directories of their own, forks in memory.
//!
//! # How files are shared
//! 1. The snapshot's table is written out, as by a checkpoint, so that everything that it reaches lies in segment files.
//! 2. What it reaches in each segment is counted from what the current version reaches, by what differs: not by a walk of the
//!    store.
//! 3. A clone links these files, and begins a log of its own behind them, under a catalog that names the snapshot as its
//!    only root and counts only what that reaches.
//! 4. A file that has several names is never written to: once the segment is linked that the parent's log is in, the log goes on in the
//!    next one with the next write (`log/left.rs`), and a dead segment is removed, where one of our own would be used again
//!    ([`StorageFile::links`](crate::storage::StorageFile::links)). So parent and clone don't know of each other, and either can go first.
//! 5. A fork does none of this: it reads the parent's segments through the parent (`log/base.rs`), holds the snapshot so that
//!    what it reaches stays, and never writes below the numbers of its own. Clones of it link, or copy, files of both.

mod files;
mod fork;
mod target;
#[cfg(all(test, feature = "sim", not(any(loom, shuttle))))]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::control::{Catalog, LogPosition, RootRecord, SegmentRecord};
use crate::format::history::HistorySection;
use crate::format::names::NamedSection;
use crate::format::segment::SegmentHeader;
use crate::id::{StoreId, Version};
use crate::log::recover::number_limit;
use crate::open::{found, random128, unmark};
use crate::pins::PinKind;
use crate::progress::{Meter, Observer};
use crate::snapshot::Snapshot;
use crate::storage::{FileStorage, Storage};
use crate::stream::staging::{Staging, named, refuse_occupied};
use files::Piece;
use target::Bring;

/// What a clone was made of.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cloned {
    /// The version that it stands at.
    pub version: Version,
    /// Files that are the parent's, under a further name: nothing was copied.
    pub files_linked: u64,
    /// Files whose blocks the file system shares with the parent's (reflinks).
    pub files_reflinked: u64,
    /// Files that had to be copied, because neither was possible there.
    pub files_copied: u64,
    /// Bytes of the files that were copied.
    pub bytes_copied: u64,
}

impl Snapshot {
    /// Makes a store of its own in `dir` that stands at this snapshot, without copying pages: its segment files are
    /// hard links. The clone has an identity of its own and is independent at once: both can be written to, and either can
    /// be removed first. What one of them frees comes back to the disk when the other has freed it too.
    ///
    /// Costs a checkpoint of what isn't on the disk yet, and a link for each segment file (of a fork, a walk of its page table as well), in a staging place beside `dir` that is
    /// moved there in one step. Where there can be no hard links (another file system, a store in memory), blocks are shared if
    /// the file system can do that, and otherwise bytes are copied: the result tells. Named snapshots and the history
    /// window stay behind.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// # let home = tempfile::tempdir().unwrap();
    /// use vellum::{Options, Store};
    /// let store = Store::open(home.path().join("store"), Options::new())?;
    /// let mut txn = store.begin()?;
    /// let id = txn.allocate()?;
    /// txn.write(id, &[1; 4096])?;
    /// txn.commit()?;
    /// store.snapshot().clone_to(home.path().join("clone"))?;
    /// let clone = Store::open(home.path().join("clone"), Options::new())?;
    /// assert_eq!(clone.snapshot().fingerprint(), store.snapshot().fingerprint());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] if `dir` holds anything, [`Error::SnapshotRevoked`], [`Error::Full`], [`Error::Io`], and what a
    /// checkpoint gives. If anything fails `dir` is as it was.
    pub fn clone_to(&self, dir: impl AsRef<Path>) -> Result<Cloned> {
        self.clone_with(dir, &mut ())
    }

    /// As [`Snapshot::clone_to`], watched.
    ///
    /// # Errors
    /// As [`Snapshot::clone_to`], and [`Error::Cancelled`].
    pub fn clone_with(&self, dir: impl AsRef<Path>, observer: &mut dyn Observer) -> Result<Cloned> {
        let dir = &named(dir.as_ref())?;
        refuse_occupied(dir)?;
        let staging = Staging::new(dir, "cloning");
        staging.check_parent()?;
        let done = {
            let storage = FileStorage::staged(&staging.path)?;
            self.clone_into(&storage, Some(&staging.path), observer)?
        };
        staging.become_store(dir)?;
        Ok(done)
    }

    /// As [`Snapshot::clone_to`], onto an empty storage of the caller's: everything is copied.
    ///
    /// # Errors
    /// As [`Snapshot::clone_to`].
    pub fn clone_on(&self, storage: &dyn Storage, observer: &mut dyn Observer) -> Result<Cloned> {
        let names = storage.list().map_err(|error| Error::io("list", storage.path(""), error))?;
        if !names.is_empty() {
            return Err(Error::AlreadyExists { dir: storage.path("") });
        }
        self.clone_into(storage, None, observer)
    }

    fn clone_into(
        &self,
        storage: &dyn Storage,
        dir: Option<&Path>,
        observer: &mut dyn Observer,
    ) -> Result<Cloned> {
        let _in_use = self.in_use_by(PinKind::Clone, "clone")?;
        let core = self.core();
        let mut meter = Meter::new("clone", None, observer);
        meter.report()?;
        let mut bring = Bring::new(core, storage, dir);
        let held = core.with_pieces(self, &mut |pieces| bring.link(pieces))?;
        let (root, pieces) = held;
        bring.copy_rest(&pieces, &mut meter)?;
        let (header, catalog) = child(core, root, &pieces);
        found(storage, header.as_ref(), &catalog)?;
        if dir.is_none() {
            unmark(storage)?;
        }
        meter.report()?;
        Ok(Cloned { version: catalog.roots[0].version, ..bring.done })
    }
}

/// What a store that shares these files begins with: its catalog, and the header of its log's first segment, unless that is left for the
/// first commit to make.
fn child(core: &Core, root: RootRecord, pieces: &[Piece]) -> (Option<SegmentHeader>, Catalog) {
    let geometry = core.segments.geometry();
    let identity = StoreId(random128());
    let mut segments: Vec<SegmentRecord> = pieces.iter().map(|piece| piece.segment).collect();
    let behind = behind_last(pieces, geometry.segment_slots(), identity);
    let (log, header) = match behind {
        Some(log) => (log, None),
        None => {
            let header = first_header(core, &root, &segments, identity);
            let SegmentHeader { number, generation, sequence, .. } = header;
            segments.push(SegmentRecord { number, generation, sequence, live_bytes: 0, tip_bytes: 0 });
            (LogPosition { segment: number, generation, sequence, slot: 1, digest: identity.0 }, Some(header))
        }
    };
    segments.sort_by_key(|segment| segment.number);
    let catalog = Catalog {
        store_id: core.segments.store_id(),
        page_size: geometry.page_size(),
        segment_slots: geometry.segment_slots(),
        created_at_ms: core.clock_ms(),
        roots: vec![RootRecord { log_sequence: log.sequence, ..root }],
        log,
        segments,
        packed: pieces.iter().filter_map(|piece| piece.packed).collect(),
        named: NamedSection::default(),
        identity: Some(identity),
        history: HistorySection::default(),
    };
    (header, catalog)
}

/// The end of the last of these segments, as if it were full: the log goes on in the one that its header names, whose file is then made
/// by the first commit. `None` where the header can't lead there.
fn behind_last(pieces: &[Piece], slots: u32, identity: StoreId) -> Option<LogPosition> {
    let last = pieces.iter().max_by_key(|piece| piece.segment.sequence)?;
    let next = last.header()?.next;
    let number_max = pieces.iter().map(|piece| piece.segment.number).max()?;
    // A fork's segments have numbers that its parent's log may come to as well.
    let is_free = pieces.iter().all(|piece| piece.segment.number != next);
    let SegmentRecord { number, generation, sequence, .. } = last.segment;
    // No record of the parent's continues a log whose last digest is the clone's identity.
    let log = LogPosition { segment: number, generation, sequence, slot: slots, digest: identity.0 };
    (is_free && next < number_limit(number_max)).then_some(log)
}

/// The header of a first segment behind these, under the lowest number that is free.
fn first_header(
    core: &Core,
    root: &RootRecord,
    segments: &[SegmentRecord],
    identity: StoreId,
) -> SegmentHeader {
    let geometry = core.segments.geometry();
    let taken: BTreeSet<u32> = segments.iter().map(|segment| segment.number).collect();
    let mut free = (0..=u32::MAX).filter(|number| !taken.contains(number));
    let (number, next) = (free.next().unwrap_or(u32::MAX), free.next().unwrap_or(u32::MAX));
    SegmentHeader {
        store_id: core.segments.store_id(),
        number,
        generation: 1,
        page_size: geometry.page_size(),
        slots: geometry.segment_slots(),
        sequence: segments.iter().map(|segment| segment.sequence + 1).max().unwrap_or(0),
        next,
        previous_digest: Some(identity.0),
        durable: root.version,
    }
}
