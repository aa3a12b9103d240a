//! A record of the log: what one batch, or one part of a large batch, appends before its pages.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `"VLRC"` |
//! | 4 | 2 | format version: 1, or 2 if the batch changes names, or 4 if it does so in a way that builds for 2 don't know |
//! | 6 | 1 | kind: 1 commit, 2 table nodes |
//! | 7 | 1 | flags: bit 0 last part of its batch; bit 1 the batch truncates; bit 2 the batch sets the meta bytes; bit 3 the batch changes names |
//! | 8 | 16 | store id |
//! | 24 | 4 | segment number |
//! | 28 | 4 | segment generation |
//! | 32 | 8 | slot in which the record begins |
//! | 40 | 8 | version (of table nodes: the version whose checkpoint they belong to) |
//! | 48 | 8 | the version known durable when the record was written |
//! | 56 | 8 | session: a random number for each opening of the store |
//! | 64 | 16 | digest of the record before |
//! | 80 | 8 | time of the commit, milliseconds since 1970 (UTC) |
//! | 88 | 4 | part of the batch, counted from 0 |
//! | 92 | 4 | pages listed |
//! | 96 | 4 | freed ranges listed |
//! | 100 | 4 | bytes of meta, and of what belongs to the names |
//! | 104 | 4 | slots of the record itself |
//! | 108 | 4 | slots of data behind it (pages, in the order of the list; or nodes) |
//! | 112 | 8 | page count that a truncating batch cuts to first |
//! | 120 | 8 | page count after the batch |
//! | 128 | 16 | fingerprint after the batch |
//! | 144 | 16 x pages | page id, page checksum (64 bits) |
//! | then | 16 x ranges | first freed page id, count |
//! | then | meta | the engine's bytes; if the batch changes names, their number (4) first, and a [`NameChange`](super::names::NameChange) behind them |
//! | then | 16 | XXH3-128 of all before: the record's digest, which the next record repeats |
//!
//! Zeros fill the record's last slot. The page checksums in the list make one sync commit both record and pages.

use super::bytes::{Reader, Writer};
use super::checksum::{PageChecksum, digest128, holds};
use super::names::is_later_change;
use super::{FORMAT, Flaw};
use crate::id::{Fingerprint, PageId, StoreId, Version};

const MAGIC: u32 = u32::from_le_bytes(*b"VLRC");
/// Bytes before the lists.
pub(crate) const FIXED_BYTES: usize = 144;
/// Bytes of the digest behind the lists.
const DIGEST_BYTES: usize = 16;
/// Bytes of one listed page or range.
pub(crate) const ITEM_BYTES: usize = 16;

const LAST: u8 = 1;
const TRUNCATES: u8 = 2;
const SETS_META: u8 = 4;
const CHANGES_NAMES: u8 = 8;

/// The format of records that change names: older builds don't know what they would lose.
const FORMAT_NAMES: u16 = 2;
/// The format of records with changes of the names that came later.
const FORMAT_LATER_NAMES: u16 = 4;

/// What a record is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RecordKind {
    Commit,
    Nodes,
}

/// See the table at the head of this file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    pub(crate) kind: RecordKind,
    pub(crate) is_last: bool,
    pub(crate) store_id: StoreId,
    pub(crate) segment: u32,
    pub(crate) generation: u32,
    pub(crate) slot: u64,
    pub(crate) version: Version,
    pub(crate) durable: Version,
    pub(crate) session: u64,
    pub(crate) previous_digest: u128,
    pub(crate) created_at_ms: u64,
    pub(crate) part: u32,
    pub(crate) header_slots: u32,
    pub(crate) data_slots: u32,
    pub(crate) truncate_to: Option<u64>,
    pub(crate) page_count: u64,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) pages: Vec<(PageId, PageChecksum)>,
    pub(crate) freed: Vec<(PageId, u64)>,
    pub(crate) meta: Option<Vec<u8>>,
    /// A [`NameChange`](super::names::NameChange) as it is written.
    pub(crate) names: Option<Vec<u8>>,
}

