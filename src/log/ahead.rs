//! Room ahead of the log: disk blocks set aside, and blocks that were written before.
//!
//! Overwriting blocks that were written before syncs in about half the time of writing new ones, which takes a commit of the
//! file system's journal too. A recycled segment is such a file. A fresh one is written with zeros ahead of the log, by the
//! commit that comes to its edge, [`PREPARE_BYTES`] at a time; or by the store's thread while few commit: as far ahead as the
//! log went when it last grew ([`Appender::prepare_ahead`]), and a spare file for the log to go on in when none stands ready
//! and that would lead beyond the segment ([`Appender::wants_spare`]). Zeros that no commit comes to are written for nothing,
//! so no more of them are than what is used if the next commits are like the last: a spare file has its whole length and all
//! its blocks, and zeros as far as the log would then come. What is missing when the log has come there is written as in a
//! fresh segment. (Beside many commits the thread would only take the disk from them: tried, and it made them slower.) Only
//! where batches are synced does it pay, and in a commit only where they are small: a large one would be written twice.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use super::append::Appender;
use super::backing::{create_anew, disk_error};
use super::failure::AppendFailure;
use super::geometry::Geometry;
use super::ready::Ready;
use super::segment::{Segments, file_name};
use crate::error::{Error, Result};
use crate::storage::StorageFile;
use crate::sync::atomic::Ordering;

/// How far ahead of the log a fresh segment is filled with zeros, and the share of a small segment that is enough.
const PREPARE_BYTES: u64 = 1 << 20;
const PREPARE_SHARE: u64 = 8;
/// The most bytes of a batch for which zeros are written. Measured as means of a synced write to a fresh file, zeros included: 8 KiB
/// 195 us instead of 255, 32 KiB 335 instead of 350, 48 KiB no less, 68 KiB 670 instead of 500.
const SMALL_BYTES: u64 = 32 << 10;
/// How far ahead of the log disk blocks are set aside.
const RESERVE_BYTES: u64 = 4 << 20;
/// The most that is made ready ahead of the log while few commit, however much came in one go before.
pub(crate) const AHEAD_BYTES: u64 = 16 << 20;
/// Zeros that the store's thread writes, and syncs, in one go: what a commit's sync beside it may have to wait for.
const PIECE_BYTES: u64 = 256 << 10;

/// The most that the log may have for a sync to write when zeros are made ready: what was loaded without a sync goes to the disk when the
/// system likes, or with the next sync that somebody asked for, and not in between, where the next load would wait for it.
const UNSYNCED_MAX: u64 = 1 << 20;

/// Zeros that one call writes. The kernel keeps what one call writes to a new file in one folio (large folios, Linux 6.16 for ext4),
/// and a sync walks the whole folio that a commit has written to: measured, commits of 8 KiB took 7% longer in folios of 1 MiB.
const CALL_BYTES: usize = 16 << 10;

/// The file that is made for the log to go on in. One that an opening finds was left by a crash.
pub(crate) const SPARE: &str = "spare";

/// What the active segment has ahead of the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Slots before this one were written before, or filled with zeros.
    pub(super) prepared: u32,
    /// Slots before this one have disk blocks.
    pub(super) reserved: u32,
    /// Nothing more may be written to it (see `left`).
    pub(super) is_left: bool,
}

impl Room {
    /// What a segment has that the log enters, the first `written` slots of whose file were written before. A used file and a spare one
    /// have all their blocks.
    pub(super) fn on_entry(written: u32, geometry: Geometry) -> Room {
        let reserved = if written > 0 { geometry.segment_slots() } else { 0 };
        Room { prepared: written, reserved, is_left: false }
    }
}

/// How far the zeros go at a time.
fn prepare_bytes(geometry: Geometry) -> u64 {
    PREPARE_BYTES.min(geometry.segment_bytes() / PREPARE_SHARE).max(geometry.page_bytes())
}

/// What the store's thread writes of them, and syncs, in one go.
fn piece_bytes(geometry: Geometry) -> u64 {
    PIECE_BYTES.min(prepare_bytes(geometry))
}

impl Appender {
    /// How many of the active segment's slots were written before, and how many have blocks.
    #[cfg(all(test, feature = "sim", not(any(loom, shuttle))))]
    pub(crate) fn prepared_and_reserved(&self) -> (u32, u32) {
        (self.room.prepared, self.room.reserved)
    }

    fn slots_in(&self, bytes: u64) -> u32 {
        u32::try_from(bytes / self.segments.geometry().page_bytes()).expect("a few MiB").max(1)
    }

    /// Sees to it that the next `slots` slots have disk blocks and, where it pays, were written before.
    pub(super) fn make_room(&mut self, slots: u32, will_sync: bool) -> Result<(), AppendFailure> {
        let end = self.position.slot + slots;
        self.reserve_until(end)?;
        let is_small = u64::from(slots) * self.segments.geometry().page_bytes() <= SMALL_BYTES;
        if will_sync && is_small && end > self.room.prepared {
            let more = self.slots_in(prepare_bytes(self.segments.geometry()));
            let until = end.saturating_add(more).min(self.room.reserved);
            self.write_zeros_until(until)?;
        }
        Ok(())
    }

    /// Sets disk blocks aside, some more than up to slot `end`.
    fn reserve_until(&mut self, end: u32) -> Result<(), AppendFailure> {
        if end <= self.room.reserved {
            return Ok(());
        }
        let geometry = self.segments.geometry();
        let until = end.saturating_add(self.slots_in(RESERVE_BYTES)).min(geometry.segment_slots());
        let from = self.room.reserved.max(self.position.slot);
        let (offset, len) = (geometry.offset(from), geometry.offset(until) - geometry.offset(from));
        let path = || self.segments.storage().path(&file_name(self.position.segment));
        self.active_file()
            .map_err(AppendFailure::Clean)?
            .reserve(offset, len)
            .map_err(|error| AppendFailure::Clean(disk_error("reserve room in", path(), len, error)))?;
        self.room.reserved = until;
        Ok(())
    }

