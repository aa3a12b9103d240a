//! What readers need of one segment: where its bytes are, and which of its pages were verified.
//!
//! Bytes are in the segment's file (whole or packed), in the tail, or in the file up to a slot and in the tail from there on. A read
//! should cost few instructions, because only then do the memory accesses of several reads overlap: where all slots that a reader
//! may ask for lie in one mapping at their own offsets, its start alone tells where ([`Loaded::verified_page`]).
#![allow(unsafe_code)]

use std::ptr;
use std::slice;
use std::sync::{Arc, OnceLock};

use super::geometry::Geometry;
use super::packed::Packed;
use super::segment::usize_of;
use crate::id::Location;
use crate::storage::Mapping;
use crate::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// A whole segment's file, mapped.
struct Mapped {
    mapping: Mapping,
    /// Says that somebody may read from the file: see `Backing::readers`.
    _reader: Arc<()>,
}

/// One segment's bytes, for those who read.
pub(crate) struct Loaded {
    geometry: Geometry,
    /// Where slot 0 lies, if every slot whose page is marked as verified lies at its offset from there; null where that can't be
    /// told so simply, or not yet. Points into `tail` or `mapping`, which stay as they are once it is set.
    start: AtomicPtr<u8>,
    /// One bit a slot: its page was verified since opening. Bits are only ever hints: bytes under a location don't change.
    verified: Box<[AtomicU64]>,
    /// The file, mapped, its header checked; not there while everything is read from `tail`.
    mapping: OnceLock<Mapped>,
    /// The same if the file is a packed one; then there is no `mapping`.
    packed: OnceLock<Packed>,
    /// Bytes from here on are read from `tail`; beyond the end if there is none.
    tail_from: usize,
    tail: Mapping,
}

impl Loaded {
    /// The bytes from slot `from` on lie in `tail`, if there is one; all others in the file, which is mapped when it is first needed.
    pub(super) fn new(geometry: Geometry, tail: Option<(u32, Mapping)>) -> Loaded {
        let words = geometry.segment_slots().div_ceil(u64::BITS);
        let (from, tail) = tail.unwrap_or((u32::MAX, Mapping::empty()));
        let loaded = Loaded {
            geometry,
            start: AtomicPtr::new(ptr::null_mut()),
            verified: (0..words).map(|_| AtomicU64::new(0)).collect(),
            mapping: OnceLock::new(),
            packed: OnceLock::new(),
            tail_from: usize_of(geometry.offset(from)),
            tail,
        };
        // Slot 0 is the header; nobody reads it from here.
        if from <= 1 {
            loaded.read_from(&loaded.tail);
        }
        loaded
    }

    /// Lets verified pages be read from `mapping`, one of its own.
    fn read_from(&self, mapping: &Mapping) {
        if mapping.len() as u64 >= self.geometry.segment_bytes() {
            self.start.store(mapping.start(), Ordering::Release);
        }
    }

    /// Lets the segment's file be read, which is a whole one whose header was checked.
    pub(super) fn set_mapping(&self, mapping: Mapping, reader: Arc<()>) {
        let mapped = self.mapping.get_or_init(|| Mapped { mapping, _reader: reader });
        if self.tail.is_empty() {
            self.read_from(&mapped.mapping);
        }
    }

    /// The same of a packed file.
    pub(super) fn set_packed(&self, packed: Packed) {
        self.packed.get_or_init(|| packed);
    }

    /// Whether a byte at `start` of the segment is read from its file.
    pub(super) fn is_in_file(&self, start: usize) -> bool {
        start < self.tail_from
    }

    /// Whether it is, and the file isn't mapped yet.
    pub(super) fn wants_file(&self, start: usize) -> bool {
        self.is_in_file(start) && self.mapping.get().is_none() && self.packed.get().is_none()
    }

    /// The `len` bytes at byte `start` of the segment; `None` if there are none, or the file isn't mapped.
    #[inline]
    pub(super) fn slice(&self, start: usize, len: usize) -> Option<&[u8]> {
        if !self.is_in_file(start) {
            return self.tail.slice(start, len);
        }
        match self.mapping.get() {
            Some(mapped) => mapped.mapping.slice(start, len),
            None => self.packed.get()?.slice(self.geometry, start, len),
        }
    }

    /// The page at `location`, one of this segment, if it was verified before.
    #[inline]
    pub(super) fn verified_page(&self, location: Location) -> Option<&[u8]> {
        let slot = self.geometry.slot(location);
        // SAFETY: `slot` is below the geometry's `segment_slots`, whatever the location, and there are bits for as many.
        let word = unsafe { self.verified.get_unchecked((slot / u64::BITS) as usize) };
        if word.load(Ordering::Relaxed) & mark(slot) == 0 {
            return None;
        }
        let (offset, len) = (usize_of(self.geometry.offset(slot)), self.geometry.page_size() as usize);
        let start = self.start.load(Ordering::Acquire);
        if start.is_null() {
            return self.slice_by_place(offset, len);
        }
        // SAFETY: `start` is that of a mapping of at least `segment_bytes`, which `self` keeps and never replaces, and the slot ends
        // within those, as above. Its bytes are initialized, and not written while anybody may look at them, as for every slice of a
        // mapping (the head of `storage/mapping.rs`).
        Some(unsafe { slice::from_raw_parts(start.add(offset), len) })
    }

