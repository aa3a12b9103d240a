//! Disk space that comes back: dead segments are used again or their files removed, sparse ones are packed.
//!
//! # How a segment is packed while everything goes on
//! 1. Candidates are segments that the log has left, that recovery needs no records of, and that no write is pending to:
//!    nothing is ever born in them again, so what is alive in them only becomes less.
//! 2. The current version t is pinned, and a grace period awaited. Then every version before t that anybody will ever
//!    see stands in a registry slot (see `version/reclaim.rs`), and each is held by one more count while it is looked
//!    at. Versions after t see nothing in the candidates that t doesn't see.
//! 3. What t reaches is walked, and then what each older version reaches and its next younger neighbour doesn't: together,
//!    everything in the candidates that anybody can see.
//! 4. Those slots are copied (`log/packed.rs`); then, under the commit lock, new views are led to the copy. Views that are
//!    open keep the old file's mapping; views older than t are gone since the grace period.
//! 5. When both catalog slots name the packed file, the old one is removed.
//!
//! Locks: `space` comes before all others, so one thread at a time does this; commits are only held up by the short
//! steps under their own lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::control::PackedRecord;
use crate::format::node::disk_size;
use crate::format::packed::{SlotSet, header_slots};
use crate::id::Version;
use crate::pins::PinKind;
use crate::sync::atomic::Ordering;
use crate::table::diff;
use crate::table::edit::Dead;
use crate::table::places::{Place, for_each_place};
use crate::version::held::HeldRoot;
use crate::version::registry::SlotId;

/// How much one call of [`Store::maintain`](crate::Store::maintain) may do; what is left is left for the next call.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// use std::time::Duration;
/// use vellum::{Budget, Options, Store};
/// let store = Store::in_memory(Options::new())?;
/// let done = store.maintain(Budget::unlimited())?;
/// assert!(done.is_done);
/// store.maintain(Budget::unlimited().bytes(64 << 20).time(Duration::from_millis(50)))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    bytes: u64,
    time: Option<Duration>,
}

impl Budget {
    /// As much as there is to do.
    #[must_use]
    pub fn unlimited() -> Budget {
        Budget { bytes: u64::MAX, time: None }
    }

    /// No further segment is rewritten when so many bytes were copied.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Budget {
        self.bytes = bytes;
        self
    }

    /// No further segment is rewritten after so much time.
    #[must_use]
    pub fn time(mut self, time: Duration) -> Budget {
        self.time = Some(time);
        self
    }
}

/// What a call of [`Store::maintain`](crate::Store::maintain) has done.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Maintenance {
    /// Segments that were rewritten without what nobody needs.
    pub segments_packed: u64,
    /// Bytes copied for it.
    pub bytes_copied: u64,
    /// Files removed.
    pub files_removed: u64,
    /// Bytes of the files removed.
    pub bytes_removed: u64,
    /// Whether nothing is left to do. What a view or a snapshot still sees is not to be done.
    pub is_done: bool,
}

/// A file that no catalog needs any more, once two more were written.
#[derive(Debug)]
struct Retired {
    name: String,
    bytes: u64,
    number: u32,
    /// Whether the segment is gone with it, so that its number can be used again.
    is_last: bool,
    /// A whole segment's file may be used for another segment, when nobody else counts here: nobody reads from it.
    readers: Option<Arc<()>>,
    /// The sequence of the newest catalog when it was retired: the two after it don't name the file.
    sequence: u64,
}

/// A file that an opening found and that nothing refers to.
pub(crate) struct Leftover {
    pub(crate) name: String,
    pub(crate) number: u32,
    /// Whether it is all that there is of the segment.
    pub(crate) is_last: bool,
}

/// What the `space` lock guards.
#[derive(Debug, Default)]
pub(crate) struct Space {
    retired: Vec<Retired>,
}

impl Space {
    /// Begins with files that a crash has left over: no catalog after the one of `sequence` will name them.
    pub(crate) fn new(leftovers: Vec<Leftover>, sequence: u64) -> Space {
        let retire = |Leftover { name, number, is_last }| Retired {
            name,
            bytes: 0,
            number,
            is_last,
            readers: None,
            sequence,
        };
        Space { retired: leftovers.into_iter().map(retire).collect() }
    }
}

/// Registry slots, held by one more count while they are looked at, and one of its own.
pub(crate) struct Held<'a> {
    core: &'a Core,
    own: Option<SlotId>,
    others: Vec<SlotId>,
}

