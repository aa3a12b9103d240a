//! Reading: [`Snapshot`], a version pinned for as long as one likes, and [`View`], a short window on one.

#[cfg(feature = "sqlite")]
mod lender;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_epoch::Guard;
use elsa::FrozenBTreeMap;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::id::{Fingerprint, PageId, Version};
use crate::log::cached::PageBytes;
use crate::log::segment::{SegmentTable, Segments};
use crate::log::shared::Followed;
use crate::pins::PinKind;
use crate::table::diff::for_each_difference;
use crate::table::lookup::{for_each_entry, lookup, quick_lookup};
use crate::table::node::capacity;
use crate::table::root::Root;
use crate::version::epoch::OpenMark;
use crate::version::held::HeldRoot;
use crate::version::registry::SlotId;

#[cfg(feature = "sqlite")]
pub(crate) use lender::Lender;

/// A consistent, read-only picture of every page at one version.
///
/// Taking one costs some tens of nanoseconds, blocks nobody and can't fail; any number may be held, for any time, in
/// any thread. What a snapshot sees is kept until it is dropped; what was written and overwritten after it is not.
/// Clones share the pin.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// use vellum::{Options, Store};
/// let store = Store::in_memory(Options::new())?;
/// let mut txn = store.begin()?;
/// let id = txn.allocate()?;
/// txn.write(id, &[1; 4096])?;
/// txn.commit()?;
///
/// let before = store.snapshot();
/// let mut txn = store.begin()?;
/// txn.write(id, &[2; 4096])?;
/// txn.commit()?;
///
/// let mut page = vec![0; 4096];
/// assert!(before.read(id, &mut page)?);
/// assert_eq!(page[0], 1);
/// # Ok(()) }
/// ```
pub struct Snapshot {
    core: Arc<Core>,
    root: HeldRoot,
    slot: SlotId,
    /// Who holds it, if that was said: see [`Labels`](crate::pins::Labels).
    label: Option<Arc<str>>,
}

impl Snapshot {
    /// Pins the current version.
    #[inline]
    pub(crate) fn current(core: &Arc<Core>, kind: PinKind) -> Snapshot {
        let guard = core.epoch.pin();
        let root = core.current();
        // The guard is held from before the load until the slot is filled (invariant 6).
        let slot = core.registry.take(root.pointer(), kind.note());
        drop(guard);
        Snapshot { core: core.clone(), root, slot, label: None }
    }

    /// A further handle to a slot that the caller has counted it in for.
    pub(crate) fn of_slot(core: Arc<Core>, root: HeldRoot, slot: SlotId) -> Snapshot {
        Snapshot { core, root, slot, label: None }
    }

    /// Says who holds it.
    pub(crate) fn labelled(mut self, label: &str) -> Snapshot {
        let label: Arc<str> = label.into();
        self.core.labels.add(self.slot, &label);
        self.label = Some(label);
        self
    }

