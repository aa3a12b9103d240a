//! A packed segment: what is still needed of a segment, without the rest. Page `p` of the segment lies at the place that
//! its rank among the kept slots gives, so locations stay what they were.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `"VLPK"` |
//! | 4 | 2 | format version |
//! | 6 | 2 | zero |
//! | 8 | 16 | store id |
//! | 24 | 4 | segment number |
//! | 28 | 4 | generation of the segment |
//! | 32 | 4 | page size |
//! | 36 | 4 | slots of the segment |
//! | 40 | 4 | how often the segment was rewritten, this time included |
//! | 44 | 4 | slots kept |
//! | 48 | n | one bit a slot of the segment, lowest first, in words of 8 bytes: kept or not |
//! | 48 + n | 8 | XXH3-64 of all before, seeded with the segment number |
//!
//! The header is padded with zeros to whole slots; behind it the kept slots follow in ascending order. (Rank in a bitmap:
//! Jacobson, "Space-efficient static trees and graphs", 1989.)

use super::bytes::{Reader, Writer};
use super::checksum::{checksum64, holds};
use super::{FORMAT, Flaw, check_head};
use crate::id::StoreId;

const MAGIC: u32 = u32::from_le_bytes(*b"VLPK");
const FIXED_BYTES: usize = 48;

/// Some of a segment's slots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SlotSet {
    words: Box<[u64]>,
}

impl SlotSet {
    /// No slot of a segment of `slots` slots.
    pub(crate) fn new(slots: u32) -> SlotSet {
        SlotSet { words: vec![0; slots.div_ceil(64) as usize].into() }
    }

    /// Adds a slot; one beyond the segment's end is no slot.
    pub(crate) fn insert(&mut self, slot: u32) {
        if let Some(word) = self.words.get_mut((slot / 64) as usize) {
            *word |= 1 << (slot % 64);
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// The slots in ascending order, neighbours as one: (first, count).
    pub(crate) fn runs(&self) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for (base, word) in (0u32..).step_by(64).zip(&self.words) {
            let mut rest = *word;
            while rest != 0 {
                let slot = base + rest.trailing_zeros();
                rest &= rest - 1;
                match runs.last_mut() {
                    Some((first, count)) if *first + *count == slot => *count += 1,
                    _ => runs.push((slot, 1)),
                }
            }
        }
        runs
    }
}

/// See the table at the head of this file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PackedHeader {
    pub(crate) store_id: StoreId,
    pub(crate) number: u32,
    pub(crate) generation: u32,
    pub(crate) page_size: u32,
    pub(crate) slots: u32,
    pub(crate) rewrite: u32,
    pub(crate) kept: SlotSet,
}

/// The bytes of a header, without its padding.
pub(crate) fn header_bytes(slots: u32) -> usize {
    FIXED_BYTES + slots.div_ceil(64) as usize * 8 + 8
}

/// The slots that a header takes.
pub(crate) fn header_slots(slots: u32, page_size: u32) -> u32 {
    u32::try_from(header_bytes(slots).div_ceil(page_size as usize)).unwrap_or(u32::MAX)
}

