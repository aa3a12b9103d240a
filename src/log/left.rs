//! An active segment whose file another store has too, by a clone's link: nothing more is written to it.
//!
//! The appender only takes note of that, and whatever is appended next goes to the next segment, which the log enters in its
//! ordinary way; until then, and for ever if nobody writes, it costs nothing. The log's end stays where it is, in catalogs too: recovery
//! finds no record there, and goes on in the next segment if there is one. What it could mistake for one is made unreadable before the
//! note is taken, since afterwards it can't be. Notes end with the session; an opening tells by the file's links.

use super::append::{Appender, Position};
use super::failure::AppendFailure;
use crate::error::Result;
use crate::id::Version;
use crate::sync::atomic::Ordering;

impl Appender {
    /// The first slot of the active segment that may be written to: its end if it is left alone.
    pub(super) fn writable_from(&self) -> u32 {
        if self.room.is_left { self.segments.geometry().segment_slots() } else { self.position.slot }
    }

    /// Hands to the system what the active segment is to hold, and writes no more to its file. What was not durable before is still to
    /// be synced.
    pub(crate) fn leave_alone(&mut self, durable: Version) -> Result<(), AppendFailure> {
        self.flush()?;
        if self.room.is_left {
            return Ok(());
        }
        self.close_empty(durable)?;
        if self.blank_end()? {
            // Its sync was one of all that was written to the file.
            self.forget_writes(self.position.segment);
        }
        self.room.is_left = true;
        self.gauges.wants_next.store(self.wants_next(), Ordering::Relaxed);
        Ok(())
    }

    /// Leaves the file alone in which an opening has found the log's end, if another store has it too. `is_torn`: what was found there
    /// has to be made unreadable. No clone is linked to such an end; where a link was made by other means, or nobody can tell, the
    /// segment gets a file of its own.
    pub(crate) fn leave_shared(&mut self, is_torn: bool) -> Result<()> {
        let Position { segment: number, slot, .. } = self.position;
        let Some(segment) = self.segments.get(number).filter(|_| self.segments.is_shared(number)) else {
            return Ok(());
        };
        // The header of a segment with nothing in it may have to be written once more.
        if is_torn || slot <= 1 {
            return self.segments.copy_file(segment);
        }
        (self.room.is_left, self.has_stale_end) = (true, false);
        Ok(())
    }
}
