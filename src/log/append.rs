//! The log's end: where batches are written, and how it moves from segment to segment.
//!
//! One thread at a time appends (whoever holds the commit lock). A failure is either *clean* (nothing was damaged: a
//! full disk; the position stays where it was, and what was written behind it is overwritten by the next batch)
//! or *fatal* (a write or a sync failed in another way: nobody can tell what the disk holds, so the store must take
//! no more writes; an fsync error is never retried).
//!
//! Small synced batches go where the file was written before, because overwriting allocated, written blocks syncs in
//! about half the time of extending a file: a recycled segment is such a file, a fresh one is written with zeros
//! ahead of the log, [`PREPARE_BYTES`] at a time.
//!
//! Everything that is written also goes to the tail, the memory from which readers read what this session has written
//! to the active segment; small batches stay there for a while, as an open [`Group`], before they go to the file.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;

use super::geometry::Geometry;
use super::group::{self, Group};
use super::layout::{Part, Shape, plan};
use super::segment::{Segments, disk_error, file_name};
use crate::error::{Error, Result};
use crate::format::checksum::PageChecksum;
use crate::format::record::{Record, RecordKind};
use crate::format::segment::SegmentHeader;
use crate::id::{Fingerprint, Location, PageId, Version};
use crate::storage::{MemoryStorage, Storage, StorageFile};
use crate::sync::atomic::Ordering;

/// How far ahead of the log a fresh segment is filled with zeros.
const PREPARE_BYTES: u64 = 1 << 20;
/// How far ahead of the log disk blocks are set aside.
const RESERVE_BYTES: u64 = 4 << 20;

/// Why an append failed, and what that means for the store.
#[derive(Debug)]
pub(crate) enum AppendFailure {
    /// The batch is not there, everything else is as before.
    Clean(Error),
    /// Nobody knows what the disk holds: the store must be poisoned.
    Fatal(Error),
}

/// The log's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) segment: u32,
    pub(crate) generation: u32,
    pub(crate) sequence: u64,
    /// The first free slot.
    pub(crate) slot: u32,
    /// The digest of the last record.
    pub(crate) digest: u128,
    /// The segment in which the log goes on, and whether its file is still to be created.
    pub(crate) next: u32,
    pub(crate) next_is_fresh: bool,
}

/// What a batch says, beside its pages.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) version: Version,
    pub(crate) durable: Version,
    pub(crate) created_at_ms: u64,
    pub(crate) truncate_to: Option<u64>,
    pub(crate) page_count: u64,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) meta: Option<&'a [u8]>,
    pub(crate) freed: &'a [(PageId, u64)],
    pub(crate) pages: &'a [(PageId, PageChecksum, &'a [u8])],
    /// For a batch that is appended in several calls: parts that were appended before, and whether this call ends it.
    pub(crate) first_part: u32,
    pub(crate) is_final: bool,
}

/// Where a batch will lie.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The batch's parts; or, for one that joins the open group, its pages as if they were one.
    parts: Vec<Part>,
    /// The numbers of the segments that the parts count from the active one.
    segments: Vec<u32>,
    geometry: Geometry,
    joins_group: bool,
}

impl Plan {
    /// The number of records that the batch becomes.
    pub(crate) fn part_count(&self) -> u32 {
        u32::try_from(self.parts.len()).unwrap_or(u32::MAX)
    }

