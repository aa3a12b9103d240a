//! The packing itself (see the head of `space`).

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::{Budget, Effort, Held, Maintenance, Retired, Space, WASTE_WANTED};
use crate::commit::lead::LogState;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::control::PackedRecord;
use crate::format::node::disk_size;
use crate::format::packed::{SlotSet, header_slots};
use crate::id::Version;
use crate::log::packed::Patches;
use crate::sync::atomic::Ordering;
use crate::table::diff;
use crate::table::edit::Dead;
use crate::table::places::{Place, for_each_place};
use crate::version::held::HeldRoot;

#[cfg(all(test, feature = "sim", not(any(loom, shuttle))))]
mod tests;

/// A rewrite must free at least this share of the file, in percent.
const WORTHWHILE: u64 = 20;
/// A segment of which at most this share of what packing frees has to be copied is packed whatever the store's waste: the log
/// goes on in its file then, which was written before. In a fresh one it would write zeros as long as the file ahead of itself (see `log/ahead.rs`).
const NEXT_TO_NOTHING: u64 = 16;
/// How many times the waste that files may carry they carry while commits need the disk: the sparser a segment has become, the
/// less there is to copy.
const BUSY_WASTE: u64 = 3;
/// How long to wait for old views before giving a round of packing up.
const GRACE_WAIT: Duration = Duration::from_secs(2);

/// Whether a segment is worth a rewrite, whatever the store's waste.
fn is_worthwhile((_, len, used): &(u32, u64, u64)) -> bool {
    (len - used) * 100 >= len * WORTHWHILE
}

/// Whether hardly anything of a segment is left to be copied.
fn is_nearly_dead((_, len, used): &(u32, u64, u64)) -> bool {
    used * NEXT_TO_NOTHING <= len - used
}

impl Core {
    /// The segments that may be packed: (number, bytes of the file, bytes of the packed one).
    fn weigh_sparse(&self, log: &LogState) -> Vec<(u32, u64, u64)> {
        let log_start = self.log_start.load(Ordering::Acquire);
        let geometry = self.segments.geometry();
        let header = geometry.offset(header_slots(geometry.segment_slots(), geometry.page_size()));
        let sparse = log.appender.sparse(log_start).into_iter();
        // What the packed file will take: its header too, and slots that only nodes' halves lie in.
        sparse.map(|(number, len, used)| (number, len, used.saturating_add(header).min(len))).collect()
    }

    /// Bytes that packing everything that is worth it would give back.
    pub(super) fn bytes_to_gain(&self) -> u64 {
        let sparse = self.weigh_sparse(&self.log.lock());
        sparse.iter().filter(|segment| is_worthwhile(segment)).map(|(_, len, used)| len - used).sum()
    }

    /// The segments to be packed, the sparsest first.
    pub(super) fn choose(&self, effort: Effort, budget: &Budget) -> Vec<u32> {
        let log = self.log.lock();
        let in_use: u64 = log.appender.files().map(|(number, ..)| self.allocated(number)).sum();
        let mut sparse = self.weigh_sparse(&log);
        let waste: u64 = sparse.iter().map(|(_, len, used)| len - used).sum();
        let allowed = in_use / 100
            * match effort {
                Effort::Least => u64::from(self.options.waste_max()) * BUSY_WASTE,
                Effort::Kept => u64::from(self.options.waste_max()),
                Effort::All => 0,
            };
        sparse.retain(is_worthwhile);
        sparse.sort_by_key(|(_, len, used)| used * 1024 / len);
        let packs_early = self.options.waste_max() <= WASTE_WANTED;
        let (mut left, mut copied) = (waste, 0);
        let mut chosen = Vec::new();
        for segment in sparse {
            let is_wanted = left > allowed || (packs_early && is_nearly_dead(&segment));
            let (number, len, used) = segment;
            // One is always worth its cost, whatever the budget: else a small budget would never get anywhere.
            if !is_wanted || (copied > 0 && copied + used > budget.bytes) {
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
    pub(super) fn pack_chosen(
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
        let packed = self.pack_busy(space, chosen, &HashMap::new(), budget, begun, done);
        self.log.lock().appender.busy.clear();
        packed
    }

    /// Packs segments that nobody else may take meanwhile, with the pages that are mended in their places.
    pub(crate) fn pack_busy(
        &self,
        space: &mut Space,
        chosen: &[u32],
        patches: &HashMap<u32, Patches>,
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
            match self.check_room_to_pack(*number) {
                // What was packed already makes room for more.
                Err(_) if !ready.is_empty() => return Ok(()),
                checked => checked?,
            }
            let none = Patches::new();
            let mended = patches.get(number).unwrap_or(&none);
            let record = self.segments.pack(segment, kept, mended, &mut |bytes| {
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
            // A file in which there was damage is not used again.
            let can_reuse =
                bytes == self.segments.geometry().segment_bytes() && !patches.contains_key(&record.number);
            let readers = can_reuse.then_some(readers);
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
}
