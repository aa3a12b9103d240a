//! The raw delta, version 1: what changed, as a plain list for those who keep raw files (page i at offset i * page size).
//!
//! Header, 80 bytes: magic `"VELLUMP\x1a"` (8), version (4), page size (4), from version (8), from fingerprint (16), version (8),
//! fingerprint (16), page count (8), checksum (8; XXH3-64 of bytes 0..72).
//!
//! Then entries, in ascending order of the ids, each beginning with 24 bytes:
//!
//! | type (8) | second (8) | third (8) | then |
//! |---|---|---|---|
//! | 1: a page | its id | XXH3-64 of the page, seeded with the id | the page |
//! | 2: zeros, where pages were freed | first id | how many | |
//! | 3: the end | how many entries came before | XXH3-64 of the header and of the 24 bytes of each entry before | nothing |
//!
//! To apply it by hand: write each page at id * page size, zeros where it says so, and cut the file to page count * page size. Doing it
//! twice does no harm.

use super::bytes::{Reader, Writer};
use super::checksum::{checksum64, holds};
use super::stream::BaseState;
use crate::id::{Fingerprint, Version};

pub(crate) const HEADER_BYTES: usize = 80;
pub(crate) const ENTRY_BYTES: usize = 24;
pub(crate) const FORMAT: u32 = 1;
pub(crate) const MAGIC: [u8; 8] = *b"VELLUMP\x1a";

/// What a raw delta is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PatchHeader {
    pub(crate) page_size: u32,
    pub(crate) base: BaseState,
    pub(crate) version: Version,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) page_count: u64,
}

impl PatchHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(HEADER_BYTES);
        out.raw(&MAGIC);
        out.u32(FORMAT);
        out.u32(self.page_size);
        out.u64(self.base.version.0);
        out.u128(self.base.fingerprint.0);
        out.u64(self.version.0);
        out.u128(self.fingerprint.0);
        out.u64(self.page_count);
        let sum = checksum64(0, &out.bytes);
        out.u64(sum);
        out.bytes
    }

    /// The format and the header, if it begins as one of ours and its checksum holds.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<(u32, PatchHeader)> {
        let mut reader = Reader::new(bytes);
        let is_ours = reader.raw(8)? == MAGIC;
        let (format, page_size) = (reader.u32()?, reader.u32()?);
        let base = BaseState { version: Version(reader.u64()?), fingerprint: Fingerprint(reader.u128()?) };
        let (version, fingerprint) = (Version(reader.u64()?), Fingerprint(reader.u128()?));
        let header = PatchHeader { page_size, base, version, fingerprint, page_count: reader.u64()? };
        let is_whole = holds(reader.u64()?, checksum64(0, &bytes[..HEADER_BYTES - 8]));
        (is_ours && is_whole).then_some((format, header))
    }
}

/// An entry, without the bytes of its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchEntry {
    Page { id: u64, sum: u64 },
    Zeros { first: u64, count: u64 },
    End { entries: u64, digest: u64 },
}

impl PatchEntry {
    pub(crate) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let (kind, second, third) = match *self {
            PatchEntry::Page { id, sum } => (1u64, id, sum),
            PatchEntry::Zeros { first, count } => (2, first, count),
            PatchEntry::End { entries, digest } => (3, entries, digest),
        };
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&kind.to_le_bytes());
        bytes[8..16].copy_from_slice(&second.to_le_bytes());
        bytes[16..].copy_from_slice(&third.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<PatchEntry> {
        let mut reader = Reader::new(bytes);
        let (kind, second, third) = (reader.u64()?, reader.u64()?, reader.u64()?);
        match kind {
            1 => Some(PatchEntry::Page { id: second, sum: third }),
            2 => Some(PatchEntry::Zeros { first: second, count: third }),
            3 => Some(PatchEntry::End { entries: second, digest: third }),
            _ => None,
        }
    }
}
