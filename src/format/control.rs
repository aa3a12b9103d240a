//! The catalog: the small durable root of a store. `catalog-a` and `catalog-b` hold one each; the one with the higher
//! sequence that is whole wins.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `"VLCT"` |
//! | 4 | 2 | format version |
//! | 6 | 2 | zero |
//! | 8 | 8 | incompatible features: a reader refuses a catalog with a bit that it doesn't know |
//! | 16 | 8 | compatible features: unknown bits may be ignored |
//! | 24 | 8 | sequence |
//! | 32 | 8 | bytes of the body |
//! | 40 | n | body: [`Catalog`] as [`super::code`] writes it; with feature bit 0 the list of [`PackedRecord`]s behind it, with bit 1 then a [`NamedSection`], with bit 2 then the clone's identity (a 128-bit number), with bit 3 then a [`HistorySection`], in the same way |
//! | 40 + n | 16 | XXH3-128 of all before |
//!
//! Incompatible features: bit 0, some segments are packed files; bit 1, there are named snapshots or bookmarks; bit 2, the store
//! is a clone: its segments say the store id of the one that it was made from, and it has an identity of its own; bit 3, there is a
//! history window, and the bytes that the [`NamedSection`] counts are those that its versions reach too.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::bytes::{Reader, Writer};
use super::checksum::{digest128, holds};
use super::history::HistorySection;
use super::names::NamedSection;
use super::{FORMAT, Flaw, check_head, code};
use crate::id::{Fingerprint, StoreId, Version};
use crate::table::node::{HEIGHT_MAX, NodeAddress};

const MAGIC: u32 = u32::from_le_bytes(*b"VLCT");
const HEAD_BYTES: usize = 40;
/// The incompatible feature "some segments are packed".
const PACKED: u64 = 1;
/// The incompatible feature "there are named snapshots or bookmarks".
const NAMED: u64 = 2;
/// The incompatible feature "the store is a clone".
const CLONE: u64 = 4;
/// The incompatible feature "there is a history window".
const HISTORY: u64 = 8;
/// A catalog larger than this is damage: it would list some two billion segments.
pub(crate) const BYTES_MAX: usize = 1 << 36;
/// Most bytes of engine meta.
pub(crate) const META_MAX: usize = 1024;

/// Everything that must survive besides segments.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Catalog {
    pub(crate) store_id: StoreId,
    pub(crate) page_size: u32,
    pub(crate) segment_slots: u32,
    pub(crate) created_at_ms: u64,
    /// The checkpointed versions whose tables are on disk, oldest first. The last is the one that the log goes on from;
    /// the one before is kept so that either catalog slot suffices.
    pub(crate) roots: Vec<RootRecord>,
    pub(crate) log: LogPosition,
    pub(crate) segments: Vec<SegmentRecord>,
    /// Those of the segments whose file is a packed one.
    #[serde(skip)]
    pub(crate) packed: Vec<PackedRecord>,
    #[serde(skip)]
    pub(crate) named: NamedSection,
    /// Who the store is, if it is a clone: its segments still say `store_id`.
    #[serde(skip)]
    pub(crate) identity: Option<StoreId>,
    #[serde(skip)]
    pub(crate) history: HistorySection,
}

/// A version whose table is on disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct RootRecord {
    pub(crate) version: Version,
    #[serde(with = "node_address")]
    pub(crate) address: Option<NodeAddress>,
    pub(crate) height: u32,
    pub(crate) page_count: u64,
    pub(crate) live_pages: u64,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) meta: Vec<u8>,
    pub(crate) created_at_ms: u64,
    /// Where the log stood: segments of this sequence and later are needed to go on from this version.
    pub(crate) log_sequence: u64,
}

impl RootRecord {
    /// Whether the values make sense together.
    pub(super) fn check(&self) -> Result<(), Flaw> {
        let wrong = |what: &str| Err(Flaw::damage(HEAD_BYTES as u64, what, format!("the root {self:?}")));
        if self.height > HEIGHT_MAX || self.version > Version::MAX || self.meta.len() > META_MAX {
            return wrong("a root within its limits");
        }
        if (self.height == 0 && self.address.is_some())
            || self.page_count > crate::id::PageId::MAX.0 + 1
            || self.live_pages > self.page_count
        {
            return wrong("a root that fits its page count");
        }
        Ok(())
    }

