//! What all handles of one store share, and the few paths that lead through several rooms.
//!
//! Locks, in the order in which they may be taken: `space`, `checkpoint`, `log` (the commit lock), `names`, `history`, `reclaimer`, `allocator`.
//! Readers take none of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::alloc::Allocator;
use crate::buffers::PageBuffers;
use crate::commit::lead::{LogState, PoisonOnPanic};
use crate::commit::queue::GroupCommit;
use crate::commit::request::Request;
use crate::error::{Error, Result};
use crate::format::control::{Catalog, RootRecord};
use crate::govern::Governor;
use crate::history::window::Window;
use crate::id::{StoreId, Version};
use crate::log::catalog::CatalogSlots;
use crate::log::handover::Handover;
use crate::log::segment::Segments;
use crate::maintain::Signal;
use crate::names::kept::KeptCounts;
use crate::names::table::Names;
use crate::options::Options;
use crate::pins::{Labels, PinKind};
use crate::snapshot::Forked;
use crate::space::{LEFT_BY_COMMITS, Leftover, Space};
use crate::stats::{Counters, LogGauges};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::table::root::Root;
use crate::table::slab::Slab;
use crate::version::epoch::Epoch;
use crate::version::grace::Grace;
use crate::version::held::HeldRoot;
use crate::version::published::Published;
use crate::version::reclaim::Reclaimer;
use crate::version::registry::{Registry, Released, SlotId};

/// A version whose table is on disk, kept until two newer ones are.
#[derive(Debug)]
pub(crate) struct DurableRoot {
    pub(crate) record: RootRecord,
    pub(crate) pin: SlotId,
    pub(crate) root: HeldRoot,
}

/// What the checkpoint lock guards.
#[derive(Debug)]
pub(crate) struct CheckpointState {
    pub(crate) slots: CatalogSlots,
    /// The roots of the newest catalog, oldest first; one or two, or none in a fork that has written none yet.
    pub(crate) roots: Vec<DurableRoot>,
    pub(crate) created_at_ms: u64,
    pub(crate) kept: KeptCounts,
}

