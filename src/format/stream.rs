//! The export stream, version 1: one snapshot as a sequence of bytes that can go through a pipe.
//!
//! Preamble, 16 bytes: magic `"VELLUMX\x1a"` (8), major version (2), minor version (2), zero (4). A reader refuses a newer
//! major version. Then records, each a prefix and a payload; payloads are multiples of 8 bytes.
//!
//! | offset | size | field of a prefix |
//! |---|---|---|
//! | 0 | 2 | type: 1 HEADER, 2 META, 3 PAGES, 4 FREE (deltas only), 5 SYNC, 6 TRAILER |
//! | 2 | 2 | flags; bit 0: a reader that doesn't know the type must refuse the stream, otherwise it skips the record; bit 1: the payload is sealed |
//! | 4 | 4 | zero |
//! | 8 | 8 | bytes of the payload |
//! | 16 | 8 | sequence number, from 0 |
//! | 24 | 8 | checksum of the payload as it is stored (XXH3-64, seeded with the sequence number); of PAGES that are neither compressed nor sealed: of its list only |
//! | 32 | 8 | own checksum of the prefix before; of the first: XXH3-64 of the preamble |
//! | 40 | 8 | own checksum: XXH3-64 of bytes 0..40 |
//!
//! HEADER, 192 bytes: kind (1; 0 full, 1 delta), codec (1; 0 none, 1 zstd), cipher (1; 0 none, 1 XChaCha20-Poly1305),
//! checksum (1; 1 XXH3), page size (4), incompatible features (8; bit 0: *chained*), compatible features (8), store id (16), stream
//! id (16), from version (8), from fingerprint (16), version (8), fingerprint (16), page count (8), live pages (8), commit time in
//! ms since 1970 (8), the codec's level (4), zero (4), bytes between marks (8; 0: 64 MiB), zeros. A full stream has zeros for what it
//! comes from. What is neither compressed, encrypted, resumable nor marked otherwise than every 64 MiB is not chained, and has zeros
//! there.
//!
//! META: bytes of meta (8), the engine's bytes, zeros up to a multiple of 8.
//!
//! PAGES: first page id (8), count (4), codec (4), a 64-bit checksum for each page seeded with its id, then the pages. In a full
//! stream they have consecutive ids; in a delta, where changes are scattered, each checksum has the page's id (8) before it.
//! Ids ascend over the whole stream. The payload's checksum covers the list; the pages' own checksums, which are in the list,
//! cover the pages. So every byte is hashed once, and each prefix commits, through the chain, to all before it. With a codec of 1
//! in the record, the list is followed by the length of a zstd frame (8), the frame, and zeros up to a multiple of 8; the frame holds
//! exactly the pages. A record is compressed if the stream is and if that makes it shorter: the choice is the bytes' alone.
//!
//! FREE: first page id (8), count (8): these hold nothing in the version that the delta leads to, whether or not they did in
//! the one that it comes from. In one order with PAGES: ids ascend over both. Ids at or beyond the page count are free
//! without being named.
//!
//! SYNC, about every 64 MiB: last page id (8), pages so far (8), fingerprint of these pages (16). A chained stream can be gone on
//! with behind it.
//!
//! TRAILER: pages (8), records before it (8), fingerprint of the stream's pages (16; of a full stream that is the version's),
//! digest of all prefixes before it (16), end magic `"VELLUMZ\x1a"` (8). Nothing follows. The digest is the XXH3-128 of all
//! prefixes; in a chained stream it begins as 0 and becomes the XXH3-128 of itself (16 bytes) and the next prefix, so that whoever
//! goes on needs 16 bytes of what was before.
//!
//! *Sealed* records (flag bit 1; in a stream with a cipher all that this version knows): the payload as above, then the tag (16),
//! under XChaCha20-Poly1305 with the caller's key. The nonce is the stream's salt (16) and the record's sequence number (8): the
//! salt is drawn at random for each stream and makes a key of its own from the caller's, the number never comes twice in a stream.
//! Authenticated with the payload are the prefix's bytes 0..24 and 32..40, that is type, flags, length, number and, through the
//! chain, all records before. HEADER begins in clear with bytes 0..24 of the header and the salt (16), both authenticated too; the whole
//! header follows sealed. What stays visible: how many records there are, their types and lengths, the page size.
//!
//! Nothing of the present goes in, and nothing random but the salt: equal states of a store, with equal options, give equal bytes
//! (compressed ones by one version of zstd).