/// The bytes that a record needs for meta and names of these lengths.
pub(crate) fn extra_bytes(meta: usize, names: Option<usize>) -> usize {
    meta + names.map_or(0, |names| 4 + names)
}

/// The slots that a record with so many listed items and meta bytes takes, without its pages.
pub(crate) fn header_slots(page_size: u32, items: usize, meta: usize) -> u32 {
    let bytes = FIXED_BYTES + items * ITEM_BYTES + meta + DIGEST_BYTES;
    u32::try_from(bytes.div_ceil(page_size as usize)).expect("a record's items are bounded by its batch part")
}

impl Record {
    /// The bytes of the record, padded to whole slots, and its digest.
    pub(crate) fn encode(&self, page_size: u32) -> (Vec<u8>, u128) {
        let count = |len: usize| u32::try_from(len).expect("a record's items are bounded by its batch part");
        let total = self.header_slots as usize * page_size as usize;
        let mut out = Writer::with_capacity(total);
        out.u32(MAGIC);
        out.u16(match &self.names {
            None => FORMAT,
            Some(change) if is_later_change(change) => FORMAT_LATER_NAMES,
            Some(_) => FORMAT_NAMES,
        });
        out.u8(match self.kind {
            RecordKind::Commit => 1,
            RecordKind::Nodes => 2,
        });
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        out.u8(flag(self.is_last, LAST)
            | flag(self.truncate_to.is_some(), TRUNCATES)
            | flag(self.meta.is_some(), SETS_META)
            | flag(self.names.is_some(), CHANGES_NAMES));
        out.u128(self.store_id.0);
        out.u32(self.segment);
        out.u32(self.generation);
        out.u64(self.slot);
        out.u64(self.version.0);
        out.u64(self.durable.0);
        out.u64(self.session);
        out.u128(self.previous_digest);
        out.u64(self.created_at_ms);
        out.u32(self.part);
        out.u32(count(self.pages.len()));
        out.u32(count(self.freed.len()));
        let meta_bytes = self.meta.as_ref().map_or(0, Vec::len);
        out.u32(count(extra_bytes(meta_bytes, self.names.as_ref().map(Vec::len))));
        out.u32(self.header_slots);
        out.u32(self.data_slots);
        out.u64(self.truncate_to.unwrap_or(0));
        out.u64(self.page_count);
        out.u128(self.fingerprint.0);
        for (id, checksum) in &self.pages {
            out.u64(id.0);
            out.u64(checksum.0);
        }
        for (first, len) in &self.freed {
            out.u64(first.0);
            out.u64(*len);
        }
        if self.names.is_some() {
            out.u32(count(meta_bytes));
        }
        out.raw(self.meta.as_deref().unwrap_or_default());
        out.raw(self.names.as_deref().unwrap_or_default());
        let digest = digest128(&out.bytes);
        out.u128(digest);
        out.pad_to(total);
        (out.bytes, digest)
    }

    /// How many slots the record at the start of `slot` says to take, if it looks like one at all: read this many
    /// before [`Record::decode`]. Nothing is trusted yet.
    pub(crate) fn peek_slots(slot: &[u8]) -> Option<u32> {
        let mut reader = Reader::new(slot);
        let magic = reader.u32()?;
        reader.raw(100)?;
        let slots = reader.u32()?;
        (magic == MAGIC && slots > 0).then_some(slots)
    }

    /// Reads a record from the bytes of all its slots; returns it with its digest.
    pub(crate) fn decode(bytes: &[u8], page_size: u32) -> Result<(Record, u128), Flaw> {
        Self::fields(bytes, page_size)
            .unwrap_or_else(|| Err(Flaw::damage(0, "a whole record", "too few bytes")))
    }