/// See the head of this file.
pub(crate) struct Core {
    pub(crate) options: Options,
    pub(crate) epoch: Epoch,
    pub(crate) grace: Grace,
    pub(crate) published: Published<Root>,
    pub(crate) registry: Registry<Root>,
    pub(crate) slab: Arc<Slab>,
    pub(crate) segments: Arc<Segments>,
    /// Who a clone or a fork is: its segments say whom it was made from.
    pub(crate) identity: Option<StoreId>,
    /// What a fork lives on.
    pub(crate) parent: Option<Forked>,
    pub(crate) queue: GroupCommit<Request, Result<Version>>,
    /// Held while segments are packed and files removed.
    pub(crate) space: Mutex<Space>,
    pub(crate) checkpoint: Mutex<CheckpointState>,
    pub(crate) log: Mutex<LogState>,
    /// Changed under the `log` lock too.
    pub(crate) names: Mutex<Names>,
    /// Changed under the `log` lock, or by who limits what readers keep.
    pub(crate) history: Mutex<Window>,
    /// What the store's own thread writes for committing ones, if there is one.
    pub(crate) handover: Arc<Handover>,
    pub(crate) reclaimer: Mutex<Reclaimer>,
    pub(crate) allocator: Mutex<Allocator>,
    /// The newest version known to be on the disk.
    pub(crate) durable: AtomicU64,
    /// Segments with this place in the log or a later one may be needed by recovery.
    pub(crate) log_start: AtomicU64,
    /// Bytes that had been appended when the last checkpoint began.
    pub(crate) checkpointed_bytes: AtomicU64,
    /// Whether checkpoints have patience, as the store's thread judges.
    pub(crate) is_patient: AtomicBool,
    /// Bytes of table nodes that the last checkpoint left unwritten.
    pub(crate) unwritten_after_checkpoint: AtomicU64,
    pub(crate) gauges: Arc<LogGauges>,
    /// Bytes of memory that wait for grace, as the reclaimer's lock was last given back.
    pub(crate) limbo: AtomicU64,
    pub(crate) labels: Labels,
    pub(crate) governor: Governor,
    /// Whether the disk had little room when the log last took a new file.
    pub(crate) is_short_of_disk: AtomicBool,
    /// Bytes copied into packed files since opening.
    pub(crate) packed_bytes: AtomicU64,
    pub(crate) counters: Counters,
    pub(crate) buffers: PageBuffers,
    /// Wakes the store's own thread, if it has one.
    pub(crate) signal: Arc<Signal>,
    poison: OnceLock<Arc<Error>>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// How many times the checkpoint interval the log may grow before commits wait for the checkpoint.
const CHECKPOINT_OVERDUE: u64 = 8;

/// How many times the checkpoint interval the log grows before the next checkpoint while commits come fast and none of them syncs: a
/// checkpoint then makes the disk write all of the log at once, and what commits need of the disk waits behind that.
const CHECKPOINT_PATIENCE: u64 = 4;

/// What [`Core::new`] puts together.
pub(crate) struct Parts {
    pub(crate) options: Options,
    pub(crate) segments: Arc<Segments>,
    pub(crate) slab: Arc<Slab>,
    pub(crate) log: LogState,
    pub(crate) slots: CatalogSlots,
    /// In a fork it has no root.
    pub(crate) catalog: Catalog,
    /// The version to begin with: the catalog's last root, if it has any.
    pub(crate) tip: Root,
    pub(crate) leftovers: Vec<Leftover>,
    pub(crate) parent: Option<Forked>,
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Core {
        let Parts { options, segments, slab, mut log, slots, catalog, tip, leftovers, parent } = parts;
        let handover = Arc::new(Handover::default());
        if options.has_thread() {
            log.appender.hand_over_to(handover.clone());
        }
        let reserve = LEFT_BY_COMMITS * segments.geometry().segment_bytes();
        log.appender.spare_reserve(reserve.min(options.disk_reserve_min()));
        let gauges = log.appender.gauges().clone();
        let registry = Registry::new();
        let epoch = Epoch::new();
        let newest = tip.version;
        let allocator = Allocator::new(tip.page_count, tip.live_pages);
        let published = Published::new(Box::new(tip));
        let current = HeldRoot::new(published.pointer());
        let mut roots = Vec::new();
        let mut live = Vec::new();
        for record in &catalog.roots {
            let root = match record.version == newest {
                true => current,
                false => {
                    HeldRoot::new(std::ptr::NonNull::from(Box::leak(Box::new(Root::from_record(record)))))
                }
            };
            // Slots are filled at an older version only here, where nobody scans yet (invariant 6).
            let pin = registry.take(root.pointer(), PinKind::Checkpoint.note());
            if record.version != newest {
                live.push(root);
            }
            roots.push(DurableRoot { record: record.clone(), pin, root });
        }
        let mut names = Names::new(catalog.named.bookmarks);
        let mut by_version: BTreeMap<Version, HeldRoot> =
            roots.iter().map(|durable| (durable.record.version, durable.root)).collect();
        // One root for each version, whoever pins it.
        let mut one_root = |record: &RootRecord| {
            *by_version.entry(record.version).or_insert_with(|| {
                let root = Box::new(Root::from_record(record));
                let root = HeldRoot::new(std::ptr::NonNull::from(Box::leak(root)));
                live.push(root);
                root
            })
        };
        for record in catalog.named.snapshots {
            let root = one_root(&record.root);
            let pin = registry.take(root.pointer(), PinKind::Named.note());
            names.restore(record, pin, root);
        }
        let mut history = Window::new(catalog.history.policy);
        for record in catalog.history.kept {
            let root = one_root(&record);
            history.restore(registry.take(root.pointer(), PinKind::History.note()), root);
        }
        let log_start = roots.first().map_or(0, |root| root.record.log_sequence);
        let reclaimer = Reclaimer::new(slab.clone(), segments.clone(), current, live);
        let durable = AtomicU64::new(newest.0);
        Core {
            options,
            epoch,
            grace: Grace::new(),
            published,
            registry,
            slab,
            segments,
            identity: catalog.identity,
            parent,
            queue: GroupCommit::new(|| Err(Error::Cancelled)),
            space: Mutex::new(Space::new(leftovers, slots.sequence())),
            checkpoint: Mutex::new(CheckpointState {
                slots,
                roots,
                created_at_ms: catalog.created_at_ms,
                kept: KeptCounts::default(),
            }),
            log: Mutex::new(log),
            names: Mutex::new(names),
            history: Mutex::new(history),
            handover,
            reclaimer: Mutex::new(reclaimer),
            allocator: Mutex::new(allocator),
            durable,
            log_start: AtomicU64::new(log_start),
            checkpointed_bytes: AtomicU64::new(0),
            is_patient: AtomicBool::new(false),
            unwritten_after_checkpoint: AtomicU64::new(0),
            gauges,
            limbo: AtomicU64::new(0),
            labels: Labels::default(),
            governor: Governor::default(),
            is_short_of_disk: AtomicBool::new(false),
            packed_bytes: AtomicU64::new(0),
            counters: Counters::new(),
            buffers: PageBuffers::new(catalog.page_size),
            signal: Arc::new(Signal::default()),
            poison: OnceLock::new(),
        }
    }