impl<'a> Held<'a> {
    pub(crate) fn new(core: &'a Core) -> Held<'a> {
        Held { core, own: None, others: Vec::new() }
    }

    /// Pins the current version.
    pub(crate) fn hold_current(&mut self) -> HeldRoot {
        let guard = self.core.epoch.pin();
        let newest = HeldRoot::new(self.core.published.load(&guard).into());
        // Taken inside the guard (invariant 6).
        let slot = self.core.registry.take(newest.pointer(), PinKind::Maintenance.note());
        debug_assert!(self.own.is_none());
        self.own = Some(slot);
        newest
    }

    /// Holds every pin that there is.
    pub(crate) fn hold_live(&mut self, mut visit: impl FnMut(SlotId, HeldRoot)) {
        let registry = &self.core.registry;
        let mut abandoned = Vec::new();
        let hold = |slot, root| {
            let root = HeldRoot::new(root);
            match registry.enter(slot) {
                true => {
                    self.others.push(slot);
                    visit(slot, root);
                }
                // Taken just now; so it is as if it had not been found.
                false => self.core.release_pin(slot),
            }
        };
        registry.retain_live(hold, |slot| abandoned.push(slot));
        for slot in abandoned {
            self.core.release_pin(slot);
        }
    }

    pub(crate) fn is_own(&self, slot: SlotId) -> bool {
        self.own == Some(slot)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.own {
            self.core.release_pin(slot);
        }
        for slot in self.others.drain(..) {
            self.core.registry.leave(slot);
            self.core.release_pin(slot);
        }
    }
}

/// Which segments are worth a rewrite.
#[derive(Clone, Copy)]
pub(crate) enum Effort {
    /// As many of the sparsest as the option asks for.
    Kept,
    /// Every one that is a fifth empty or more.
    All,
}

/// A rewrite must free at least this share of the file, in percent.
const WORTHWHILE: u64 = 20;
/// How long to wait for old views before giving a round of packing up.
const GRACE_WAIT: Duration = Duration::from_secs(2);

impl Core {
    /// Takes dead segments back, packs sparse ones, removes files.
    pub(crate) fn tidy(&self, effort: Effort, budget: Budget) -> Result<Maintenance> {
        let mut space = self.space.lock();
        let (begun, mut done) = (Instant::now(), Maintenance::default());
        self.give_up_dead(&mut space, self.options.pool_max());
        let chosen = self.choose(effort, &budget);
        let all = chosen.len();
        let packed = self.pack_chosen(&mut space, &chosen, budget, begun, &mut done)?;
        if matches!(effort, Effort::All) {
            self.write_catalogs_past(&space)?;
        }
        self.remove_retired(&mut space, self.options.pool_max(), &mut done)?;
        done.is_done = packed == all && space.retired.is_empty();
        Ok(done)
    }

    /// Gives back all space that can be had at once, because the disk is full. Whether there was any.
    pub(crate) fn make_room(&self) -> bool {
        let Some(mut space) = self.space.try_lock() else { return false };
        let mut done = Maintenance::default();
        // A checkpoint may need room itself; what is free without one is freed in any case.
        let _ = self.write_only_checkpoint();
        self.settle();
        self.give_up_dead(&mut space, 0);
        let _ = self.write_catalogs_past(&space);
        let _ = self.remove_retired(&mut space, 0, &mut done);
        let spares = self.log.lock().appender.take_spares();
        for spare in spares {
            // What can't be removed is found as a leftover by the next opening.
            if self.segments.storage().remove(&spare).is_ok() {
                done.bytes_removed += self.segments.geometry().segment_bytes();
            }
        }
        done.bytes_removed > 0
    }

    /// Lets the reclaimer free all that it can.
    pub(crate) fn settle(&self) {
        // Each round lets the epoch move on; judged items need one more period than retired ones.
        for _ in 0..16 {
            self.grace.advance(&self.epoch);
            self.pass();
        }
        self.reclaim(&mut self.log.lock());
    }

    fn give_up_dead(&self, space: &mut Space, pool_max: usize) {
        // No catalog is being written meanwhile, so the next one is the first that doesn't list them.
        let state = self.checkpoint.lock();
        let mut log = self.log.lock();
        self.reclaim(&mut log);
        let log_start = self.log_start.load(Ordering::Acquire);
        for number in log.appender.give_up_dead(log_start, pool_max) {
            let Some(segment) = self.segments.get(number) else { continue };
            let (name, bytes) = self.segments.file_of(segment);
            self.segments.forget_file(segment);
            let sequence = state.slots.sequence();
            space.retired.push(Retired { name, bytes, number, is_last: true, readers: None, sequence });
        }
    }

