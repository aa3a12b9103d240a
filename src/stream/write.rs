//! Writing a stream: straight from the source's pages, without copying them unless they are compressed or encrypted.

use std::io::{ErrorKind, IoSlice, Write};
use std::sync::Arc;

use super::StreamSummary;
use super::codec::Packer;
use super::options::{ExportOptions, StreamKey};
use super::pace::Paced;
use super::point::ResumePoint;
use super::seal::{Salt, Seal, draw_salt, no_key};
use crate::error::{Error, Result};
use crate::format::checksum::{PageChecksum, checksum64};
use crate::format::stream::{
    Coding, FREE, HEADER, META, MUST_UNDERSTAND, PAGES, Prefix, PrefixDigest, SEALED, SYNC, StreamHeader,
    TAG_BYTES, TRAILER, ZSTD, encode_free, encode_meta, encode_sync, encode_trailer, list_bytes, preamble,
};
use crate::id::{Fingerprint, PageId};
use crate::log::cached::PageBytes;
use crate::progress::Meter;
use crate::storage::pieces::in_pieces;

/// A page with what is known of it.
pub(super) type Page<'p> = (PageId, PageBytes<'p>, PageChecksum);

/// Records are gathered until there are about so many bytes to be written.
const WRITE_BYTES: u64 = 1 << 20;

/// How a stream is to be written, and from where.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) coding: Coding,
    pub(super) key: Option<&'a StreamKey>,
    pub(super) salt: Option<Salt>,
    pub(super) rate: Option<u64>,
    pub(super) from: Option<&'a ResumePoint>,
}

impl<'a> Plan<'a> {
    /// A new stream under these options.
    pub(super) fn of(options: &'a ExportOptions) -> Result<Plan<'a>> {
        let (coding, key) = (options.coding()?, options.key());
        let salt = key.map(|_| draw_salt()).transpose()?;
        Ok(Plan { coding, key, salt, rate: options.rate_max(), from: None })
    }

    /// The first id that isn't written yet.
    pub(super) fn first_id(&self) -> PageId {
        PageId(self.from.map_or(0, |from| from.next_id))
    }

    /// The pages that are written already.
    pub(super) fn pages_before(&self) -> u64 {
        self.from.map_or(0, |from| from.pages)
    }
}

/// Writes one stream.
pub(super) struct StreamWriter<'w, 'p> {
    to: Paced<&'w mut dyn Write>,
    packer: Option<Packer>,
    seal: Option<Seal>,
    /// Records that are not written yet: prefix and list, and the pages behind them.
    pending: Vec<(Vec<u8>, Vec<PageBytes<'p>>)>,
    pending_bytes: u64,
    header: StreamHeader,
    sequence: u64,
    previous: u64,
    prefixes: PrefixDigest,
    /// The stream's length so far, pending records included.
    bytes: u64,
    synced_at: u64,
    pages: u64,
    freed: u64,
    fingerprint: Fingerprint,
}

impl<'w, 'p> StreamWriter<'w, 'p> {
    /// Writes the preamble and what the stream is about, or goes on behind the mark that the plan names.
    pub(super) fn begin(
        to: &'w mut dyn Write,
        header: StreamHeader,
        plan: &Plan<'_>,
    ) -> Result<StreamWriter<'w, 'p>> {
        let coding = plan.coding;
        let packer = (coding.codec == ZSTD).then(|| Packer::new(coding.level)).transpose()?;
        let seal = match (coding.cipher, plan.key, plan.salt) {
            (0, ..) => None,
            (_, Some(key), Some(salt)) => Some(Seal::new(key, salt)?),
            _ => return no_key(),
        };
        let mut prefixes = PrefixDigest::new();
        if coding.is_chained {
            prefixes.chain();
        }
        let first = preamble();
        let mut writer = StreamWriter {
            to: Paced::new(to, plan.rate),
            packer,
            seal,
            pending: vec![(first.to_vec(), Vec::new())],
            pending_bytes: first.len() as u64,
            header: StreamHeader { coding, ..header },
            sequence: 0,
            previous: checksum64(0, &first),
            prefixes,
            bytes: first.len() as u64,
            synced_at: 0,
            pages: 0,
            freed: 0,
            fingerprint: Fingerprint::EMPTY,
        };
        writer.header_record()?;
        writer.record(META, encode_meta(&writer.header.meta), Vec::new())?;
        if let Some(point) = plan.from {
            writer.go_on(point)?;
        }
        Ok(writer)
    }

