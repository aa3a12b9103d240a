//! The log's end: where batches are written, and how it moves from segment to segment.
//!
//! One thread at a time appends (whoever holds the commit lock). What a failure means is told by [`AppendFailure`].
//!
//! Small synced batches go where the file was written before (see `ahead`).
//!
//! Everything that is written also goes to the tail (see `tail`); small batches stay there for a while, as an open
//! [`Group`], before they go to the file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::sync::Arc;

use super::ahead::Room;
use super::backing::disk_error;
use super::failure::AppendFailure;
use super::geometry::Geometry;
use super::group::Group;
use super::handover::Handover;
use super::layout::{Part, Shape, plan};
use super::ready::Ready;
use super::segment::{Segments, file_name};
use super::unsynced::sync_file;
use crate::error::{Error, Result};
use crate::format::checksum::PageChecksum;
use crate::format::control::LogPosition;
use crate::format::record::{Record, RecordKind};
use crate::id::{Fingerprint, Location, PageId, Version};
use crate::stats::LogGauges;
use crate::storage::{MemoryFile, StorageFile};
use crate::sync::atomic::Ordering;

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

impl Position {
    /// What a catalog says of it.
    pub(crate) fn record(self) -> LogPosition {
        let Position { segment, generation, sequence, slot, digest, .. } = self;
        LogPosition { segment, generation, sequence, slot, digest }
    }
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
    pub(crate) names: Option<&'a [u8]>,
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
    pub(super) parts: Vec<Part>,
    /// The numbers of the segments that the parts count from the active one.
    pub(super) segments: Vec<u32>,
    pub(super) geometry: Geometry,
    pub(super) joins_group: bool,
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

/// A file of a whole segment's length, with all its blocks, that belongs to no segment.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) name: String,
    /// Slots before this one were written before.
    pub(super) written: u32,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Appender {
    pub(super) segments: Arc<Segments>,
    pub(super) session: u64,
    pub(super) position: Position,
    /// Every segment that has a file: its generation and its place in the log.
    pub(super) files: BTreeMap<u32, (u32, u64)>,
    /// Recycled segments, ready for use.
    pub(super) pool: Vec<u32>,
    /// The lowest number that no segment ever had, and lower ones whose segments are gone.
    pub(super) fresh: u32,
    pub(super) vacant: BTreeSet<u32>,
    /// Files that nobody needs, those of which the most was written last: better than fresh ones.
    pub(super) spares: Vec<Spare>,
    /// The next segment, as far as it was made ready.
    pub(super) ready: Option<Ready>,
    /// Segments that are being packed: not to be used again meanwhile.
    pub(crate) busy: BTreeSet<u32>,
    /// Whether behind the log's end may stand what was begun there and given up: it would continue the chain.
    pub(super) has_stale_end: bool,
    pub(super) room: Room,
    /// Segments with writes that no sync followed yet, with the number of their last write.
    pub(super) unsynced: Vec<(u32, u64)>,
    pub(super) writes: u64,
    /// Bytes that had been appended when nothing was left that needed a sync.
    pub(super) synced_at: u64,
    /// What readers read of the active segment, from the first slot on that this session has written.
    pub(super) tail: Option<Arc<MemoryFile>>,
    /// The tails of the segments before, the newest last, to be used again once nobody reads from them: fresh memory has to be
    /// cleared first.
    pub(super) left_tails: Vec<Arc<MemoryFile>>,
    pub(super) group: Option<Group>,
    /// Takes full groups, if the store has a thread that writes them.
    pub(super) handover: Option<Arc<Handover>>,
    /// Whether a group was left there since somebody asked.
    pub(super) has_handed_over: bool,
    /// Bytes on the disk that commits of pages leave to checkpoints, to packing and to commits that free something.
    reserve: u64,
    /// What of it the batch that is being written leaves.
    pub(super) to_leave: u64,
    /// Whether a file was made since somebody asked.
    pub(super) has_made_file: bool,
    /// Files that were made by what may still be given up, and how much of that is under way, one within the other.
    pub(super) made: Vec<u32>,
    pub(super) attempts: u32,
    /// What others may see of all this without the lock.
    pub(super) gauges: Arc<LogGauges>,
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
            vacant: BTreeSet::new(),
            spares: Vec::new(),
            ready: None,
            busy: BTreeSet::new(),
            has_stale_end: true,
            room: Room { prepared, reserved: prepared, is_left: false },
            unsynced: Vec::new(),
            writes: 0,
            synced_at: 0,
            tail: None,
            left_tails: Vec::new(),
            group: None,
            handover: None,
            has_handed_over: false,
            reserve: 0,
            to_leave: 0,
            has_made_file: false,
            made: Vec::new(),
            attempts: 0,
            gauges: Arc::new(LogGauges::new()),
        }
    }

    /// From now on full groups are left in `handover` for a thread that works there.
    pub(crate) fn hand_over_to(&mut self, handover: Arc<Handover>) {
        self.handover = Some(handover);
    }

    /// Whether something was left for the thread since the last call.
    pub(crate) fn take_handed_over(&mut self) -> bool {
        std::mem::take(&mut self.has_handed_over)
    }

    /// From now on commits of pages leave so many bytes on the disk.
    pub(crate) fn spare_reserve(&mut self, bytes: u64) {
        self.reserve = bytes;
    }

    /// Whether a file was made since the last call.
    pub(crate) fn take_made_file(&mut self) -> bool {
        std::mem::take(&mut self.has_made_file)
    }

    pub(crate) fn position(&self) -> Position {
        self.position
    }

    pub(crate) fn gauges(&self) -> &Arc<LogGauges> {
        &self.gauges
    }

    pub(super) fn note_appended(&self, bytes: u64, will_sync: bool) {
        if will_sync {
            self.gauges.durable.fetch_add(bytes, Ordering::Relaxed);
        }
        self.gauges.appended.fetch_add(bytes, Ordering::Relaxed);
        self.gauges.wants_next.store(self.wants_next(), Ordering::Relaxed);
    }

    /// Shows how much stands ready.
    pub(super) fn show_pool(&self) {
        self.gauges.pool.store(self.pool.len() as u64, Ordering::Relaxed);
        self.gauges.spares.store(self.spares.len() as u64, Ordering::Relaxed);
    }

    /// Every segment that has a file: (number, generation, place in the log).
    pub(crate) fn files(&self) -> impl Iterator<Item = (u32, u32, u64)> {
        self.files.iter().map(|(number, (generation, sequence))| (*number, *generation, *sequence))
    }

    /// The number of segments and files that stand ready for use.
    pub(crate) fn pool_len(&self) -> usize {
        self.pool.len() + self.spares.len()
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
        let parts = plan(geometry, self.writable_from(), shape);
        let last = parts.last().map_or(0, |part| part.segment);
        let mut segments = vec![self.position.segment, self.position.next];
        let mut coming = self.coming();
        while segments.len() <= last {
            segments.push(coming.next().map_or(u32::MAX, |(number, _)| number));
        }
        Plan { parts, segments, geometry, joins_group: false }
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
        self.to_leave = if batch.pages.is_empty() { 0 } else { self.reserve };
        let done = self.or_step_back(|appender| appender.append_parts(plan, batch, will_sync));
        self.to_leave = 0;
        done
    }

    fn append_parts(&mut self, plan: &Plan, batch: &Batch<'_>, will_sync: bool) -> Result<(), AppendFailure> {
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
                names: batch.names.filter(|_| index == 0).map(<[u8]>::to_vec),
                ..self.blank_record()
            };
            let data: Vec<&[u8]> = pages.iter().map(|(_, _, bytes)| *bytes).collect();
            self.write_record(&record, &data, will_sync)?;
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
        if self.writable_from() + 1 + slots_min > geometry.segment_slots() {
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
        self.write_record(&record, &[&bytes, &padding], false)
    }

    pub(super) fn blank_record(&self) -> Record {
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
            names: None,
        }
    }

    fn write_record(
        &mut self,
        record: &Record,
        data: &[&[u8]],
        will_sync: bool,
    ) -> Result<(), AppendFailure> {
        let geometry = self.segments.geometry();
        let slots = record.header_slots + record.data_slots;
        self.make_room(slots, will_sync)?;
        let (header, digest) = record.encode(geometry.page_size());
        let mut buffers = Vec::with_capacity(1 + data.len());
        buffers.push(IoSlice::new(&header));
        buffers.extend(data.iter().map(|bytes| IoSlice::new(bytes)));
        self.write_tail(&buffers, self.position.slot)?;
        self.write_or_erase(&buffers, self.position.slot, u64::from(slots) * geometry.page_bytes())?;
        self.note_appended(u64::from(slots) * geometry.page_bytes(), will_sync);
        self.position.slot += slots;
        self.room.prepared = self.room.prepared.max(self.position.slot);
        self.position.digest = digest;
        self.has_stale_end = false;
        Ok(())
    }

    /// The active segment's file, to be written to: whoever does comes here.
    pub(super) fn active_file(&self) -> Result<Arc<dyn StorageFile>> {
        if self.room.is_left {
            // Nobody comes here, and if somebody did: a lost commit is told, another store's changed bytes aren't.
            let path = self.segments.path(self.position.segment);
            return Err(Error::io(
                "write to",
                path,
                std::io::Error::other("another store has this file too"),
            ));
        }
        let segment = self.segments.get(self.position.segment).expect("the active segment is known");
        self.segments.file_for_writing(segment)
    }

    /// Writes a record or a header. If the disk is too full for all of it, what was written is made unreadable, durably:
    /// its end may be zeros that are there anyway, and recovery would take what was refused for a commit.
    pub(super) fn write_or_erase(
        &mut self,
        buffers: &[IoSlice<'_>],
        slot: u32,
        len: u64,
    ) -> Result<(), AppendFailure> {
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

    pub(super) fn write_file(
        &mut self,
        buffers: &[IoSlice<'_>],
        offset: u64,
        len: u64,
    ) -> Result<(), AppendFailure> {
        let written = self.active_file().map_err(AppendFailure::Fatal)?.write_all_at(buffers, offset);
        // Whether or not the write succeeded: part of it may be there.
        self.note_write(self.position.segment);
        let path = || self.segments.storage().path(&file_name(self.position.segment));
        written.map_err(|error| AppendFailure::of_write(disk_error("write to", path(), len, error)))
    }
}
