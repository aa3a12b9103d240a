//! Writing a stream: straight from the source's pages, without copying them.

use std::io::{ErrorKind, IoSlice, Write};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::StreamSummary;
use crate::error::{Error, Result};
use crate::format::checksum::{PageChecksum, checksum64};
use crate::format::stream::{
    HEADER, META, MUST_UNDERSTAND, PAGES, Prefix, SYNC, SYNC_EVERY_BYTES, StreamHeader, TRAILER, encode_meta,
    encode_sync, encode_trailer, preamble,
};
use crate::id::{Fingerprint, PageId};
use crate::progress::Meter;

/// Pages with consecutive ids from `first` on.
pub(super) type Run<'a> = (PageId, &'a [(&'a [u8], PageChecksum)]);

/// Writes one stream.
pub(super) struct StreamWriter<'w> {
    to: &'w mut dyn Write,
    header: StreamHeader,
    sequence: u64,
    previous: u64,
    prefixes: Xxh3,
    bytes: u64,
    synced_at: u64,
    pages: u64,
    fingerprint: Fingerprint,
}

impl<'w> StreamWriter<'w> {
    /// Writes the preamble and what the stream is about.
    pub(super) fn begin(to: &'w mut dyn Write, header: StreamHeader) -> Result<StreamWriter<'w>> {
        let first = preamble();
        let mut writer = StreamWriter {
            to,
            sequence: 0,
            previous: checksum64(0, &first),
            prefixes: Xxh3::new(),
            bytes: 0,
            synced_at: 0,
            pages: 0,
            fingerprint: Fingerprint::EMPTY,
            header,
        };
        writer.write(&mut [IoSlice::new(&first)])?;
        writer.record(HEADER, &writer.header.encode(), &[])?;
        writer.record(META, &encode_meta(&writer.header.meta), &[])?;
        Ok(writer)
    }

    /// Writes a run of pages, of at most `run_pages`.
    pub(super) fn pages(&mut self, (first, pages): Run<'_>, meter: &mut Meter<'_>) -> Result<()> {
        let count = u32::try_from(pages.len()).unwrap_or(u32::MAX);
        let mut list = Vec::with_capacity(16 + pages.len() * 8);
        list.extend_from_slice(&first.0.to_le_bytes());
        list.extend_from_slice(&count.to_le_bytes());
        list.extend_from_slice(&0u32.to_le_bytes());
        for (id, (_, checksum)) in (first.0..).zip(pages) {
            list.extend_from_slice(&checksum.0.to_le_bytes());
            self.fingerprint = self.fingerprint.plus(PageId(id), checksum.short());
        }
        let bodies: Vec<&[u8]> = pages.iter().map(|(bytes, _)| *bytes).collect();
        self.record(PAGES, &list, &bodies)?;
        self.pages += pages.len() as u64;
        meter.add(pages.len() as u64, pages.iter().map(|(bytes, _)| bytes.len() as u64).sum())?;
        if self.bytes - self.synced_at >= SYNC_EVERY_BYTES {
            self.synced_at = self.bytes;
            let last = first.0 + u64::from(count) - 1;
            self.record(SYNC, &encode_sync(last, self.pages, self.fingerprint), &[])?;
        }
        Ok(())
    }

    /// Ends the stream. An export never lies: pages that don't add up to the snapshot's fingerprint are an error.
    pub(super) fn finish(mut self) -> Result<StreamSummary> {
        let header = &self.header;
        if (self.fingerprint, self.pages) != (header.fingerprint, header.live_pages) {
            return Err(Error::BadStream {
                offset: self.bytes,
                expected: format!("{} pages with fingerprint {}", header.live_pages, header.fingerprint),
                found: format!("{} with {}", self.pages, self.fingerprint),
            });
        }
        let trailer = encode_trailer(self.pages, self.sequence, self.fingerprint, self.prefixes.digest128());
        self.record(TRAILER, &trailer, &[])?;
        loop {
            match self.to.flush() {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(stream_error("write to", error)),
            }
        }
        Ok(StreamSummary {
            store_id: self.header.store_id,
            version: self.header.version,
            fingerprint: self.fingerprint,
            page_size: self.header.page_size,
            page_count: self.header.page_count,
            pages: self.pages,
            bytes: self.bytes,
        })
    }

    /// Writes a record whose payload is `list` and then `bodies`; the checksum in its prefix covers `list`.
    fn record(&mut self, kind: u16, list: &[u8], bodies: &[&[u8]]) -> Result<()> {
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
        let mut slices = Vec::with_capacity(2 + bodies.len());
        slices.push(IoSlice::new(&bytes));
        slices.push(IoSlice::new(list));
        slices.extend(bodies.iter().map(|body| IoSlice::new(body)));
        self.write(&mut slices)
    }

    fn write(&mut self, mut slices: &mut [IoSlice<'_>]) -> Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match self.to.write_vectored(slices) {
                Ok(0) => return Err(stream_error("write to", ErrorKind::WriteZero.into())),
                Ok(written) => {
                    self.bytes += written as u64;
                    IoSlice::advance_slices(&mut slices, written);
                }
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
