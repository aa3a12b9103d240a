//! Reading a stream, trusting nothing: lengths are held against limits before anything is allocated, every byte is covered
//! by a checksum that is checked before it is used, and the sink is told to finish only after the trailer was checked.

use std::io::{ErrorKind, Read};

use xxhash_rust::xxh3::Xxh3;

use super::StreamSummary;
use super::write::stream_error;
use crate::commit::whole::Put;
use crate::error::{Error, Result};
use crate::format::checksum::{PageChecksum, checksum64, holds};
use crate::format::control::META_MAX;
use crate::format::stream::{
    FREE, FREE_BYTES, HEADER, HEADER_BYTES, MAJOR, META, MUST_UNDERSTAND, PAGES, PREAMBLE_BYTES,
    PREFIX_BYTES, Prefix, SYNC, SYNC_BYTES, StreamHeader, TRAILER, TRAILER_BYTES, decode_free, decode_meta,
    encode_sync, encode_trailer, list_bytes, major_of, run_pages,
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
    let mut reader = StreamReader::begin(r, Meter::new("verify", None, observer))?;
    while reader.next()?.is_some() {}
    Ok(reader.summary())
}

fn bad(offset: u64, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::BadStream { offset, expected: expected.into(), found: found.into() }
}

/// The caller's reader, counted.
struct Source<'r> {
    from: &'r mut dyn Read,
    offset: u64,
}

impl Source<'_> {
    fn fill(&mut self, buf: &mut [u8]) -> Result<()> {
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
    fn end(&mut self) -> Result<()> {
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

/// Reads a stream item by item.
pub(super) struct StreamReader<'r> {
    source: Source<'r>,
    meter: Meter<'r>,
    header: StreamHeader,
    sequence: u64,
    previous: u64,
    prefixes: Xxh3,
    /// The digest of all prefixes before the current record's.
    before: u128,
    next_id: u64,
    last_id: u64,
    pages: u64,
    freed: u64,
    fingerprint: Fingerprint,
    /// The ids and checksums, and the bytes, of the run that was read last.
    list: Vec<(PageId, PageChecksum)>,
    bytes: Vec<u8>,
    is_done: bool,
}

impl<'r> StreamReader<'r> {
    /// Reads what the stream is about.
    pub(super) fn begin(r: &'r mut dyn Read, meter: Meter<'r>) -> Result<StreamReader<'r>> {
        let mut source = Source { from: r, offset: 0 };
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
            sequence: 0,
            previous: checksum64(0, &first),
            prefixes: Xxh3::new(),
            before: 0,
            next_id: 0,
            last_id: 0,
            pages: 0,
            freed: 0,
            fingerprint: Fingerprint::EMPTY,
            list: Vec::new(),
            bytes: Vec::new(),
            is_done: false,
        };
        reader.header = reader.read_header()?;
        if reader.header.base.is_none() {
            reader.meter.expect(reader.header.live_pages);
        }
        reader.meter.report()?;
        Ok(reader)
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
                SYNC => {
                    let offset = self.source.offset;
                    let found = self.payload(&prefix, SYNC_BYTES)?;
                    if found != encode_sync(self.last_id, self.pages, self.fingerprint) {
                        return Err(bad(offset, "a mark that agrees with the pages before it", "another"));
                    }
                }
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
        (self.next_id, self.last_id) = (end, end - 1);
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
        self.before = self.prefixes.digest128();
        self.prefixes.update(&bytes);
        self.sequence += 1;
        self.previous = own;
        Ok(prefix)
    }

    /// A payload that is small and covered whole by the prefix's checksum.
    fn payload(&mut self, prefix: &Prefix, max: usize) -> Result<Vec<u8>> {
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

    fn read_header(&mut self) -> Result<StreamHeader> {
        let prefix = self.prefix()?;
        let offset = self.source.offset;
        if prefix.kind != HEADER || prefix.len != HEADER_BYTES as u64 {
            return Err(bad(offset, "the stream's header", format!("a record of type {}", prefix.kind)));
        }
        let payload = self.payload(&prefix, HEADER_BYTES)?;
        let mut header = match StreamHeader::decode(&payload) {
            Some(Ok(header)) => header,
            Some(Err(found)) => {
                let supported = "full streams and deltas, not compressed, not encrypted".to_owned();
                return Err(Error::Unsupported { what: "the stream".to_owned(), found, supported });
            }
            None => return Err(bad(offset, "a whole header", "less")),
        };
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
        Ok(header)
    }

    fn run(&mut self, prefix: &Prefix) -> Result<Item> {
        let header = &self.header;
        let offset = self.source.offset;
        let page_size = header.page_size as usize;
        let mut fixed = [0; 16];
        self.source.fill(&mut fixed)?;
        let [a, b, c, d, e, f, g, h, i, j, k, l, codec @ ..] = fixed;
        let first = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let count = u32::from_le_bytes([i, j, k, l]);
        let (is_delta, page_count) = (header.base.is_some(), header.page_count);
        let list_bytes = list_bytes(is_delta);
        let expected_len = 16 + u64::from(count) * (list_bytes as u64 + u64::from(header.page_size));
        let is_sane = (1..=run_pages(header.page_size)).contains(&count)
            && prefix.len == expected_len
            && codec == [0; 4]
            && first >= self.next_id;
        if !is_sane {
            let expected = format!("pages from {} on", self.next_id);
            return Err(bad(offset, expected, format!("{count} from {first} on")));
        }
        let mut list = fixed.to_vec();
        list.resize(16 + count as usize * list_bytes, 0);
        self.source.fill(&mut list[16..])?;
        self.check_sum(prefix, &list, offset)?;
        self.list.clear();
        for (index, listed) in (0u64..).zip(list[16..].chunks_exact(list_bytes)) {
            let (id, sum) = listed.split_at(list_bytes - 8);
            let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
            let id = if is_delta { number(id) } else { first.saturating_add(index) };
            let least = if index == 0 { first } else { self.next_id };
            if id < least || id >= page_count || (index == 0 && id != first) {
                let expected = format!("a page from {least} to {page_count}");
                return Err(bad(offset, expected, id.to_string()));
            }
            self.next_id = id + 1;
            self.list.push((PageId(id), PageChecksum(number(sum))));
        }
        self.last_id = self.next_id - 1;
        self.bytes.resize(count as usize * page_size, 0);
        let bodies_at = self.source.offset;
        self.source.fill(&mut self.bytes)?;
        for (index, (bytes, (id, sum))) in (0u64..).zip(self.bytes.chunks_exact(page_size).zip(&self.list)) {
            let found = PageChecksum::of(*id, bytes);
            if found != *sum {
                let at = bodies_at + index * page_size as u64;
                let expected = format!("{id} with checksum {:016x}", sum.0);
                return Err(bad(at, expected, format!("{:016x}", found.0)));
            }
            self.fingerprint = self.fingerprint.plus(*id, sum.short());
        }
        self.pages += u64::from(count);
        self.meter.add(u64::from(count), self.bytes.len() as u64)?;
        Ok(Item::Pages(count as usize))
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