    /// Counts the caller in as one who reads the version for longer than a view does.
    pub(crate) fn in_use(&self) -> Result<InUse<'_>> {
        match self.core.registry.enter(self.slot) {
            true => Ok(InUse(self)),
            false => Err(Error::SnapshotRevoked { version: self.version() }),
        }
    }

    /// Counts the caller in, as [`Snapshot::in_use`] does, and keeps the snapshot's name, if it has one, from being dropped meanwhile. `work` tells
    /// what is going on.
    pub(crate) fn in_use_by(&self, kind: PinKind, work: &str) -> Result<HeldInUse<'_>> {
        let in_use = self.in_use()?;
        let owner = format!("{work} (running in process {})", std::process::id());
        let number = self.core.names.lock().begin((self.slot, self.root), kind, owner);
        Ok(HeldInUse { in_use, number })
    }

    /// Keeps the snapshot for a fork, which shows in [`Store::pins`](crate::Store::pins). What it pins stays even if the pin is taken
    /// from other holders.
    pub(crate) fn forked(self) -> Result<Forked> {
        std::mem::forget(self.in_use()?);
        let owner = format!("a fork of {}", self.version());
        let number = self.core.names.lock().begin((self.slot, self.root), PinKind::Fork, owner);
        Ok(Forked { snapshot: self, number })
    }

    /// Whether the snapshot was taken from its holders, because it kept too much: see [`Options::retained_limit`](crate::Options::retained_limit).
    pub fn is_revoked(&self) -> bool {
        self.core.registry.is_revoked(self.slot)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn root(&self) -> &Root {
        self.root.root()
    }

    pub(crate) fn held_root(&self) -> HeldRoot {
        self.root
    }

    pub(crate) fn slot(&self) -> SlotId {
        self.slot
    }

    /// Refuses a snapshot of another store, given as `option`.
    pub(crate) fn check_of(&self, core: &Arc<Core>, option: &'static str) -> Result<()> {
        if Arc::ptr_eq(core, &self.core) {
            return Ok(());
        }
        let value = format!("a snapshot of store {}", self.core.store_id());
        let expected = format!("one of store {} is", core.store_id());
        Err(Error::InvalidOption { option, value, expected })
    }

    /// The version that is pinned.
    pub fn version(&self) -> Version {
        self.root().version
    }

    /// The fingerprint of the version's contents. O(1).
    pub fn fingerprint(&self) -> Fingerprint {
        self.root().fingerprint
    }

    /// The engine's own bytes, as the version's last `set_meta` left them.
    pub fn meta(&self) -> &[u8] {
        &self.root().meta
    }

    /// Page ids in use are below this.
    pub fn page_count(&self) -> u64 {
        self.root().page_count
    }

    /// Pages that hold bytes.
    pub fn live_pages(&self) -> u64 {
        self.root().live_pages
    }

    /// When the version was committed.
    pub fn created_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.root().created_at_ms)
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> usize {
        self.core.page_size()
    }

    /// A window through which pages are read in place. Some 10 ns; keep it short, see [`View`].
    #[inline]
    pub fn view(&self) -> View<'_> {
        // Looked at inside the guard; see `version/registry.rs`.
        let look = |_: &Guard| (self.core.registry.is_revoked(self.slot), self.version());
        let (guard, is_revoked, mark) = self.core.epoch.pin_for_view(look);
        View::new(&self.core, self.root, is_revoked, (guard, mark))
    }

    /// Copies a page to `buf`. `false`: the page holds nothing, and `buf` is untouched.
    ///
    /// # Errors
    /// [`Error::WrongLength`] if `buf` isn't one page long, [`Error::PageOutOfRange`] beyond the page count,
    /// [`Error::Corrupt`] or [`Error::Io`] if the page can't be had.
    pub fn read(&self, id: PageId, buf: &mut [u8]) -> Result<bool> {
        let expected = self.page_size();
        if buf.len() != expected {
            return Err(Error::WrongLength { expected, found: buf.len() });
        }
        let view = self.view();
        let page = view.page(id)?;
        if let Some(bytes) = page {
            buf.copy_from_slice(bytes);
        }
        Ok(page.is_some())
    }

    /// The version in which a page was written or freed; zero if it never was.
    pub(crate) fn birth_of(&self, id: PageId) -> Result<Version> {
        Ok(lookup(&self.core.slab, self.root(), id, &self.core.epoch.pin())?.birth())
    }

    /// The pages that differ between `older` and this snapshot, in ascending order: written ones as `true`, freed ones
    /// as `false`. Costs in proportion to what differs.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if `older` is of another store; [`Error::Corrupt`] or [`Error::Io`] if a part of the
    /// page table can't be read.
    pub fn diff(&self, older: &Snapshot) -> Result<Vec<(PageId, bool)>> {
        older.check_of(&self.core, "older")?;
        let (first, second) = match self.version() < older.version() {
            true => (self, older),
            false => (older, self),
        };
        let _in_use = (self.in_use()?, older.in_use()?);
        let is_swapped = self.version() < older.version();
        let mut changes = Vec::new();
        for_each_difference(&self.core.slab, first.root(), second.root(), PageId(0), &mut |id, old, new| {
            let (old, new) = if is_swapped { (new, old) } else { (old, new) };
            if old.location() != new.location() || old.is_page() != new.is_page() {
                changes.push((id, new.is_page()));
            }
            Ok(true)
        })?;
        Ok(changes)
    }

    /// Calls `visit` with every page that holds bytes and the version that wrote it, in ascending order of the ids, until it
    /// says `ControlFlow::Break(())`. Reads the page table, and no pages.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use std::ops::ControlFlow;
    /// use vellum::{Options, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// let mut txn = store.begin()?;
    /// let id = txn.allocate()?;
    /// txn.write(id, &[1; 4096])?;
    /// let version = txn.commit()?;
    /// let mut found = Vec::new();
    /// store.snapshot().births(&mut |id, birth| {
    ///     found.push((id, birth));
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert_eq!(found, [(id, version)]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::SnapshotRevoked`]; [`Error::Corrupt`] or [`Error::Io`] if a part of the page table can't be read.
    pub fn births(&self, visit: &mut dyn FnMut(PageId, Version) -> ControlFlow<()>) -> Result<()> {
        let _in_use = self.in_use()?;
        for_each_entry(&self.core.slab, self.root(), PageId(0), &mut |id, entry| {
            Ok(!entry.is_page() || visit(id, entry.birth()).is_continue())
        })
    }
}

/// Keeps a snapshot from being revoked while it is read.
pub(crate) struct InUse<'a>(&'a Snapshot);

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.0.core.registry.leave(self.0.slot);
    }
}

/// An operation that runs on a snapshot; see [`Snapshot::in_use_by`].
pub(crate) struct HeldInUse<'a> {
    in_use: InUse<'a>,
    number: u64,
}

impl Drop for HeldInUse<'_> {
    fn drop(&mut self) {
        self.in_use.0.core.names.lock().end(self.number);
    }
}

/// The snapshot that a fork lives on.
#[derive(Debug)]
pub(crate) struct Forked {
    pub(crate) snapshot: Snapshot,
    number: u64,
}

impl Drop for Forked {
    fn drop(&mut self) {
        self.snapshot.core.names.lock().end(self.number);
        self.snapshot.core.registry.leave(self.snapshot.slot);
    }
}

impl Clone for Snapshot {
    fn clone(&self) -> Self {
        // The clone shares the slot: a pin never moves between slots (invariant 6).
        self.core.registry.retain(self.slot);
        Snapshot { core: self.core.clone(), root: self.root, slot: self.slot, label: self.label.clone() }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.core.release_pin(self.slot);
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("version", &self.version())
            .field("page_count", &self.page_count())
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

/// Pages whose places are looked up together by [`View::pages`]: some more than the processor waits for at once.
const TOGETHER: usize = 64;

/// A short-lived window on one version that hands out pages in place.
///
/// A view is guarded by an epoch: while it is open, memory that any commit made dead since can't be freed. So take one
/// for a lookup or a scan, and a [`Snapshot`] for anything longer. A view stays in its thread.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// use vellum::{Options, Store};
/// let store = Store::in_memory(Options::new())?;
/// let mut txn = store.begin()?;
/// let id = txn.allocate()?;
/// txn.write(id, &[7; 4096])?;
/// txn.commit()?;
///
/// let view = store.view();
/// let page: Option<&[u8]> = view.page(id)?; // where it lies, for as long as the view
/// assert_eq!(page.map(|page| page[0]), Some(7));
/// # Ok(()) }
/// ```
pub struct View<'a> {
    core: &'a Core,
    segments: &'a Segments,
    root: HeldRoot,
    /// Page ids below this lie within the page count and within the tree.
    covered: u64,
    is_revoked: bool,
    /// Found after the root was published, so it has every segment that the version reaches; kept by the guard.
    table: Followed<SegmentTable>,
    /// Pages that were handed out and don't lie in a mapping, by id: each is kept once, until the view goes.
    copied: FrozenBTreeMap<u64, Arc<[u8]>>,
    guard: Guard,
    _mark: OpenMark,
}

