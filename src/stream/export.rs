//! A snapshot as a stream, while writers go on.

use std::collections::HashSet;
use std::io::Write;

use super::StreamSummary;
use super::write::StreamWriter;
use crate::error::Result;
use crate::format::checksum::PageChecksum;
use crate::format::stream::{StreamHeader, run_pages};
use crate::id::{Location, PageId};
use crate::progress::{Meter, Observer};
use crate::snapshot::Snapshot;
use crate::table::lookup::for_each_entry;

impl Snapshot {
    /// Writes the whole snapshot as a self-describing, self-checking stream. Every page is verified on the way; equal
    /// states give equal bytes. Needs no seeking: a pipe will do. Writers go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Stream`](crate::Error::Stream) if writing fails, [`Error::Corrupt`](crate::Error::Corrupt) if a page is
    /// damaged. What was written by then is not a stream: it lacks its end, and no reader takes it.
    pub fn export(&self, w: &mut dyn Write) -> Result<StreamSummary> {
        self.export_with(w, &mut ())
    }

    /// As [`Snapshot::export`], watched.
    ///
    /// # Errors
    /// As [`Snapshot::export`], and [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn export_with(&self, w: &mut dyn Write, observer: &mut dyn Observer) -> Result<StreamSummary> {
        let (core, root) = (self.core(), self.root());
        let geometry = core.segments.geometry();
        let header = StreamHeader {
            page_size: geometry.page_size(),
            store_id: core.store_id(),
            version: root.version,
            fingerprint: root.fingerprint,
            page_count: root.page_count,
            live_pages: root.live_pages,
            created_at_ms: root.created_at_ms,
            meta: root.meta.to_vec(),
        };
        let mut meter = Meter::new("export", Some(root.live_pages), observer);
        meter.report()?;
        let mut writer = StreamWriter::begin(w, header)?;
        let table = core.segments.table();
        let run_max = run_pages(geometry.page_size()) as usize;
        let mut first = PageId(0);
        let mut run: Vec<(&[u8], PageChecksum)> = Vec::with_capacity(run_max);
        // Stretches of a segment, as long as a run, that were brought into memory; neighbours in the store may lie in any.
        let (stretch, mut populated) = (run_max as u64, HashSet::new());
        for_each_entry(&core.slab, root, PageId(0), &mut |id, entry| {
            let Some(location) = entry.location() else { return Ok(true) };
            if populated.insert(location.0 / stretch) {
                let from = Location(location.0 - location.0 % stretch);
                core.segments.populate(&table, from, run_pages(geometry.page_size()));
            }
            if run.len() == run_max || (!run.is_empty() && id.0 != first.0 + run.len() as u64) {
                writer.pages((first, &run), &mut meter)?;
                run.clear();
            }
            if run.is_empty() {
                first = id;
            }
            run.extend(core.segments.verified_page(&table, id, entry)?);
            Ok(true)
        })?;
        if !run.is_empty() {
            writer.pages((first, &run), &mut meter)?;
        }
        let summary = writer.finish()?;
        meter.report()?;
        Ok(summary)
    }
}