impl PackedHeader {
    /// The header's bytes, padded to whole slots.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(header_bytes(self.slots));
        out.u32(MAGIC);
        out.u16(FORMAT);
        out.u16(0);
        out.u128(self.store_id.0);
        out.u32(self.number);
        out.u32(self.generation);
        out.u32(self.page_size);
        out.u32(self.slots);
        out.u32(self.rewrite);
        out.u32(self.kept.len());
        self.kept.words.iter().for_each(|word| out.u64(*word));
        let sum = checksum64(u64::from(self.number), &out.bytes);
        out.u64(sum);
        out.pad_to(header_slots(self.slots, self.page_size) as usize * self.page_size as usize);
        out.bytes
    }

    /// Reads the header of a rewritten segment that should have `slots` slots.
    pub(crate) fn decode(bytes: &[u8], number: u32, slots: u32) -> Result<PackedHeader, Flaw> {
        Self::fields(bytes, number, slots)
            .unwrap_or_else(|| Err(Flaw::damage(0, "the header of a packed segment", "too few bytes")))
    }

    fn fields(bytes: &[u8], number: u32, slots: u32) -> Option<Result<PackedHeader, Flaw>> {
        let mut reader = Reader::new(bytes);
        let (magic, format) = (reader.u32()?, reader.u16()?);
        if let Err(flaw) = check_head(MAGIC, magic, format) {
            return Some(Err(flaw));
        }
        let body = bytes.get(..header_bytes(slots) - 8)?;
        let sum = Reader::new(bytes.get(body.len()..)?).u64()?;
        let expected = checksum64(u64::from(number), body);
        if !holds(sum, expected) {
            let expected = format!("a header with checksum {expected:016x}");
            return Some(Err(Flaw::damage(body.len() as u64, expected, format!("{sum:016x}"))));
        }
        reader.u16()?;
        let mut header = PackedHeader {
            store_id: StoreId(reader.u128()?),
            number: reader.u32()?,
            generation: reader.u32()?,
            page_size: reader.u32()?,
            slots: reader.u32()?,
            rewrite: reader.u32()?,
            kept: SlotSet::new(slots),
        };
        let kept = reader.u32()?;
        for word in &mut header.kept.words {
            *word = reader.u64()?;
        }
        if (header.number, header.slots, header.kept.len()) != (number, slots, kept) {
            let expected = format!("segment {number} of {slots} slots");
            let found = format!("{} of {}, {kept} kept", header.number, header.slots);
            return Some(Err(Flaw::damage(24, expected, found)));
        }
        Some(Ok(header))
    }
}

/// Where the slots of a segment lie in its packed file.
#[derive(Debug)]
pub(crate) struct Ranks {
    kept: SlotSet,
    /// Kept slots before each word of `kept`.
    before: Box<[u32]>,
    header_slots: u32,
}

impl Ranks {
    pub(crate) fn new(header: PackedHeader) -> Ranks {
        let mut sum = 0;
        let before = header.kept.words.iter().map(|word| {
            let before = sum;
            sum += word.count_ones();
            before
        });
        let before = before.collect();
        Ranks { before, header_slots: header_slots(header.slots, header.page_size), kept: header.kept }
    }

    /// The place of a slot in the file, counted in slots, if it was kept.
    #[inline]
    pub(crate) fn place(&self, slot: u32) -> Option<u32> {
        let index = (slot / 64) as usize;
        let (word, bit) = (self.kept.words.get(index)?, 1u64 << (slot % 64));
        let rank = self.before.get(index)? + (word & (bit - 1)).count_ones();
        (word & bit != 0).then_some(self.header_slots + rank)
    }

    /// Slots of the whole file.
    pub(crate) fn file_slots(&self) -> u32 {
        self.header_slots + self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(slots: u32, kept: &[u32]) -> PackedHeader {
        let mut set = SlotSet::new(slots);
        for slot in kept {
            set.insert(*slot);
        }
        PackedHeader {
            store_id: StoreId(7),
            number: 3,
            generation: 2,
            page_size: 512,
            slots,
            rewrite: 1,
            kept: set,
        }
    }

    #[test]
    fn ranks_agree_with_counting() {
        for slots in [8, 64, 128, 4096] {
            let kept: Vec<u32> = (1..slots).filter(|slot| slot % 7 < 3 || slot + 1 == slots).collect();
            let made = header(slots, &kept);
            let first = header_slots(slots, 512);
            let ranks = Ranks::new(made.clone());
            for slot in 0..slots {
                let expected = (first..).zip(&kept).find(|(_, k)| **k == slot).map(|(place, _)| place);
                assert_eq!(ranks.place(slot), expected, "slot {slot} of {slots}");
            }
            assert_eq!(ranks.place(slots + 64), None);
            assert_eq!(ranks.file_slots() as usize, first as usize + kept.len());
            let runs = made.kept.runs();
            assert!(runs.iter().flat_map(|(first, count)| *first..first + count).eq(kept.iter().copied()));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_found() {
        let made = header(128, &[1, 2, 100]);
        let bytes = made.encode();
        assert_eq!(PackedHeader::decode(&bytes, 3, 128), Ok(made));
        for bit in 0..header_bytes(128) * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(PackedHeader::decode(&bytes, 3, 128).is_err(), "bit {bit}");
        }
        for len in 0..header_bytes(128) {
            assert!(PackedHeader::decode(&bytes[..len], 3, 128).is_err(), "cut to {len}");
        }
    }
}
