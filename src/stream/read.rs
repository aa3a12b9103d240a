//! Reading a stream, trusting nothing: lengths are held against limits before anything is allocated, every byte is covered
//! by a checksum that is checked before it is used, and the sink is told to finish only after the trailer was checked.

mod run;

use std::io::Read;

use super::StreamSummary;
use super::codec::Unpacker;
use super::options::{ImportOptions, check_features};
use super::point::ResumePoint;
use super::seal::{Seal, no_key};
use super::source::{Source, bad};
use crate::commit::whole::Put;
use crate::error::{Error, Result};
use crate::format::checksum::{PageChecksum, checksum64, holds};
use crate::format::control::META_MAX;
use crate::format::stream::{
    CLEAR_BYTES, FREE, FREE_BYTES, HEADER, HEADER_BYTES, MAJOR, META, MUST_UNDERSTAND, PAGES, PREAMBLE_BYTES,
    PREFIX_BYTES, Prefix, PrefixDigest, SEALED, SEALED_HEADER_BYTES, SYNC, SYNC_BYTES, StreamHeader,
    TAG_BYTES, TRAILER, TRAILER_BYTES, ZSTD, codec_and_cipher, decode_free, decode_meta, encode_sync,
    encode_trailer, major_of,
};
use crate::id::{Fingerprint, PageId, Version};
use crate::progress::{Meter, Observer};

pub(super) use run::Run;

/// What comes next in a stream, checked. Ids ascend.
pub(super) enum Item {
    /// So many pages, one or more: [`StreamReader::page`] has them.
    Pages(usize),
    /// So many ids that hold nothing.
    Free(PageId, u64),
}

/// Checks an export stream from end to end without a store, in little memory.
///
/// # Errors
/// [`Error::BadStream`] with the offset of the first thing that is wrong, [`Error::Unsupported`] for a newer format,
/// [`Error::Stream`] if reading fails, [`Error::Cancelled`] if the observer says so.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// use vellum::{Options, Store, verify_stream};
/// let store = Store::in_memory(Options::new())?;
/// let mut stream = Vec::new();
/// store.snapshot().export(&mut stream)?;
/// let summary = verify_stream(&mut &stream[..], &mut ())?;
/// assert_eq!(summary.fingerprint, store.snapshot().fingerprint());
/// assert!(verify_stream(&mut &stream[..stream.len() - 1], &mut ()).is_err());
/// # Ok(()) }
/// ```
pub fn verify_stream(r: &mut dyn Read, observer: &mut dyn Observer) -> Result<StreamSummary> {
    verify_stream_as(r, &ImportOptions::new(), observer)
}

/// As [`verify_stream`], of streams that may be encrypted, and at a rate.
///
/// # Errors
/// As [`verify_stream`], and [`Error::WrongKey`].
pub fn verify_stream_as(
    r: &mut dyn Read,
    options: &ImportOptions,
    observer: &mut dyn Observer,
) -> Result<StreamSummary> {
    let mut reader = StreamReader::begin(r, options, Meter::new("verify", None, observer))?;
    while reader.next()?.is_some() {}
    Ok(reader.summary())
}

/// What a reader knows of a stream, wherever it stands in it.
pub(super) struct Known {
    header: StreamHeader,
    seal: Option<Seal>,
    unpacker: Option<Unpacker>,
    stream: u128,
}

/// Reads a stream item by item.
pub(super) struct StreamReader<'r> {
    source: Source<'r>,
    meter: Meter<'r>,
    header: StreamHeader,
    seal: Option<Seal>,
    unpacker: Option<Unpacker>,
    sequence: u64,
    previous: u64,
    prefixes: PrefixDigest,
    /// The digest of all prefixes before the current record's.
    before: u128,
    next_id: u64,
    pages: u64,
    freed: u64,
    fingerprint: Fingerprint,
    /// What tells this stream from others, and the last mark from which it can be gone on with.
    stream: u128,
    mark: Option<ResumePoint>,
    /// The ids and checksums, and the bytes, of the run that was read last.
    list: Vec<(PageId, PageChecksum)>,
    bytes: Vec<u8>,
    is_done: bool,
}