    /// The locations of the batch's pages, in their order.
    pub(crate) fn locations(&self) -> impl Iterator<Item = Location> {
        self.parts.iter().flat_map(|part| part.locations(self.geometry, self.segments[part.segment]))
    }
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Appender {
    segments: Arc<Segments>,
    session: u64,
    position: Position,
    /// Every segment that has a file: its generation and its place in the log.
    files: BTreeMap<u32, (u32, u64)>,
    /// Recycled segments, ready for use.
    pool: Vec<u32>,
    /// The lowest number that no segment ever had.
    fresh: u32,
    /// Slots of the active segment before this one were written before, or filled with zeros.
    prepared: u32,
    /// Slots of the active segment before this one have disk blocks.
    reserved: u32,
    /// Segments with writes that no sync followed yet, with the number of their last write.
    unsynced: Vec<(u32, u64)>,
    writes: u64,
    /// What readers read of the active segment, from the first slot on that this session has written.
    tail: Option<Arc<dyn StorageFile>>,
    group: Option<Group>,
    /// Bytes of records and pages appended, and of zeros written ahead, since opening.
    appended_bytes: u64,
    prepared_bytes: u64,
}

impl Appender {
    /// Goes on at `position`; `files` are the segments that have a file: generation and place in the log.
    pub(crate) fn new(
        segments: Arc<Segments>,
        session: u64,
        position: Position,
        files: BTreeMap<u32, (u32, u64)>,
    ) -> Appender {
        let known = files.keys().next_back().copied().unwrap_or(0);
        let fresh = known.max(position.next).saturating_add(1);
        // A file that was in use before was written whole, as good as.
        let is_recycled = position.generation > 1;
        let prepared = if is_recycled { segments.geometry().segment_slots() } else { position.slot };
        Appender {
            segments,
            session,
            position,
            files,
            pool: Vec::new(),
            fresh,
            prepared,
            reserved: prepared,
            unsynced: Vec::new(),
            writes: 0,
            tail: None,
            group: None,
            appended_bytes: 0,
            prepared_bytes: 0,
        }
    }

    pub(crate) fn position(&self) -> Position {
        self.position
    }

    pub(crate) fn appended_bytes(&self) -> u64 {
        self.appended_bytes
    }

    pub(crate) fn prepared_bytes(&self) -> u64 {
        self.prepared_bytes
    }

    /// Every segment that has a file: (number, generation, place in the log).
    pub(crate) fn files(&self) -> impl Iterator<Item = (u32, u32, u64)> {
        self.files.iter().map(|(number, (generation, sequence))| (*number, *generation, *sequence))
    }

    /// The number of segments that stand ready for use.
    pub(crate) fn pool_len(&self) -> usize {
        self.pool.len()
    }

    /// Takes wholly dead segments from before `log_start` back for use: nothing that is live, nothing that the durable
    /// roots reach and no part of the log that recovery may need lies in them (invariants 8 and 9).
    pub(crate) fn recycle_dead(&mut self, log_start: u64) {
        let Position { segment, next, .. } = self.position;
        for (number, (_, sequence)) in &self.files {
            let is_dead =
                self.segments.get(*number).is_some_and(|s| s.allocated.load(Ordering::Acquire) == 0);
            if is_dead
                && *sequence < log_start
                && *number != segment
                && *number != next
                && !self.pool.contains(number)
            {
                self.pool.push(*number);
            }
        }
    }

    /// Whether a batch of this shape leads out of the active segment.
    pub(crate) fn leaves_segment(&self, plan: &Plan) -> bool {
        plan.parts.last().is_some_and(|part| part.segment > 0)
    }

    /// Lays a batch out from the log's end on. `is_plain`: it only writes pages and meta.
    pub(crate) fn plan(&self, shape: Shape, is_plain: bool) -> Plan {
        let geometry = self.segments.geometry();
        if is_plain && let Some(part) = self.join(shape) {
            return Plan {
                parts: vec![part],
                segments: vec![self.position.segment],
                geometry,
                joins_group: true,
            };
        }
        let parts = plan(geometry, self.position.slot, shape);
        let last = parts.last().map_or(0, |part| part.segment);
        let mut segments = vec![self.position.segment, self.position.next];
        let (mut pool, mut fresh) = (self.pool.iter().rev(), self.fresh);
        while segments.len() <= last {
            segments.push(pool.next().copied().unwrap_or_else(|| {
                fresh += 1;
                fresh - 1
            }));
        }
        Plan { parts, segments, geometry, joins_group: false }
    }

