//! The files that hold a snapshot, and how much of each it reaches.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::Core;
use crate::error::Result;
use crate::format::control::{PackedRecord, RootRecord, SegmentRecord};
use crate::id::Version;
use crate::snapshot::Snapshot;
use crate::space::Held;
use crate::storage::StorageFile;
use crate::sync::atomic::Ordering;

/// One segment file that a snapshot reaches something in.
pub(super) struct Piece {
    pub(super) segment: SegmentRecord,
    pub(super) packed: Option<PackedRecord>,
    pub(super) name: String,
    pub(super) file: Arc<dyn StorageFile>,
    /// Keeps the file's bytes from being overwritten when the parent doesn't need them any more.
    pub(super) reader: Arc<()>,
}

impl Core {
    /// Calls `take` with the files that hold the snapshot, while none of them is packed or removed, and gives them for later
    /// use, with what a catalog says of the snapshot. `is_linked`: none of them is written to any more, and all is durable.
    pub(super) fn with_pieces(
        &self,
        snapshot: &Snapshot,
        is_linked: bool,
        take: &mut dyn FnMut(&[Piece]) -> Result<()>,
    ) -> Result<(RootRecord, Vec<Piece>)> {
        // Nothing is packed or removed meanwhile.
        let _space = self.space.lock();
        let (root, bytes) = self.bytes_of(snapshot)?;
        if is_linked {
            let mut log = self.log.lock();
            let active = log.appender.position().segment;
            if bytes.contains_key(&active) {
                let durable = Version(self.durable.load(Ordering::Acquire));
                log.appender.seal(durable).map_err(|failure| self.fail(failure))?;
            }
            drop(log);
            self.sync()?;
        }
        let files: Vec<(u32, u32, u64)> = self.log.lock().appender.files().collect();
        let whole = self.segments.geometry().segment_bytes();
        let mut pieces = Vec::with_capacity(bytes.len());
        for (number, generation, sequence) in files {
            let (Some(bytes), Some(segment)) = (bytes.get(&number), self.segments.get(number)) else {
                continue;
            };
            let live_bytes = (*bytes).min(whole);
            let packed = self.segments.packed_record(number);
            let (name, file, reader) = self.segments.hold_file(segment)?;
            let segment = SegmentRecord { number, generation, sequence, live_bytes, tip_bytes: live_bytes };
            pieces.push(Piece { segment, packed, name, file, reader });
        }
        take(&pieces)?;
        Ok((root, pieces))
    }

    /// Writes the snapshot's table out, and counts what the snapshot reaches in each segment.
    fn bytes_of(&self, snapshot: &Snapshot) -> Result<(RootRecord, BTreeMap<u32, u64>)> {
        // No node is written by anybody else meanwhile, so the counts stay right.
        let _state = self.checkpoint.lock();
        let root = snapshot.root();
        self.write_nodes(root)?;
        let mut held = Held::new(self);
        let (newest, mut bytes) = {
            let mut log = self.log.lock();
            log.appender.flush().map_err(|failure| self.fail(failure))?;
            let newest = held.hold_current();
            let live = |number: u32| {
                self.segments.get(number).map_or(0, |segment| segment.tip_live.load(Ordering::Relaxed))
            };
            let bytes: BTreeMap<u32, u64> =
                log.appender.files().map(|(number, ..)| (number, live(number))).collect();
            (newest, bytes)
        };
        let newest = newest.root();
        if newest.version != root.version {
            for (number, more) in self.bytes_only_in(root, None, newest)? {
                let count = bytes.entry(number).or_default();
                *count = count.saturating_add(more);
            }
            for (number, less) in self.bytes_only_in(newest, None, root)? {
                let count = bytes.entry(number).or_default();
                *count = count.saturating_sub(less);
            }
        }
        bytes.retain(|_, bytes| *bytes > 0);
        Ok((self.record(root, 0), bytes))
    }
}