use xxhash_rust::xxh3::Xxh3;

use super::bytes::{Reader, Writer};
use super::checksum::{checksum64, digest128, holds};
use crate::id::{Fingerprint, StoreId, Version};

pub(crate) const PREAMBLE_BYTES: usize = 16;
pub(crate) const PREFIX_BYTES: usize = 48;
pub(crate) const HEADER_BYTES: usize = 192;
pub(crate) const FREE_BYTES: usize = 16;
pub(crate) const SYNC_BYTES: usize = 32;
pub(crate) const TRAILER_BYTES: usize = 56;
pub(crate) const MAJOR: u16 = 1;
const MINOR: u16 = 0;
const MAGIC: [u8; 8] = *b"VELLUMX\x1a";
const END_MAGIC: [u8; 8] = *b"VELLUMZ\x1a";
/// Most bytes of pages in one record.
const RUN_BYTES_MAX: u32 = 256 << 10;
/// Most pages in one record.
const RUN_PAGES_MAX: u32 = 64;
/// About how many bytes lie between two SYNC records.
pub(crate) const SYNC_EVERY_BYTES: u64 = 64 << 20;
/// A reader that doesn't know the record's type must refuse the stream.
pub(crate) const MUST_UNDERSTAND: u16 = 1;
/// The payload is encrypted.
pub(crate) const SEALED: u16 = 2;
/// Incompatible feature: the trailer's digest is chained.
const CHAINED: u64 = 1;
/// What of a sealed stream's header is in clear: the header's own beginning, and the salt.
pub(crate) const CLEAR_BYTES: usize = 24 + SALT_BYTES;
pub(crate) const SALT_BYTES: usize = 16;
/// What sealing adds to a payload.
pub(crate) const TAG_BYTES: usize = 16;
pub(crate) const SEALED_HEADER_BYTES: usize = CLEAR_BYTES + HEADER_BYTES + TAG_BYTES;
/// The codec of a PAGES record.
pub(crate) const PLAIN: u8 = 0;
pub(crate) const ZSTD: u8 = 1;
/// The cipher of a stream.
pub(crate) const XCHACHA20_POLY1305: u8 = 1;

pub(crate) const HEADER: u16 = 1;
pub(crate) const META: u16 = 2;
pub(crate) const PAGES: u16 = 3;
pub(crate) const FREE: u16 = 4;
pub(crate) const SYNC: u16 = 5;
pub(crate) const TRAILER: u16 = 6;

/// Bytes of a PAGES record's list for each page.
pub(crate) fn list_bytes(is_delta: bool) -> usize {
    if is_delta { 16 } else { 8 }
}

/// The most pages of one record.
pub(crate) fn run_pages(page_size: u32) -> u32 {
    (RUN_BYTES_MAX / page_size).clamp(1, RUN_PAGES_MAX)
}

/// The first bytes of every stream.
pub(crate) fn preamble() -> [u8; PREAMBLE_BYTES] {
    let mut bytes = [0; PREAMBLE_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&MAJOR.to_le_bytes());
    bytes[10..12].copy_from_slice(&MINOR.to_le_bytes());
    bytes
}

/// The major version of a stream that begins like this, if it is one of ours.
pub(crate) fn major_of(preamble: &[u8; PREAMBLE_BYTES]) -> Option<u16> {
    let mut reader = Reader::new(preamble);
    let magic = reader.raw(8)?;
    let major = reader.u16()?;
    (magic == MAGIC).then_some(major)
}

/// See the table at the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) len: u64,
    pub(crate) sequence: u64,
    pub(crate) payload_sum: u64,
    pub(crate) previous: u64,
}

impl Prefix {
    /// The prefix's bytes and its own checksum.
    pub(crate) fn encode(&self) -> ([u8; PREFIX_BYTES], u64) {
        let mut out = Writer::with_capacity(PREFIX_BYTES);
        out.u16(self.kind);
        out.u16(self.flags);
        out.u32(0);
        out.u64(self.len);
        out.u64(self.sequence);
        out.u64(self.payload_sum);
        out.u64(self.previous);
        let own = checksum64(0, &out.bytes);
        out.u64(own);
        let mut bytes = [0; PREFIX_BYTES];
        bytes.copy_from_slice(&out.bytes);
        (bytes, own)
    }

