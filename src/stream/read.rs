//! Reading a stream, trusting nothing: lengths are held against limits before anything is allocated, every byte is covered
//! by a checksum that is checked before it is used, and the sink is told to finish only after the trailer was checked.

use std::io::{ErrorKind, Read};

use super::StreamSummary;
use super::codec::Unpacker;
use super::options::{ImportOptions, check_features};
use super::pace::Paced;
use super::point::ResumePoint;
use super::seal::{Seal, no_key};
use super::write::stream_error;
use crate::commit::whole::Put;
use crate::error::{Error, Result};
use crate::format::bytes::Reader as Fields;
use crate::format::checksum::{PageChecksum, checksum64, holds};
use crate::format::control::META_MAX;
use crate::format::stream::{
    CLEAR_BYTES, FREE, FREE_BYTES, HEADER, HEADER_BYTES, MAJOR, META, MUST_UNDERSTAND, PAGES, PREAMBLE_BYTES,
    PREFIX_BYTES, Prefix, PrefixDigest, SEALED, SEALED_HEADER_BYTES, SYNC, SYNC_BYTES, StreamHeader,
    TAG_BYTES, TRAILER, TRAILER_BYTES, ZSTD, codec_and_cipher, decode_free, decode_meta, encode_sync,
    encode_trailer, list_bytes, major_of, run_pages,
};
use crate::id::{Fingerprint, PageId, Version};
use crate::progress::{Meter, Observer};

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

pub(super) fn bad(offset: u64, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::BadStream { offset, expected: expected.into(), found: found.into() }
}

/// The caller's reader, counted.
pub(super) struct Source<'r> {
    from: Paced<&'r mut dyn Read>,
    pub(super) offset: u64,
}

