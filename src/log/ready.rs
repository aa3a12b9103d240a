//! The segment in which the log goes on next, made ready beside commits: its file, and its header, which is durable before the
//! log comes there. Nothing is then synced on the way into it, and no commit waits behind what else the disk has to write.
//!
//! Such a header is *open*: it doesn't say which record comes before the segment, since nobody knows yet; the first record behind it
//! does. Three steps under the commit lock, the syncs between them without it. If the log comes there before
//! the last, it makes the segment's header itself, under the same number or a higher generation, and the rest is left undone.

use std::io::IoSlice;

use super::ahead::Room;
use super::append::{Appender, Position};
use super::backing::disk_error;
use super::failure::AppendFailure;
use super::segment::{Segment, Segments, file_name};
use super::unsynced::sync_apart;
use crate::error::Error;
use crate::format::segment::SegmentHeader;
use crate::id::Version;
use crate::sync::atomic::Ordering;

/// See the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    /// The segment after it, which its header names, and whether that one's file is still to be created.
    pub(super) next: u32,
    pub(super) next_is_fresh: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No more than the number after it is chosen.
    Begun,
    Durable(Entrance),
}

/// What is known of a segment that the log can enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entrance {
    generation: u32,
    /// The file was made or renamed for it.
    is_new: bool,
    /// Slots of the file that were written before.
    written: u32,
}

/// A segment that is being made ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Making {
    number: u32,
    sequence: u64,
    /// The file was made just now, and its length isn't durable.
    is_made: bool,
    is_new: bool,
    written: u32,
    generation: u32,
    /// The header's write, for [`Appender::synced`].
    write: u64,
}

impl Ready {
    /// Whether the log can enter it.
    pub(super) fn is_durable(self) -> bool {
        matches!(self.stage, Stage::Durable(_))
    }

    /// How many slots of its file were written before, as far as the log can enter it.
    pub(super) fn written(self) -> u32 {
        match self.stage {
            Stage::Begun => 0,
            Stage::Durable(entrance) => entrance.written,
        }
    }

    /// What is left of it when the log has stepped back from the segment.
    pub(super) fn stepped_back(self) -> Ready {
        Ready { stage: Stage::Begun, ..self }
    }
}

impl Appender {
    /// Whether the log will soon leave its segment for one that isn't ready.
    pub(crate) fn wants_next(&self) -> bool {
        self.ready.is_none() && self.writable_from() > self.segments.geometry().segment_slots() / 16
    }

    /// How many slots were written before of a file that is in use under the segment's name, when the log comes there at `sequence`: all,
    /// unless it came there before and has stepped back.
    pub(super) fn written_in(&self, segment: &Segment, sequence: u64) -> u32 {
        let is_older = self.files.get(&segment.number).is_some_and(|(_, at)| *at < sequence);
        let was_used = is_older && self.segments.generation(segment) > 0;
        if was_used { self.segments.geometry().segment_slots() } else { 0 }
    }

    /// Begins to make the next segment ready: sees to it that it has a file.
    pub(crate) fn begin_next(&mut self) -> Result<Option<Making>, AppendFailure> {
        let Some((next, next_is_fresh)) = self.wants_next().then(|| self.take_coming()).flatten() else {
            return Ok(None);
        };
        self.ready = Some(Ready { next, next_is_fresh, stage: Stage::Begun });
        self.gauges.wants_next.store(false, Ordering::Relaxed);
        let Position { next: number, next_is_fresh: is_new, .. } = self.position;
        let sequence = self.position.sequence + 1;
        let segments = self.segments.clone();
        let segment = segments.add(number, 0);
        let spare = if is_new { self.adopt_spare(segment) } else { None };
        let is_made = is_new && spare.is_none();
        if is_made {
            segments.create_file(segment).map_err(AppendFailure::Clean)?;
        }
        let written = if is_new { spare.unwrap_or(0) } else { self.written_in(segment, sequence) };
        let generation = segments.generation(segment) + 1;
        Ok(Some(Making { number, sequence, is_made, is_new, written, generation, write: 0 }))
    }