impl<'a> View<'a> {
    /// A view of the current version, without a snapshot.
    #[inline]
    pub(crate) fn current(core: &'a Core) -> View<'a> {
        // The guard was pinned before the load and lives as long as the view, which keeps the root.
        let load = |_: &Guard| {
            let root = core.current();
            (root, root.root().version)
        };
        let (guard, root, mark) = core.epoch.pin_for_view(load);
        View::new(core, root, false, (guard, mark))
    }

    #[inline]
    fn new(core: &'a Core, root: HeldRoot, is_revoked: bool, pinned: (Guard, OpenMark)) -> View<'a> {
        let (height, page_count) = (root.root().height, root.root().page_count);
        let covered = if height == 0 || is_revoked { 0 } else { page_count.min(capacity(height)) };
        let (guard, mark) = pinned;
        let segments = &*core.segments;
        let (table, copied) = (segments.follow_table(&guard), FrozenBTreeMap::new());
        View { core, segments, root, covered, is_revoked, table, copied, guard, _mark: mark }
    }

    fn root(&self) -> &Root {
        self.root.root()
    }

    /// The version that is seen.
    pub fn version(&self) -> Version {
        self.root().version
    }

    /// Page ids in use are below this.
    pub fn page_count(&self) -> u64 {
        self.root().page_count
    }

    /// The engine's own bytes.
    pub fn meta(&self) -> &[u8] {
        &self.root().meta
    }

    /// The page's bytes, where they lie; `None` if the page holds nothing. The first read of a page version since
    /// opening verifies its checksum.
    ///
    /// # Errors
    /// [`Error::PageOutOfRange`] beyond the page count, [`Error::Corrupt`] or [`Error::Io`] if the page can't be had.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "a read is some 60 instructions; a call would cost half as many again"
    )]
    pub fn page(&self, id: PageId) -> Result<Option<&[u8]>> {
        self.segments.prefetch(id);
        if id.0 < self.covered
            && let Some(entry) = quick_lookup(self.root.root(), id)
            && let Some(bytes) = self.segments.quick_page(self.table.get(), entry)
        {
            return Ok(Some(bytes));
        }
        self.page_slowly(id)
    }

