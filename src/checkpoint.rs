//! A checkpoint: the table's dirty nodes into the log, then the catalog on to them.
//!
//! It runs beside commits: the version that it writes is pinned, each of its steps under the commit lock writes one
//! part at most, and its syncs hold no lock that a commit needs. The new catalog names two roots: the new one and the
//! one before, whose log is kept, so that either catalog slot is enough to open the store.

use std::collections::BTreeMap;

use crate::core::{Core, DurableRoot};
use crate::error::Result;
use crate::format::control::{Catalog, RootRecord, SegmentRecord};
use crate::format::history::HistorySection;
use crate::format::names::NamedSection;
use crate::history::window::HistoryList;
use crate::id::Version;
use crate::log::append::Position;
use crate::log::checkpoint::NodeRun;
use crate::log::failure::AppendFailure;
use crate::names::kept::add;
use crate::names::table::NameList;
use crate::pins::PinKind;
use crate::space::Held;
use crate::sync::atomic::Ordering;
use crate::table::diff;
use crate::table::edit::Dead;
use crate::table::root::Root;
use crate::version::held::HeldRoot;
use crate::version::registry::SlotId;

/// The version that is being written, as it was when the checkpoint began.
struct Captured {
    root: HeldRoot,
    pin: SlotId,
    position: Position,
    /// Bytes that the version reaches, by segment.
    tip_bytes: BTreeMap<u32, u64>,
    appended_bytes: u64,
    names: NameList,
    history: HistoryList,
}

impl Captured {
    /// The versions that are to be found after an opening, whoever keeps them.
    fn kept(&self) -> BTreeMap<Version, HeldRoot> {
        let named = self.names.snapshots.iter().map(|(_, root)| *root);
        let historic = self.history.kept.iter().map(|(_, root)| *root);
        named.chain(historic).map(|root| (root.root().version, root)).collect()
    }
}

impl Core {
    /// Writes a checkpoint of the current version, unless nothing was committed since the last one.
    pub(crate) fn write_checkpoint(&self) -> Result<()> {
        let mut state = self.checkpoint.lock();
        let last = state.roots.last().map(|last| last.record.version);
        self.write_checkpoint_unless(&mut state, last)
    }

    /// Sees to it that the catalog names the current version and no other, so that nothing is kept for an older one.
    pub(crate) fn write_only_checkpoint(&self) -> Result<()> {
        self.write_checkpoint()?;
        let mut state = self.checkpoint.lock();
        if state.roots.len() > 1 {
            self.write_checkpoint_unless(&mut state, None)?;
        }
        // Neither of two more lists what was dropped before; commits may drop more meanwhile.
        for _ in 0..2 {
            if self.names.lock().has_leaving() || self.history.lock().has_leaving() {
                self.write_checkpoint_unless(&mut state, None)?;
            }
        }
        Ok(())
    }

    /// Writes the catalog once more, with what changed in it since, whether or not anything was committed.
    pub(crate) fn write_catalog_anew(&self) -> Result<()> {
        let mut state = self.checkpoint.lock();
        self.write_checkpoint_unless(&mut state, None)
    }

    fn write_checkpoint_unless(
        &self,
        state: &mut crate::core::CheckpointState,
        unless: Option<Version>,
    ) -> Result<()> {
        self.check_poison()?;
        let begun = std::time::Instant::now();
        let Some(captured) = self.capture(unless)? else { return Ok(()) };
        let done = self.write_captured(state, &captured);
        self.names.lock().listed(&captured.names, done.is_ok(), &self.registry);
        self.history.lock().listed(&captured.history, done.is_ok(), &self.registry);
        match done {
            Ok(record) => {
                self.checkpointed_bytes.store(captured.appended_bytes, Ordering::Relaxed);
                let version = record.version;
                state.roots.push(DurableRoot { record, pin: captured.pin, root: captured.root });
                // The catalog names the last two versions at most; what is before them is no longer needed.
                let before = state.roots.len() - 1;
                let has_older = before > 0 && state.roots[before - 1].record.version < version;
                for gone in state.roots.drain(..before - usize::from(has_older)) {
                    let _ = self.registry.release(gone.pin);
                }
                self.log_start.store(state.roots[0].record.log_sequence, Ordering::Release);
                let left = self.unwritten_table_bytes();
                self.unwritten_after_checkpoint.store(left, Ordering::Relaxed);
                self.counters.checkpointed(begun.elapsed());
                Ok(())
            }
            Err(error) => {
                let _ = self.registry.release(captured.pin);
                Err(error)
            }
        }
    }

    /// Pins the current version and notes where the log stands; `None` if it is the version `unless`.
    fn capture(&self, unless: Option<Version>) -> Result<Option<Captured>> {
        let mut log = self.log.lock();
        self.check_poison()?;
        log.appender.flush().map_err(|failure| self.fail(failure))?;
        let _guard = self.epoch.pin();
        let root = self.current();
        if unless == Some(root.root().version) {
            return Ok(None);
        }
        let pin = self.registry.take(root.pointer(), PinKind::Checkpoint.note());
        let live = |number: u32| self.segments.get(number).map_or(0, |s| s.tip_live.load(Ordering::Relaxed));
        let tip_bytes = log.appender.files().map(|(number, _, _)| (number, live(number))).collect();
        let appended_bytes = self.appended();
        let position = log.appender.position();
        let names = self.names.lock().list(&self.registry);
        let history = self.history.lock().list(&self.registry);
        Ok(Some(Captured { root, pin, position, tip_bytes, appended_bytes, names, history }))
    }