    /// Whether the log has not come to the segment, or given it up, since [`Appender::begin_next`].
    pub(crate) fn is_making(&self, making: &Making) -> bool {
        let Position { next, sequence, .. } = self.position;
        let is_begun = self.ready.is_some_and(|ready| ready.stage == Stage::Begun);
        let generation = self.segments.get(next).map(|segment| self.segments.generation(segment));
        is_begun
            && (next, sequence + 1) == (making.number, making.sequence)
            && generation == Some(making.generation - 1)
    }

    /// Writes the header, once the length of the file is durable. `false`: there is nothing more to do.
    pub(crate) fn write_next_header(
        &mut self,
        making: &mut Making,
        durable: Version,
    ) -> Result<bool, AppendFailure> {
        let Some(ready) = self.ready.filter(|_| self.is_making(making)) else { return Ok(false) };
        let geometry = self.segments.geometry();
        let header = SegmentHeader {
            store_id: self.segments.store_id(),
            number: making.number,
            generation: making.generation,
            page_size: geometry.page_size(),
            slots: geometry.segment_slots(),
            sequence: making.sequence,
            next: ready.next,
            previous_digest: None,
            durable,
        };
        let bytes = header.encode_slot();
        let segment = self.segments.add(making.number, 0);
        let file = self.segments.file_for_writing(segment).map_err(AppendFailure::Clean)?;
        let written = file.write_all_at(&[IoSlice::new(&bytes)], 0);
        self.note_write(making.number);
        making.write = self.writes;
        let path = || self.segments.storage().path(&file_name(making.number));
        // Nobody has followed the log to a header that found no room, and whoever comes here writes it anew.
        written.map(|()| true).map_err(|error| {
            AppendFailure::of_write(disk_error("write to", path(), bytes.len() as u64, error))
        })
    }

    /// Lets the log go on in the segment, whose header is durable.
    pub(crate) fn next_is_ready(&mut self, making: &Making) {
        if !self.is_making(making) {
            return;
        }
        let Making { number, sequence, is_new, written, generation, write, .. } = *making;
        let entrance = Entrance { generation, is_new, written };
        self.ready = self.ready.map(|ready| Ready { stage: Stage::Durable(entrance), ..ready });
        self.files.insert(number, (generation, sequence));
        self.segments.begin_generation(self.segments.add(number, 0), generation);
        self.synced(&[(number, write)]);
    }

    /// Lets the log go on in the next segment, if that is ready.
    pub(super) fn enter_ready(&mut self) -> Result<bool, AppendFailure> {
        let Some(Ready { next, next_is_fresh, stage: Stage::Durable(entrance) }) = self.ready else {
            return Ok(false);
        };
        let Position { segment: left, next: number, sequence, digest, .. } = self.position;
        if entrance.is_new {
            // It has a file, but not yet the room for what comes.
            self.check_reserve(number)?;
            self.has_made_file = true;
        }
        self.ready = None;
        let (generation, sequence) = (entrance.generation, sequence + 1);
        self.position =
            Position { segment: number, generation, sequence, slot: 1, digest, next, next_is_fresh };
        self.room = Room::on_entry(entrance.written, self.segments.geometry());
        self.leave_tail();
        self.segments.read_from_file(left);
        self.note_appended(self.segments.geometry().page_bytes(), false);
        self.show_pool();
        Ok(true)
    }
}

/// Syncs what was done of a segment's making, without the commit lock.
pub(crate) fn sync_making(segments: &Segments, making: &Making) -> Result<(), AppendFailure> {
    // Recovery takes a file of another length than a whole one's for a cut one, so that is durable before the header is written.
    match making.write {
        0 if !making.is_made => Ok(()),
        0 => sync_apart(segments, making.number),
        _ => {
            sync_apart(segments, making.number)?;
            if !making.is_new {
                return Ok(());
            }
            let failed = |error| AppendFailure::Fatal(Error::io("sync", segments.storage().path(""), error));
            segments.storage().sync_dir().map_err(failed)
        }
    }
}