    /// The store's directory, for errors.
    pub(crate) fn path(&self) -> PathBuf {
        self.segments.storage().path("")
    }

    pub(crate) fn store_id(&self) -> StoreId {
        self.identity.unwrap_or_else(|| self.segments.store_id())
    }

    pub(crate) fn page_size(&self) -> usize {
        self.segments.geometry().page_size() as usize
    }

    /// Ends all writing. The first failure is the one that every later write gets.
    pub(crate) fn poison(&self, error: Error) -> Error {
        let source = self.poison.get_or_init(|| Arc::new(error)).clone();
        Error::Poisoned { source }
    }

    /// Refuses to write after a failure that leaves open what the disk holds, and after a panic of anybody who had the log, the
    /// catalogs or the files in hand: what was left half done must not be built on (invariant 10).
    pub(crate) fn check_poison(&self) -> Result<()> {
        if self.log.is_poisoned() || self.checkpoint.is_poisoned() || self.space.is_poisoned() {
            return Err(self.poison(panicked(self.path())));
        }
        match self.poison.get() {
            Some(source) => Err(Error::Poisoned { source: source.clone() }),
            None => Ok(()),
        }
    }

    pub(crate) fn limbo_bytes(&self) -> u64 {
        self.limbo.load(Ordering::Relaxed)
    }

    pub(crate) fn oldest_live(&self) -> Version {
        self.reclaimer.lock().oldest_live()
    }

    /// One pass of the reclaimer.
    pub(crate) fn pass(&self) -> bool {
        let mut reclaimer = self.reclaimer.lock();
        let has_moved = reclaimer.pass(&self.registry, &self.grace, &self.epoch);
        self.limbo.store(reclaimer.limbo_bytes(), Ordering::Relaxed);
        drop(reclaimer);
        // Else that is the thread's work: with a table goes perhaps the last that is left of a removed file.
        has_moved | (!self.options.has_thread() && self.release_tables())
    }

    /// Lets go of replaced tables of segments that no view reads any more.
    pub(crate) fn release_tables(&self) -> bool {
        self.segments.release_tables(self.grace.passed(), || self.grace.issue(&self.epoch.pin()))
    }

    /// Ends one holder's count of a slot.
    #[inline]
    pub(crate) fn release_pin(&self, slot: SlotId) {
        if self.registry.release(slot) == Released::LastOfRevoked {
            self.reclaimer.lock().revoked_slot_is_free(slot, &self.grace, &self.epoch);
        }
    }

    /// What the store's clock says, in milliseconds since 1970 (UTC).
    pub(crate) fn clock_ms(&self) -> u64 {
        self.options.clock_ms()
    }

    /// The time, in milliseconds since 1970, never before the tip's.
    pub(crate) fn now_ms(&self, tip: &Root) -> u64 {
        self.clock_ms().max(tip.created_at_ms)
    }

    /// Whether enough was appended since the last checkpoint for the next one.
    pub(crate) fn checkpoint_is_due(&self) -> bool {
        let patience = if self.is_patient.load(Ordering::Relaxed) { CHECKPOINT_PATIENCE } else { 1 };
        self.log_since_checkpoint() >= self.options.checkpoint_every().saturating_mul(patience)
            || self.table_needs_checkpoint()
    }