    /// Where the pages of a small batch would lie in the open group, or in a new one.
    fn join(&self, shape: Shape) -> Option<Part> {
        let geometry = self.segments.geometry();
        let pages = u32::try_from(shape.pages).ok()?;
        let (open, meta) = match &self.group {
            Some(group) => (group.pages.len(), group.meta.as_ref().map_or(0, Vec::len)),
            None => (0, 0),
        };
        let fits = |open: usize| {
            group::capacity(geometry.page_size(), meta.max(shape.meta_bytes))
                .is_some_and(|capacity| open + shape.pages <= capacity)
        };
        let ends = |slots: u32| {
            self.position.slot.checked_add(slots).is_some_and(|end| end <= geometry.segment_slots())
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
            has_meta: shape.meta_bytes > 0,
        })
    }

    /// Writes a batch as planned. It is not durable before [`Appender::sync`].
    pub(crate) fn append(
        &mut self,
        plan: &Plan,
        batch: &Batch<'_>,
        will_sync: bool,
    ) -> Result<(), AppendFailure> {
        if plan.joins_group {
            return self.append_to_group(plan, batch, will_sync);
        }
        self.flush()?;
        self.or_step_back(|appender| appender.append_parts(plan, batch))
    }

    /// Writes something, or leaves the log's end where it was.
    fn or_step_back(
        &mut self,
        write: impl FnOnce(&mut Appender) -> Result<(), AppendFailure>,
    ) -> Result<(), AppendFailure> {
        let saved = (self.position, self.pool.clone(), self.fresh, self.prepared, self.reserved);
        let done = write(self);
        if done.is_err() {
            let left = self.position.segment;
            (self.position, self.pool, self.fresh, self.prepared, self.reserved) = saved;
            if left != self.position.segment {
                // The tail went on with the log; what it held of the segment before is in the file.
                self.tail = None;
            }
        }
        done
    }

