//! A fork: a store in memory on top of a snapshot, whose segments it only reads.
//!
//! Nothing is done for each segment or page, so that a fork costs the same at any size. Its tree begins as a link to the snapshot's
//! root on disk, or as copies of the few nodes that aren't there yet; its log begins with its first commit.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use crate::commit::lead::LogState;
use crate::core::{Core, Parts};
use crate::error::{Error, Result};
use crate::format::control::Catalog;
use crate::format::history::HistorySection;
use crate::format::names::NamedSection;
use crate::id::StoreId;
use crate::log::append::{Appender, Position};
use crate::log::base::Base;
use crate::log::cached::PageCache;
use crate::log::catalog::CatalogSlots;
use crate::log::segment::Segments;
use crate::open::{half, random128};
use crate::options::Options;
use crate::snapshot::Snapshot;
use crate::stats::Recovery;
use crate::storage::{MemoryStorage, Storage};
use crate::store::Store;
use crate::table::graft::Graft;
use crate::table::node::Word;
use crate::table::root::Root;
use crate::table::slab::Slab;

/// Nodes that a fork copies at most. More are written to the parent's disk, which later forks profit from.
const GRAFTED_MAX: usize = 8;

impl Snapshot {
    /// A writable child of the snapshot, in this process: what it writes lives in memory and is gone with it, what it doesn't
    /// write is read from the parent's segments. A store like any other, which can be forked, exported and cloned in turn.
    ///
    /// Costs some microseconds, whatever the store's size. Only if many table nodes aren't on the disk yet (much was committed since
    /// the last checkpoint) they are written first, without a sync; later forks of the same snapshot don't pay for that. It begins
    /// without names and without a history window; its [`stats`](Store::stats) and its [`audit`](Store::audit) count what it has
    /// beside its parent. The child keeps the snapshot, and with it the parent's store open. Its
    /// options are the parent's, without a thread of its own.
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
    /// let child = store.snapshot().fork()?;
    /// let mut txn = child.begin()?;
    /// txn.write(id, &[2; 4096])?;
    /// txn.commit()?;
    /// assert_eq!(store.view().page(id)?.unwrap()[0], 1);
    /// assert_eq!(child.view().page(id)?.unwrap()[0], 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::SnapshotRevoked`](crate::Error::SnapshotRevoked), [`Error::Full`](crate::Error::Full) if the parent's disk has no
    /// room for its table or no segment numbers are left, and what writing that gives.
    pub fn fork(&self) -> Result<Store> {
        let (core, forked) = (self.core(), self.clone().forked()?);
        let options = core.options.clone().without_history().without_thread();
        let (geometry, store_id) = (core.segments.geometry(), core.segments.store_id());
        let path = PathBuf::from(format!("(fork of {})", core.path().display()));
        let storage = Arc::new(MemoryStorage::small(path));
        let slots = CatalogSlots::create(&*storage)?;
        let (segments, slab, word) = self.begin_tree(&storage, &options)?;
        let (first, root) = (segments.own_from(), self.root());
        let tip = Root { word, meta: root.meta.clone(), ..*root };
        let identity = StoreId(random128());
        // The end of a segment that is full: the log goes on in a fresh one.
        let position = Position {
            segment: first - 1,
            generation: 1,
            sequence: 0,
            slot: geometry.segment_slots(),
            digest: identity.0,
            next: first,
            next_is_fresh: true,
        };
        let appender = Appender::new(segments.clone(), half(identity.0), position, BTreeMap::new());
        let log = LogState { appender, truncations: VecDeque::new(), unreclaimed: 0 };
        let catalog = Catalog {
            store_id,
            page_size: geometry.page_size(),
            segment_slots: geometry.segment_slots(),
            created_at_ms: core.clock_ms(),
            roots: Vec::new(),
            log: position.record(),
            segments: Vec::new(),
            packed: Vec::new(),
            named: NamedSection::default(),
            identity: Some(identity),
            history: HistorySection::default(),
        };
        let (leftovers, parent) = (Vec::new(), Some(forked));
        let parts = Parts { options, segments, slab, log, slots, catalog, tip, leftovers, parent };
        Store::around(Core::new(parts), Recovery { checkpoint: self.version(), ..Recovery::default() })
    }

    /// The child's segments, of which it has none of its own, and what its tree begins with.
    fn begin_tree(
        &self,
        storage: &Arc<MemoryStorage>,
        options: &Options,
    ) -> Result<(Arc<Segments>, Arc<Slab>, Word)> {
        let (core, root) = (self.core(), self.root());
        let geometry = core.segments.geometry();
        loop {
            let segments = Arc::new(Segments::new(
                storage.clone(),
                core.segments.store_id(),
                geometry,
                options.verifies_always(),
                options.cache_max().map(|bytes| PageCache::new(bytes, geometry.page_size())),
                Some(Base::of(core.segments.clone())),
            ));
            if segments.own_from().saturating_add(1) >= geometry.segment_limit() {
                let source = Arc::new(std::io::Error::other("all segment numbers are in use"));
                return Err(Error::Full { needed: geometry.segment_bytes(), file: storage.path(""), source });
            }
            let slab = Arc::new(Slab::new(Box::new(segments.clone()), options.table_memory_max()));
            // A checkpoint may be writing nodes to a segment that the parent has only now come to.
            let is_there = |address| segments.is_base(geometry.split_node(address).0);
            let graft = Graft { to: &slab, is_there: &is_there, most: GRAFTED_MAX };
            if let Some(word) = core.slab.graft(root, &graft) {
                return Ok((segments, slab, word));
            }
            // Then all its nodes are where the next round finds them.
            let _state = core.checkpoint.lock();
            core.write_nodes(root)?;
        }
    }
}
