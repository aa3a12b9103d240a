//! `init`, `info`, `stat`, `ls`: making a store, and telling what it is.

use vellum::{Budget, Histogram, Observer, Options, Progress, Recovery, Snapshot, Store};

use crate::args::{Dir, Init, Show};
use crate::error::Failure;
use crate::output::{Field, Report};
use crate::place::{Fresh, open_to_read};
use crate::progress::Bar;

/// Bytes that are copied between two reports of progress.
const PORTION: u64 = 64 << 20;

pub(crate) fn init(args: &Init, show: Show) -> Result<(), Failure> {
    let mut options = Options::new().background(false);
    if let Some(bytes) = args.page_size {
        options = options.page_size(bytes);
    }
    if let Some(bytes) = args.segment_size {
        options = options.segment_size(bytes);
    }
    let mut fresh = Fresh::new(&args.dir)?;
    let store = fresh.create(options)?;
    fresh.keep();
    let report = identity(&store).bytes("segment_bytes", store.stats().segment_bytes);
    drop(store);
    report.print(show)
}

pub(crate) fn info(args: &Dir, show: Show) -> Result<(), Failure> {
    let store = open_to_read(&args.dir, show)?;
    let report =
        about(identity(&store), &store.snapshot()).with("recovery", Field::Group(recovery(store.recovery())));
    drop(store);
    report.print(show)
}

pub(crate) fn compact(args: &Dir, show: Show) -> Result<(), Failure> {
    let store = open_to_read(&args.dir, show)?;
    let before = store.stats().disk_bytes;
    let mut bar = Bar::new(show);
    let (mut packed, mut copied, mut removed) = (0, 0, 0);
    loop {
        // In portions, so that it can be told how far it is.
        let done = store.maintain(Budget::unlimited().bytes(PORTION))?;
        packed += done.segments_packed;
        copied += done.bytes_copied;
        removed += done.files_removed;
        // This observer never asks to stop.
        let _ = bar.progress(Progress {
            task: "compact",
            pages_done: copied / store.page_size() as u64,
            pages_total: None,
            bytes_done: copied,
        });
        if done.is_done || (done.segments_packed == 0 && done.files_removed == 0) {
            break;
        }
    }
    drop(bar);
    let after = store.stats().disk_bytes;
    store.close()?;
    Report::new()
        .bytes("bytes_before", before)
        .bytes("bytes_after", after)
        .count("segments_packed", packed)
        .bytes("bytes_copied", copied)
        .count("files_removed", removed)
        .print(show)
}

pub(crate) fn ls(args: &Dir, show: Show) -> Result<(), Failure> {
    let store = open_to_read(&args.dir, show)?;
    let mut versions = vec![about(Report::new().text("name", ""), &store.snapshot())];
    for named in store.snapshots() {
        versions.push(about(Report::new().text("name", &named.name), &store.open_snapshot(&named.name)?));
    }
    drop(store);
    Report::new().with("versions", Field::List(versions)).print(show)
}

pub(crate) fn stat(args: &Dir, show: Show) -> Result<(), Failure> {
    let store = open_to_read(&args.dir, show)?;
    let stats = store.stats();
    drop(store);
    Report::new()
        .count("version", stats.version.get())
        .count("durable_version", stats.durable_version.get())
        .text("fingerprint", &stats.fingerprint)
        .count("page_count", stats.page_count)
        .count("live_pages", stats.live_pages)
        .bytes("page_size", stats.page_size.into())
        .count("segments", stats.segments)
        .bytes("segment_bytes", stats.segment_bytes)
        .count("free_segments", stats.free_segments)
        .count("packed_segments", stats.packed_segments)
        .bytes("disk_bytes", stats.disk_bytes)
        .bytes("live_bytes", stats.live_bytes)
        .bytes("allocated_bytes", stats.allocated_bytes)
        .count("pins", stats.pins)
        .count("batches", stats.batches)
        .count("transactions", stats.transactions)
        .count("transactions_refused", stats.transactions_refused)
        .count("conflicts", stats.conflicts)
        .with("group_sizes", Field::Group(histogram(&stats.group_sizes)))
        .count("pages_written", stats.pages_written)
        .bytes("appended_bytes", stats.appended_bytes)
        .bytes("prepared_bytes", stats.prepared_bytes)
        .bytes("packed_bytes", stats.packed_bytes)
        .count("syncs", stats.syncs)
        .with("sync_nanos", Field::Nanos(stats.sync_nanos))
        .with("sync_micros", Field::Group(histogram(&stats.sync_micros)))
        .count("checkpoints", stats.checkpoints)
        .with("checkpoint_micros", Field::Group(histogram(&stats.checkpoint_micros)))
        .count("checkpoint_age_ms", stats.checkpoint_age_ms)
        .count("maintenance_failures", stats.maintenance_failures)
        .bytes("log_bytes", stats.log_bytes)
        .bytes("table_memory_bytes", stats.table_memory_bytes)
        .count("table_reads", stats.table_reads)
        .count("table_evictions", stats.table_evictions)
        .bytes("cache_bytes", stats.cache_bytes)
        .count("cache_hits", stats.cache_hits)
        .count("cache_misses", stats.cache_misses)
        .bytes("limbo_bytes", stats.limbo_bytes)
        .bytes("verified_bytes", stats.verified_bytes)
        .with("recovery", Field::Group(recovery(stats.recovery)))
        .print(show)
}

fn histogram(histogram: &Histogram) -> Report {
    Report::new()
        .count("count", histogram.count())
        .count("mean", histogram.mean())
        .count("p50", histogram.percentile(50))
        .count("p99", histogram.percentile(99))
}

fn identity(store: &Store) -> Report {
    Report::new().text("id", &store.id()).bytes("page_size", store.page_size() as u64)
}

/// What a snapshot tells of its version.
fn about(report: Report, snapshot: &Snapshot) -> Report {
    report
        .count("version", snapshot.version().get())
        .with("created_at", Field::Time(snapshot.created_at()))
        .text("fingerprint", &snapshot.fingerprint())
        .count("page_count", snapshot.page_count())
        .count("live_pages", snapshot.live_pages())
}

fn recovery(recovery: Recovery) -> Report {
    Report::new()
        .count("checkpoint", recovery.checkpoint.get())
        .count("batches", recovery.batches)
        .bytes("bytes_read", recovery.bytes_read)
        .bytes("bytes_rewritten", recovery.bytes_rewritten)
        .with("is_torn", Field::Flag(recovery.is_torn))
        .with("nanos", Field::Nanos(recovery.nanos))
}
