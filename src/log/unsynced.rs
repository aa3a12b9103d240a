//! What was written to the log and no sync has followed yet, and the sync: under the commit lock, or beside commits.

use super::append::Appender;
use super::failure::AppendFailure;
use super::segment::{Segments, file_name};
use crate::error::{Error, Result};
use crate::sync::atomic::Ordering;

impl Appender {
    /// Marks a segment as one that needs a sync.
    pub(super) fn note_write(&mut self, number: u32) {
        self.writes += 1;
        let write = self.writes;
        match self.unsynced.iter_mut().find(|(segment, _)| *segment == number) {
            Some(mark) => mark.1 = write,
            None => self.unsynced.push((number, write)),
        }
    }

    /// Makes all that was appended durable.
    pub(crate) fn sync(&mut self) -> Result<(), AppendFailure> {
        self.flush()?;
        for (number, _) in &self.unsynced {
            sync_file(&self.segments, *number).map_err(AppendFailure::Fatal)?;
        }
        let done = std::mem::take(&mut self.unsynced);
        self.close_left(&done);
        self.note_synced();
        Ok(())
    }

    /// Closes the files of those segments that the log has left.
    fn close_left(&self, synced: &[(u32, u64)]) {
        for (number, _) in synced.iter().filter(|(number, _)| *number != self.position.segment) {
            self.segments.close_synced(*number);
        }
    }

    /// What a sync without the commit lock has to sync, once [`Appender::flush`] was called; to be handed to [`sync_files`] and back to [`Appender::synced`].
    pub(crate) fn unsynced(&self) -> Vec<(u32, u64)> {
        self.unsynced.clone()
    }

    /// Takes note that these were synced; segments that were written to meanwhile stay unsynced.
    pub(crate) fn synced(&mut self, done: &[(u32, u64)]) {
        let (done, rest): (Vec<_>, Vec<_>) = self.unsynced.drain(..).partition(|mark| done.contains(mark));
        self.unsynced = rest;
        self.close_left(&done);
        self.note_synced();
    }

    /// Takes note that nothing of a segment needs a sync any more: its file was just synced, or is gone.
    pub(super) fn forget_writes(&mut self, number: u32) {
        self.unsynced.retain(|(unsynced, _)| *unsynced != number);
    }

    fn note_synced(&mut self) {
        if self.unsynced.is_empty() {
            self.synced_at = self.gauges.appended.load(Ordering::Relaxed);
        }
    }

    /// Roughly how many bytes a sync would have to wait for.
    pub(super) fn unsynced_bytes(&self) -> u64 {
        self.gauges.appended.load(Ordering::Relaxed).saturating_sub(self.synced_at)
    }
}

/// Syncs the listed segments; callable without the commit lock.
pub(crate) fn sync_files(segments: &Segments, unsynced: &[(u32, u64)]) -> Result<(), AppendFailure> {
    unsynced.iter().try_for_each(|(number, _)| sync_apart(segments, *number))
}

/// Syncs a segment's file beside commits. It does so through a handle of its own: the kernel tells a failure to write back to each
/// open file once (Linux, lib/errseq.c), so one that it tells here it tells the commit that syncs at the same moment too.
pub(crate) fn sync_apart(segments: &Segments, number: u32) -> Result<(), AppendFailure> {
    let segment = segments.get(number).expect("a written segment is known");
    let (name, storage) = (segments.file_of(segment).0, segments.storage());
    // A file that can't be opened just now, for want of handles say, hasn't lost anything.
    let file = storage
        .open(&name)
        .map_err(|error| AppendFailure::Clean(Error::io("open", storage.path(&name), error)))?;
    file.sync().map_err(|error| AppendFailure::Fatal(Error::io("sync", storage.path(&name), error)))
}

pub(super) fn sync_file(segments: &Segments, number: u32) -> Result<()> {
    let segment = segments.get(number).expect("a written segment is known");
    let path = || segments.storage().path(&file_name(number));
    segments.file(segment)?.sync().map_err(|error| Error::io("sync", path(), error))
}