    /// What is authenticated with a sealed payload.
    pub(crate) fn authenticated(&self) -> [u8; 32] {
        let (bytes, _) = self.encode();
        let mut out = [0; 32];
        out[..24].copy_from_slice(&bytes[..24]);
        out[24..].copy_from_slice(&bytes[32..40]);
        out
    }

    /// The prefix and its own checksum, if that matches.
    pub(crate) fn decode(bytes: &[u8; PREFIX_BYTES]) -> Option<(Prefix, u64)> {
        let mut reader = Reader::new(bytes);
        let (kind, flags, zero) = (reader.u16()?, reader.u16()?, reader.u32()?);
        let (len, sequence) = (reader.u64()?, reader.u64()?);
        let (payload_sum, previous, own) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let is_whole = holds(own, checksum64(0, &bytes[..PREFIX_BYTES - 8])) && zero == 0;
        is_whole.then_some((Prefix { kind, flags, len, sequence, payload_sum, previous }, own))
    }
}

/// What a delta comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BaseState {
    pub(crate) version: Version,
    pub(crate) fingerprint: Fingerprint,
}

/// How a stream is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coding {
    pub(crate) codec: u8,
    pub(crate) level: i32,
    pub(crate) cipher: u8,
    pub(crate) is_chained: bool,
    /// Bytes between two marks; 0: [`SYNC_EVERY_BYTES`].
    pub(crate) mark_bytes: u64,
}

impl Coding {
    /// The oldest there is: it can't be gone on with.
    pub(crate) const PLAIN: Coding =
        Coding { codec: PLAIN, level: 0, cipher: 0, is_chained: false, mark_bytes: 0 };

    pub(crate) fn mark_every(&self) -> u64 {
        if self.mark_bytes == 0 { SYNC_EVERY_BYTES } else { self.mark_bytes }
    }
}

/// What a stream is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamHeader {
    pub(crate) coding: Coding,
    pub(crate) page_size: u32,
    pub(crate) store_id: StoreId,
    /// `None`: the stream is full.
    pub(crate) base: Option<BaseState>,
    pub(crate) version: Version,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) page_count: u64,
    pub(crate) live_pages: u64,
    pub(crate) created_at_ms: u64,
    pub(crate) meta: Vec<u8>,
}

impl StreamHeader {
    /// What is known before anything was read.
    pub(crate) const NOTHING: StreamHeader = StreamHeader {
        coding: Coding::PLAIN,
        page_size: 0,
        store_id: StoreId(0),
        base: None,
        version: Version(0),
        fingerprint: Fingerprint::EMPTY,
        page_count: 0,
        live_pages: 0,
        created_at_ms: 0,
        meta: Vec::new(),
    };

    /// Tells streams of different states apart, and is the same for the same state.
    fn stream_id(&self) -> u128 {
        let mut out = Writer::with_capacity(64);
        out.u128(self.store_id.0);
        out.u64(self.version.0);
        out.u128(self.fingerprint.0);
        if let Some(base) = self.base {
            out.u64(base.version.0);
            out.u128(base.fingerprint.0);
        }
        digest128(&out.bytes)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(HEADER_BYTES);
        let coding = &self.coding;
        for byte in [u8::from(self.base.is_some()), coding.codec, coding.cipher, 1] {
            out.u8(byte);
        }
        out.u32(self.page_size);
        out.u64(if coding.is_chained { CHAINED } else { 0 });
        out.u64(0);
        out.u128(self.store_id.0);
        out.u128(self.stream_id());
        out.u64(self.base.map_or(0, |base| base.version.0));
        out.u128(self.base.map_or(0, |base| base.fingerprint.0));
        out.u64(self.version.0);
        out.u128(self.fingerprint.0);
        out.u64(self.page_count);
        out.u64(self.live_pages);
        out.u64(self.created_at_ms);
        out.raw(&coding.level.to_le_bytes());
        out.u32(0);
        out.u64(coding.mark_bytes);
        out.pad_to(HEADER_BYTES);
        out.bytes
    }