    /// Bytes that were appended to the log since opening.
    pub(crate) fn appended(&self) -> u64 {
        self.gauges.appended.load(Ordering::Relaxed)
    }

    /// Those of durable commits among them.
    pub(crate) fn appended_durably(&self) -> u64 {
        self.gauges.durable.load(Ordering::Relaxed)
    }

    /// Bytes of log since the last checkpoint began.
    pub(crate) fn log_since_checkpoint(&self) -> u64 {
        self.appended().saturating_sub(self.checkpointed_bytes.load(Ordering::Relaxed))
    }

    /// Bytes of table nodes that a checkpoint could write.
    pub(crate) fn unwritten_table_bytes(&self) -> u64 {
        self.slab.unwritten_bytes().saturating_sub(self.limbo_bytes())
    }

    /// Whether too much of the table's memory can't be dropped before a checkpoint has written it: half of what there
    /// should be, a quarter of it new since the last checkpoint, which may have left what only open views see.
    fn table_needs_checkpoint(&self) -> bool {
        let (unwritten, limit) = (self.unwritten_table_bytes(), self.slab.limit());
        let before = self.unwritten_after_checkpoint.load(Ordering::Relaxed);
        unwritten > limit / 2 && unwritten > before.saturating_add(limit / 4)
    }

    /// Whether the log has grown to several times what it should.
    pub(crate) fn log_is_overdue(&self) -> bool {
        self.log_since_checkpoint() >= self.options.checkpoint_every().saturating_mul(CHECKPOINT_OVERDUE)
    }

    /// Whether most of what memory the table may take is nodes that aren't on disk.
    pub(crate) fn table_is_overdue(&self) -> bool {
        self.table_needs_checkpoint() && self.unwritten_table_bytes() > self.slab.limit() / 4 * 3
    }

    /// Whether versions that the reclaimer knows as live have lost their pins.
    pub(crate) fn has_dropped_pins(&self) -> bool {
        let known = self.reclaimer.lock().live_count();
        known > 0 && self.registry.live() < known
    }

    /// The version that a reader would see now.
    pub(crate) fn current_version(&self) -> Version {
        self.published.load(&self.epoch.pin()).version
    }

    /// The current version, by the pointer that it will be freed through. It is kept while the caller has the commit lock, or was
    /// pinned before the call and still is.
    #[inline]
    pub(crate) fn current(&self) -> HeldRoot {
        HeldRoot::new(self.published.pointer())
    }

    /// Makes every published version durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.check_poison()?;
        let (unsynced, version) = {
            let mut log = self.log.lock();
            self.check_poison()?;
            log.appender.flush().map_err(|failure| self.fail(failure))?;
            let guard = self.epoch.pin();
            (log.appender.unsynced(), self.published.load(&guard).version)
        };
        // Outside the commit lock, so that commits go on meanwhile.
        let poison_on_panic = PoisonOnPanic(self);
        let synced = crate::log::unsynced::sync_files(&self.segments, &unsynced);
        std::mem::forget(poison_on_panic);
        synced.map_err(|failure| self.fail(failure))?;
        self.log.lock().appender.synced(&unsynced);
        self.durable.fetch_max(version.0, Ordering::AcqRel);
        // A sync by somebody else may have failed meanwhile, and taken the error with it.
        self.check_poison()
    }
}

/// What ends writing after a panic.
pub(crate) fn panicked(file: PathBuf) -> Error {
    let source = Arc::new(std::io::Error::other("a panic in mid-write"));
    Error::Io { operation: "finish writing to", file, source }
}

/// Milliseconds since 1970 (UTC); 0 if the clock stands before that.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Drop for Core {
    fn drop(&mut self) {
        let current = self.current();
        let mut reclaimer = self.reclaimer.lock();
        reclaimer.free_all(current);
        debug_assert!(
            std::thread::panicking() || reclaimer.leaks() > 0 || self.slab.resident_bytes() == 0,
            "invariant 5: {} bytes of nodes were never freed",
            self.slab.resident_bytes()
        );
    }
}