    /// The segments to be packed, the sparsest first.
    fn choose(&self, effort: Effort, budget: &Budget) -> Vec<u32> {
        let log = self.log.lock();
        let log_start = self.log_start.load(Ordering::Acquire);
        let geometry = self.segments.geometry();
        let header = geometry.offset(header_slots(geometry.segment_slots(), geometry.page_size()));
        let in_use: u64 = log.appender.files().map(|(number, ..)| self.allocated(number)).sum();
        let mut sparse: Vec<(u32, u64, u64)> = log
            .appender
            .sparse(log_start)
            .into_iter()
            // What the packed file will take: its header too, and slots that only nodes' halves lie in.
            .map(|(number, len, used)| (number, len, used.saturating_add(header).min(len)))
            .collect();
        let waste: u64 = sparse.iter().map(|(_, len, used)| len - used).sum();
        let allowed = match effort {
            Effort::Kept => in_use / 100 * u64::from(self.options.waste_max()),
            Effort::All => 0,
        };
        sparse.retain(|(_, len, used)| (len - used) * 100 >= len * WORTHWHILE);
        sparse.sort_by_key(|(_, len, used)| used * 1024 / len);
        let (mut left, mut copied) = (waste, 0);
        let mut chosen = Vec::new();
        for (number, len, used) in sparse {
            // One is always worth its cost, whatever the budget: else a small budget would never get anywhere.
            if left <= allowed || (copied > 0 && copied + used > budget.bytes) {
                break;
            }
            (left, copied) = (left - (len - used), copied + used);
            chosen.push(number);
        }
        chosen
    }

    fn allocated(&self, number: u32) -> u64 {
        self.segments.get(number).map_or(0, |segment| segment.allocated.load(Ordering::Relaxed))
    }

    /// Packs segments until the budget is used up; how many were.
    fn pack_chosen(
        &self,
        space: &mut Space,
        chosen: &[u32],
        budget: Budget,
        begun: Instant,
        done: &mut Maintenance,
    ) -> Result<usize> {
        if chosen.is_empty() || budget.time.is_some_and(|time| begun.elapsed() >= time) {
            return Ok(0);
        }
        self.log.lock().appender.busy.extend(chosen);
        let packed = self.pack_busy(space, chosen, budget, begun, done);
        self.log.lock().appender.busy.clear();
        packed
    }

    fn pack_busy(
        &self,
        space: &mut Space,
        chosen: &[u32],
        budget: Budget,
        begun: Instant,
        done: &mut Maintenance,
    ) -> Result<usize> {
        let Some(mut kept) = self.slots_in_use(chosen)? else { return Ok(0) };
        let mut ready: Vec<PackedRecord> = Vec::new();
        let written = chosen.iter().try_for_each(|number| {
            let is_late = budget.time.is_some_and(|time| begun.elapsed() >= time);
            let is_spent = !ready.is_empty() && done.bytes_copied >= budget.bytes;
            let (Some(kept), Some(segment)) = (kept.remove(number), self.segments.get(*number)) else {
                return Ok(());
            };
            if is_late || is_spent {
                return Ok(());
            }
            let record = self.segments.pack(segment, kept, &mut |bytes| {
                done.bytes_copied += bytes;
                self.packed_bytes.fetch_add(bytes, Ordering::Relaxed);
                // Copying takes the store's thread, which has other duties too.
                self.handover.work();
                self.rest(bytes);
                self.check_poison()
            })?;
            ready.push(record);
            Ok(())
        });
        let durable = match ready.is_empty() {
            true => Ok(()),
            false => self
                .segments
                .storage()
                .sync_dir()
                .map_err(|error| Error::io("sync", self.segments.storage().path(""), error)),
        };
        // A failure leaves a file that nothing refers to; it is removed as such when the store is opened again.
        durable?;
        let state = self.checkpoint.lock();
        for record in &ready {
            let Some(segment) = self.segments.get(record.number) else { continue };
            let _log = self.log.lock();
            let (name, bytes) = self.segments.file_of(segment);
            let readers = self.segments.read_from_packed(segment, record);
            let readers = (bytes == self.segments.geometry().segment_bytes()).then_some(readers);
            let (number, sequence) = (record.number, state.slots.sequence());
            space.retired.push(Retired { name, bytes, number, is_last: false, readers, sequence });
            done.segments_packed += 1;
        }
        drop(state);
        written.map(|()| ready.len())
    }

    /// Keeps copying within the rate that the options ask for.
    fn rest(&self, bytes: u64) {
        if let Some(rate) = self.options.pack_rate_max() {
            #[expect(clippy::cast_precision_loss, reason = "a duration need not be exact")]
            std::thread::sleep(Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64));
        }
    }

