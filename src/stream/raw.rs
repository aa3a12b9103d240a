//! Raw exports: page i at offset i * page_size, and nothing else. A store that holds a SQLite file's pages gives a file
//! that SQLite opens.

use std::io::Write;

use serde::Serialize;

use super::write::stream_error;
use crate::error::Result;
use crate::id::{PageId, Version};
use crate::pins::PinKind;
use crate::progress::{Meter, Observer};
use crate::snapshot::Snapshot;
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
        let mut next = 0;
        let put = |w: &mut dyn Write, bytes: &[u8]| {
            w.write_all(bytes).map_err(|error| stream_error("write to", error))
        };
        for_each_entry(&core.slab, root, PageId(0), &mut |id, entry| {
            if let Some((bytes, _)) = core.segments.verified_page(&table, id, entry)? {
                while next < id.0 {
                    put(w, &zeros)?;
                    next += 1;
                    meter.add(1, page_size as u64)?;
                }
                put(w, &bytes)?;
                next += 1;
                meter.add(1, page_size as u64)?;
            }
            Ok(true)
        })?;
        while next < root.page_count {
            put(w, &zeros)?;
            next += 1;
            meter.add(1, page_size as u64)?;
        }
        w.flush().map_err(|error| stream_error("write to", error))?;
        meter.report()?;
        Ok(RawSummary { version: root.version, page_count: next, bytes: next * page_size as u64 })
    }
}