    fn fields(bytes: &[u8], page_size: u32) -> Option<Result<(Record, u128), Flaw>> {
        let mut reader = Reader::new(bytes);
        let (magic, format) = (reader.u32()?, reader.u16()?);
        let (kind, flags) = (reader.u8()?, reader.u8()?);
        if magic != MAGIC {
            return Some(Err(Flaw::damage(0, format!("magic {MAGIC:08x}"), format!("{magic:08x}"))));
        }
        let store_id = StoreId(reader.u128()?);
        let (segment, generation, slot) = (reader.u32()?, reader.u32()?, reader.u64()?);
        let (version, durable, session) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (previous_digest, created_at_ms, part) = (reader.u128()?, reader.u64()?, reader.u32()?);
        let (pages, freed, extra) = (reader.u32()? as usize, reader.u32()? as usize, reader.u32()? as usize);
        let (header_slots, data_slots) = (reader.u32()?, reader.u32()?);
        let (truncate_to, page_count, fingerprint) = (reader.u64()?, reader.u64()?, reader.u128()?);
        // Lengths are held against the bytes at hand before anything is made of them.
        let items = pages.checked_add(freed)?.checked_mul(ITEM_BYTES)?;
        let body = FIXED_BYTES.checked_add(items)?.checked_add(extra)?;
        let covered = bytes.get(..body)?;
        let page_list = reader.raw(pages * ITEM_BYTES)?;
        let freed_list = reader.raw(freed * ITEM_BYTES)?;
        let extra = reader.raw(extra)?;
        let digest = reader.u128()?;
        if !holds(digest, digest128(covered)) {
            let offset = u64::try_from(body).ok()?;
            return Some(Err(Flaw::damage(
                offset,
                format!("digest {:032x}", digest128(covered)),
                format!("{digest:032x}"),
            )));
        }
        if format > FORMAT_LATER_NAMES {
            return Some(Err(Flaw::Newer { found: format.to_string() }));
        }
        let kind = match kind {
            1 => RecordKind::Commit,
            2 => RecordKind::Nodes,
            other => return Some(Err(Flaw::damage(6, "a known kind of record", other.to_string()))),
        };
        if header_slots as usize != body.checked_add(DIGEST_BYTES)?.div_ceil(page_size as usize)
            || (kind == RecordKind::Commit && data_slots as usize != pages)
        {
            return Some(Err(Flaw::damage(
                104,
                "slots that fit the lists",
                format!("{header_slots} and {data_slots}"),
            )));
        }
        let pair = |item: &[u8]| {
            let mut item = Reader::new(item);
            Some((item.u64()?, item.u64()?))
        };
        let pages: Option<Vec<_>> = page_list
            .chunks_exact(ITEM_BYTES)
            .map(|item| pair(item).map(|(id, checksum)| (PageId(id), PageChecksum(checksum))))
            .collect();
        let freed: Option<Vec<_>> = freed_list
            .chunks_exact(ITEM_BYTES)
            .map(|item| pair(item).map(|(first, len)| (PageId(first), len)))
            .collect();
        let (meta, names) = match flags & CHANGES_NAMES != 0 {
            true => {
                let mut extra = Reader::new(extra);
                let meta = extra.u32()? as usize;
                (extra.raw(meta)?, Some(extra.rest().to_vec()))
            }
            false => (extra, None),
        };
        let record = Record {
            kind,
            is_last: flags & LAST != 0,
            store_id,
            segment,
            generation,
            slot,
            version: Version(version),
            durable: Version(durable),
            session,
            previous_digest,
            created_at_ms,
            part,
            header_slots,
            data_slots,
            truncate_to: (flags & TRUNCATES != 0).then_some(truncate_to),
            page_count,
            fingerprint: Fingerprint(fingerprint),
            pages: pages?,
            freed: freed?,
            meta: (flags & SETS_META != 0).then(|| meta.to_vec()),
            names,
        };
        Some(Ok((record, digest)))
    }
}