    /// The slots of the `chosen` segments that any version which can still be seen needs; `None` if old views don't go.
    fn slots_in_use(&self, chosen: &[u32]) -> Result<Option<HashMap<u32, SlotSet>>> {
        let slots = self.segments.geometry().segment_slots();
        let mut kept: HashMap<u32, SlotSet> =
            chosen.iter().map(|number| (*number, SlotSet::new(slots))).collect();
        let mut held = Held::new(self);
        let newest = held.hold_current();
        let ticket = self.grace.issue(&self.epoch.pin());
        if !self.await_grace(ticket) {
            return Ok(None);
        }
        let mut live: BTreeMap<Version, HeldRoot> = BTreeMap::new();
        held.hold_live(|_, root| {
            live.insert(root.root().version, root);
        });
        let last = newest.root().version;
        live.retain(|version, _| *version < last);
        live.insert(last, newest);
        for_each_place(&self.slab, newest.root(), &mut |place| {
            self.keep(&mut kept, place);
            Ok(())
        })?;
        for (older, younger) in live.values().zip(live.values().skip(1)) {
            diff::only_in(&self.slab, older.root(), None, younger.root(), &mut |item| match item {
                Dead::Page { location, .. } => self.keep(&mut kept, Place::Page(location)),
                Dead::Stored { address, is_leaf, .. } => {
                    self.keep(&mut kept, Place::Node { address, is_leaf });
                }
                Dead::Node { .. } => {}
            })?;
        }
        Ok(Some(kept))
    }

    fn keep(&self, kept: &mut HashMap<u32, SlotSet>, place: Place) {
        let geometry = self.segments.geometry();
        match place {
            Place::Page(location) => {
                let (number, slot) = geometry.split(location);
                if let Some(slots) = kept.get_mut(&number) {
                    slots.insert(slot);
                }
            }
            Place::Node { address, is_leaf } => {
                let (number, offset) = geometry.split_node(address);
                let Some(slots) = kept.get_mut(&number) else { return };
                let last = offset + disk_size(is_leaf) as u64 - 1;
                for slot in offset / geometry.page_bytes()..=last / geometry.page_bytes() {
                    slots.insert(u32::try_from(slot).unwrap_or(u32::MAX));
                }
            }
        }
    }

    fn await_grace(&self, ticket: u64) -> bool {
        let begun = Instant::now();
        loop {
            self.grace.advance(&self.epoch);
            if self.grace.passed() >= ticket {
                return true;
            }
            if self.epoch.pinned_here() || begun.elapsed() > GRACE_WAIT {
                return false;
            }
            crate::sync::thread::yield_now();
        }
    }

    /// Writes catalogs until neither slot names a retired file. Otherwise the checkpoints to come do that.
    fn write_catalogs_past(&self, space: &Space) -> Result<()> {
        let newest = space.retired.iter().map(|retired| retired.sequence + 2).max().unwrap_or(0);
        while self.checkpoint.lock().slots.sequence() < newest {
            self.write_catalog_anew()?;
        }
        Ok(())
    }

    /// Removes the files that no catalog names any more.
    fn remove_retired(&self, space: &mut Space, pool_max: usize, done: &mut Maintenance) -> Result<()> {
        let sequence = self.checkpoint.lock().slots.sequence();
        let storage = self.segments.storage();
        let (ripe, rest) = std::mem::take(&mut space.retired)
            .into_iter()
            .partition(|retired| retired.sequence + 2 <= sequence);
        space.retired = rest;
        let mut gone: Vec<Retired> = Vec::new();
        for mut retired in ripe {
            let mut log = self.log.lock();
            // The log may have gone on in a file of that name since.
            let file_now = self.segments.get(retired.number).map(|segment| self.segments.file_of(segment).0);
            if log.appender.uses(retired.number) && file_now.is_none_or(|name| name == retired.name) {
                continue;
            }
            // What is left of a packed segment is elsewhere; the file can be the log's next, unless a view still reads it.
            let is_free = retired.readers.take().is_some_and(|readers| Arc::try_unwrap(readers).is_ok());
            if is_free && log.appender.pool_len() < pool_max {
                log.appender.keep_spare(retired.name);
                continue;
            }
            // Removing a large file takes a while: commits wait only where the log could come to need the name meanwhile.
            let log = log.appender.may_come_to(retired.number).then_some(log);
            let removed = storage.remove(&retired.name);
            drop(log);
            match removed {
                Ok(()) => {
                    done.files_removed += 1;
                    done.bytes_removed += retired.bytes;
                    gone.push(retired);
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => gone.push(retired),
                // It stays for the next time; it does no harm but take room.
                Err(_) => space.retired.push(retired),
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        storage.sync_dir().map_err(|error| Error::io("sync", storage.path(""), error))?;
        let mut log = self.log.lock();
        gone.iter().filter(|retired| retired.is_last).for_each(|retired| log.appender.vacate(retired.number));
        Ok(())
    }
}