    /// Lets a batch join the open group, or begin one.
    fn append_to_group(
        &mut self,
        plan: &Plan,
        batch: &Batch<'_>,
        will_sync: bool,
    ) -> Result<(), AppendFailure> {
        let geometry = self.segments.geometry();
        let [part] = &plan.parts[..] else { return Ok(()) };
        if part.header_slots > 0 {
            self.flush()?;
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

    /// Hands the open group to the system. A failure is fatal: its batches are published.
    pub(crate) fn flush(&mut self) -> Result<(), AppendFailure> {
        self.flush_as(false).map_err(|failure| match failure {
            AppendFailure::Clean(error) | AppendFailure::Fatal(error) => AppendFailure::Fatal(error),
        })
    }

    fn flush_as(&mut self, will_sync: bool) -> Result<(), AppendFailure> {
        let Some(group) = self.group.take() else { return Ok(()) };
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
        let mapping = tail.map(usize::try_from(geometry.segment_bytes()).unwrap_or(usize::MAX));
        let mapping = mapping.map_err(|error| AppendFailure::Fatal(self.tail_error(error)))?;
        let start = usize::try_from(geometry.offset(group.start)).unwrap_or(usize::MAX);
        let whole = mapping.slice(start, usize::try_from(bytes).unwrap_or(usize::MAX));
        let whole = whole.expect("the group lies within the segment");
        self.write_or_erase(&[IoSlice::new(whole)], group.start, bytes)?;
        self.appended_bytes += bytes;
        self.prepared = self.prepared.max(end);
        self.position.digest = digest;
        Ok(())
    }

    fn tail_error(&self, error: std::io::Error) -> Error {
        Error::io("keep in memory", self.segments.storage().path(&file_name(self.position.segment)), error)
    }

    /// Puts bytes where readers of the active segment find them.
    fn write_tail(&mut self, buffers: &[IoSlice<'_>], slot: u32) -> Result<(), AppendFailure> {
        let geometry = self.segments.geometry();
        let tail = match &self.tail {
            Some(tail) => tail.clone(),
            None => {
                let fail = |error| AppendFailure::Clean(self.tail_error(error));
                let tail = MemoryStorage::new().create("tail", geometry.segment_bytes()).map_err(fail)?;
                let len = usize::try_from(geometry.segment_bytes()).unwrap_or(usize::MAX);
                let mapping = tail.map(len).map_err(fail)?;
                self.segments.read_from_tail(self.position.segment, slot, mapping);
                self.tail = Some(tail.clone());
                tail
            }
        };
        tail.write_all_at(buffers, geometry.offset(slot))
            .map_err(|error| AppendFailure::Clean(self.tail_error(error)))
    }

    fn append_parts(&mut self, plan: &Plan, batch: &Batch<'_>) -> Result<(), AppendFailure> {
        let mut active = 0;
        for (index, part) in (0u32..).zip(&plan.parts) {
            while active < part.segment {
                self.rotate(batch.durable)?;
                active += 1;
            }
            debug_assert_eq!(self.position.segment, plan.segments[part.segment]);
            debug_assert!(part.slot >= self.position.slot);
            self.position.slot = part.slot;
            let pages = &batch.pages[part.pages.clone()];
            let record = Record {
                kind: RecordKind::Commit,
                is_last: batch.is_final && index as usize + 1 == plan.parts.len(),
                version: batch.version,
                durable: batch.durable,
                created_at_ms: batch.created_at_ms,
                part: batch.first_part + index,
                header_slots: part.header_slots,
                data_slots: part.slots() - part.header_slots,
                truncate_to: batch.truncate_to.filter(|_| index == 0),
                page_count: batch.page_count,
                fingerprint: batch.fingerprint,
                pages: pages.iter().map(|(id, checksum, _)| (*id, *checksum)).collect(),
                freed: batch.freed[part.freed.clone()].to_vec(),
                meta: batch.meta.filter(|_| index == 0).map(<[u8]>::to_vec),
                ..self.blank_record()
            };
            let data: Vec<&[u8]> = pages.iter().map(|(_, _, bytes)| *bytes).collect();
            self.write_record(&record, &data)?;
        }
        Ok(())
    }

    /// Appends serialised table nodes. `make` gets the address at which the nodes will begin, in the segment's bytes,
    /// and the bytes that there is room for; it returns at most so many.
    pub(crate) fn append_nodes(
        &mut self,
        version: Version,
        durable: Version,
        bytes_min: u64,
        make: &mut dyn FnMut(u32, u64, u64) -> Vec<u8>,
    ) -> Result<(), AppendFailure> {
        self.flush()?;
        let geometry = self.segments.geometry();
        let slots_min = u32::try_from(bytes_min.div_ceil(geometry.page_bytes())).expect("a few slots");
        if self.position.slot + 1 + slots_min > geometry.segment_slots() {
            self.or_step_back(|appender| appender.rotate(durable))?;
        }
        let first = self.position.slot + 1;
        let room = (geometry.segment_slots() - first).min(super::layout::part_slots_max(geometry) - 1);
        let bytes =
            make(self.position.segment, geometry.offset(first), u64::from(room) * geometry.page_bytes());
        let padded = bytes.len().next_multiple_of(geometry.page_size() as usize);
        let data_slots = u32::try_from(padded / geometry.page_size() as usize).expect("within a segment");
        debug_assert!(data_slots <= room);
        let record = Record {
            kind: RecordKind::Nodes,
            is_last: true,
            version,
            durable,
            data_slots,
            ..self.blank_record()
        };
        let padding = vec![0; padded - bytes.len()];
        self.write_record(&record, &[&bytes, &padding])
    }

    fn blank_record(&self) -> Record {
        Record {
            kind: RecordKind::Commit,
            is_last: true,
            store_id: self.segments.store_id(),
            segment: self.position.segment,
            generation: self.position.generation,
            slot: u64::from(self.position.slot),
            version: Version(0),
            durable: Version(0),
            session: self.session,
            previous_digest: self.position.digest,
            created_at_ms: 0,
            part: 0,
            header_slots: 1,
            data_slots: 0,
            truncate_to: None,
            page_count: 0,
            fingerprint: Fingerprint::EMPTY,
            pages: Vec::new(),
            freed: Vec::new(),
            meta: None,
        }
    }

    fn write_record(&mut self, record: &Record, data: &[&[u8]]) -> Result<(), AppendFailure> {
        let geometry = self.segments.geometry();
        let slots = record.header_slots + record.data_slots;
        self.make_room(slots, false)?;
        let (header, digest) = record.encode(geometry.page_size());
        let mut buffers = Vec::with_capacity(1 + data.len());
        buffers.push(IoSlice::new(&header));
        buffers.extend(data.iter().map(|bytes| IoSlice::new(bytes)));
        self.write_tail(&buffers, self.position.slot)?;
        self.write_or_erase(&buffers, self.position.slot, u64::from(slots) * geometry.page_bytes())?;
        self.appended_bytes += u64::from(slots) * geometry.page_bytes();
        self.position.slot += slots;
        self.prepared = self.prepared.max(self.position.slot);
        self.position.digest = digest;
        Ok(())
    }

    fn active_file(&self) -> Result<Arc<dyn StorageFile>> {
        let segment = self.segments.get(self.position.segment).expect("the active segment is known");
        self.segments.file(segment)
    }

    /// Writes a record or a header. If the disk is too full for all of it, what was written is made unreadable, durably:
    /// its end may be zeros that are there anyway, and recovery would take what was refused for a commit.
    fn write_or_erase(&mut self, buffers: &[IoSlice<'_>], slot: u32, len: u64) -> Result<(), AppendFailure> {
        let geometry = self.segments.geometry();
        let refused = match self.write_file(buffers, geometry.offset(slot), len) {
            Err(AppendFailure::Clean(refused)) => refused,
            done => return done,
        };
        let zeros = vec![0; geometry.page_size() as usize];
        match self.write_file(&[IoSlice::new(&zeros)], geometry.offset(slot), geometry.page_bytes()) {
            Ok(()) => sync_file(&self.segments, self.position.segment).map_err(AppendFailure::Fatal)?,
            Err(AppendFailure::Clean(error) | AppendFailure::Fatal(error)) => {
                return Err(AppendFailure::Fatal(error));
            }
        }
        Err(AppendFailure::Clean(refused))
    }

    fn write_file(&mut self, buffers: &[IoSlice<'_>], offset: u64, len: u64) -> Result<(), AppendFailure> {
        let path = || self.segments.storage().path(&file_name(self.position.segment));
        let written = self.active_file().map_err(AppendFailure::Fatal)?.write_all_at(buffers, offset);
        // The mark is set whether or not the write succeeded: part of it may be there.
        self.writes += 1;
        let (number, write) = (self.position.segment, self.writes);
        match self.unsynced.iter_mut().find(|(segment, _)| *segment == number) {
            Some(mark) => mark.1 = write,
            None => self.unsynced.push((number, write)),
        }
        written.map_err(|error| match disk_error("write to", path(), len, error) {
            full @ Error::Full { .. } => AppendFailure::Clean(full),
            other => AppendFailure::Fatal(other),
        })
    }

    /// Sees to it that the next `slots` slots have disk blocks and, where it pays, were written before.
    fn make_room(&mut self, slots: u32, prepare: bool) -> Result<(), AppendFailure> {
        let geometry = self.segments.geometry();
        let (start, end) = (self.position.slot, self.position.slot + slots);
        let slots_of = |bytes: u64| u32::try_from(bytes / geometry.page_bytes()).expect("a few MiB");
        if end > self.reserved {
            let until = end.saturating_add(slots_of(RESERVE_BYTES)).min(geometry.segment_slots());
            let from = self.reserved.max(start);
            let (offset, len) = (geometry.offset(from), geometry.offset(until) - geometry.offset(from));
            let path = || self.segments.storage().path(&file_name(self.position.segment));
            self.active_file()
                .map_err(AppendFailure::Clean)?
                .reserve(offset, len)
                .map_err(|error| AppendFailure::Clean(disk_error("reserve room in", path(), len, error)))?;
            self.reserved = until;
        }
        if prepare && end > self.prepared && u64::from(slots) * geometry.page_bytes() * 4 <= PREPARE_BYTES {
            let until = end.saturating_add(slots_of(PREPARE_BYTES)).min(self.reserved);
            let from = self.prepared.max(start);
            let len = geometry.offset(until) - geometry.offset(from);
            let zeros = vec![0; usize::try_from(len).expect("about a MiB")];
            self.write_file(&[IoSlice::new(&zeros)], geometry.offset(from), len)?;
            self.prepared = until;
            self.prepared_bytes += len;
        }
        Ok(())
    }

    /// Lets the log go on in the next segment. Its header is durable before anything is written behind it.
    fn rotate(&mut self, durable: Version) -> Result<(), AppendFailure> {
        let geometry = self.segments.geometry();
        let (left, number) = (self.position.segment, self.position.next);
        let segments = self.segments.clone();
        let segment = segments.add(number, 0);
        if self.position.next_is_fresh {
            self.segments.create_file(segment).map_err(AppendFailure::Clean)?;
            // Its length is durable before its header: recovery takes a file of another length for a cut one.
            sync_file(&self.segments, number).map_err(AppendFailure::Fatal)?;
        }
        let (next, next_is_fresh) = match self.pool.pop() {
            Some(number) => (number, false),
            None if self.fresh < geometry.segment_limit() => {
                self.fresh += 1;
                (self.fresh - 1, true)
            }
            None => {
                let limit = std::io::Error::other("all segment numbers are in use");
                let file = self.segments.storage().path(&file_name(number));
                let error = Error::Full { needed: geometry.segment_bytes(), file, source: Arc::new(limit) };
                return Err(AppendFailure::Clean(error));
            }
        };
        let was_used = self.segments.generation(segment) > 0;
        let generation = self.segments.generation(segment) + 1;
        let header = SegmentHeader {
            store_id: self.segments.store_id(),
            number,
            generation,
            page_size: geometry.page_size(),
            slots: geometry.segment_slots(),
            sequence: self.position.sequence + 1,
            next,
            previous_digest: self.position.digest,
            durable,
        };
        let is_fresh = self.position.next_is_fresh;
        let (digest, sequence) = (self.position.digest, header.sequence);
        self.position =
            Position { segment: number, generation, sequence, slot: 0, digest, next, next_is_fresh };
        (self.prepared, self.reserved) = (0, 0);
        if was_used {
            (self.prepared, self.reserved) = (geometry.segment_slots(), geometry.segment_slots());
        }
        self.make_room(1, false)?;
        let mut bytes = header.encode();
        bytes.resize(geometry.page_size() as usize, 0);
        self.segments.begin_generation(segment, generation);
        self.tail = None;
        self.segments.read_from_file(left);
        self.write_or_erase(&[IoSlice::new(&bytes)], 0, geometry.page_bytes())?;
        self.appended_bytes += geometry.page_bytes();
        self.position.slot = 1;
        self.files.insert(number, (generation, sequence));
        sync_file(&self.segments, number).map_err(AppendFailure::Fatal)?;
        if is_fresh {
            let dir = || self.segments.storage().path("");
            self.segments
                .storage()
                .sync_dir()
                .map_err(|error| AppendFailure::Fatal(Error::io("sync", dir(), error)))?;
        }
        Ok(())
    }

    /// Makes all that was appended durable.
    pub(crate) fn sync(&mut self) -> Result<(), AppendFailure> {
        self.flush()?;
        for (number, _) in &self.unsynced {
            sync_file(&self.segments, *number).map_err(AppendFailure::Fatal)?;
        }
        self.unsynced.clear();
        Ok(())
    }

    /// What a sync without the commit lock has to sync, once [`Appender::flush`] was called; to be handed to [`sync_files`] and back to [`Appender::synced`].
    pub(crate) fn unsynced(&self) -> Vec<(u32, u64)> {
        self.unsynced.clone()
    }

    /// Takes note that these were synced; segments that were written to meanwhile stay unsynced.
    pub(crate) fn synced(&mut self, done: &[(u32, u64)]) {
        self.unsynced.retain(|mark| !done.contains(mark));
    }
}

/// Syncs the listed segments; callable without the commit lock.
pub(crate) fn sync_files(segments: &Segments, unsynced: &[(u32, u64)]) -> Result<()> {
    unsynced.iter().try_for_each(|(number, _)| sync_file(segments, *number))
}

fn sync_file(segments: &Segments, number: u32) -> Result<()> {
    let segment = segments.get(number).expect("a written segment is known");
    let path = || segments.storage().path(&file_name(number));
    segments.file(segment)?.sync().map_err(|error| Error::io("sync", path(), error))
}
