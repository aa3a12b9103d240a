//! [`Store`]: the handle that everything begins with. It only wires the rooms together.

use std::path::Path;
use std::sync::Arc;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::id::{StoreId, Version};
use crate::maintain::Maintainer;
use crate::open;
use crate::options::{Isolation, Options};
use crate::pins::PinKind;
use crate::quiesce::Hooks;
use crate::snapshot::{Snapshot, View};
use crate::space::{Budget, Maintenance};
use crate::stats::{Recovery, SegmentSpace, Stats};
use crate::storage::{FileStorage, MemoryStorage, Storage};
use crate::sync::atomic::Ordering;
use crate::txn::WriteTxn;

/// A store of versioned pages: a directory, or memory. Clones are handles to the same store.
///
/// The store is closed when its last handle, snapshot and transaction is gone; [`Store::close`] tells whether that went well.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let dir = dir.path().join("store");
/// use vellum::{Options, Store};
/// let store = Store::open(&dir, Options::new().page_size(4096))?;
/// let mut txn = store.begin()?;
/// let id = txn.allocate()?;
/// txn.write(id, &[42; 4096])?;
/// let version = txn.commit()?;              // on the disk when this returns
///
/// let snapshot = store.snapshot();          // nanoseconds, never blocks
/// let view = snapshot.view();
/// assert_eq!(view.page(id)?.unwrap()[0], 42);   // in place, nothing copied
/// assert_eq!(snapshot.version(), version);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    recovery: Recovery,
    hooks: Hooks,
    /// Dropped, and thereby joined, before the last checkpoint is written.
    maintainer: Option<Maintainer>,
}

impl Store {
    /// Opens the store in `dir`, recovering it if it wasn't closed, or creates one there.
    ///
    /// # Errors
    /// [`Error::Locked`] if it is open elsewhere, [`Error::NotADirectory`], [`Error::ReadOnly`], [`Error::NotAStore`],
    /// [`Error::NotFound`] (with `create(false)`), [`Error::PageSizeMismatch`], [`Error::InvalidOption`],
    /// [`Error::Unsupported`] for a newer format, [`Error::Corrupt`] for damage, [`Error::Io`] and [`Error::Full`].
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Store> {
        options.check()?;
        open::refuse_foreign_dir(dir.as_ref())?;
        let storage = FileStorage::open(dir.as_ref(), options.creates())?;
        Self::open_checked(Arc::new(storage), options)
    }

    /// A new store that lives in memory and is gone when dropped: the same code, with nothing on disk.
    ///
    /// # Errors
    /// [`Error::InvalidOption`].
    pub fn in_memory(options: Options) -> Result<Store> {
        Self::open_on(Arc::new(MemoryStorage::new()), options)
    }

