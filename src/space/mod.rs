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

mod pack;
mod rest;
mod room;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

pub(crate) use self::rest::Rest;
pub(crate) use self::room::LEFT_BY_COMMITS;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::log::segment::Segment;
use crate::pins::PinKind;
use crate::sync::atomic::Ordering;
use crate::version::held::HeldRoot;
use crate::version::registry::SlotId;

/// Who allows more waste than this, in percent of what is alive, wants as little copied as can be.
const WASTE_WANTED: u32 = 100;

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
        let _guard = self.core.epoch.pin();
        let newest = self.core.current();
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
    /// As many of the sparsest as must be, while commits need the disk.
    Least,
    /// As many of the sparsest as the option asks for.
    Kept,
    /// Every one that is a fifth empty or more.
    All,
}

impl Core {
    /// Takes dead segments back, packs sparse ones, removes files.
    pub(crate) fn tidy(&self, effort: Effort, budget: Budget) -> Result<Maintenance> {
        let mut space = self.space.lock();
        let (begun, mut done) = (Instant::now(), Maintenance::default());
        self.give_up_dead(&mut space, self.options.pool_max());
        let chosen = self.choose(effort, &budget);
        let all = chosen.len();
        let packed = self.pack_chosen(&mut space, &chosen, budget, begun, &mut done)?;
        // Checkpoints to come would do that, if there is room for them; but until then the log would go on in fresh files.
        let wants_files = packed > 0 && self.log.lock().appender.pool_len() < self.options.pool_max();
        if matches!(effort, Effort::All) || wants_files || self.is_disk_short() {
            self.write_catalogs_past(&space)?;
        }
        self.remove_retired(&mut space, self.options.pool_max(), &mut done)?;
        done.is_done = packed == all && space.retired.is_empty();
        Ok(done)
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
        let dead = log.appender.give_up_dead(log_start, pool_max);
        let dead: Vec<&Segment> = dead.into_iter().filter_map(|number| self.segments.get(number)).collect();
        let sequence = state.slots.sequence();
        space.retired.extend(dead.iter().map(|segment| {
            let (name, bytes) = self.segments.file_of(segment);
            Retired { name, bytes, number: segment.number, is_last: true, readers: None, sequence }
        }));
        self.segments.forget_files(&dead);
    }

    /// Removes the spare files that come to more than `most` together with the pool. Returns the bytes that came back.
    fn remove_spares(&self, most: usize) -> u64 {
        let spares = self.log.lock().appender.take_spares(most);
        // What can't be removed is found as a leftover by the next opening.
        let removed = spares.iter().filter(|spare| self.segments.storage().remove(spare).is_ok()).count();
        removed as u64 * self.segments.geometry().segment_bytes()
    }

    /// Writes catalogs until neither slot names a retired file.
    pub(crate) fn write_catalogs_past(&self, space: &Space) -> Result<()> {
        let newest = space.retired.iter().map(|retired| retired.sequence + 2).max().unwrap_or(0);
        while self.checkpoint.lock().slots.sequence() < newest {
            self.write_catalog_anew()?;
        }
        Ok(())
    }

    /// Removes the files that no catalog names any more.
    pub(crate) fn remove_retired(
        &self,
        space: &mut Space,
        pool_max: usize,
        done: &mut Maintenance,
    ) -> Result<()> {
        let sequence = self.checkpoint.lock().slots.sequence();
        let storage = self.segments.storage();
        let (ripe, rest) = std::mem::take(&mut space.retired)
            .into_iter()
            .partition(|retired| retired.sequence + 2 <= sequence);
        space.retired = rest;
        let mut gone: Vec<Retired> = Vec::new();
        for retired in ripe {
            let mut log = self.log.lock();
            // The log may have gone on in a file of that name since.
            let file_now = self.segments.get(retired.number).map(|segment| self.segments.file_of(segment).0);
            if log.appender.uses(retired.number) && file_now.is_none_or(|name| name == retired.name) {
                continue;
            }
            let is_own =
                || storage.open(&retired.name).and_then(|file| file.links()).is_ok_and(|links| links < 2);
            let is_read = retired.readers.as_ref().is_some_and(|readers| Arc::strong_count(readers) > 1);
            if is_read && !is_own() {
                // As long as it has our name too, no clone takes it for its own and writes to it.
                space.retired.push(retired);
                continue;
            }
            // What is left of a packed segment is elsewhere; the file can be the log's next, unless a view still reads it.
            let can_reuse = retired.readers.is_some() && !is_read && log.appender.pool_len() < pool_max;
            if can_reuse && is_own() {
                log.appender.keep_spare(retired.name, self.segments.geometry().segment_slots());
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
