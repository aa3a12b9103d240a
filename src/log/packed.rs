//! Packed segments: a sparse segment rewritten without what nobody needs any more, under the same locations.
//!
//! A segment is packed when the log has left it for good (nothing is ever born in it again) and recovery doesn't need
//! its records. The packed file is written and synced beside the old one; then readers are led to it; then both catalog
//! slots are written to name it; only then the old file is removed. So whatever the catalog that an opening finds
//! names is there.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;

use super::backing::{Opened, create_anew, disk_error};
use super::geometry::Geometry;
use super::segment::{Segment, Segments, usize_of};
use crate::error::{Error, Result};
use crate::format::control::PackedRecord;
use crate::format::packed::{PackedHeader, Ranks, SlotSet, header_bytes};
use crate::storage::{Mapping, StorageFile};

/// The bytes that are copied, and synced, in one go: a commit's sync that comes beside it waits for no more than that.
const CHUNK_BYTES: u64 = 512 << 10;

/// Bytes that take the place of what a segment's file has in a slot, by slot: pages that are mended.
pub(crate) type Patches = BTreeMap<u32, Arc<[u8]>>;

/// The name of a packed file.
pub(crate) fn packed_name(number: u32, rewrite: u32) -> String {
    format!("packed-{number:08x}-{rewrite:08x}")
}

/// The segment and the rewrite in a packed file's name.
pub(crate) fn packed_number_of(name: &str) -> Option<(u32, u32)> {
    let (number, rewrite) = name.strip_prefix("packed-")?.split_once('-')?;
    let number = u32::from_str_radix(number, 16).ok()?;
    let rewrite = u32::from_str_radix(rewrite, 16).ok()?;
    (packed_name(number, rewrite) == name).then_some((number, rewrite))
}

/// A packed file, mapped.
pub(crate) struct Packed {
    mapping: Mapping,
    ranks: Ranks,
}

impl Packed {
    pub(super) fn new(mapping: Mapping, ranks: Ranks) -> Packed {
        Packed { mapping, ranks }
    }

    /// `len` bytes at byte `start` of the segment; `None` if any of the slots that they lie in was not kept.
    #[inline]
    pub(super) fn slice(&self, geometry: Geometry, start: usize, len: usize) -> Option<&[u8]> {
        let offset = place(&self.ranks, geometry, start, len)?;
        self.mapping.slice(offset, len)
    }
}

/// Where `len` bytes at byte `start` of the segment lie in its packed file. Kept neighbours stay neighbours, so bytes that
/// span slots lie together if all of these were kept.
pub(super) fn place(ranks: &Ranks, geometry: Geometry, start: usize, len: usize) -> Option<usize> {
    let page = geometry.page_size() as usize;
    let (first, last) = (start / page, start.checked_add(len.max(1))?.checked_sub(1)? / page);
    let place = ranks.place(u32::try_from(first).ok()?)?;
    for (slot, expected) in (first + 1..=last).zip(place + 1..) {
        if ranks.place(u32::try_from(slot).ok()?)? != expected {
            return None;
        }
    }
    Some(usize_of(geometry.offset(place)) + start % page)
}

impl Segments {
    pub(super) fn ranks_in(
        &self,
        file: &dyn StorageFile,
        segment: &Segment,
        record: &PackedRecord,
    ) -> Result<Ranks> {
        let geometry = self.geometry();
        let number = segment.number;
        let mut bytes = vec![0; header_bytes(geometry.segment_slots())];
        let read = file.read_exact_at(&mut bytes, 0);
        read.map_err(|error| Error::io("read", self.path(number), error))?;
        let header = PackedHeader::decode(&bytes, number, geometry.segment_slots())
            .map_err(|flaw| flaw.into_error(self.path(number), 0))?;
        let found = (header.store_id, header.page_size, header.rewrite);
        if found != (self.store_id(), geometry.page_size(), record.rewrite) {
            let expected = format!("rewrite {} of store {}", record.rewrite, self.store_id());
            let found = format!("rewrite {} of store {}", header.rewrite, header.store_id);
            return Err(Error::corrupt(self.path(number), 8, expected, found));
        }
        self.check_generation(segment, header.generation)?;
        let ranks = Ranks::new(header);
        if ranks.file_slots() != record.file_slots {
            let expected = format!("{} slots in all", record.file_slots);
            return Err(Error::corrupt(self.path(number), 44, expected, ranks.file_slots().to_string()));
        }
        Ok(ranks)
    }

