//! What a store counts, and how it looks from outside.

use std::time::Duration;

use serde::Serialize;

use crate::histogram::{Histogram, Recorder};
use crate::id::{Fingerprint, Version};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the log's end shows to those who don't hold its lock.
#[derive(Debug)]
pub(crate) struct LogGauges {
    /// Bytes of records, pages and nodes appended, and of zeros written ahead, since opening.
    pub(crate) appended: AtomicU64,
    /// Those of it that were synced before their commits were acknowledged.
    pub(crate) durable: AtomicU64,
    pub(crate) prepared: AtomicU64,
    /// Segments in the pool, and spare files.
    pub(crate) pool: AtomicU64,
    pub(crate) spares: AtomicU64,
    /// Whether the log will soon leave its segment for one that isn't ready.
    pub(crate) wants_next: AtomicBool,
}

impl LogGauges {
    pub(crate) fn new() -> LogGauges {
        LogGauges {
            appended: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            prepared: AtomicU64::new(0),
            pool: AtomicU64::new(0),
            spares: AtomicU64::new(0),
            wants_next: AtomicBool::new(false),
        }
    }
}

/// Counters that commits and checkpoints raise; relaxed, for people and not for decisions.
#[derive(Debug)]
pub(crate) struct Counters {
    batches: AtomicU64,
    transactions: AtomicU64,
    pages: AtomicU64,
    refused: AtomicU64,
    conflicts: AtomicU64,
    group_sizes: Recorder,
    sync_micros: Recorder,
    sync_nanos: AtomicU64,
    checkpoints: AtomicU64,
    checkpoint_micros: Recorder,
    checkpointed_at_ms: AtomicU64,
    maintenance_failures: AtomicU64,
}

/// Batches between two looks at what readers keep, in a store without a thread.
const GOVERN_EVERY: u64 = 64;

impl Counters {
    pub(crate) fn new() -> Counters {
        Counters {
            batches: AtomicU64::new(0),
            transactions: AtomicU64::new(0),
            pages: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            group_sizes: Recorder::new(),
            sync_micros: Recorder::new(),
            sync_nanos: AtomicU64::new(0),
            checkpoints: AtomicU64::new(0),
            checkpoint_micros: Recorder::new(),
            checkpointed_at_ms: AtomicU64::new(crate::core::now_ms()),
            maintenance_failures: AtomicU64::new(0),
        }
    }