    /// [`Loaded::slice`], out of the way of reads that need not ask where the bytes lie.
    #[inline(never)]
    fn slice_by_place(&self, start: usize, len: usize) -> Option<&[u8]> {
        self.slice(start, len)
    }

    /// The word that has a slot's mark, if there is such a slot.
    fn word(&self, slot: u32) -> Option<&AtomicU64> {
        self.verified.get((slot / u64::BITS) as usize)
    }

    /// Whether a slot's page was verified.
    pub(super) fn is_verified(&self, slot: u32) -> bool {
        self.word(slot).is_some_and(|word| word.load(Ordering::Relaxed) & mark(slot) != 0)
    }

    /// Remembers that a slot's page was verified.
    #[cold]
    pub(super) fn mark_verified(&self, slot: u32) {
        if let Some(word) = self.word(slot) {
            word.fetch_or(mark(slot), Ordering::Relaxed);
        }
    }

    /// Forgets it.
    pub(super) fn distrust(&self, slot: u32) {
        if let Some(word) = self.word(slot) {
            word.fetch_and(!mark(slot), Ordering::Relaxed);
        }
    }
}

/// A slot's mark in its word.
#[inline]
fn mark(slot: u32) -> u64 {
    1 << (slot % u64::BITS)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use crate::storage::{MemoryFile, StorageFile};

    const PAGE: usize = 512;
    const SLOTS: u32 = 128;

    fn geometry() -> Geometry {
        Geometry::new(512, SLOTS)
    }

    /// A mapping of `slots` pages, each full of its slot's number and `salt`.
    fn mapping(slots: u32, salt: u8) -> Mapping {
        let len = geometry().offset(slots);
        let file = MemoryFile::alone(len, false).unwrap();
        for slot in 0..slots {
            let page = [tag(slot, salt); PAGE];
            file.write_all_at(&[IoSlice::new(&page)], geometry().offset(slot)).unwrap();
        }
        StorageFile::map(&file, usize_of(len)).unwrap()
    }

    fn tag(slot: u32, salt: u8) -> u8 {
        slot.to_le_bytes()[0] ^ salt
    }

    /// What is read at each slot that is marked, and that nothing is where none is.
    fn tags(loaded: &Loaded) -> Vec<Option<u8>> {
        (0..SLOTS).for_each(|slot| assert_eq!(loaded.verified_page(Location(slot.into())), None));
        (0..SLOTS).for_each(|slot| loaded.mark_verified(slot));
        let page = |slot: u32| {
            // Of a location of another segment only the slot counts.
            let locations = [0, 1, 1 << 20].map(|segment| geometry().location(segment, slot));
            let pages = locations.map(|location| loaded.verified_page(location));
            assert!(pages.iter().all(|page| *page == pages[0]), "slot {slot}");
            let offset = usize_of(geometry().offset(slot));
            assert_eq!(pages[0], loaded.slice(offset, PAGE), "slot {slot}, either way");
            pages[0].map(|page| {
                assert_eq!(page, [page[0]; PAGE]);
                page[0]
            })
        };
        let tags = (0..SLOTS).map(page).collect();
        loaded.distrust(5);
        assert_eq!(loaded.verified_page(Location(5)), None);
        assert!(!loaded.is_verified(5) && loaded.is_verified(6));
        tags
    }

    #[test]
    fn pages_are_read_where_they_lie() {
        let all = |salt| move |slot| Some(tag(slot, salt));
        let file = Loaded::new(geometry(), None);
        assert!(file.wants_file(0));
        file.set_mapping(mapping(SLOTS, 0), Arc::new(()));
        assert!(!file.wants_file(0) && !file.start.load(Ordering::Relaxed).is_null());
        assert_eq!(tags(&file), (0..SLOTS).map(all(0)).collect::<Vec<_>>());

        for from in [0, 1] {
            let tail = Loaded::new(geometry(), Some((from, mapping(SLOTS, 7))));
            assert!(!tail.start.load(Ordering::Relaxed).is_null(), "all but the header is in the tail");
            // Someone reads the header, which lies in the file.
            tail.set_mapping(mapping(SLOTS, 0), Arc::new(()));
            let page = |slot| {
                tail.mark_verified(slot);
                tail.verified_page(Location(slot.into())).map(|page| page[0])
            };
            assert!((1..SLOTS).all(|slot| page(slot) == all(7)(slot)));
        }

        let both = Loaded::new(geometry(), Some((9, mapping(SLOTS, 7))));
        assert!(both.wants_file(8 * PAGE) && !both.wants_file(9 * PAGE));
        both.set_mapping(mapping(SLOTS, 0), Arc::new(()));
        let expected = (0..SLOTS).map(|slot| if slot < 9 { all(0)(slot) } else { all(7)(slot) });
        assert_eq!(tags(&both), expected.collect::<Vec<_>>());
    }

    #[test]
    fn what_is_too_short_for_a_segment_is_not_read_beyond_its_end() {
        let short = Loaded::new(geometry(), None);
        short.set_mapping(mapping(SLOTS - 1, 0), Arc::new(()));
        let mut expected: Vec<_> = (0..SLOTS).map(|slot| Some(tag(slot, 0))).collect();
        expected[127] = None;
        assert_eq!(tags(&short), expected);
        let none = Loaded::new(geometry(), None);
        assert_eq!(tags(&none), vec![None; 128], "no file yet");
    }
}