impl<'r> Source<'r> {
    pub(super) fn new(from: &'r mut dyn Read, rate: Option<u64>) -> Source<'r> {
        Source { from: Paced::new(from, rate), offset: 0 }
    }

    pub(super) fn fill(&mut self, buf: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.from.read(&mut buf[filled..]) {
                Ok(0) => {
                    let missing = buf.len() - filled;
                    return Err(bad(self.offset, format!("{missing} more bytes"), "the end of the stream"));
                }
                Ok(read) => {
                    filled += read;
                    self.offset += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(stream_error("read from", error)),
            }
        }
        Ok(())
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Result<()> {
        loop {
            match self.from.read(&mut [0]) {
                Ok(0) => return Ok(()),
                Ok(_) => return Err(bad(self.offset, "the end of the stream", "more bytes")),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(stream_error("read from", error)),
            }
        }
    }
}

/// Pages that were read and checked.
#[derive(Default)]
pub(super) struct Run {
    list: Vec<(PageId, PageChecksum)>,
    bytes: Vec<u8>,
    page_size: usize,
}

impl Run {
    /// Calls `put` with each page.
    pub(super) fn each_page(&self, put: &mut Put<'_>) -> Result<()> {
        let pages = self.list.iter().zip(self.bytes.chunks_exact(self.page_size.max(1)));
        pages.into_iter().try_for_each(|((id, sum), bytes)| put(*id, *sum, bytes))
    }
}

/// What a run begins with.
#[derive(Clone, Copy, Default)]
struct RunOpening {
    count: usize,
    /// Where the list ends in the payload.
    list_end: usize,
    is_packed: bool,
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
            source: Source { from: Paced::new(r, rate), offset: point.offset },
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

    /// The page at `index` of the run that was read last.
    pub(super) fn page(&self, index: usize) -> (PageId, PageChecksum, &[u8]) {
        let page_size = self.header.page_size as usize;
        let (id, checksum) = self.list[index];
        (id, checksum, &self.bytes[index * page_size..][..page_size])
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

    /// The run that was read last, in exchange for one to be filled next.
    pub(super) fn take_run(&mut self, spare: Run) -> Run {
        let Run { list, bytes, .. } = spare;
        let list = std::mem::replace(&mut self.list, list);
        let bytes = std::mem::replace(&mut self.bytes, bytes);
        Run { list, bytes, page_size: self.header.page_size as usize }
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

    fn run(&mut self, prefix: &Prefix) -> Result<Item> {
        let offset = self.source.offset;
        let (page_size, is_delta) = (self.header.page_size as usize, self.header.base.is_some());
        let max = 16 + run_pages(self.header.page_size) as usize * (list_bytes(is_delta) + page_size);
        // What is read before the checksum is looked at: all of it, unless the pages follow as they are.
        let (head, opening) = if self.seal.is_some() {
            let head = self.payload(prefix, max)?;
            let opening = self.opening(&head, offset)?;
            (head, opening)
        } else {
            let mut head = vec![0; 16];
            self.source.fill(&mut head)?;
            let opening = self.opening(&head, offset)?;
            let whole = usize::try_from(prefix.len).unwrap_or(usize::MAX);
            let plain = opening.list_end + opening.count * page_size;
            let is_sane = if opening.is_packed { whole < plain } else { whole == plain };
            if !is_sane {
                return Err(bad(offset, format!("{plain} bytes at most"), whole.to_string()));
            }
            let end = if opening.is_packed { whole } else { opening.list_end };
            head.resize(end.max(16), 0);
            self.source.fill(&mut head[16..])?;
            self.check_sum(prefix, &head, offset)?;
            (head, opening)
        };
        let Some((list, body)) = head.split_at_checked(opening.list_end) else {
            return Err(bad(offset, format!("{} pages", opening.count), "fewer"));
        };
        self.read_list(list, offset)?;
        self.bytes.resize(opening.count * page_size, 0);
        let bodies_at = offset + opening.list_end as u64;
        if opening.is_packed {
            self.unpack(body, bodies_at)?;
        } else if self.seal.is_some() {
            if body.len() != self.bytes.len() {
                return Err(bad(bodies_at, format!("{} bytes", self.bytes.len()), body.len().to_string()));
            }
            self.bytes.copy_from_slice(body);
        } else {
            self.source.fill(&mut self.bytes)?;
        }
        for (index, (bytes, (id, sum))) in (0u64..).zip(self.bytes.chunks_exact(page_size).zip(&self.list)) {
            let found = PageChecksum::of(*id, bytes);
            if found != *sum {
                // Where the page lies, or, packed, how far into the pages that come out.
                let at = bodies_at + index * page_size as u64;
                let expected = format!("{id} with checksum {:016x}", sum.0);
                return Err(bad(at, expected, format!("{:016x}", found.0)));
            }
            self.fingerprint = self.fingerprint.plus(*id, sum.short());
        }
        self.pages += opening.count as u64;
        self.meter.add(opening.count as u64, self.bytes.len() as u64)?;
        Ok(Item::Pages(opening.count))
    }

    /// What the first bytes of a PAGES payload say, within the limits.
    fn opening(&self, head: &[u8], offset: u64) -> Result<RunOpening> {
        let mut fields = Fields::new(head);
        let (first, count, codec) = (fields.u64(), fields.u32(), fields.u32());
        let (Some(first), Some(count), Some(codec)) = (first, count, codec) else {
            return Err(bad(offset, "the beginning of a run", "less"));
        };
        let is_packed = codec == u32::from(ZSTD) && self.unpacker.is_some();
        let is_sane = (1..=run_pages(self.header.page_size)).contains(&count)
            && (codec == 0 || is_packed)
            && first >= self.next_id;
        if !is_sane {
            let expected = format!("pages from {} on", self.next_id);
            return Err(bad(offset, expected, format!("{count} from {first} on, codec {codec}")));
        }
        let count = count as usize;
        let list_end = 16 + count * list_bytes(self.header.base.is_some());
        Ok(RunOpening { count, list_end, is_packed })
    }

    /// Takes over the ids and checksums of a run.
    fn read_list(&mut self, list: &[u8], offset: u64) -> Result<()> {
        let (is_delta, page_count) = (self.header.base.is_some(), self.header.page_count);
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        let (first, list_bytes) = (number(&list[..8]), list_bytes(is_delta));
        self.list.clear();
        for (index, listed) in (0u64..).zip(list[16..].chunks_exact(list_bytes)) {
            let (id, sum) = listed.split_at(list_bytes - 8);
            let id = if is_delta { number(id) } else { first.saturating_add(index) };
            let least = if index == 0 { first } else { self.next_id };
            if id < least || id >= page_count || (index == 0 && id != first) {
                let expected = format!("a page from {least} to {page_count}");
                return Err(bad(offset, expected, id.to_string()));
            }
            self.next_id = id + 1;
            self.list.push((PageId(id), PageChecksum(number(sum))));
        }
        Ok(())
    }

    /// Fills the run's bytes from a frame with its length before it and zeros behind it.
    fn unpack(&mut self, body: &[u8], offset: u64) -> Result<()> {
        let refused = |found: &str| bad(offset, "a frame that holds the pages of the list", found);
        let (len, rest) = body.split_first_chunk::<8>().ok_or_else(|| refused("none"))?;
        let len = usize::try_from(u64::from_le_bytes(*len)).unwrap_or(usize::MAX);
        let (frame, padding) = rest.split_at_checked(len).ok_or_else(|| refused("less"))?;
        if padding.len() >= 8 || padding.iter().any(|byte| *byte != 0) {
            return Err(refused("more behind it"));
        }
        let Some(unpacker) = &mut self.unpacker else { return Err(refused("one in a stream without")) };
        if unpacker.unpack(frame, &mut self.bytes) { Ok(()) } else { Err(refused("another")) }
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
