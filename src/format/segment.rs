//! The header of a segment: slot 0 of its file.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `"VLSG"` |
//! | 4 | 2 | format version: 1, or 2 if the header is open |
//! | 6 | 2 | zero |
//! | 8 | 16 | store id |
//! | 24 | 4 | segment number |
//! | 28 | 4 | generation: how often the file has been taken into use |
//! | 32 | 4 | page size |
//! | 36 | 4 | slots, the header's included |
//! | 40 | 8 | sequence: the segment's place in the log |
//! | 48 | 4 | number of the segment in which the log goes on after this one |
//! | 52 | 4 | zero |
//! | 56 | 16 | digest of the last record before this segment; zero if the header is open |
//! | 72 | 8 | the version known durable when the segment was taken into use |
//! | 80 | 8 | XXH3-64 of all before, seeded with the segment number |
//!
//! The rest of the slot is zero. The header is synced before any record is written behind it, so a record behind a
//! broken header proves damage, not a crash. An *open* header was written before the log came to the segment: what the last record
//! before it is, the first record behind it says, and without one the log never came there.

use super::bytes::{Reader, Writer};
use super::checksum::{checksum64, holds};
use super::{FORMAT, Flaw, is_newer};
use crate::id::{StoreId, Version};

const MAGIC: u32 = u32::from_le_bytes(*b"VLSG");
/// The format of an open header. Two bits from the other's number: see [`super::is_newer`].
const FORMAT_OPEN: u16 = 2;
/// The bytes of a header, without the rest of its slot.
pub(crate) const HEADER_BYTES: usize = 88;

/// See the table at the head of this file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) store_id: StoreId,
    pub(crate) number: u32,
    pub(crate) generation: u32,
    pub(crate) page_size: u32,
    pub(crate) slots: u32,
    pub(crate) sequence: u64,
    pub(crate) next: u32,
    /// `None` if the header is open.
    pub(crate) previous_digest: Option<u128>,
    pub(crate) durable: Version,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(HEADER_BYTES);
        out.u32(MAGIC);
        out.u16(if self.previous_digest.is_some() { FORMAT } else { FORMAT_OPEN });
        out.u16(0);
        out.u128(self.store_id.0);
        out.u32(self.number);
        out.u32(self.generation);
        out.u32(self.page_size);
        out.u32(self.slots);
        out.u64(self.sequence);
        out.u32(self.next);
        out.u32(0);
        out.u128(self.previous_digest.unwrap_or(0));
        out.u64(self.durable.0);
        let sum = checksum64(u64::from(self.number), &out.bytes);
        out.u64(sum);
        out.bytes
    }

    /// The header's slot: the header, and the zeros behind it.
    pub(crate) fn encode_slot(&self) -> Vec<u8> {
        let mut bytes = self.encode();
        bytes.resize(self.page_size as usize, 0);
        bytes
    }

    /// Reads the header of segment `number`.
    pub(crate) fn decode(bytes: &[u8], number: u32) -> Result<SegmentHeader, Flaw> {
        Self::fields(bytes, number)
            .unwrap_or_else(|| Err(Flaw::damage(0, "a segment header", "too few bytes")))
    }

    fn fields(bytes: &[u8], number: u32) -> Option<Result<SegmentHeader, Flaw>> {
        let mut reader = Reader::new(bytes);
        let (magic, format) = (reader.u32()?, reader.u16()?);
        if magic != MAGIC {
            return Some(Err(Flaw::damage(0, format!("magic {MAGIC:08x}"), format!("{magic:08x}"))));
        }
        if is_newer(format) && (format ^ FORMAT_OPEN).count_ones() > 1 {
            return Some(Err(Flaw::Newer { found: format.to_string() }));
        }
        reader.u16()?;
        let header = SegmentHeader {
            store_id: StoreId(reader.u128()?),
            number: reader.u32()?,
            generation: reader.u32()?,
            page_size: reader.u32()?,
            slots: reader.u32()?,
            sequence: reader.u64()?,
            next: {
                let next = reader.u32()?;
                reader.u32()?;
                next
            },
            previous_digest: Some(reader.u128()?).filter(|_| format != FORMAT_OPEN),
            durable: Version(reader.u64()?),
        };
        let sum = reader.u64()?;
        let expected = checksum64(u64::from(number), bytes.get(..HEADER_BYTES - 8)?);
        if !holds(sum, expected) {
            let expected = format!("a header with checksum {expected:016x}");
            return Some(Err(Flaw::damage(80, expected, format!("{sum:016x}"))));
        }
        if header.number != number {
            return Some(Err(Flaw::damage(24, format!("segment {number}"), header.number.to_string())));
        }
        Some(Ok(header))
    }
}