impl<'r> StreamReader<'r> {
    /// Reads what the stream is about.
    pub(super) fn begin(
        r: &'r mut dyn Read,
        options: &ImportOptions,
        meter: Meter<'r>,
    ) -> Result<StreamReader<'r>> {
        options.check()?;
        let mut source = Source::new(r, options.rate_max());
        let mut first = [0; PREAMBLE_BYTES];
        source.fill(&mut first)?;
        match major_of(&first) {
            None => return Err(bad(0, "a vellum export stream", "something else")),
            Some(major) if major > MAJOR => {
                let (found, supported) = (major.to_string(), MAJOR.to_string());
                return Err(Error::Unsupported { what: "the stream".to_owned(), found, supported });
            }
            Some(_) => {}
        }
        let mut reader = StreamReader {
            source,
            meter,
            header: StreamHeader::NOTHING,
            seal: None,
            unpacker: None,
            sequence: 0,
            previous: checksum64(0, &first),
            prefixes: PrefixDigest::new(),
            before: 0,
            next_id: 0,
            pages: 0,
            freed: 0,
            fingerprint: Fingerprint::EMPTY,
            stream: 0,
            mark: None,
            list: Vec::new(),
            bytes: Vec::new(),
            is_done: false,
        };
        reader.header = reader.read_header(options)?;
        if reader.header.base.is_none() {
            reader.meter.expect(reader.header.live_pages);
        }
        reader.meter.report()?;
        Ok(reader)
    }

    /// What is known of the stream beside how far it was read.
    pub(super) fn into_known(self) -> Known {
        let StreamReader { header, seal, unpacker, stream, .. } = self;
        Known { header, seal, unpacker, stream }
    }

    /// Goes on with a stream behind one of its marks.
    pub(super) fn go_on(
        known: Known,
        point: &ResumePoint,
        r: &'r mut dyn Read,
        rate: Option<u64>,
        meter: Meter<'r>,
    ) -> StreamReader<'r> {
        let Known { header, seal, unpacker, stream } = known;
        StreamReader {
            source: Source::at(r, rate, point.offset),
            meter,
            header,
            seal,
            unpacker,
            sequence: point.sequence,
            previous: point.previous,
            prefixes: PrefixDigest::chained(point.digest),
            before: 0,
            next_id: point.next_id,
            pages: point.pages,
            freed: point.freed,
            fingerprint: point.fingerprint,
            stream,
            mark: Some(*point),
            list: Vec::new(),
            bytes: Vec::new(),
            is_done: false,
        }
    }

    /// The last mark that was read, if the stream can be gone on with there.
    pub(super) fn mark(&self) -> Option<ResumePoint> {
        self.mark
    }

    pub(super) fn header(&self) -> &StreamHeader {
        &self.header
    }

    /// The next item; `None` when the stream has ended as it should.
    pub(super) fn next(&mut self) -> Result<Option<Item>> {
        while !self.is_done {
            let prefix = self.prefix()?;
            match prefix.kind {
                PAGES => return self.run(&prefix).map(Some),
                FREE if self.header.base.is_some() => return self.free(&prefix).map(Some),
                SYNC => self.sync(&prefix)?,
                TRAILER => self.trailer(&prefix)?,
                other if prefix.flags & MUST_UNDERSTAND != 0 => {
                    let supported = "types 1, 2, 3, 5 and 6, in deltas 4".to_owned();
                    let found = format!("a record of type {other}");
                    return Err(Error::Unsupported { what: "the stream".to_owned(), found, supported });
                }
                _ => self.skip(&prefix)?,
            }
        }
        Ok(None)
    }

    /// Calls `put` with all pages to come, up to the end of the stream.
    pub(super) fn each_page(&mut self, put: &mut Put<'_>) -> Result<()> {
        while let Some(item) = self.next()? {
            let Item::Pages(count) = item else { continue };
            for index in 0..count {
                let (id, checksum, bytes) = self.page(index);
                put(id, checksum, bytes)?;
            }
        }
        Ok(())
    }

    /// What was read, and checked, of the stream.
    pub(super) fn summary(&self) -> StreamSummary {
        StreamSummary::new(&self.header, self.pages, self.freed, self.source.offset)
    }

    fn sync(&mut self, prefix: &Prefix) -> Result<()> {
        let offset = self.source.offset;
        let found = self.payload(prefix, SYNC_BYTES)?;
        if found != encode_sync(self.next_id.saturating_sub(1), self.pages, self.fingerprint) {
            return Err(bad(offset, "a mark that agrees with the pages before it", "another"));
        }
        if self.header.coding.is_chained {
            self.mark = Some(ResumePoint {
                stream: self.stream,
                offset: self.source.offset,
                sequence: self.sequence,
                previous: self.previous,
                digest: self.prefixes.value(),
                next_id: self.next_id,
                pages: self.pages,
                freed: self.freed,
                fingerprint: self.fingerprint,
            });
        }
        Ok(())
    }

    fn trailer(&mut self, prefix: &Prefix) -> Result<()> {
        let offset = self.source.offset;
        let found = self.payload(prefix, TRAILER_BYTES)?;
        let expected = encode_trailer(self.pages, self.sequence - 1, self.fingerprint, self.before);
        if found != expected {
            let expected = format!("the end, after {} pages", self.pages);
            return Err(bad(offset, expected, "another"));
        }
        let header = &self.header;
        let adds_up = (self.pages, self.fingerprint) == (header.live_pages, header.fingerprint);
        // Only with the base's pages a delta's would add up.
        if header.base.is_none() && !adds_up {
            let expected = format!("{} pages with {}", header.live_pages, header.fingerprint);
            return Err(bad(offset, expected, format!("{} with {}", self.pages, self.fingerprint)));
        }
        self.is_done = true;
        self.meter.report()?;
        self.source.end()
    }

    fn free(&mut self, prefix: &Prefix) -> Result<Item> {
        let offset = self.source.offset;
        let payload = self.payload(prefix, FREE_BYTES)?;
        let (first, count) = decode_free(&payload).unwrap_or_default();
        let end = first.checked_add(count).filter(|end| *end <= self.header.page_count);
        let (Some(end), true) = (end, count > 0 && first >= self.next_id) else {
            let expected = format!("ids from {} on", self.next_id);
            return Err(bad(offset, expected, format!("{count} from {first} on")));
        };
        self.freed += count;
        self.next_id = end;
        Ok(Item::Free(PageId(first), count))
    }

    fn prefix(&mut self) -> Result<Prefix> {
        let offset = self.source.offset;
        let mut bytes = [0; PREFIX_BYTES];
        self.source.fill(&mut bytes)?;
        let Some((prefix, own)) = Prefix::decode(&bytes) else {
            return Err(bad(offset, "a record's prefix", "other bytes"));
        };
        if (prefix.sequence, prefix.previous) != (self.sequence, self.previous) {
            let expected = format!("record {} that continues the one before it", self.sequence);
            return Err(bad(offset, expected, format!("record {}", prefix.sequence)));
        }
        if prefix.len % 8 != 0 {
            return Err(bad(offset, "a payload of whole 8 bytes", prefix.len.to_string()));
        }
        self.before = self.prefixes.value();
        self.prefixes.add(&bytes);
        self.sequence += 1;
        self.previous = own;
        Ok(prefix)
    }

    /// A payload that is covered whole by the prefix's checksum; unsealed, if it was sealed.
    fn payload(&mut self, prefix: &Prefix, max: usize) -> Result<Vec<u8>> {
        let offset = self.source.offset;
        let sealed = if self.seal.is_some() { TAG_BYTES } else { 0 };
        let mut payload = self.stored(prefix, max + sealed)?;
        let Some(seal) = &self.seal else { return Ok(payload) };
        let is_sealed = prefix.flags & SEALED != 0;
        if is_sealed && seal.open(prefix.sequence, &prefix.authenticated(), &mut payload) {
            Ok(payload)
        } else {
            Err(bad(offset, "a record sealed with the stream's key", "another"))
        }
    }

    /// The bytes of a payload as they are stored, `max` at most.
    fn stored(&mut self, prefix: &Prefix, max: usize) -> Result<Vec<u8>> {
        let offset = self.source.offset;
        let len = usize::try_from(prefix.len).ok().filter(|len| *len <= max);
        let len = len.ok_or_else(|| bad(offset, format!("at most {max} bytes"), prefix.len.to_string()))?;
        let mut payload = vec![0; len];
        self.source.fill(&mut payload)?;
        self.check_sum(prefix, &payload, offset)?;
        Ok(payload)
    }

    fn check_sum(&self, prefix: &Prefix, covered: &[u8], offset: u64) -> Result<()> {
        let found = checksum64(prefix.sequence, covered);
        if holds(found, prefix.payload_sum) {
            return Ok(());
        }
        let expected = format!("bytes with checksum {:016x}", prefix.payload_sum);
        Err(bad(offset, expected, format!("{found:016x}")))
    }

    /// The bytes of the header, and how to read what follows.
    fn open_header(&mut self, options: &ImportOptions) -> Result<Vec<u8>> {
        let prefix = self.prefix()?;
        let offset = self.source.offset;
        if prefix.kind != HEADER {
            return Err(bad(offset, "the stream's header", format!("a record of type {}", prefix.kind)));
        }
        let mut payload = self.stored(&prefix, SEALED_HEADER_BYTES)?;
        let (codec, cipher) = codec_and_cipher(&payload).unwrap_or_default();
        check_features(codec, cipher)?;
        if codec == ZSTD {
            self.unpacker = Some(Unpacker::new()?);
        }
        let expected = if cipher == 0 { HEADER_BYTES } else { SEALED_HEADER_BYTES };
        if payload.len() != expected || (prefix.flags & SEALED != 0) != (cipher != 0) {
            return Err(bad(offset, format!("a header of {expected} bytes"), payload.len().to_string()));
        }
        if cipher == 0 {
            return Ok(payload);
        }
        let Some(key) = options.stream_key() else { return no_key() };
        let clear: Vec<u8> = payload.drain(..CLEAR_BYTES).collect();
        let (_, salt) = clear.split_last_chunk().ok_or_else(|| bad(offset, "a salt", "less"))?;
        let seal = Seal::new(key, *salt)?;
        let authenticated = [&prefix.authenticated()[..], &clear].concat();
        // The checksum has held, so the bytes are those that were written.
        if !seal.open(prefix.sequence, &authenticated, &mut payload) {
            return Err(Error::WrongKey { is_given: true });
        }
        if payload[..24] != clear[..24] {
            return Err(bad(offset, "one beginning, in clear and sealed", "two"));
        }
        self.seal = Some(seal);
        Ok(payload)
    }

    fn read_header(&mut self, options: &ImportOptions) -> Result<StreamHeader> {
        let payload = self.open_header(options)?;
        let offset = self.source.offset - payload.len() as u64;
        let mut header = match StreamHeader::decode(&payload) {
            Some(Ok(header)) => header,
            Some(Err(found)) => {
                let supported = "full streams and deltas, chained or not".to_owned();
                return Err(Error::Unsupported { what: "the stream".to_owned(), found, supported });
            }
            None => return Err(bad(offset, "a whole header", "less")),
        };
        if header.coding.is_chained {
            self.prefixes.chain();
        }
        let is_sane = header.page_size.is_power_of_two()
            && (512..=65536).contains(&header.page_size)
            && header.version <= Version::MAX
            && header.page_count <= PageId::MAX.0 + 1
            && header.live_pages <= header.page_count
            && (header.version.0 > 0 || header.page_count == 0)
            && header.base.is_none_or(|base| base.version <= header.version);
        if !is_sane {
            return Err(bad(offset, "a header within the limits", format!("{header:?}")));
        }
        let prefix = self.prefix()?;
        let offset = self.source.offset;
        if prefix.kind != META {
            return Err(bad(offset, "the meta record", format!("a record of type {}", prefix.kind)));
        }
        let payload = self.payload(&prefix, 8 + META_MAX.next_multiple_of(8))?;
        let meta = decode_meta(&payload).filter(|meta| meta.len() <= META_MAX);
        header.meta = meta.ok_or_else(|| bad(offset, "meta bytes within their limit", "others"))?;
        self.stream = self.prefixes.value();
        Ok(header)
    }

    /// Passes over a record of a type that may be ignored.
    fn skip(&mut self, prefix: &Prefix) -> Result<()> {
        let offset = self.source.offset;
        let mut hasher = xxhash_rust::xxh3::Xxh3Builder::new().with_seed(prefix.sequence).build();
        let mut left = prefix.len;
        let mut buffer = [0; 4096];
        while left > 0 {
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            self.source.fill(&mut buffer[..len])?;
            hasher.update(&buffer[..len]);
            left -= len as u64;
        }
        match holds(hasher.digest(), prefix.payload_sum) {
            true => Ok(()),
            false => Err(bad(offset, "a payload with its checksum", "other bytes")),
        }
    }
}