    /// The bytes of several pages, in the order of `ids`, each as [`View::page`] gives it; an id may stand there more than once.
    ///
    /// Much quicker than one call a page where pages lie far apart in a store that is larger than the processor's caches: what is
    /// waited for are the entries' and pages' places, and here the waits of up to 64 pages overlap. Each page is touched, so that its
    /// address is known to the processor when it is read.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use vellum::{Options, PageId, Store};
    /// # let store = Store::in_memory(Options::new())?;
    /// # let mut txn = store.begin()?;
    /// # txn.truncate(3)?;
    /// # txn.write(PageId(2), &[7; 4096])?;
    /// # txn.commit()?;
    /// let view = store.view();
    /// let pages = view.pages(&[PageId(2), PageId(0)])?;
    /// assert_eq!(pages[0].map(|page| page[0]), Some(7));
    /// assert!(pages[1].is_none());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`View::page`], of the first page that can't be had.
    pub fn pages(&self, ids: &[PageId]) -> Result<Vec<Option<&[u8]>>> {
        let mut pages = Vec::with_capacity(ids.len());
        for ids in ids.chunks(TOGETHER) {
            let mut entries = [None; TOGETHER];
            for (entry, id) in entries.iter_mut().zip(ids) {
                if id.0 < self.covered {
                    *entry = quick_lookup(self.root.root(), *id);
                }
            }
            let first = pages.len();
            let quick = |entry| self.segments.quick_page(self.table.get(), entry);
            pages.extend(entries[..ids.len()].iter().map(|entry| entry.and_then(quick)));
            let mut touched = 0;
            for page in pages[first..].iter().flatten() {
                touched ^= page.first().copied().unwrap_or(0);
            }
            std::hint::black_box(touched);
            for (page, id) in pages[first..].iter_mut().zip(ids).filter(|(page, _)| page.is_none()) {
                *page = self.page_slowly(*id)?;
            }
        }
        Ok(pages)
    }

    /// The rest: beyond the end, absent, not in memory, not verified yet.
    #[cold]
    #[inline(never)]
    fn page_slowly(&self, id: PageId) -> Result<Option<&[u8]>> {
        let root = self.root();
        if self.is_revoked {
            return Err(Error::SnapshotRevoked { version: root.version });
        }
        if id.0 >= root.page_count {
            return Err(Error::PageOutOfRange { page: id, page_count: root.page_count });
        }
        if let Some(bytes) = self.copied.get(&id.0) {
            return Ok(Some(bytes));
        }
        let entry = lookup(&self.core.slab, root, id, &self.guard)?;
        if self.core.slab.wants_eviction() {
            self.core.trim_table_soon();
        }
        Ok(match self.segments.page(self.table.get(), id, entry)? {
            Some(PageBytes::InPlace(bytes)) => {
                let of = |neighbour| quick_lookup(root, neighbour);
                self.segments.learn_place(self.covered, id, (entry, bytes), of);
                Some(bytes)
            }
            Some(PageBytes::Copied(bytes)) => Some(self.copied.insert(id.0, bytes)),
            None => None,
        })
    }
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("version", &self.version()).finish_non_exhaustive()
    }
}