    /// The header without its meta bytes; or what it needs that this build doesn't have.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Result<StreamHeader, String>> {
        let mut reader = Reader::new(bytes);
        let (kind, codec, cipher, checksum) = (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?);
        let page_size = reader.u32()?;
        let (incompatible, _compatible) = (reader.u64()?, reader.u64()?);
        let store_id = StoreId(reader.u128()?);
        let _stream_id = reader.u128()?;
        let base = BaseState { version: Version(reader.u64()?), fingerprint: Fingerprint(reader.u128()?) };
        let mut header = StreamHeader {
            coding: Coding { codec, cipher, is_chained: incompatible & CHAINED != 0, ..Coding::PLAIN },
            page_size,
            store_id,
            base: (kind == 1).then_some(base),
            version: Version(reader.u64()?),
            fingerprint: Fingerprint(reader.u128()?),
            page_count: reader.u64()?,
            live_pages: reader.u64()?,
            created_at_ms: reader.u64()?,
            meta: Vec::new(),
        };
        if kind > 1 || checksum != 1 || incompatible & !CHAINED != 0 {
            return Some(Err(format!("kind {kind}, checksum {checksum}, features {incompatible:#x}")));
        }
        header.coding.level = i32::from_le_bytes(reader.raw(4)?.try_into().ok()?);
        let _zero = reader.u32()?;
        header.coding.mark_bytes = reader.u64()?;
        Some(Ok(header))
    }
}

/// The codec and the cipher of a stream whose header begins like this.
pub(crate) fn codec_and_cipher(header: &[u8]) -> Option<(u8, u8)> {
    Some((*header.get(1)?, *header.get(2)?))
}

/// The digest of all prefixes so far: of a chained stream, or of another.
pub(crate) struct PrefixDigest {
    whole: Option<Box<Xxh3>>,
    chained: u128,
}

impl PrefixDigest {
    /// Of a stream that may be either; [`PrefixDigest::chain`] tells.
    pub(crate) fn new() -> PrefixDigest {
        PrefixDigest { whole: Some(Box::new(Xxh3::new())), chained: 0 }
    }

    /// Of a chained stream that is gone on with.
    pub(crate) fn chained(digest: u128) -> PrefixDigest {
        PrefixDigest { whole: None, chained: digest }
    }

    /// Says that the stream is chained.
    pub(crate) fn chain(&mut self) {
        self.whole = None;
    }

    pub(crate) fn add(&mut self, prefix: &[u8; PREFIX_BYTES]) {
        if let Some(whole) = &mut self.whole {
            whole.update(prefix);
        }
        let mut bytes = [0; 16 + PREFIX_BYTES];
        bytes[..16].copy_from_slice(&self.chained.to_le_bytes());
        bytes[16..].copy_from_slice(prefix);
        self.chained = digest128(&bytes);
    }

    pub(crate) fn value(&self) -> u128 {
        self.whole.as_ref().map_or(self.chained, |whole| whole.digest128())
    }
}

/// The payload of META.
pub(crate) fn encode_meta(meta: &[u8]) -> Vec<u8> {
    let mut out = Writer::with_capacity(8 + meta.len() + 8);
    out.u64(meta.len() as u64);
    out.raw(meta);
    out.pad_to(out.bytes.len().next_multiple_of(8));
    out.bytes
}

/// The engine's bytes in a META payload.
pub(crate) fn decode_meta(payload: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::new(payload);
    let len = usize::try_from(reader.u64()?).ok()?;
    reader.raw(len).map(<[u8]>::to_vec)
}

/// The payload of FREE.
pub(crate) fn encode_free(first: u64, count: u64) -> Vec<u8> {
    let mut out = Writer::with_capacity(FREE_BYTES);
    out.u64(first);
    out.u64(count);
    out.bytes
}

/// The first id and the count in a FREE payload.
pub(crate) fn decode_free(payload: &[u8]) -> Option<(u64, u64)> {
    let mut reader = Reader::new(payload);
    Some((reader.u64()?, reader.u64()?))
}

/// The payload of SYNC.
pub(crate) fn encode_sync(last: u64, pages: u64, fingerprint: Fingerprint) -> Vec<u8> {
    let mut out = Writer::with_capacity(SYNC_BYTES);
    out.u64(last);
    out.u64(pages);
    out.u128(fingerprint.0);
    out.bytes
}

/// The payload of TRAILER.
pub(crate) fn encode_trailer(pages: u64, records: u64, fingerprint: Fingerprint, digest: u128) -> Vec<u8> {
    let mut out = Writer::with_capacity(TRAILER_BYTES);
    out.u64(pages);
    out.u64(records);
    out.u128(fingerprint.0);
    out.u128(digest);
    out.raw(&END_MAGIC);
    out.bytes
}
