//! The appender's open group: how small batches join it, and how it ends (see `group`).

use std::io::IoSlice;

use super::append::{Appender, Batch, Plan};
use super::failure::AppendFailure;
use super::group::{self, Group};
use super::handover::Job;
use super::layout::{Part, Shape};
use super::segment::file_name;
use crate::format::record::Record;
use crate::storage::{Mapping, StorageFile};

/// A group whose record is complete: where it lies in the tail, and what follows it.
struct Closed {
    start: u32,
    end: u32,
    mapping: Mapping,
    offset: usize,
    len: usize,
    digest: u128,
}

impl Appender {
    /// Where the pages of a small batch would lie in the open group, or in a new one.
    pub(super) fn join(&self, shape: Shape) -> Option<Part> {
        let geometry = self.segments.geometry();
        let pages = u32::try_from(shape.pages).ok()?;
        let (open, meta) = match &self.group {
            Some(group) => (group.pages.len(), group.meta.as_ref().map_or(0, Vec::len)),
            None => (0, 0),
        };
        let fits = |open: usize| {
            group::capacity(geometry.page_size(), meta.max(shape.extra_bytes))
                .is_some_and(|capacity| open + shape.pages <= capacity)
        };
        let ends = |slots: u32| {
            self.writable_from().checked_add(slots).is_some_and(|end| end <= geometry.segment_slots())
        };
        let header_slots = match &self.group {
            Some(_) if fits(open) && ends(pages) => 0,
            _ if fits(0) && ends(pages + 1) => 1,
            _ => return None,
        };
        let (slot, freed) = (self.position.slot, 0..0);
        Some(Part {
            segment: 0,
            slot,
            header_slots,
            pages: 0..shape.pages,
            freed,
            has_extra: shape.extra_bytes > 0,
        })
    }

    /// Lets a batch join the open group, or begin one.
    pub(super) fn append_to_group(
        &mut self,
        plan: &Plan,
        batch: &Batch<'_>,
        will_sync: bool,
    ) -> Result<(), AppendFailure> {
        let geometry = self.segments.geometry();
        let [part] = &plan.parts[..] else { return Ok(()) };
        if part.header_slots > 0 {
            self.flush_later()?;
        }
        let saved = self.position;
        if self.group.is_none() {
            let room = group::capacity(geometry.page_size(), 0).unwrap_or(0).max(part.pages.len()) + 1;
            let room = u32::try_from(room).unwrap_or(u32::MAX).min(geometry.segment_slots() - part.slot);
            self.make_room(room, false)?;
        }
        let slices: Vec<IoSlice<'_>> = batch.pages.iter().map(|(_, _, bytes)| IoSlice::new(bytes)).collect();
        self.write_tail(&slices, part.slot + part.header_slots)?;
        let mut group = self.group.take().unwrap_or_else(|| Group::new(part.slot));
        group.pages.extend(batch.pages.iter().map(|(id, checksum, _)| (*id, *checksum)));
        group.meta = batch.meta.map(<[u8]>::to_vec).or(group.meta);
        (group.version, group.durable) = (batch.version, batch.durable);
        (group.created_at_ms, group.page_count) = (batch.created_at_ms, batch.page_count);
        group.fingerprint = batch.fingerprint;
        group.batches += 1;
        self.position.slot = part.slot + part.slots();
        let is_alone = group.batches == 1;
        self.group = Some(group);
        if !will_sync {
            return Ok(());
        }
        match self.flush_as(will_sync) {
            // Nobody has seen the group's only batch yet, so it can still be refused.
            Err(AppendFailure::Clean(error)) if is_alone => {
                self.position = saved;
                Err(AppendFailure::Clean(error))
            }
            Err(AppendFailure::Clean(error) | AppendFailure::Fatal(error)) => {
                Err(AppendFailure::Fatal(error))
            }
            Ok(()) => Ok(()),
        }
    }

    /// Hands the open group and those before it to the system. A failure is fatal: their batches are published.
    pub(crate) fn flush(&mut self) -> Result<(), AppendFailure> {
        self.flush_as(false).map_err(AppendFailure::into_fatal)
    }

    fn flush_as(&mut self, will_sync: bool) -> Result<(), AppendFailure> {
        if let Some(handover) = &self.handover {
            handover.drain().map_err(AppendFailure::Fatal)?;
        }
        let Some(closed) = self.close_group(will_sync)? else { return Ok(()) };
        let whole =
            closed.mapping.slice(closed.offset, closed.len).expect("the group lies within the segment");
        self.write_or_erase(&[IoSlice::new(whole)], closed.start, closed.len as u64)?;
        self.count_group(&closed, will_sync);
        Ok(())
    }

    /// Leaves the open group for the store's thread, if there is one.
    fn flush_later(&mut self) -> Result<(), AppendFailure> {
        let Some(handover) = self.handover.clone() else { return self.flush() };
        let Some(closed) = self.close_group(false).map_err(AppendFailure::into_fatal)? else { return Ok(()) };
        self.note_write(self.position.segment);
        let file = self.active_file().map_err(AppendFailure::Fatal)?;
        let path = self.segments.storage().path(&file_name(self.position.segment));
        self.count_group(&closed, false);
        let Closed { mapping, offset, len, .. } = closed;
        let job = Job { file, path, tail: mapping, start: offset, len };
        handover.push(job).map_err(AppendFailure::Fatal)?;
        self.has_handed_over = true;
        Ok(())
    }

    fn count_group(&mut self, closed: &Closed, will_sync: bool) {
        self.note_appended(closed.len as u64, will_sync);
        self.room.prepared = self.room.prepared.max(closed.end);
        self.position.digest = closed.digest;
        self.has_stale_end = false;
    }

    /// Ends the open group: its record stands in the tail, before its pages.
    fn close_group(&mut self, will_sync: bool) -> Result<Option<Closed>, AppendFailure> {
        let Some(group) = self.group.take() else { return Ok(None) };
        let geometry = self.segments.geometry();
        let pages = u32::try_from(group.pages.len()).expect("a group is bounded");
        let record = Record {
            slot: u64::from(group.start),
            version: group.version,
            durable: group.durable,
            created_at_ms: group.created_at_ms,
            data_slots: pages,
            page_count: group.page_count,
            fingerprint: group.fingerprint,
            pages: group.pages,
            meta: group.meta,
            ..self.blank_record()
        };
        let (header, digest) = record.encode(geometry.page_size());
        self.write_tail(&[IoSlice::new(&header)], group.start)?;
        let end = self.position.slot;
        self.position.slot = group.start;
        let prepared = self.make_room(pages + 1, will_sync);
        self.position.slot = end;
        prepared?;
        let bytes = u64::from(pages + 1) * geometry.page_bytes();
        let tail = self.tail.clone().expect("the group stands in the tail");
        let segment_bytes = usize::try_from(geometry.segment_bytes()).unwrap_or(usize::MAX);
        let mapping = StorageFile::map(&*tail, segment_bytes);
        let mapping = mapping.map_err(|error| AppendFailure::Fatal(self.tail_error(error)))?;
        let offset = usize::try_from(geometry.offset(group.start)).unwrap_or(usize::MAX);
        let len = usize::try_from(bytes).unwrap_or(usize::MAX);
        Ok(Some(Closed { start: group.start, end, mapping, offset, len, digest }))
    }
}
