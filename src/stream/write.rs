//! Writing a stream: straight from the source's pages, without copying them.

use std::io::{ErrorKind, IoSlice, Write};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::StreamSummary;
use crate::error::{Error, Result};
use crate::format::checksum::{PageChecksum, checksum64};
use crate::format::stream::{
    FREE, HEADER, META, MUST_UNDERSTAND, PAGES, Prefix, SYNC, SYNC_EVERY_BYTES, StreamHeader, TRAILER,
    encode_free, encode_meta, encode_sync, encode_trailer, list_bytes, preamble,
};
use crate::id::{Fingerprint, PageId};
use crate::log::cached::PageBytes;
use crate::progress::Meter;

/// A page with what is known of it.
pub(super) type Page<'p> = (PageId, PageBytes<'p>, PageChecksum);

/// Records are handed to the writer about so many bytes at a time: a system copies long stretches faster (medians here:
/// 1,530 MB/s a run at a time, 1,790 at 1 MiB).
const WRITE_BYTES: u64 = 1 << 20;

/// Writes one stream.
pub(super) struct StreamWriter<'w, 'p> {
    to: &'w mut dyn Write,
    /// Records that are not written yet: prefix and list, and the pages behind them.
    pending: Vec<(Vec<u8>, Vec<PageBytes<'p>>)>,
    pending_bytes: u64,
    header: StreamHeader,
    sequence: u64,
    previous: u64,
    prefixes: Xxh3,
    /// The stream's length so far, pending records included.
    bytes: u64,
    synced_at: u64,
    pages: u64,
    freed: u64,
    fingerprint: Fingerprint,
}

impl<'w, 'p> StreamWriter<'w, 'p> {
    /// Writes the preamble and what the stream is about.
    pub(super) fn begin(to: &'w mut dyn Write, header: StreamHeader) -> Result<StreamWriter<'w, 'p>> {
        let first = preamble();
        let mut writer = StreamWriter {
            to,
            pending: vec![(first.to_vec(), Vec::new())],
            pending_bytes: first.len() as u64,
            sequence: 0,
            previous: checksum64(0, &first),
            prefixes: Xxh3::new(),
            bytes: first.len() as u64,
            synced_at: 0,
            pages: 0,
            freed: 0,
            fingerprint: Fingerprint::EMPTY,
            header,
        };
        writer.record(HEADER, &writer.header.encode(), Vec::new())?;
        writer.record(META, &encode_meta(&writer.header.meta), Vec::new())?;
        Ok(writer)
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
        self.record(PAGES, &list, pages.iter().map(|(_, bytes, _)| bytes.clone()).collect())?;
        self.pages += pages.len() as u64;
        meter.add(pages.len() as u64, pages.iter().map(|(_, bytes, _)| bytes.len() as u64).sum())?;
        self.mark(last.0)
    }

    /// Writes that so many ids hold nothing.
    pub(super) fn free(&mut self, first: PageId, count: u64) -> Result<()> {
        self.record(FREE, &encode_free(first.0, count), Vec::new())?;
        self.freed += count;
        self.mark(first.0 + count - 1)
    }

    /// Writes a mark, if the last one is far back.
    fn mark(&mut self, last: u64) -> Result<()> {
        if self.bytes - self.synced_at < SYNC_EVERY_BYTES {
            return Ok(());
        }
        self.synced_at = self.bytes;
        self.record(SYNC, &encode_sync(last, self.pages, self.fingerprint), Vec::new())
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
        let trailer = encode_trailer(self.pages, self.sequence, self.fingerprint, self.prefixes.digest128());
        self.record(TRAILER, &trailer, Vec::new())?;
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

    /// Adds a record whose payload is `list` and then `bodies`; the checksum in its prefix covers `list`.
    fn record(&mut self, kind: u16, list: &[u8], bodies: Vec<PageBytes<'p>>) -> Result<()> {
        let len = list.len() + bodies.iter().map(|body| body.len()).sum::<usize>();
        debug_assert_eq!(len % 8, 0);
        let prefix = Prefix {
            kind,
            flags: MUST_UNDERSTAND,
            len: len as u64,
            sequence: self.sequence,
            payload_sum: checksum64(self.sequence, list),
            previous: self.previous,
        };
        let (bytes, own) = prefix.encode();
        self.sequence += 1;
        self.previous = own;
        self.prefixes.update(&bytes);
        let added = (bytes.len() + len) as u64;
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
        let mut slices = &mut slices[..];
        while !slices.is_empty() {
            match self.to.write_vectored(slices) {
                Ok(0) => return Err(stream_error("write to", ErrorKind::WriteZero.into())),
                Ok(written) => IoSlice::advance_slices(&mut slices, written),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(stream_error("write to", error)),
            }
        }
        Ok(())
    }
}

pub(super) fn stream_error(operation: &'static str, source: std::io::Error) -> Error {
    Error::Stream { operation, source: Arc::new(source) }
}