    /// Stands behind a mark of this very stream, whose beginning was just made again and isn't written.
    fn go_on(&mut self, point: &ResumePoint) -> Result<()> {
        let expected = self.prefixes.value();
        if point.stream != expected {
            return Err(Error::WrongResumePoint { expected, found: point.stream });
        }
        self.pending.clear();
        self.pending_bytes = 0;
        (self.sequence, self.previous) = (point.sequence, point.previous);
        self.prefixes = PrefixDigest::chained(point.digest);
        self.bytes = point.offset;
        let sealed = if self.seal.is_some() { TAG_BYTES } else { 0 };
        let mark = crate::format::stream::PREFIX_BYTES + crate::format::stream::SYNC_BYTES + sealed;
        // As it was when the mark was written.
        self.synced_at = point.offset.saturating_sub(mark as u64);
        (self.pages, self.freed, self.fingerprint) = (point.pages, point.freed, point.fingerprint);
        Ok(())
    }

    /// Writes pages, `run_pages` of them at most: in a full stream with consecutive ids.
    pub(super) fn pages(&mut self, pages: &[Page<'p>], meter: &mut Meter<'_>) -> Result<()> {
        let (Some((first, ..)), Some((last, ..))) = (pages.first(), pages.last()) else { return Ok(()) };
        let count = u32::try_from(pages.len()).unwrap_or(u32::MAX);
        let is_delta = self.header.base.is_some();
        debug_assert!(is_delta || last.0 - first.0 + 1 == u64::from(count));
        let mut list = Vec::with_capacity(16 + pages.len() * list_bytes(is_delta));
        list.extend_from_slice(&first.0.to_le_bytes());
        list.extend_from_slice(&count.to_le_bytes());
        list.extend_from_slice(&0u32.to_le_bytes());
        for (id, _, checksum) in pages {
            if is_delta {
                list.extend_from_slice(&id.0.to_le_bytes());
            }
            list.extend_from_slice(&checksum.0.to_le_bytes());
            self.fingerprint = self.fingerprint.plus(*id, checksum.short());
        }
        let bodies: Vec<PageBytes<'p>> = pages.iter().map(|(_, bytes, _)| bytes.clone()).collect();
        let body_bytes = bodies.iter().map(|body| body.len() as u64).sum();
        match self.pack(&bodies)? {
            Some(frame) => {
                list[12..16].copy_from_slice(&u32::from(ZSTD).to_le_bytes());
                list.extend_from_slice(&frame);
                self.record(PAGES, list, Vec::new())?;
            }
            None => self.record(PAGES, list, bodies)?,
        }
        self.pages += pages.len() as u64;
        meter.add(pages.len() as u64, body_bytes)?;
        self.mark(last.0)
    }

    /// The length of a frame, the frame and what fills it up, if the stream is compressed and that is shorter than the pages.
    fn pack(&mut self, bodies: &[PageBytes<'p>]) -> Result<Option<Vec<u8>>> {
        let Some(packer) = &mut self.packer else { return Ok(None) };
        let plain = bodies.iter().map(|body| &**body).collect::<Vec<&[u8]>>().concat();
        let frame = packer.pack(&plain)?;
        let len = 8 + frame.len().next_multiple_of(8);
        if len >= plain.len() {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&(frame.len() as u64).to_le_bytes());
        out.extend_from_slice(&frame);
        out.resize(len, 0);
        Ok(Some(out))
    }

    /// Writes that so many ids hold nothing.
    pub(super) fn free(&mut self, first: PageId, count: u64) -> Result<()> {
        self.record(FREE, encode_free(first.0, count), Vec::new())?;
        self.freed += count;
        self.mark(first.0 + count - 1)
    }

    /// Writes a mark, if the last one is far back.
    fn mark(&mut self, last: u64) -> Result<()> {
        if self.bytes - self.synced_at < self.header.coding.mark_every() {
            return Ok(());
        }
        self.synced_at = self.bytes;
        self.record(SYNC, encode_sync(last, self.pages, self.fingerprint), Vec::new())
    }

    /// Ends the stream. An export never lies: pages that don't add up to the snapshot's fingerprint are an error.
    pub(super) fn finish(mut self) -> Result<StreamSummary> {
        let header = &self.header;
        let adds_up = (self.fingerprint, self.pages) == (header.fingerprint, header.live_pages);
        if header.base.is_none() && !adds_up {
            return Err(Error::BadStream {
                offset: self.bytes,
                expected: format!("{} pages with fingerprint {}", header.live_pages, header.fingerprint),
                found: format!("{} with {}", self.pages, self.fingerprint),
            });
        }
        let trailer = encode_trailer(self.pages, self.sequence, self.fingerprint, self.prefixes.value());
        self.record(TRAILER, trailer, Vec::new())?;
        self.write_pending()?;
        loop {
            match self.to.flush() {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(stream_error("write to", error)),
            }
        }
        Ok(StreamSummary::new(&self.header, self.pages, self.freed, self.bytes))
    }

    /// Adds the record that says what the stream is about: sealed, but for its beginning and the salt.
    fn header_record(&mut self) -> Result<()> {
        let header = self.header.encode();
        match &self.seal {
            None => self.record(HEADER, header, Vec::new()),
            Some(seal) => {
                let clear = [&header[..24], &seal.salt()[..]].concat();
                self.sealed_record(HEADER, &clear, &header)
            }
        }
    }

    /// Adds a record whose payload is `list` and then `bodies`.
    fn record(&mut self, kind: u16, mut list: Vec<u8>, bodies: Vec<PageBytes<'p>>) -> Result<()> {
        if self.seal.is_some() {
            for body in &bodies {
                list.extend_from_slice(body);
            }
            return self.sealed_record(kind, &[], &list);
        }
        let len = list.len() + bodies.iter().map(|body| body.len()).sum::<usize>();
        // Of what lies in `bodies`, the list has the checksums.
        let payload_sum = checksum64(self.sequence, &list);
        self.push(&Prefix { payload_sum, ..self.prefix(kind, len) }, &list, bodies)
    }

    /// Adds a record whose payload is `clear`, and then `payload` encrypted.
    fn sealed_record(&mut self, kind: u16, clear: &[u8], payload: &[u8]) -> Result<()> {
        let Some(seal) = &self.seal else { return no_key() };
        let prefix = self.prefix(kind, clear.len() + payload.len() + TAG_BYTES);
        let prefix = Prefix { flags: MUST_UNDERSTAND | SEALED, ..prefix };
        let authenticated = [&prefix.authenticated()[..], clear].concat();
        let mut stored = [clear, payload].concat();
        seal.seal(self.sequence, &authenticated, &mut stored, clear.len())?;
        let payload_sum = checksum64(self.sequence, &stored);
        self.push(&Prefix { payload_sum, ..prefix }, &stored, Vec::new())
    }

    /// The prefix of the next record, but for its payload's checksum.
    fn prefix(&self, kind: u16, len: usize) -> Prefix {
        debug_assert_eq!(len % 8, 0);
        let (sequence, previous) = (self.sequence, self.previous);
        Prefix { kind, flags: MUST_UNDERSTAND, len: len as u64, sequence, payload_sum: 0, previous }
    }

    fn push(&mut self, prefix: &Prefix, list: &[u8], bodies: Vec<PageBytes<'p>>) -> Result<()> {
        let (bytes, own) = prefix.encode();
        self.sequence += 1;
        self.previous = own;
        self.prefixes.add(&bytes);
        let added = bytes.len() as u64 + prefix.len;
        self.pending.push(([&bytes[..], list].concat(), bodies));
        self.pending_bytes += added;
        self.bytes += added;
        if self.pending_bytes >= WRITE_BYTES { self.write_pending() } else { Ok(()) }
    }

    fn write_pending(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let slices = pending.iter().flat_map(|(head, bodies)| {
            std::iter::once(IoSlice::new(head)).chain(bodies.iter().map(|body| IoSlice::new(body)))
        });
        let mut slices: Vec<IoSlice<'_>> = slices.collect();
        write_slices(&mut self.to, &mut slices)
    }
}

/// Writes all bytes.
pub(super) fn write_slices(to: &mut dyn Write, slices: &mut [IoSlice<'_>]) -> Result<()> {
    in_pieces(slices, |piece| {
        loop {
            match to.write_vectored(piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    })
    .map_err(|error| stream_error("write to", error))
}

pub(super) fn stream_error(operation: &'static str, source: std::io::Error) -> Error {
    Error::Stream { operation, source: Arc::new(source) }
}