    /// Whether the root is none of the future, and the one that is known of its version, if one is. It is known afterwards.
    pub(super) fn fits<'a>(&'a self, known: &mut HashMap<Version, &'a RootRecord>, newest: Version) -> bool {
        let other = *known.entry(self.version).or_insert(self);
        self.version <= newest && RootRecord { log_sequence: other.log_sequence, ..self.clone() } == *other
    }
}

/// Where the log goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct LogPosition {
    pub(crate) segment: u32,
    pub(crate) generation: u32,
    pub(crate) sequence: u64,
    pub(crate) slot: u32,
    pub(crate) digest: u128,
}

/// One segment file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct SegmentRecord {
    pub(crate) number: u32,
    pub(crate) generation: u32,
    pub(crate) sequence: u64,
    /// Bytes of pages and nodes that any of the roots reaches.
    pub(crate) live_bytes: u64,
    /// Bytes of pages and nodes that the last root reaches.
    pub(crate) tip_bytes: u64,
}

/// A segment whose file is a packed one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct PackedRecord {
    pub(crate) number: u32,
    /// How often it was rewritten: a part of the file's name.
    pub(crate) rewrite: u32,
    /// Slots of the file, its header's included.
    pub(crate) file_slots: u32,
}

mod node_address {
    use super::NodeAddress;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde's `with` hands the field by reference")]
    pub(super) fn serialize<S: Serializer>(address: &Option<NodeAddress>, s: S) -> Result<S::Ok, S::Error> {
        address.map_or(0, |address| address.0).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<NodeAddress>, D::Error> {
        let address = u64::deserialize(d)?;
        Ok((address != 0).then_some(NodeAddress(address)))
    }
}

impl Catalog {
    /// The catalog's bytes under `sequence`.
    pub(crate) fn encode(&self, sequence: u64) -> Result<Vec<u8>, String> {
        let mut body = code::encode(self)?;
        let mut features = 0;
        if !self.packed.is_empty() {
            features |= PACKED;
            body.extend(code::encode(&self.packed)?);
        }
        // Which bytes are kept for the history stands there too.
        if !self.named.is_empty() || !self.history.is_empty() {
            features |= NAMED;
            body.extend(code::encode(&self.named)?);
        }
        if let Some(identity) = self.identity {
            features |= CLONE;
            body.extend(code::encode(&identity)?);
        }
        if !self.history.is_empty() {
            features |= HISTORY;
            body.extend(code::encode(&self.history)?);
        }
        let mut out = Writer::with_capacity(HEAD_BYTES + body.len() + 16);
        out.u32(MAGIC);
        out.u16(FORMAT);
        out.u16(0);
        out.u64(features);
        out.u64(0);
        out.u64(sequence);
        out.u64(body.len() as u64);
        out.raw(&body);
        let digest = digest128(&out.bytes);
        out.u128(digest);
        Ok(out.bytes)
    }

    /// Reads a catalog with its sequence.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(u64, Catalog), Flaw> {
        let mut reader = Reader::new(bytes);
        let short = || Flaw::damage(0, "a catalog", format!("{} bytes", bytes.len()));
        let (magic, format) = (reader.u32().ok_or_else(short)?, reader.u16().ok_or_else(short)?);
        check_head(MAGIC, magic, format)?;
        reader.u16().ok_or_else(short)?;
        let (incompatible, _compatible) = (reader.u64().ok_or_else(short)?, reader.u64().ok_or_else(short)?);
        let (sequence, len) = (reader.u64().ok_or_else(short)?, reader.u64().ok_or_else(short)?);
        let len = usize::try_from(len).ok().filter(|len| *len <= bytes.len());
        let wrong_len = || Flaw::damage(32, "the length of the body", "more than there is");
        let body = reader.raw(len.ok_or_else(wrong_len)?).ok_or_else(wrong_len)?;
        let digest = reader.u128().ok_or_else(short)?;
        let expected = digest128(&bytes[..HEAD_BYTES + body.len()]);
        if !holds(digest, expected) {
            return Err(Flaw::damage(
                0,
                format!("a catalog with digest {expected:032x}"),
                format!("{digest:032x}"),
            ));
        }
        if incompatible & !(PACKED | NAMED | CLONE | HISTORY) != 0 {
            return Err(Flaw::Newer { found: format!("the features {incompatible:#x}") });
        }
        let wrong = |error| Flaw::damage(HEAD_BYTES as u64, "a catalog's body", error);
        let (mut catalog, mut used): (Catalog, usize) = code::decode(body).map_err(wrong)?;
        if incompatible & PACKED != 0 {
            let (packed, more) = code::decode(&body[used..]).map_err(wrong)?;
            catalog.packed = packed;
            used += more;
        }
        if incompatible & NAMED != 0 {
            let (named, more) = code::decode(&body[used..]).map_err(wrong)?;
            catalog.named = named;
            used += more;
        }
        if incompatible & CLONE != 0 {
            let (identity, more) = code::decode(&body[used..]).map_err(wrong)?;
            catalog.identity = Some(identity);
            used += more;
        }
        if incompatible & HISTORY != 0 {
            let (history, more) = code::decode(&body[used..]).map_err(wrong)?;
            catalog.history = history;
            used += more;
        }
        if used != body.len() {
            return Err(Flaw::damage(32, format!("a body of {used} bytes"), body.len().to_string()));
        }
        catalog.check()?;
        Ok((sequence, catalog))
    }

