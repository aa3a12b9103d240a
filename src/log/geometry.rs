//! How locations, slots and byte offsets belong together. Fixed when a store is created.

use super::segment::usize_of;
use crate::id::Location;
use crate::table::node::NodeAddress;

/// The sizes that a store was created with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    page_bits: u32,
    slot_bits: u32,
    /// Derived: the bits of a location that tell the slot, and the bytes of a page.
    slot_mask: u32,
    page_size: u32,
}

impl Geometry {
    /// `page_size` and `segment_slots` are powers of two (checked where they come from: options or catalog).
    pub(crate) fn new(page_size: u32, segment_slots: u32) -> Geometry {
        debug_assert!(page_size.is_power_of_two() && segment_slots.is_power_of_two());
        Geometry {
            page_bits: page_size.trailing_zeros(),
            slot_bits: segment_slots.trailing_zeros(),
            slot_mask: segment_slots - 1,
            page_size,
        }
    }

    #[inline]
    pub(crate) fn page_size(self) -> u32 {
        self.page_size
    }

    #[inline]
    pub(crate) fn page_bits(self) -> u32 {
        self.page_bits
    }

    pub(crate) fn page_bytes(self) -> u64 {
        1 << self.page_bits
    }

    pub(crate) fn segment_slots(self) -> u32 {
        1 << self.slot_bits
    }

    pub(crate) fn segment_bytes(self) -> u64 {
        1 << (self.page_bits + self.slot_bits)
    }

    /// Segment numbers are below this: as many as locations can tell apart, and few enough that tables by number stay
    /// small whatever a damaged catalog claims.
    pub(crate) fn segment_limit(self) -> u32 {
        u32::try_from(Location::LIMIT >> self.slot_bits).unwrap_or(u32::MAX - 1).min(1 << 22)
    }

    pub(crate) fn location(self, segment: u32, slot: u32) -> Location {
        Location((u64::from(segment) << self.slot_bits) | u64::from(slot))
    }

    /// The segment and the slot of a location.
    #[inline]
    pub(crate) fn split(self, location: Location) -> (u32, u32) {
        // Locations have 40 bits. Where fewer than 8 of them are the slot's a number may not fit; it is then damage, and
        // maps to a segment that never exists.
        let segment = low32((location.0 >> self.slot_bits).min(u64::from(u32::MAX)));
        // The mask leaves fewer than 32 bits.
        (segment, self.slot(location))
    }

    /// The segment of a location, to index by: one that doesn't fit a number indexes nothing either.
    #[inline]
    pub(crate) fn segment_index(self, location: Location) -> usize {
        usize_of(location.0 >> self.slot_bits)
    }

    /// The slot of a location.
    #[inline]
    pub(crate) fn slot(self, location: Location) -> u32 {
        low32(location.0) & self.slot_mask
    }

    /// The byte offset of a slot in its segment's file.
    #[inline]
    pub(crate) fn offset(self, slot: u32) -> u64 {
        u64::from(slot) << self.page_bits
    }

    /// The address of a node at byte `offset` of `segment`; `offset` is a multiple of [`NodeAddress::UNIT`].
    pub(crate) fn node_address(self, segment: u32, offset: u64) -> NodeAddress {
        debug_assert_eq!(offset % NodeAddress::UNIT, 0);
        let base = u64::from(segment) << (self.page_bits + self.slot_bits);
        NodeAddress((base + offset) / NodeAddress::UNIT)
    }

    /// The segment and the byte offset of a node. An address beyond all bytes that can be counted is damage, and maps to a
    /// segment that never exists.
    pub(crate) fn split_node(self, address: NodeAddress) -> (u32, u64) {
        let Some(bytes) = address.0.checked_mul(NodeAddress::UNIT) else { return (u32::MAX, 0) };
        let segment = u32::try_from(bytes >> (self.page_bits + self.slot_bits)).unwrap_or(u32::MAX);
        (segment, bytes & (self.segment_bytes() - 1))
    }
}

/// The low half of a word.
#[inline]
fn low32(word: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "cutting is what it is for")]
    let low = word as u32;
    low
}
