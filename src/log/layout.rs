//! How a batch is laid out over slots and segments before anything of it is written.
//!
//! A batch is one record with its pages behind it, where that fits; a larger one is cut into parts, each a record of
//! its own, of which only the last makes the batch count. A part lies within one segment and takes at most
//! [`PART_BYTES_MAX`], so that recovery, when it meets a damaged record, needs to look only that far for a later one.

use std::ops::Range;

use super::geometry::Geometry;
use crate::format::record::{FIXED_BYTES, ITEM_BYTES, header_slots};
use crate::id::Location;

/// The most bytes that one part takes, its record included.
pub(crate) const PART_BYTES_MAX: u64 = 4 << 20;
/// Rather than cut a batch for fewer slots than this, leave the end of a segment unused.
const CUT_SLOTS_MIN: u32 = 16;

/// What a batch consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) pages: usize,
    pub(crate) freed: usize,
    /// Of meta and names.
    pub(crate) extra_bytes: usize,
}

/// One part's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// 0: the active segment; n: the n-th one after it.
    pub(crate) segment: usize,
    pub(crate) slot: u32,
    pub(crate) header_slots: u32,
    pub(crate) pages: Range<usize>,
    pub(crate) freed: Range<usize>,
    pub(crate) has_extra: bool,
}

impl Part {
    pub(crate) fn slots(&self) -> u32 {
        self.header_slots + u32::try_from(self.pages.len()).expect("a part is bounded")
    }

    /// Where the part's pages lie, in their order, if its segment has this number.
    pub(crate) fn locations(&self, geometry: Geometry, number: u32) -> impl Iterator<Item = Location> {
        let first = self.slot + self.header_slots;
        (first..first + self.slots() - self.header_slots).map(move |slot| geometry.location(number, slot))
    }
}

/// The most slots of one part.
pub(crate) fn part_slots_max(geometry: Geometry) -> u32 {
    let slots = u32::try_from(PART_BYTES_MAX / geometry.page_bytes()).expect("pages are at least 512 bytes");
    slots.min(geometry.segment_slots() - 1)
}

/// Lays a batch out from `slot` of the active segment on.
pub(crate) fn plan(geometry: Geometry, slot: u32, shape: Shape) -> Vec<Part> {
    let page_size = geometry.page_size();
    let mut parts = Vec::with_capacity(1);
    let (mut segment, mut slot) = (0, slot);
    let (mut page, mut freed, mut extra_bytes) = (0, 0, shape.extra_bytes);
    let mut has_extra = shape.extra_bytes > 0;
    loop {
        let (pages_left, freed_left) = (shape.pages - page, shape.freed - freed);
        let wanted = (header_slots(page_size, pages_left + freed_left, extra_bytes) as usize) + pages_left;
        let room = geometry.segment_slots() - slot;
        let budget = room.min(part_slots_max(geometry));
        let fits = fill(page_size, budget, pages_left, freed_left, extra_bytes);
        let is_whole = wanted <= budget as usize;
        if !is_whole && slot > 1 && (room < CUT_SLOTS_MIN || fits == (0, 0)) {
            (segment, slot) = (segment + 1, 1);
            continue;
        }
        let (pages, frees) = fits;
        let part = Part {
            segment,
            slot,
            header_slots: header_slots(page_size, pages + frees, extra_bytes),
            pages: page..page + pages,
            freed: freed..freed + frees,
            has_extra,
        };
        slot += part.slots();
        (page, freed) = (part.pages.end, part.freed.end);
        (has_extra, extra_bytes) = (false, 0);
        parts.push(part);
        if page == shape.pages && freed == shape.freed {
            return parts;
        }
        debug_assert!(pages + frees > 0, "a part of a cut batch takes something along");
        if slot >= geometry.segment_slots() {
            (segment, slot) = (segment + 1, 1);
        }
    }
}

/// How many pages and freed ranges fit into `budget` slots.
fn fill(page_size: u32, budget: u32, pages: usize, freed: usize, extra_bytes: usize) -> (usize, usize) {
    let page_size_bytes = page_size as usize;
    let bytes = budget as usize * page_size_bytes;
    let Some(for_items) = bytes.checked_sub(FIXED_BYTES + 16 + extra_bytes) else { return (0, 0) };
    let freed_fit = freed.min(for_items / ITEM_BYTES);
    if freed_fit < freed {
        return (0, freed_fit);
    }
    let for_pages = for_items - freed_fit * ITEM_BYTES;
    let mut pages_fit = pages.min(for_pages / (page_size_bytes + ITEM_BYTES));
    while pages_fit > 0
        && header_slots(page_size, pages_fit + freed_fit, extra_bytes) as usize + pages_fit > budget as usize
    {
        pages_fit -= 1;
    }
    (pages_fit, freed_fit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(geometry: Geometry, start: u32, shape: Shape) {
        let parts = plan(geometry, start, shape);
        let (mut page, mut freed, mut at) = (0, 0, (0, start));
        for (index, part) in parts.iter().enumerate() {
            assert!((part.segment, part.slot) >= at, "parts follow one another");
            assert!(part.slot >= 1 && part.slot + part.slots() <= geometry.segment_slots(), "{part:?}");
            assert!(part.slots() <= part_slots_max(geometry));
            assert_eq!((part.pages.start, part.freed.start), (page, freed), "nothing is left out");
            assert_eq!(part.has_extra, index == 0 && shape.extra_bytes > 0);
            (page, freed) = (part.pages.end, part.freed.end);
            at = (part.segment, part.slot + part.slots());
        }
        assert_eq!((page, freed), (shape.pages, shape.freed));
    }

    #[test]
    fn every_shape_fits_every_place() {
        for (page_size, slots) in [(512, 8), (512, 64), (4096, 8), (4096, 32), (65536, 16)] {
            let geometry = Geometry::new(page_size, slots);
            for start in 1..=slots {
                for pages in [0, 1, 2, 6, 7, 8, 9, 30, 100] {
                    for (freed, extra_bytes) in [(0, 0), (1, 0), (0, 1024), (0, 2052), (70, 300), (400, 0)] {
                        check(geometry, start, Shape { pages, freed, extra_bytes });
                    }
                }
            }
        }
    }

    #[test]
    fn a_one_page_commit_takes_two_slots() {
        let geometry = Geometry::new(4096, 1024);
        let parts = plan(geometry, 1, Shape { pages: 1, freed: 0, extra_bytes: 0 });
        assert_eq!((parts.len(), parts[0].slots()), (1, 2));
    }
}