    /// Drops all roots but the newest, the named and the historic ones, and what only they reach.
    pub(crate) fn forget_older_roots(&mut self) {
        self.roots.drain(..self.roots.len() - 1);
        let kept = self.named.kept_bytes.iter().copied().map(Some).chain(std::iter::repeat(None));
        for (segment, kept) in self.segments.iter_mut().zip(kept) {
            segment.live_bytes = kept.unwrap_or(segment.tip_bytes);
        }
    }

    /// What a digest can't tell: whether the values make sense together.
    fn check(&self) -> Result<(), Flaw> {
        let wrong = |what: &str, found: String| Err(Flaw::damage(HEAD_BYTES as u64, what, found));
        if !self.page_size.is_power_of_two() || !(512..=65536).contains(&self.page_size) {
            return wrong("a page size from 512 to 65536", self.page_size.to_string());
        }
        if !self.segment_slots.is_power_of_two() || self.segment_slots < 8 {
            return wrong("a power of two of slots", self.segment_slots.to_string());
        }
        if self.roots.is_empty() || self.roots.windows(2).any(|pair| pair[0].version >= pair[1].version) {
            return wrong("roots in ascending order", format!("{} roots", self.roots.len()));
        }
        self.roots.iter().try_for_each(RootRecord::check)?;
        if !self.segments.iter().any(|record| record.number == self.log.segment) {
            return wrong("a log that goes on in a listed segment", format!("segment {}", self.log.segment));
        }
        let segment_bytes = u64::from(self.page_size) * u64::from(self.segment_slots);
        let fits = |record: &SegmentRecord| {
            record.tip_bytes <= record.live_bytes && record.live_bytes <= segment_bytes
        };
        if let Some(record) = self.segments.iter().find(|record| !fits(record)) {
            return wrong("bytes that fit a segment", format!("{record:?}"));
        }
        let kept = &self.named.kept_bytes;
        let is_between =
            |(record, kept): (&SegmentRecord, &u64)| record.tip_bytes <= *kept && *kept <= record.live_bytes;
        if (!self.named.is_empty() || !self.history.is_empty())
            && (kept.len() != self.segments.len() || !self.segments.iter().zip(kept).all(is_between))
        {
            return wrong("bytes kept by names that fit the segments", format!("{} counts", kept.len()));
        }
        // Two roots of one version must be one and the same.
        let mut known = self.roots.iter().map(|root| (root.version, root)).collect();
        let newest = self.roots.last().map_or(Version(0), |root| root.version);
        self.named.check(&mut known, newest)?;
        self.history.check(&mut known, newest)?;
        self.check_packed()
    }

    fn check_packed(&self) -> Result<(), Flaw> {
        let listed: std::collections::HashSet<u32> =
            self.segments.iter().map(|record| record.number).collect();
        let header = super::packed::header_slots(self.segment_slots, self.page_size);
        let is_sane = |record: &&PackedRecord| {
            listed.contains(&record.number)
                && record.number != self.log.segment
                && record.rewrite > 0
                && record.file_slots >= header
                && record.file_slots - header <= self.segment_slots
        };
        let is_ascending = self.packed.windows(2).all(|pair| pair[0].number < pair[1].number);
        match self.packed.iter().find(|record| !is_sane(record)) {
            None if is_ascending => Ok(()),
            found => Err(Flaw::damage(
                HEAD_BYTES as u64,
                "packed segments, each listed once",
                found.map_or_else(|| "another order".to_owned(), |record| format!("{record:?}")),
            )),
        }
    }
}
