//! What is done before the disk is full, and when it is.
//!
//! The last room is dealt out so that there is always enough to get some back: commits that write pages leave two segments
//! of it to packing, packing leaves one to the checkpoint without which the packed files' sources can't go, and
//! checkpoints and commits that free pages may take it all.

use std::sync::Arc;

use super::{Budget, Effort, Maintenance};
use crate::commit::lead::LogState;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::sync::atomic::Ordering;

/// Segments of room that commits of pages leave.
pub(crate) const LEFT_BY_COMMITS: u64 = 2;
/// Segments of room that packing leaves.
const LEFT_BY_PACKING: u64 = 1;

impl Core {
    /// Gives back all space that can be had at once, because the disk is full. Whether there was any.
    pub(crate) fn make_room(&self) -> bool {
        // Whoever has the lock is gaining room too.
        let mut space = self.space.lock();
        let mut done = Maintenance::default();
        // A checkpoint may need room itself; what is free without one is freed in any case.
        let _ = self.write_only_checkpoint();
        self.settle();
        self.give_up_dead(&mut space, 0);
        let _ = self.write_catalogs_past(&space);
        let _ = self.remove_retired(&mut space, 0, &mut done);
        done.bytes_removed += self.remove_spares(0);
        drop(space);
        done.bytes_removed > 0 || self.gain_room()
    }

    /// Bytes that further files can take, if that is known. Where it isn't, the disk says so when it is full.
    fn available(&self) -> Option<u64> {
        self.segments.storage().available().ok().flatten()
    }

    pub(crate) fn is_disk_short(&self) -> bool {
        let reserve = self.options.disk_reserve_min();
        reserve > 0 && self.available().is_some_and(|bytes| bytes < reserve)
    }

    /// Whether there is room for a packed file of the segment, which takes no more than the segment's file does now.
    pub(super) fn check_room_to_pack(&self, number: u32) -> Result<()> {
        let left = LEFT_BY_PACKING * self.segments.geometry().segment_bytes();
        let left = left.min(self.options.disk_reserve_min());
        let Some(segment) = self.segments.get(number) else { return Ok(()) };
        let (name, needed) = self.segments.file_of(segment);
        match self.available() {
            Some(available) if left > 0 && available < needed.saturating_add(left) => {
                let source = Arc::new(std::io::ErrorKind::StorageFull.into());
                Err(Error::Full { needed, file: self.segments.storage().path(&name), source })
            }
            _ => Ok(()),
        }
    }

    /// Takes note if the log has just taken another file and the disk has little room left.
    pub(crate) fn look_at_disk(&self, log: &mut LogState) {
        if log.appender.take_made_file() {
            self.is_short_of_disk.store(self.is_disk_short(), Ordering::Relaxed);
        }
    }

    /// Reclaims and packs a portion before the disk is full; whoever commits waits for it meanwhile. Whether anything was
    /// gained.
    pub(crate) fn gain_room(&self) -> bool {
        let portion = self.segments.geometry().segment_bytes();
        // What fails here fails again, and is told, when the disk is full.
        let _ = self.write_only_checkpoint();
        self.settle();
        let done = self.tidy(Effort::All, Budget::unlimited().bytes(portion));
        let has_pool =
            self.gauges.pool.load(Ordering::Relaxed) + self.gauges.spares.load(Ordering::Relaxed) > 0;
        has_pool || done.is_ok_and(|done| done.bytes_removed > 0)
    }
}
