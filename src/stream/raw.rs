//! Raw exports: page i at offset i * page_size, and nothing else. A store that holds a SQLite file's pages gives a file
//! that SQLite opens.

use std::io::{IoSlice, Write};

use serde::Serialize;

use super::write::{stream_error, write_slices};
use crate::error::Result;
use crate::id::{PageId, Version};
use crate::log::cached::PageBytes;
use crate::pins::PinKind;
use crate::progress::{Meter, Observer};
use crate::snapshot::Snapshot;
use crate::storage::pieces::PIECE_BYTES;
use crate::table::lookup::for_each_entry;

/// What a raw export wrote.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RawSummary {
    /// The version that was exported.
    pub version: Version,
    /// Pages written, those that hold nothing (as zeros) included.
    pub page_count: u64,
    /// Bytes written.
    pub bytes: u64,
}

impl Snapshot {
    /// Writes the pages one after the other, without checksums; a page that holds nothing as zeros. Every page is
    /// verified on the way. Writers go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Stream`](crate::Error::Stream) if writing fails, [`Error::Corrupt`](crate::Error::Corrupt) if a page is
    /// damaged, [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn export_raw(&self, w: &mut dyn Write, observer: &mut dyn Observer) -> Result<RawSummary> {
        let _in_use = self.in_use_by(PinKind::Export, "raw export")?;
        let (core, root) = (self.core(), self.root());
        let page_size = core.page_size();
        let mut meter = Meter::new("export", Some(root.page_count), observer);
        meter.report()?;
        let table = core.segments.table();
        let zeros = vec![0; page_size];
        let hole = || PageBytes::InPlace(&zeros);
        let mut raw = RawWriter { to: w, pending: Vec::new(), pending_bytes: 0, written: 0 };
        for_each_entry(&core.slab, root, PageId(0), &mut |id, entry| {
            if let Some((bytes, _)) = core.segments.verified_page(&table, id, entry)? {
                while raw.written < id.0 {
                    raw.page(hole(), &mut meter)?;
                }
                raw.page(bytes, &mut meter)?;
            }
            Ok(true)
        })?;
        while raw.written < root.page_count {
            raw.page(hole(), &mut meter)?;
        }
        raw.write_pending()?;
        let next = raw.written;
        w.flush().map_err(|error| stream_error("write to", error))?;
        meter.report()?;
        Ok(RawSummary { version: root.version, page_count: next, bytes: next * page_size as u64 })
    }
}

/// Pages on their way, several at a time.
struct RawWriter<'w, 'p> {
    to: &'w mut dyn Write,
    pending: Vec<PageBytes<'p>>,
    pending_bytes: usize,
    /// Pages so far, pending ones included.
    written: u64,
}

impl<'p> RawWriter<'_, 'p> {
    fn page(&mut self, bytes: PageBytes<'p>, meter: &mut Meter<'_>) -> Result<()> {
        let len = bytes.len();
        self.pending.push(bytes);
        self.pending_bytes += len;
        self.written += 1;
        if self.pending_bytes >= PIECE_BYTES {
            self.write_pending()?;
        }
        meter.add(1, len as u64)
    }

    fn write_pending(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let mut slices: Vec<IoSlice<'_>> = pending.iter().map(|page| IoSlice::new(page)).collect();
        write_slices(self.to, &mut slices)
    }
}
