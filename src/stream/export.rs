//! A snapshot as a stream, while writers go on.

use std::collections::HashSet;
use std::io::Write;

use super::StreamSummary;
use super::options::ExportOptions;
use super::write::{Page, Plan, StreamWriter};
use crate::error::{Error, Result};
use crate::format::stream::{Coding, StreamHeader, run_pages};
use crate::id::{Location, PageId};
use crate::log::segment::SegmentTable;
use crate::pins::PinKind;
use crate::progress::{Meter, Observer};
use crate::snapshot::Snapshot;
use crate::table::lookup::for_each_entry;

/// Pages with consecutive ids.
type Run<'p> = Vec<Page<'p>>;

/// Runs that one thread hands to the other at a time, because waking it takes longer than writing one; and how many times
/// as much it may be ahead.
const BATCH_RUNS: usize = 8;
const BATCHES_AHEAD: usize = 4;

/// What a full stream of the snapshot says of it.
pub(super) fn header_of(snapshot: &Snapshot) -> StreamHeader {
    let (core, root) = (snapshot.core(), snapshot.root());
    StreamHeader {
        coding: Coding::PLAIN,
        page_size: core.segments.geometry().page_size(),
        store_id: core.store_id(),
        base: None,
        version: root.version,
        fingerprint: root.fingerprint,
        page_count: root.page_count,
        live_pages: root.live_pages,
        created_at_ms: root.created_at_ms,
        meta: root.meta.to_vec(),
    }
}

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
        self.export_as(w, &ExportOptions::new(), observer)
    }

    /// As [`Snapshot::export_with`], compressed, encrypted or at a rate.
    ///
    /// # Errors
    /// As [`Snapshot::export_with`]; [`Error::InvalidOption`] and [`Error::Unsupported`] for options that can't be honoured.
    pub fn export_as(
        &self,
        w: &mut dyn Write,
        options: &ExportOptions,
        observer: &mut dyn Observer,
    ) -> Result<StreamSummary> {
        self.export_full(w, &Plan::of(options)?, observer)
    }

    /// Writes a full stream as planned.
    pub(super) fn export_full(
        &self,
        w: &mut dyn Write,
        plan: &Plan<'_>,
        observer: &mut dyn Observer,
    ) -> Result<StreamSummary> {
        let _in_use = self.in_use_by(PinKind::Export, "export")?;
        let (core, root) = (self.core(), self.root());
        let header = header_of(self);
        let left = root.live_pages.saturating_sub(plan.pages_before());
        let mut meter = Meter::new("export", Some(left), observer);
        meter.report()?;
        let mut writer = StreamWriter::begin(w, header, plan)?;
        let (table, from) = (core.segments.table(), plan.first_id());
        let mut write = |run: Vec<_>| writer.pages(&run, &mut meter);
        if core.options.has_thread() {
            self.collect_beside(&table, from, &mut write)?;
        } else {
            self.collect(&table, from, &mut |run| write(run).map(|()| true))?;
        }
        let summary = writer.finish()?;
        meter.report()?;
        Ok(summary)
    }

    /// Calls `write` with all pages from `from` on, while another thread reads and verifies the next: reading is a third of an export's
    /// work, and nobody waits for it so.
    fn collect_beside<'p>(
        &self,
        table: &'p SegmentTable,
        from: PageId,
        write: &mut dyn FnMut(Run<'p>) -> Result<()>,
    ) -> Result<()> {
        std::thread::scope(|scope| {
            let (sender, receiver) = std::sync::mpsc::sync_channel::<Vec<Run<'p>>>(BATCHES_AHEAD);
            let collect = move || {
                let mut batch = Vec::with_capacity(BATCH_RUNS);
                self.collect(table, from, &mut |run| {
                    batch.push(run);
                    // Nobody takes it if writing has failed: then there is no more to do here either.
                    Ok(batch.len() < BATCH_RUNS || sender.send(std::mem::take(&mut batch)).is_ok())
                })?;
                // As above.
                let _ = sender.send(batch);
                Ok(())
            };
            let named = std::thread::Builder::new().name("vellum-export".to_owned());
            let collector = named
                .spawn_scoped(scope, collect)
                .map_err(|error| Error::io("start a thread for", self.core().path(), error))?;
            let written = receiver.iter().flatten().try_for_each(write);
            drop(receiver);
            let collected = collector.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            written.and(collected)
        })
    }

    /// Calls `take` with all pages from `from` on in ascending order, verified, in runs, until it says that it wants no more.
    fn collect<'p>(
        &self,
        table: &'p SegmentTable,
        from: PageId,
        take: &mut dyn FnMut(Run<'p>) -> Result<bool>,
    ) -> Result<()> {
        let core = self.core();
        let page_size = core.segments.geometry().page_size();
        let run_max = run_pages(page_size) as usize;
        let mut run: Run<'p> = Vec::new();
        // Stretches of a segment, as long as a run, that were brought into memory; neighbours in the store may lie in any.
        let (stretch, mut populated) = (run_max as u64, HashSet::new());
        let mut goes_on = true;
        for_each_entry(&core.slab, self.root(), from, &mut |id, entry| {
            let Some(location) = entry.location() else { return Ok(true) };
            if populated.insert(location.0 / stretch) {
                let from = Location(location.0 - location.0 % stretch);
                core.segments.populate(table, from, run_pages(page_size));
            }
            let is_next = |(last, ..): &Page<'_>| last.0 + 1 == id.0;
            if run.len() == run_max || !run.last().is_none_or(is_next) {
                goes_on = take(std::mem::take(&mut run))?;
            }
            if run.is_empty() {
                run.reserve_exact(run_max);
            }
            let page = core.segments.verified_page(table, id, entry)?;
            run.extend(page.map(|(bytes, checksum)| (id, bytes, checksum)));
            Ok(goes_on)
        })?;
        if goes_on && !run.is_empty() {
            take(run)?;
        }
        Ok(())
    }
}