    pub(crate) fn committed(&self, transactions: u64, pages: u64) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.transactions.fetch_add(transactions, Ordering::Relaxed);
        self.pages.fetch_add(pages, Ordering::Relaxed);
        self.group_sizes.record(transactions);
    }

    /// Transactions that were committed so far.
    pub(crate) fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// Batches that were committed so far.
    pub(crate) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Once every so many batches.
    pub(crate) fn is_time_to_govern(&self) -> bool {
        self.batches().is_multiple_of(GOVERN_EVERY)
    }

    /// Takes note of the transactions of a batch that were refused, and how many of them for a conflict.
    pub(crate) fn refused(&self, transactions: u64, conflicts: u64) {
        if transactions > 0 {
            self.refused.fetch_add(transactions, Ordering::Relaxed);
            self.conflicts.fetch_add(conflicts, Ordering::Relaxed);
        }
    }

    pub(crate) fn synced(&self, took: Duration) {
        self.sync_nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.sync_micros.record(micros(took));
    }

    /// Nanoseconds spent in commits' syncs.
    pub(crate) fn sync_nanos(&self) -> u64 {
        self.sync_nanos.load(Ordering::Relaxed)
    }

    pub(crate) fn checkpointed(&self, took: Duration) {
        self.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.checkpoint_micros.record(micros(took));
        self.checkpointed_at_ms.store(crate::core::now_ms(), Ordering::Relaxed);
    }

    pub(crate) fn maintenance_failed(&self) {
        self.maintenance_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn fill(&self, stats: &mut Stats) {
        stats.batches = self.batches();
        stats.transactions = self.transactions.load(Ordering::Relaxed);
        stats.pages_written = self.pages.load(Ordering::Relaxed);
        stats.transactions_refused = self.refused.load(Ordering::Relaxed);
        stats.conflicts = self.conflicts.load(Ordering::Relaxed);
        stats.group_sizes = self.group_sizes.read();
        stats.sync_micros = self.sync_micros.read();
        stats.syncs = stats.sync_micros.count();
        stats.sync_nanos = self.sync_nanos();
        stats.checkpoints = self.checkpoints.load(Ordering::Relaxed);
        stats.checkpoint_micros = self.checkpoint_micros.read();
        let at = self.checkpointed_at_ms.load(Ordering::Relaxed);
        stats.checkpoint_age_ms = crate::core::now_ms().saturating_sub(at);
        stats.maintenance_failures = self.maintenance_failures.load(Ordering::Relaxed);
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// A store in numbers. Numbers that belong together may be a moment apart, since nothing is stopped to read them. Counters start at zero each time the store is opened.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// The current version.
    pub version: Version,
    /// The newest version known to be on the disk.
    pub durable_version: Version,
    /// The current version's fingerprint.
    pub fingerprint: Fingerprint,
    /// Page ids in use are below this.
    pub page_count: u64,
    /// Pages that hold bytes.
    pub live_pages: u64,
    /// Bytes of a page.
    pub page_size: u32,
    /// Segment files.
    pub segments: u64,
    /// Bytes of a segment file.
    pub segment_bytes: u64,
    /// Segments that stand ready for reuse.
    pub free_segments: u64,
    /// Segments that were rewritten without what nobody needs: their files are shorter.
    pub packed_segments: u64,
    /// Bytes of all segment files, those that stand ready for reuse included.
    pub disk_bytes: u64,
    /// Bytes copied in rewriting segments.
    pub packed_bytes: u64,
    /// Rounds of rewriting by the store's own thread that failed, for instance on a full disk; each is tried again.
    pub maintenance_failures: u64,
    /// Bytes of pages and table nodes that the current version reaches.
    pub live_bytes: u64,
    /// Bytes of pages and table nodes that are not freed: live ones, and what older versions still see.
    pub allocated_bytes: u64,
    /// Snapshots, transactions and durable roots that pin a version.
    pub pins: u64,
    /// Batches committed (each is one version).
    pub batches: u64,
    /// Transactions committed.
    pub transactions: u64,
    /// Transactions refused for a conflict or another reason found at commit.
    pub transactions_refused: u64,
    /// Those of them that were refused for a conflict.
    pub conflicts: u64,
    /// Transactions a batch.
    pub group_sizes: Histogram,
    /// Pages written by commits.
    pub pages_written: u64,
    /// Bytes of records, pages and nodes appended to segments.
    pub appended_bytes: u64,
    /// Bytes of zeros written ahead of the log into fresh segments.
    pub prepared_bytes: u64,
    /// Commits' syncs.
    pub syncs: u64,
    /// Nanoseconds spent in commits' syncs.
    pub sync_nanos: u64,
    /// Microseconds that a commit's sync took.
    pub sync_micros: Histogram,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Microseconds that a checkpoint took, beside the commits that went on.
    pub checkpoint_micros: Histogram,
    /// Milliseconds since the last checkpoint, or since opening.
    pub checkpoint_age_ms: u64,
    /// Bytes of log since the last checkpoint.
    pub log_bytes: u64,
    /// Bytes of table nodes in memory.
    pub table_memory_bytes: u64,
    /// Table nodes read from disk since opening.
    pub table_reads: u64,
    /// Times that table nodes were dropped from memory, to stay within
    /// [`Options::table_memory`](crate::Options::table_memory).
    pub table_evictions: u64,
    /// Bytes of pages in the cache of [`ReadMode::Buffered`](crate::ReadMode::Buffered).
    pub cache_bytes: u64,
    /// Reads that found their page there.
    pub cache_hits: u64,
    /// Reads that didn't.
    pub cache_misses: u64,
    /// Bytes of memory that wait for open views.
    pub limbo_bytes: u64,
    /// Bytes of pages whose checksums were computed on reading.
    pub verified_bytes: u64,
    /// What opening the store found.
    pub recovery: Recovery,
}

impl Stats {
    /// Bytes written to segment files for each byte of pages committed since opening: records, table nodes, zeros written
    /// ahead and what rewriting copied. 0 if nothing was committed.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn write_amplification(&self) -> f64 {
        let written = self.appended_bytes + self.prepared_bytes + self.packed_bytes;
        match self.pages_written * u64::from(self.page_size) {
            0 => 0.0,
            asked => written as f64 / asked as f64,
        }
    }

    /// Bytes of pages and table nodes that only older versions see, or that wait to be freed.
    #[must_use]
    pub fn retained_bytes(&self) -> u64 {
        self.allocated_bytes.saturating_sub(self.live_bytes)
    }
}

/// A segment file, and how much of it is needed.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentSpace {
    /// Its number.
    pub number: u32,
    /// Bytes of its file. A packed one is shorter than [`Stats::segment_bytes`].
    pub disk_bytes: u64,
    /// Bytes of pages and table nodes in it that the current version reaches.
    pub live_bytes: u64,
    /// Bytes of pages and table nodes in it that are not freed: live ones, and what older versions still see. A segment without any
    /// stands ready for reuse, unless the log is in it.
    pub allocated_bytes: u64,
    /// Whether it was rewritten without what nobody needs.
    pub is_packed: bool,
    /// Whether the log goes on in it.
    pub is_active: bool,
}

/// What opening a store found and did.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// The version of the checkpoint that opening started from.
    pub checkpoint: Version,
    /// Batches applied from the log.
    pub batches: u64,
    /// Bytes read from segments: records, and the pages of batches that nothing proved durable.
    pub bytes_read: u64,
    /// Bytes of such batches that were written and synced again.
    pub bytes_rewritten: u64,
    /// Whether the log ended in a batch that was not whole and was given up.
    pub is_torn: bool,
    /// Nanoseconds that opening took.
    pub nanos: u64,
}