    /// Writes a packed file with the slots `kept` of `segment`, which nobody writes to any more, and syncs it; its name is
    /// still to be synced. Slots that `patches` has are not read. `between` is called now and then. After an error nothing refers
    /// to the file.
    pub(crate) fn pack(
        &self,
        segment: &Segment,
        kept: SlotSet,
        patches: &Patches,
        between: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<PackedRecord> {
        let rewrite = self.packed_record(segment.number).map_or(0, |record| record.rewrite) + 1;
        let packed = self.write_packed(segment, rewrite, kept, patches, between);
        if packed.is_err() {
            // If this fails too, the next opening finds a file that nothing refers to, and removes it.
            let _ = self.storage().remove(&packed_name(segment.number, rewrite));
        }
        packed
    }

    fn write_packed(
        &self,
        segment: &Segment,
        rewrite: u32,
        kept: SlotSet,
        patches: &Patches,
        between: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<PackedRecord> {
        let (geometry, number) = (self.geometry(), segment.number);
        let Opened { file: source, record: before, .. } = self.open(segment)?;
        let ranks = before.map(|record| self.ranks_in(&*source, segment, &record)).transpose()?;
        let header = PackedHeader {
            store_id: self.store_id(),
            number,
            generation: self.generation(segment),
            page_size: geometry.page_size(),
            slots: geometry.segment_slots(),
            rewrite,
            kept,
        };
        let runs = apart(header.kept.runs(), patches);
        let head = header.encode();
        let file_slots = Ranks::new(header).file_slots();
        let name = packed_name(number, rewrite);
        let (path, len) = (|| self.storage().path(&name), geometry.offset(file_slots));
        let file = create_anew(self.storage(), &name, len)?;
        let write = |bytes: &[u8], at: u64| {
            let written = file.write_all_at(&[IoSlice::new(bytes)], at);
            written.map_err(|error| disk_error("write to", path(), len, error))?;
            file.sync().map_err(|error| Error::io("sync", path(), error))
        };
        // All of it or a clean refusal, before anything is copied.
        file.reserve(0, len).map_err(|error| disk_error("reserve room in", path(), len, error))?;
        let chunk_slots = u32::try_from(CHUNK_BYTES / geometry.page_bytes()).unwrap_or(1).max(1);
        let (mut bytes, mut at) = (head, 0);
        for (first, count) in runs {
            for offset in (0..count).step_by(chunk_slots as usize) {
                let (slot, slots) = (first + offset, chunk_slots.min(count - offset));
                let (start, filled) = (usize_of(geometry.offset(slot)), bytes.len());
                bytes.resize(filled + usize_of(geometry.offset(slots)), 0);
                if let Some(page) = patches.get(&slot) {
                    bytes[filled..].copy_from_slice(page);
                } else {
                    let from = match &ranks {
                        Some(ranks) => place(ranks, geometry, start, bytes.len() - filled),
                        None => Some(start),
                    };
                    let from = from.ok_or_else(|| {
                        Error::corrupt(self.path(number), 48, "all slots that are in use", "one that is gone")
                    })?;
                    let read = source.read_exact_at(&mut bytes[filled..], from as u64);
                    read.map_err(|error| Error::io("read", self.path(number), error))?;
                }
                if bytes.len() as u64 >= CHUNK_BYTES {
                    write(&bytes, at)?;
                    at += bytes.len() as u64;
                    between(bytes.len() as u64)?;
                    bytes.clear();
                }
            }
        }
        write(&bytes, at)?;
        between(bytes.len() as u64)?;
        Ok(PackedRecord { number, rewrite, file_slots })
    }
}

/// The runs, with each slot that has a patch as one of its own.
fn apart(runs: Vec<(u32, u32)>, patches: &Patches) -> Vec<(u32, u32)> {
    let mut parts = Vec::with_capacity(runs.len());
    for (first, count) in runs {
        let (mut from, end) = (first, first + count);
        for slot in patches.range(first..end).map(|(slot, _)| *slot) {
            if slot > from {
                parts.push((from, slot - from));
            }
            parts.push((slot, 1));
            from = slot + 1;
        }
        if from < end {
            parts.push((from, end - from));
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patched_slots_are_runs_of_their_own() {
        let patches =
            |slots: &[u32]| slots.iter().map(|slot| (*slot, Arc::from([0u8; 2]))).collect::<Patches>();
        let runs = vec![(2, 4), (8, 1), (10, 3)];
        assert_eq!(apart(runs.clone(), &patches(&[])), runs);
        assert_eq!(apart(runs.clone(), &patches(&[0, 6, 9, 13])), runs);
        let all: Vec<(u32, u32)> = [2, 3, 4, 5, 8, 10, 11, 12].map(|slot| (slot, 1)).to_vec();
        assert_eq!(apart(runs.clone(), &patches(&[2, 3, 4, 5, 8, 10, 11, 12])), all);
        let some = [(2, 1), (3, 1), (4, 2), (8, 1), (10, 2), (12, 1)];
        assert_eq!(apart(runs, &patches(&[3, 12])), some);
    }
}
