//! The tail: the memory from which readers read what this session has written to the active segment.

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

use std::io::IoSlice;
use std::sync::Arc;

use super::append::Appender;
use super::failure::AppendFailure;
use super::segment::file_name;
use crate::error::Error;
use crate::storage::{MemoryFile, StorageFile};

/// Tails that are kept for segments to come: one that may still be read, and the one before it.
const LEFT_TAILS: usize = 2;

impl Appender {
    pub(super) fn tail_error(&self, error: std::io::Error) -> Error {
        Error::io("keep in memory", self.segments.storage().path(&file_name(self.position.segment)), error)
    }

    /// Puts bytes where readers of the active segment find them.
    pub(super) fn write_tail(&mut self, buffers: &[IoSlice<'_>], slot: u32) -> Result<(), AppendFailure> {
        let geometry = self.segments.geometry();
        let tail = match &self.tail {
            Some(tail) => tail.clone(),
            None => {
                let free = self.left_tails.iter().position(|left| !left.is_mapped());
                let left = free.map(|index| self.left_tails.remove(index));
                let fail = |error| AppendFailure::Clean(self.tail_error(error));
                let is_fork = self.segments.own_from() > 0;
                let tail = match left {
                    Some(left) => left,
                    None => {
                        MemoryFile::alone(geometry.segment_bytes(), is_fork).map(Arc::new).map_err(fail)?
                    }
                };
                let len = usize::try_from(geometry.segment_bytes()).unwrap_or(usize::MAX);
                let mapping = StorageFile::map(&*tail, len).map_err(fail)?;
                self.segments.read_from_tail(self.position.segment, slot, mapping);
                self.tail = Some(tail.clone());
                tail
            }
        };
        tail.write_all_at(buffers, geometry.offset(slot))
            .map_err(|error| AppendFailure::Clean(self.tail_error(error)))
    }

    /// Lets the tail of the segment that the log leaves go, or keeps it for the segment after the next while a thread is there to
    /// let it go when the store is calm: until a grace period has passed, views may still read it.
    pub(super) fn leave_tail(&mut self) {
        let left = self.tail.take();
        if self.handover.is_some() {
            self.left_tails.extend(left);
            let surplus = self.left_tails.len().saturating_sub(LEFT_TAILS);
            self.left_tails.drain(..surplus);
        }
    }

    /// Where the active segment is read from.
    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) fn tail(&self) -> Option<Arc<MemoryFile>> {
        self.tail.clone()
    }

    /// The tails that the log has left, for who gives their memory back.
    pub(crate) fn take_left_tails(&mut self) -> Vec<Arc<MemoryFile>> {
        std::mem::take(&mut self.left_tails)
    }
}