    fn write_captured(
        &self,
        state: &mut crate::core::CheckpointState,
        captured: &Captured,
    ) -> Result<RootRecord> {
        let root = captured.root.root();
        let run = self.write_nodes(root)?;
        let kept = captured.kept();
        let older: Vec<&Root> = kept.values().map(HeldRoot::root).collect();
        self.write_run(NodeRun::of_all(&self.slab, &older))?;
        if self.unwritten_table_bytes() > self.slab.limit() / 4 {
            self.write_older_nodes(root.version)?;
        }
        // What the catalog will refer to must be durable before it is.
        self.sync()?;
        let record = self.record(root, captured.position.sequence);
        let catalog = self.catalog_for(state, captured, kept, &run, record.clone())?;
        state.slots.write(&catalog).map_err(|error| self.fail(AppendFailure::of_write(error)))?;
        Ok(record)
    }

    /// Writes the nodes of a pinned version that aren't on disk.
    pub(crate) fn write_nodes(&self, root: &Root) -> Result<NodeRun> {
        self.write_run(NodeRun::new(&self.slab, root))
    }

    fn write_run(&self, mut run: NodeRun) -> Result<NodeRun> {
        while !run.is_done() {
            let durable = Version(self.durable.load(Ordering::Acquire));
            let mut log = self.log.lock();
            self.check_poison()?;
            run.step(&self.slab, &self.segments, &mut log.appender, durable)
                .map_err(|failure| self.fail(failure))?;
        }
        Ok(run)
    }

    /// Writes the nodes that only older pinned versions see, for the sake of the memory that they take: recovery doesn't
    /// need them, and no catalog counts them.
    fn write_older_nodes(&self, than: Version) -> Result<()> {
        let mut held = Held::new(self);
        let mut older = BTreeMap::new();
        held.hold_live(|_, root| {
            older.insert(root.root().version, root);
        });
        older.range(..than).try_for_each(|(_, root)| self.write_nodes(root.root()).map(drop))
    }

    fn catalog_for(
        &self,
        state: &mut crate::core::CheckpointState,
        captured: &Captured,
        kept: BTreeMap<Version, HeldRoot>,
        run: &NodeRun,
        record: RootRecord,
    ) -> Result<Catalog> {
        let mut tip_bytes = captured.tip_bytes.clone();
        for (number, bytes) in &run.written {
            add(&mut tip_bytes, *number, *bytes);
        }
        let before = state.roots.last().filter(|before| before.record.version < record.version);
        let before = before.map(|before| (before.record.clone(), before.root));
        let older = before.as_ref().map(|(_, root)| *root);
        let names = &captured.names;
        let (live_bytes, kept_bytes) =
            self.count_kept(&mut state.kept, kept, older, captured.root, &tip_bytes)?;
        let position = captured.position;
        let files: Vec<(u32, u32, u64)> = self.log.lock().appender.files().collect();
        // Counts wrap only where a crafted catalog lied about them; a segment that counts as full is never reused.
        let whole = self.segments.geometry().segment_bytes();
        let at_most_whole = |bytes: Option<&u64>| bytes.copied().unwrap_or(0).min(whole);
        let packed = files.iter().filter_map(|(number, ..)| self.segments.packed_record(*number)).collect();
        let kept_bytes = files.iter().map(|(number, ..)| at_most_whole(kept_bytes.get(number))).collect();
        let named = NamedSection {
            snapshots: self.named_records(names),
            bookmarks: names.bookmarks.clone(),
            kept_bytes,
        };
        let segments = files.into_iter().map(|(number, generation, sequence)| SegmentRecord {
            number,
            generation,
            sequence,
            live_bytes: at_most_whole(live_bytes.get(&number)),
            tip_bytes: at_most_whole(tip_bytes.get(&number)),
        });
        let geometry = self.segments.geometry();
        Ok(Catalog {
            store_id: self.segments.store_id(),
            page_size: geometry.page_size(),
            segment_slots: geometry.segment_slots(),
            created_at_ms: state.created_at_ms,
            roots: before.map(|(record, _)| record).into_iter().chain([record]).collect(),
            log: position.record(),
            segments: segments.collect(),
            packed,
            named,
            identity: self.identity,
            history: HistorySection {
                policy: captured.history.policy,
                kept: captured.history.kept.iter().map(|(_, root)| self.record(root.root(), 0)).collect(),
            },
        })
    }

    /// Bytes on disk, by segment of this store's own, that `root` reaches, that `next` doesn't, and that were born after `previous`.
    pub(crate) fn bytes_only_in(
        &self,
        root: &Root,
        previous: Option<Version>,
        next: &Root,
    ) -> Result<BTreeMap<u32, u64>> {
        let geometry = self.segments.geometry();
        let mut bytes = BTreeMap::new();
        diff::only_in(&self.slab, root, previous, next, &mut |item| {
            let (number, size) = match item {
                Dead::Page { location, .. } => (geometry.split(location).0, geometry.page_bytes()),
                Dead::Stored { address, is_leaf, .. } => self.segments.node_place(address, is_leaf),
                // Written after it died, while the reclaimer's list has it.
                Dead::Node { pointer, .. } => match self.slab.head_of(pointer).disk() {
                    Some(address) => self.segments.node_place(address, pointer.is_leaf()),
                    None => return,
                },
            };
            if !self.segments.is_base(number) {
                add(&mut bytes, number, size);
            }
        })?;
        Ok(bytes)
    }
}
