//! A snapshot as a stream, while writers go on.

use std::io::Write;
use std::time::Duration;

use super::StreamSummary;
use super::options::ExportOptions;
use super::write::{Page, Plan, StreamWriter};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::stream::{Coding, StreamHeader, run_pages};
use crate::id::PageId;
use crate::log::segment::SegmentTable;
use crate::pins::PinKind;
use crate::progress::{Meter, Observer};
use crate::rate::Rate;
use crate::snapshot::Snapshot;
use crate::table::lookup::for_each_entry;

/// Pages with consecutive ids.
type Run<'p> = Vec<Page<'p>>;

/// Runs that one thread hands to the other at a time, because waking it takes longer than writing one; and how many times
/// as much it may be ahead.
const BATCH_RUNS: usize = 8;
const BATCHES_AHEAD: usize = 4;
/// Bytes of pages after which is decided anew who reads; and of the first ones, before anything is known.
const PORTION_BYTES: u64 = 64 << 20;
const FIRST_BYTES: u64 = 8 << 20;
/// Batches a second from which on whoever commits needs one of two processors now and then: a commit's sync waits for the disk, and
/// then the commit for a processor. Measured on two, beside 4,700 durable commits a second alone: an export in two threads took 0.6 s and
/// left 2,200 of them, one in one thread 0.9 s and left 3,700, as many as `cp` does.
const BUSY_RATE: u64 = 1_500;
/// What commits do in less time than that tells nothing of their rate.
const LOOK: Duration = Duration::from_millis(5);

/// Pages that are collected in one go.
#[derive(Clone, Copy)]
struct Portion {
    from: PageId,
    /// About how many bytes of them.
    bytes: u64,
}

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
    /// states give equal bytes. Needs no seeking: a pipe will do. Writers go on meanwhile. [`Store::import`](crate::Store::import)
    /// makes a store of it.
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
        let table = core.segments.table();
        let mut write = |run: Vec<_>| writer.pages(&run, &mut meter);
        let (mut load, mut portion) =
            (Load::new(core), Portion { from: plan.first_id(), bytes: FIRST_BYTES });
        while let Some(from) = match load.leaves_a_processor() {
            true => self.collect_beside(&table, portion, &mut write)?,
            false => self.collect(&table, portion, &mut |run| write(run).map(|()| true))?,
        } {
            portion = Portion { from, bytes: PORTION_BYTES };
        }
        let summary = writer.finish()?;
        meter.report()?;
        Ok(summary)
    }

    /// As [`Snapshot::collect`], while another thread reads and verifies the next pages: reading is a third of an export's
    /// work, and nobody waits for it so.
    fn collect_beside<'p>(
        &self,
        table: &'p SegmentTable,
        portion: Portion,
        write: &mut dyn FnMut(Run<'p>) -> Result<()>,
    ) -> Result<Option<PageId>> {
        std::thread::scope(|scope| {
            let (sender, receiver) = std::sync::mpsc::sync_channel::<Vec<Run<'p>>>(BATCHES_AHEAD);
            let collect = move || {
                let mut batch = Vec::with_capacity(BATCH_RUNS);
                let next = self.collect(table, portion, &mut |run| {
                    batch.push(run);
                    // Nobody takes it if writing has failed: then there is no more to do here either.
                    Ok(batch.len() < BATCH_RUNS || sender.send(std::mem::take(&mut batch)).is_ok())
                })?;
                // As above.
                let _ = sender.send(batch);
                Ok(next)
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

    /// Calls `take` with a portion of the pages in ascending order, verified, in runs, until it says that it wants no more. Returns
    /// the id to go on with, unless that was all.
    fn collect<'p>(
        &self,
        table: &'p SegmentTable,
        portion: Portion,
        take: &mut dyn FnMut(Run<'p>) -> Result<bool>,
    ) -> Result<Option<PageId>> {
        let core = self.core();
        let page_size = core.segments.geometry().page_size();
        let run_max = run_pages(page_size) as usize;
        let mut run: Run<'p> = Vec::new();
        let (mut goes_on, mut left, mut next) = (true, portion.bytes / u64::from(page_size), None);
        for_each_entry(&core.slab, self.root(), portion.from, &mut |id, entry| {
            if entry.location().is_none() {
                return Ok(true);
            }
            let is_next = |(last, ..): &Page<'_>| last.0 + 1 == id.0;
            if run.len() == run_max || !run.last().is_none_or(is_next) {
                left = left.saturating_sub(run.len() as u64);
                goes_on = take(std::mem::take(&mut run))?;
                // Only between two runs: where portions end must not show in the stream.
                next = (left == 0).then_some(id);
                if !goes_on || next.is_some() {
                    return Ok(false);
                }
            }
            if run.is_empty() {
                run.reserve_exact(run_max);
            }
            let page = core.segments.verified_page(table, id, entry)?;
            run.extend(page.map(|(bytes, checksum)| (id, bytes, checksum)));
            Ok(true)
        })?;
        if goes_on && !run.is_empty() {
            take(run)?;
        }
        Ok(next)
    }
}

/// Whether commits leave a processor to an export beside the one that writes it.
struct Load<'a> {
    core: &'a Core,
    has_many: bool,
    batches: Rate,
    is_low: bool,
}

impl<'a> Load<'a> {
    fn new(core: &'a Core) -> Load<'a> {
        let has_many = std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 2);
        Load { core, has_many, batches: Rate::new(core.counters.batches()), is_low: false }
    }

    fn leaves_a_processor(&mut self) -> bool {
        if self.batches.age() >= LOOK {
            self.is_low = self.batches.look(self.core.counters.batches()) < BUSY_RATE;
        }
        // Who wants no thread of the store's gets none.
        self.core.options.has_thread() && (self.has_many || self.is_low)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::{Options, Store};

    #[test]
    fn where_portions_end_does_not_show() {
        let store = Store::in_memory(Options::new().page_size(512)).unwrap();
        let mut txn = store.begin().unwrap();
        txn.truncate(1000).unwrap();
        // Runs of all lengths up to more than what one record takes, with gaps in between.
        let held = |id: &u64| *id > 700 || id % 37 > id % 5;
        for id in (0..1000).filter(held) {
            txn.write(PageId(id), &[7; 512]).unwrap();
        }
        txn.commit().unwrap();
        let (snapshot, table) = (store.snapshot(), store.core().segments.table());
        let runs = |bytes: u64, beside: bool| {
            let (mut runs, mut from) = (Vec::new(), Some(PageId(0)));
            let mut portions = 0;
            while let Some(first) = from {
                let portion = Portion { from: first, bytes };
                let mut take = |run: Run<'_>| {
                    runs.push(run.iter().map(|(id, ..)| id.0).collect::<Vec<u64>>());
                    Ok(())
                };
                from = match beside {
                    true => snapshot.collect_beside(&table, portion, &mut take),
                    false => snapshot.collect(&table, portion, &mut |run| take(run).map(|()| true)),
                }
                .unwrap();
                portions += 1;
            }
            (runs, portions)
        };
        let (whole, portions) = runs(u64::MAX, false);
        assert_eq!(portions, 1);
        assert_eq!(whole.concat(), (0..1000).filter(held).collect::<Vec<u64>>());
        for bytes in [1, 512, 5 * 512, 100 * 512] {
            for beside in [false, true] {
                let (same, portions) = runs(bytes, beside);
                assert_eq!(same, whole, "portions of {bytes} bytes");
                assert!(portions > 2);
            }
        }
    }
}
