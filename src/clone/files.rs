//! The files that hold a snapshot, and how much of each it reaches.

use std::sync::Arc;

use crate::core::Core;
use crate::error::Result;
use crate::format::control::{PackedRecord, RootRecord, SegmentRecord};
use crate::format::segment::{HEADER_BYTES, SegmentHeader};
use crate::id::Version;
use crate::log::segment::Segments;
use crate::names::kept::{SegmentBytes, add};
use crate::snapshot::Snapshot;
use crate::space::{Held, Space};
use crate::storage::StorageFile;
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;
use crate::table::places::{Place, for_each_place};
use crate::table::root::Root;

/// One segment file that a snapshot reaches something in.
pub(super) struct Piece {
    pub(super) segment: SegmentRecord,
    pub(super) packed: Option<PackedRecord>,
    pub(super) name: String,
    pub(super) file: Arc<dyn StorageFile>,
    /// Whose file it is: of the store, or of one that it was forked from.
    pub(super) owner: Arc<Segments>,
    /// Keeps the file's bytes from being overwritten when the owner doesn't need them any more.
    _reader: Arc<()>,
}

impl Piece {
    /// The segment's header, if its file is a whole one, and as it should be.
    pub(super) fn header(&self) -> Option<SegmentHeader> {
        let SegmentRecord { number, generation, sequence, .. } = self.segment;
        let mut bytes = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let header = SegmentHeader::decode(&bytes, number).ok()?;
        let is_its_own = (header.generation, header.sequence) == (generation, sequence);
        (self.packed.is_none() && is_its_own).then_some(header)
    }
}

impl Core {
    /// Calls `take` with the files that hold the snapshot, while none of them is packed, removed or written to, and gives them for later
    /// use, with what a catalog says of the snapshot. All is durable.
    pub(super) fn with_pieces(
        &self,
        snapshot: &Snapshot,
        take: &mut dyn FnMut(&[Piece]) -> Result<()>,
    ) -> Result<(RootRecord, Vec<Piece>)> {
        // Nothing is packed or removed meanwhile.
        let _spaces = self.lock_spaces();
        let bytes = self.bytes_of(snapshot.root())?;
        let mut pieces = Vec::with_capacity(bytes.len());
        self.add_pieces(&bytes, &mut pieces)?;
        take(&pieces)?;
        Ok((self.record(snapshot.root(), 0), pieces))
    }

    /// A fork's lock comes before its parent's.
    fn lock_spaces(&self) -> Vec<MutexGuard<'_, Space>> {
        let mut locked = vec![self.space.lock()];
        let mut core = self;
        while let Some(parent) = &core.parent {
            core = parent.snapshot.core();
            locked.push(core.space.lock());
        }
        locked
    }

    /// The files of those segments of which `bytes` are reached, the parent's among them.
    fn add_pieces(&self, bytes: &SegmentBytes, pieces: &mut Vec<Piece>) -> Result<()> {
        let mut parents = bytes.clone();
        let bytes = &parents.split_off(&self.segments.own_from());
        if let Some(parent) = self.parent.as_ref().filter(|_| !parents.is_empty()) {
            parent.snapshot.core().add_pieces(&parents, pieces)?;
        }
        {
            let mut log = self.log.lock();
            if bytes.contains_key(&log.appender.position().segment) {
                let durable = Version(self.durable.load(Ordering::Acquire));
                // Before the sync, so that nothing comes to the file behind it.
                log.appender.leave_alone(durable).map_err(|failure| self.fail(failure))?;
            }
        }
        self.sync()?;
        let files: Vec<(u32, u32, u64)> = self.log.lock().appender.files().collect();
        let whole = self.segments.geometry().segment_bytes();
        for (number, generation, sequence) in files {
            let (Some(bytes), Some(segment)) = (bytes.get(&number), self.segments.get(number)) else {
                continue;
            };
            let live_bytes = (*bytes).min(whole);
            let packed = self.segments.packed_record(number);
            let (name, file, reader) = self.segments.hold_file(segment)?;
            let segment = SegmentRecord { number, generation, sequence, live_bytes, tip_bytes: live_bytes };
            pieces.push(Piece { segment, packed, name, file, owner: self.segments.clone(), _reader: reader });
        }
        Ok(())
    }

    /// Writes a version's table out, and counts what the version reaches in each segment.
    fn bytes_of(&self, root: &Root) -> Result<SegmentBytes> {
        // No node is written by anybody else meanwhile, so the counts stay right.
        let _state = self.checkpoint.lock();
        self.write_nodes(root)?;
        if self.parent.is_some() {
            return self.walk_bytes_of(root);
        }
        let mut held = Held::new(self);
        let (newest, mut bytes) = {
            let mut log = self.log.lock();
            log.appender.flush().map_err(|failure| self.fail(failure))?;
            let newest = held.hold_current();
            let live = |number: u32| {
                self.segments.get(number).map_or(0, |segment| segment.tip_live.load(Ordering::Relaxed))
            };
            let bytes: SegmentBytes =
                log.appender.files().map(|(number, ..)| (number, live(number))).collect();
            (newest, bytes)
        };
        let newest = newest.root();
        if newest.version != root.version {
            for (number, more) in self.bytes_only_in(root, None, newest)? {
                add(&mut bytes, number, more);
            }
            for (number, less) in self.bytes_only_in(newest, None, root)? {
                let count = bytes.entry(number).or_default();
                *count = count.saturating_sub(less);
            }
        }
        bytes.retain(|_, bytes| *bytes > 0);
        Ok(bytes)
    }

    /// The same, by a walk of the version's table: a fork doesn't count what it reaches in its parent's segments.
    fn walk_bytes_of(&self, root: &Root) -> Result<SegmentBytes> {
        let geometry = self.segments.geometry();
        let mut bytes = SegmentBytes::new();
        for_each_place(&self.slab, root, &mut |place| {
            let (number, len) = match place {
                Place::Page(location) => (geometry.split(location).0, geometry.page_bytes()),
                Place::Node { address, is_leaf } => self.segments.node_place(address, is_leaf),
            };
            add(&mut bytes, number, len);
            Ok(())
        })?;
        Ok(bytes)
    }
}