    /// Opens or creates a store on a storage of the caller's.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(storage: Arc<dyn Storage>, options: Options) -> Result<Store> {
        options.check()?;
        Self::open_checked(storage, options)
    }

    fn open_checked(storage: Arc<dyn Storage>, options: Options) -> Result<Store> {
        let (core, recovery) = open::open(storage, options)?;
        Self::around(core, recovery)
    }

    /// A store that is open, with its thread, if it is to have one.
    pub(crate) fn around(core: Core, recovery: Recovery) -> Result<Store> {
        let has_thread = core.options.has_thread();
        let core = Arc::new(core);
        let maintainer = match has_thread {
            true => Some(
                Maintainer::start(&core, recovery)
                    .map_err(|error| Error::io("start a thread for", core.path(), error))?,
            ),
            false => None,
        };
        let store = Store { inner: Arc::new(Inner { core, recovery, hooks: Hooks::default(), maintainer }) };
        if let Some(history) = store.core().options.history_wanted() {
            store.set_history(history)?;
        }
        Ok(store)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    pub(crate) fn hooks(&self) -> &Hooks {
        &self.inner.hooks
    }

    /// Begins a transaction under snapshot isolation.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the store takes no more writes.
    pub fn begin(&self) -> Result<WriteTxn> {
        self.begin_with(Isolation::Snapshot)
    }

    /// Begins a transaction under the given isolation.
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub fn begin_with(&self, isolation: Isolation) -> Result<WriteTxn> {
        self.core().check_poison()?;
        let snapshot = Snapshot::current(self.core(), PinKind::Transaction);
        Ok(WriteTxn::new(snapshot, isolation))
    }

    /// Pins the current version. Never fails, never blocks.
    #[inline]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::current(self.core(), PinKind::Snapshot)
    }

    /// Pins the current version, unless old versions keep too much already: see
    /// [`Options::retained_limit`](crate::Options::retained_limit).
    ///
    /// # Errors
    /// [`Error::RetainedLimit`] under [`RetainedPolicy::Refuse`](crate::RetainedPolicy::Refuse).
    pub fn try_snapshot(&self) -> Result<Snapshot> {
        self.core().admit_pin()?;
        Ok(self.snapshot())
    }

    /// A short-lived window on the current version, without a snapshot: the cheapest read there is.
    #[inline]
    pub fn view(&self) -> View<'_> {
        View::current(self.core())
    }

    /// Makes every commit that others can see durable.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if a write or a sync failed, now or earlier.
    pub fn sync(&self) -> Result<()> {
        self.core().sync()
    }

    /// Gives back what nobody needs: writes a checkpoint, frees what no version sees, rewrites every segment file that is a
    /// fifth empty or more, removes files. Readers and writers go on meanwhile; what views and snapshots see stays.
    ///
    /// The store's own thread does this as it goes, as far as [`Options::waste_percent`] asks for. Call it for a store without
    /// that thread, or when much was deleted and the space should come back now. Costs the walk of the page table
    /// and the copying of what is left in the segments that are rewritten; `budget` cuts the latter into portions.
    ///
    /// # Errors
    /// [`Error::Full`] if a rewrite found no room (nothing is lost by it), [`Error::Poisoned`], or what reading gives.
    pub fn maintain(&self, budget: Budget) -> Result<Maintenance> {
        self.core().maintain(budget)
    }

    /// Makes everything durable and writes a checkpoint, so that the next opening has nothing to recover. The store's
    /// files stay locked until the last snapshot and transaction is dropped too.
    ///
    /// # Errors
    /// As [`Store::sync`]; what was acknowledged is safe in any case.
    pub fn close(self) -> Result<()> {
        self.core().sync()?;
        self.core().write_checkpoint()
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> usize {
        self.core().page_size()
    }

    /// The store's identity.
    pub fn id(&self) -> StoreId {
        self.core().store_id()
    }

    /// The current version.
    pub fn version(&self) -> Version {
        self.core().current_version()
    }

    /// What opening the store found.
    pub fn recovery(&self) -> Recovery {
        self.inner.recovery
    }

    /// The store in numbers. Takes no lock that a commit or a reader could hold; costs in proportion to the number of segments.
    pub fn stats(&self) -> Stats {
        self.core().stats(self.inner.recovery)
    }

    /// The segment files, in the order of their numbers, and how much of each is needed. [`Store::stats`] has the sums.
    ///
    /// Costs in proportion to the number of segments; holds commits up for a moment. The numbers of a store in use may be a
    /// moment apart.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use vellum::{Options, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// let mut txn = store.begin()?;
    /// let id = txn.allocate()?;
    /// txn.write(id, &[1; 4096])?;
    /// txn.commit()?;
    /// let segments = store.segments();
    /// assert!(segments[0].is_active && segments[0].live_bytes == 4096);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentSpace> {
        let core = self.core();
        let active = core.log.lock().appender.position().segment;
        core.segments.spaces(active)
    }
}

impl Core {
    /// See [`Store::stats`].
    pub(crate) fn stats(&self, recovery: Recovery) -> Stats {
        let mut stats = Stats { recovery, ..Stats::default() };
        self.counters.fill(&mut stats);
        self.segments.fill(&mut stats);
        let gauges = &self.gauges;
        stats.appended_bytes = gauges.appended.load(Ordering::Relaxed);
        stats.prepared_bytes = gauges.prepared.load(Ordering::Relaxed);
        let spares = gauges.spares.load(Ordering::Relaxed);
        stats.free_segments = gauges.pool.load(Ordering::Relaxed) + spares;
        stats.segments += spares;
        stats.disk_bytes += spares * self.segments.geometry().segment_bytes();
        stats.packed_bytes = self.packed_bytes.load(Ordering::Relaxed);
        let guard = self.epoch.pin();
        let root = self.published.load(&guard);
        stats.version = root.version;
        stats.fingerprint = root.fingerprint;
        stats.page_count = root.page_count;
        stats.live_pages = root.live_pages;
        stats.durable_version = Version(self.durable.load(Ordering::Acquire));
        stats.page_size = self.segments.geometry().page_size();
        stats.segment_bytes = self.segments.geometry().segment_bytes();
        stats.pins = self.registry.live() as u64;
        stats.log_bytes =
            stats.appended_bytes.saturating_sub(self.checkpointed_bytes.load(Ordering::Relaxed));
        stats.table_memory_bytes = self.slab.resident_bytes();
        (stats.table_reads, stats.table_evictions) = self.slab.reads_and_evictions();
        stats.limbo_bytes = self.limbo_bytes();
        stats.verified_bytes = self.segments.verified_bytes();
        stats
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.maintainer = None;
        #[cfg(feature = "status")]
        self.core.end_status();
        // Best effort: everything acknowledged is durable already, and recovery does the rest. A poisoned store is
        // left as it is, and nothing will ever open a fork again.
        let is_last = self.core.parent.is_some();
        if !is_last && !std::thread::panicking() && self.core.check_poison().is_ok() {
            let _ = self.core.write_checkpoint();
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.core().path())
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}