    /// Writes zeros ahead of the log, up to slot `until`.
    fn write_zeros_until(&mut self, until: u32) -> Result<(), AppendFailure> {
        let geometry = self.segments.geometry();
        let from = self.room.prepared.max(self.position.slot);
        let (start, end) = (geometry.offset(from), geometry.offset(until));
        let len = end - start;
        write_zeros(start..end, |zeros, at| self.write_file(&[IoSlice::new(zeros)], at, len))?;
        self.room.prepared = until;
        self.gauges.prepared.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    /// Where the log comes to if it grows by `pace` bytes, or by the most that is made ready.
    fn slot_after(&self, pace: u64) -> u32 {
        let slot = self.writable_from();
        if pace == 0 {
            return slot;
        }
        slot.saturating_add(self.slots_in(pace.min(AHEAD_BYTES)))
    }

    /// The slots that are still to be prepared for durable commits to let the log grow by `pace` bytes.
    fn unprepared(&self, pace: u64) -> Option<Range<u32>> {
        let slot = self.writable_from();
        let target = self.slot_after(pace).min(self.segments.geometry().segment_slots());
        let slots = self.room.prepared.max(slot)..target;
        (!slots.is_empty() && self.unsynced_bytes() <= UNSYNCED_MAX).then_some(slots)
    }

    /// Whether [`Appender::prepare_ahead`] has anything to do.
    pub(crate) fn wants_room_ahead(&self, pace: u64) -> bool {
        self.unprepared(pace).is_some()
    }

    /// Writes zeros to a further piece ahead of the log, if any is wanted. Returns the segment, whose file is then to be synced, before
    /// the next piece.
    pub(crate) fn prepare_ahead(&mut self, pace: u64) -> Result<Option<u32>, AppendFailure> {
        let Some(slots) = self.unprepared(pace) else { return Ok(None) };
        // Nobody else writes to the file meanwhile.
        self.flush()?;
        let piece = self.slots_in(piece_bytes(self.segments.geometry()));
        let until = slots.start.saturating_add(piece).min(slots.end);
        self.reserve_until(until)?;
        self.write_zeros_until(until)?;
        Ok(Some(self.position.segment))
    }

    /// If the log has to go on in a fresh file when durable commits let it grow by `pace` bytes: how many bytes of that one it
    /// then comes to, in whole pieces.
    pub(crate) fn wants_spare(&self, pace: u64) -> Option<u64> {
        let geometry = self.segments.geometry();
        let beyond = self.slot_after(pace).saturating_sub(geometry.segment_slots());
        // Where the next segment stands ready the log enters no other file.
        let needs_file = self.position.next_is_fresh && !self.ready.is_some_and(Ready::is_durable);
        (needs_file && self.pool_len() == 0 && beyond > 0).then(|| {
            let with_header = geometry.offset(beyond.saturating_add(1));
            with_header.next_multiple_of(piece_bytes(geometry)).min(geometry.segment_bytes())
        })
    }
}

/// Calls `write` with zeros for all of `range`, [`CALL_BYTES`] at a time, and where they belong.
fn write_zeros<E>(range: Range<u64>, mut write: impl FnMut(&[u8], u64) -> Result<(), E>) -> Result<(), E> {
    for at in range.clone().step_by(CALL_BYTES) {
        let len = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(CALL_BYTES);
        write(&[0; CALL_BYTES][..len], at)?;
    }
    Ok(())
}

/// The spare file while it is written, in pieces that may lie far apart in time. Given up, nothing is left of it, or nothing that anybody
/// refers to.
pub(crate) struct SpareInMaking {
    file: Arc<dyn StorageFile>,
    /// Where the next piece begins.
    at: u64,
}

impl SpareInMaking {
    pub(crate) fn begin(segments: &Segments) -> Result<SpareInMaking> {
        let (storage, len) = (segments.storage(), segments.geometry().segment_bytes());
        let file = create_anew(storage, SPARE, len)?;
        file.reserve(0, len)
            .map_err(|error| disk_error("reserve room in", storage.path(SPARE), len, error))?;
        Ok(SpareInMaking { file, at: 0 })
    }

    /// Writes a further piece, and syncs it, and thereby the file's length. `true` once the file's first `until` bytes are zeros that were
    /// written, and all of it is durable.
    pub(crate) fn step(&mut self, segments: &Segments, until: u64) -> Result<bool> {
        let (storage, geometry) = (segments.storage(), segments.geometry());
        let (path, len) = (|| storage.path(SPARE), geometry.segment_bytes());
        // It may be there already, if less is wanted now.
        let end = until.min(self.at + piece_bytes(geometry)).max(self.at);
        write_zeros(self.at..end, |zeros, at| {
            let written = self.file.write_all_at(&[IoSlice::new(zeros)], at);
            written.map_err(|error| disk_error("write to", path(), len, error))
        })?;
        self.file.sync().map_err(|error| Error::io("sync", path(), error))?;
        self.at = end;
        if end >= until {
            storage.sync_dir().map_err(|error| Error::io("sync", storage.path(""), error))?;
        }
        Ok(end >= until)
    }

    /// The slots that were written.
    pub(crate) fn written(&self, segments: &Segments) -> u32 {
        u32::try_from(self.at / segments.geometry().page_bytes()).expect("at most a segment")
    }

    pub(crate) fn give_up(self, segments: &Segments) {
        // If this fails, the next opening finds a file that nothing refers to, and removes it.
        let _ = segments.storage().remove(SPARE);
    }
}
