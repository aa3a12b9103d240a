//! Reading the log's tail: from the catalog's position to the last batch that can be trusted.
//!
//! Records are followed by their digest chain. What ends the log is told from what damages it:
//! - a record that is not whole, or doesn't continue the chain, ends the log: it was being written when power failed;
//! - unless something later proves that it once was durable (each record names the version known durable when it was
//!   written; a segment's header is synced before anything is written behind it): then it is damage, and an error.
//!
//! Pages are read only where nothing proves that they were synced: the batches after the greatest version known durable.
//! The first of them whose pages don't match their checksums ends the log too. What is kept of these unproven batches is
//! written again and synced before anybody sees it, since bytes that can be read back need not be on the disk.

use std::io::IoSlice;
use std::ops::Range;

use super::append::Position;
use super::failure::AppendFailure;
use super::layout::part_slots_max;
use super::segment::{Segments, file_name};
use crate::error::{Error, Result};
use crate::format::checksum::PageChecksum;
use crate::format::control::LogPosition;
use crate::format::record::{Record, RecordKind};
use crate::format::segment::SegmentHeader;
use crate::id::{Location, Version};

/// One committed batch, as found.
#[derive(Debug, Default)]
pub(crate) struct FoundBatch {
    pub(crate) records: Vec<Record>,
    /// Where its parts lie: (segment, slots).
    places: Vec<(u32, Range<u32>)>,
    /// The log's end before the batch.
    before: Option<Position>,
}

impl FoundBatch {
    /// The version of the batch.
    pub(crate) fn version(&self) -> Version {
        self.records.first().map_or(Version(0), |record| record.version)
    }

    /// The batch's pages with their places.
    pub(crate) fn pages<'a>(
        &'a self,
        segments: &'a Segments,
    ) -> impl Iterator<Item = (crate::PageId, PageChecksum, Location)> + 'a {
        self.records.iter().flat_map(move |record| {
            let first = u32::try_from(record.slot).unwrap_or(u32::MAX).saturating_add(record.header_slots);
            let places = (first..).map(move |slot| segments.geometry().location(record.segment, slot));
            record.pages.iter().zip(places).map(|((id, checksum), location)| (*id, *checksum, location))
        })
    }
}

/// What reading the tail found.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) batches: Vec<FoundBatch>,
    pub(crate) position: Position,
    /// Segments that the log went through after the catalog's position: (number, generation, sequence).
    pub(crate) visited: Vec<(u32, u32, u64)>,
    pub(crate) bytes_read: u64,
    /// Bytes of unproven batches that were written again.
    pub(crate) bytes_rewritten: u64,
    /// Bytes of an unfinished batch at the end that were given up, if any was seen.
    pub(crate) is_torn: bool,
}

struct Scan<'s> {
    segments: &'s Segments,
    position: Position,
    /// Behind the last record that was taken.
    end: Position,
    last_version: Version,
    durable: Version,
    tail: Tail,
    /// Parts of a batch whose last part has not been met yet.
    open: FoundBatch,
    /// Segment numbers are handed out one after the other, so one far beyond the known ones is damage.
    number_limit: u32,
}

/// How far beyond the known segments a log may have gone since the catalog was written.
const NUMBERS_AHEAD: u32 = 1 << 20;

/// What the numbers lie below of segments that a log may go on in, if the highest known one is `number_max`.
pub(crate) fn number_limit(number_max: u32) -> u32 {
    number_max.saturating_add(NUMBERS_AHEAD)
}

/// Bytes that are read at once where the log may have gone on.
const LOOK_BYTES: usize = 64 << 10;

/// Reads the log from `log` on, after `checkpoint` (the version that the catalog's last root holds). `listed` tells the place in the log at which
/// the catalog lists a segment.
pub(crate) fn read_tail(
    segments: &Segments,
    log: LogPosition,
    checkpoint: Version,
    listed: &dyn Fn(u32) -> Option<u64>,
    number_max: u32,
) -> Result<Tail> {
    let segment = segments.add(log.segment, log.generation);
    let header = segments.read_header(segment)?;
    if (header.generation, header.sequence) != (log.generation, log.sequence) {
        let expected = format!("generation {} and sequence {}", log.generation, log.sequence);
        let found = format!("{} and {}", header.generation, header.sequence);
        return Err(Error::corrupt(segments.storage().path(&file_name(log.segment)), 28, expected, found));
    }
    if log.slot == 0 || log.slot > segments.geometry().segment_slots() {
        let path = segments.storage().path(super::catalog::NAMES[0]);
        return Err(Error::corrupt(path, 0, "a slot within the segment", log.slot.to_string()));
    }
    let number_limit = number_limit(number_max);
    if header.next >= number_limit {
        let path = segments.storage().path(&file_name(log.segment));
        let expected = format!("a next segment below {number_limit}");
        return Err(Error::corrupt(path, 48, expected, header.next.to_string()));
    }
    let position = Position {
        segment: log.segment,
        generation: log.generation,
        sequence: log.sequence,
        slot: log.slot,
        digest: log.digest,
        next: header.next,
        next_is_fresh: listed(header.next).is_none(),
    };
    let tail = Tail {
        batches: Vec::new(),
        position,
        visited: vec![(log.segment, log.generation, log.sequence)],
        bytes_read: 0,
        bytes_rewritten: 0,
        is_torn: false,
    };
    let open = FoundBatch::default();
    let (last_version, durable) = (checkpoint, checkpoint);
    let mut scan =
        Scan { segments, position, end: position, last_version, durable, tail, open, number_limit };
    scan.follow(listed)?;
    scan.prove()?;
    Ok(scan.tail)
}

impl Scan<'_> {
    /// Follows the chain to where it ends.
    fn follow(&mut self, listed: &dyn Fn(u32) -> Option<u64>) -> Result<()> {
        loop {
            match self.read_record(self.position.segment, self.position.slot)? {
                Some((record, digest)) if self.continues(&record) => self.take(record, digest),
                _ => {
                    if !self.enter_next(listed)? {
                        break;
                    }
                }
            }
        }
        self.tail.is_torn = !self.open.records.is_empty();
        // A segment that was entered and left empty may have failed while it was made: it is entered once more.
        let end = self.open.before.unwrap_or(self.end);
        self.deny_damage(listed)?;
        self.tail.position = end;
        Ok(())
    }

    /// The record at `slot` of a segment, if a whole one is there.
    fn read_record(&mut self, number: u32, slot: u32) -> Result<Option<(Record, u128)>> {
        let (segments, geometry) = (self.segments, self.segments.geometry());
        let left = geometry.segment_slots().saturating_sub(slot);
        let Some(segment) = segments.get(number).filter(|_| left > 0) else { return Ok(None) };
        let page_size = geometry.page_size() as usize;
        let mut bytes = vec![0; page_size];
        segments.read_slots(segment, slot, &mut bytes)?;
        self.tail.bytes_read += bytes.len() as u64;
        let Some(slots) = Record::peek_slots(&bytes) else { return Ok(None) };
        if slots > part_slots_max(geometry) || slots > left {
            return Ok(None);
        }
        if slots > 1 {
            bytes.resize(page_size * slots as usize, 0);
            segments.read_slots(segment, slot + 1, &mut bytes[page_size..])?;
            self.tail.bytes_read += (bytes.len() - page_size) as u64;
        }
        let is_ours = |record: &Record| {
            record.store_id == segments.store_id()
                && (record.segment, record.slot) == (number, u64::from(slot))
                && u64::from(record.header_slots) + u64::from(record.data_slots) <= u64::from(left)
        };
        match Record::decode(&bytes, geometry.page_size()) {
            Ok((record, digest)) if is_ours(&record) => Ok(Some((record, digest))),
            Ok(_) | Err(crate::format::Flaw::Damage { .. }) => Ok(None),
            Err(newer) => {
                Err(newer.into_error(segments.storage().path(&file_name(number)), geometry.offset(slot)))
            }
        }
    }

    /// Whether `record` is the next one of the log.
    fn continues(&self, record: &Record) -> bool {
        let follows = match (record.kind, self.open.records.last()) {
            (RecordKind::Nodes, open) => open.is_none(),
            (RecordKind::Commit, None) => record.part == 0 && record.version > self.last_version,
            (RecordKind::Commit, Some(before)) => {
                record.part == before.part + 1 && record.version == before.version
            }
        };
        record.previous_digest == self.position.digest
            && record.generation == self.position.generation
            && record.version <= Version::MAX
            && follows
    }

    fn take(&mut self, record: Record, digest: u128) {
        let slots = self.position.slot..self.position.slot + record.header_slots + record.data_slots;
        let before = self.position;
        self.position.slot = slots.end;
        self.position.digest = digest;
        self.durable = self.durable.max(record.durable);
        self.end = self.position;
        if record.kind == RecordKind::Nodes {
            return;
        }
        let is_last = record.is_last;
        self.open.before.get_or_insert(before);
        self.open.places.push((record.segment, slots));
        self.open.records.push(record);
        if is_last {
            self.last_version = self.open.version();
            self.tail.batches.push(std::mem::take(&mut self.open));
        }
    }

    fn next_header(&self, number: u32) -> Result<Option<SegmentHeader>> {
        if number >= self.number_limit {
            return Ok(None);
        }
        // Making a segment known takes memory in proportion to its number: only for one that is there.
        if self.segments.get(number).is_none() {
            match self.segments.storage().open(&file_name(number)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                _ => {}
            }
        }
        let segment = self.segments.add(number, 0);
        match self.segments.read_header(segment) {
            Ok(header) if header.next >= self.number_limit => Ok(None),
            Ok(header) => Ok(Some(header)),
            // No file, or no header: the log never got there, as far as this tells.
            Err(Error::Corrupt { .. }) => self.deny_cut(number).map(|()| None),
            Err(error) => Err(error),
        }
    }

    /// A file has no length or its whole one before anything is written to it, so one of another length was cut.
    fn deny_cut(&self, number: u32) -> Result<()> {
        let name = file_name(number);
        let path = || self.segments.storage().path(&name);
        let len = match self.segments.storage().open(&name).and_then(|file| file.len()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            len => len.map_err(|error| Error::io("measure", path(), error))?,
        };
        let whole = self.segments.geometry().segment_bytes();
        match len == 0 || len == whole {
            true => Ok(()),
            false => {
                Err(Error::corrupt(path(), len, format!("{whole} bytes"), format!("an end after {len}")))
            }
        }
    }

    /// Goes on in the next segment, if the log did.
    fn enter_next(&mut self, listed: &dyn Fn(u32) -> Option<u64>) -> Result<bool> {
        let number = self.position.next;
        if number == self.position.segment {
            return Ok(false);
        }
        let Some(header) = self.next_header(number)? else { return Ok(false) };
        let digest = self.position.digest;
        if header.sequence != self.position.sequence + 1
            || header.previous_digest.is_some_and(|before| before != digest)
        {
            return Ok(false);
        }
        let segment = self.segments.add(number, 0);
        self.segments.begin_generation(segment, header.generation);
        if header.previous_digest.is_none() {
            let first = self.read_record(number, 1)?.map(|(record, _)| record);
            // The log came there only if a record says so.
            if first
                .is_none_or(|first| (first.generation, first.previous_digest) != (header.generation, digest))
            {
                return Ok(false);
            }
        }
        self.durable = self.durable.max(header.durable);
        self.tail.visited.push((number, header.generation, header.sequence));
        self.position = Position {
            segment: number,
            generation: header.generation,
            sequence: header.sequence,
            slot: 1,
            digest,
            next: header.next,
            next_is_fresh: listed(header.next).is_none(),
        };
        Ok(true)
    }

    /// At the end of the chain: looks for proof that the log once went on durably. A record is proof if it names a
    /// version behind the end as durable: what a crash has left over knew of no such version. Nor did an earlier life of the
    /// segment, unless that was in the store that this one is a clone of, whose versions went on beyond the clone's first: what is of
    /// a generation from before this log came there is no proof.
    fn deny_damage(&mut self, listed: &dyn Fn(u32) -> Option<u64>) -> Result<()> {
        let expected = self.last_version.next();
        let geometry = self.segments.geometry();
        let Position { segment: number, generation, sequence, slot, next, .. } = self.position;
        let damaged = |found: &str| {
            let path = self.segments.storage().path(&file_name(number));
            let wanted = format!("the record of {expected}, which was durable");
            Err(Error::corrupt(path, geometry.offset(slot), wanted, found))
        };
        let header = self.next_header(next)?;
        if let Some(header) = &header {
            let went_on = header.sequence == sequence + 1 && header.durable >= expected;
            if went_on || header.sequence > sequence + 1 {
                return damaged("a log that goes on in the next segment");
            }
        }
        let next_from = self.generation_at(next, sequence + 1, header.as_ref(), listed(next));
        if self.proves(number, slot, expected, generation)?
            || (next != number && self.proves(next, 1, expected, next_from)?)
        {
            return damaged("a log that goes on behind it");
        }
        match header {
            None if next != number => self.deny_broken_header(next),
            _ => Ok(()),
        }
    }

    /// The generation that a segment has, or would have, that the log comes to at `sequence`, by its header, if that can be read, and by the place at which
    /// the catalog lists it: that is this very place already where the log has come to it, or made it ready, while the checkpoint was written.
    fn generation_at(
        &self,
        number: u32,
        sequence: u64,
        header: Option<&SegmentHeader>,
        listed: Option<u64>,
    ) -> u32 {
        let known = self.segments.get(number).map_or(0, |segment| self.segments.generation(segment));
        let has_come = listed.is_some_and(|at| at >= sequence);
        match header {
            Some(header) if header.sequence == sequence => header.generation,
            _ if has_come => known,
            header => known.max(header.map_or(0, |header| header.generation)).saturating_add(1),
        }
    }

    /// Whether a record in the slots from `first` on, as far as one part reaches, says that `version` was durable, and is of the
    /// generation `from` or a later one.
    fn proves(&mut self, number: u32, first: u32, version: Version, from: u32) -> Result<bool> {
        let geometry = self.segments.geometry();
        let Some(segment) = self.segments.get(number) else { return Ok(false) };
        if self.segments.file(segment).is_err() {
            return Ok(false);
        }
        let last =
            first.saturating_add(part_slots_max(geometry)).saturating_add(1).min(geometry.segment_slots());
        // Some slots a call: a call for the head of each took a fifth of an opening after a kill.
        let page_size = geometry.page_size() as usize;
        let mut bytes = vec![0; page_size.max(LOOK_BYTES)];
        let mut slot = first;
        while slot < last {
            let slots = (last - slot).min(u32::try_from(bytes.len() / page_size).unwrap_or(1));
            let bytes = &mut bytes[..slots as usize * page_size];
            self.segments.read_slots(segment, slot, bytes)?;
            self.tail.bytes_read += bytes.len() as u64;
            for (slot, head) in (slot..).zip(bytes.chunks(page_size)) {
                if Record::peek_slots(head).is_some()
                    && let Some((record, _)) = self.read_record(number, slot)?
                    && record.durable >= version
                    && record.generation >= from
                {
                    return Ok(true);
                }
            }
            slot += slots;
        }
        Ok(false)
    }

    /// A record that continues the chain behind a header that doesn't read proves that the header is damaged.
    fn deny_broken_header(&mut self, number: u32) -> Result<()> {
        let Some(segment) = self.segments.get(number) else { return Ok(()) };
        if self.segments.file(segment).is_err() {
            return Ok(());
        }
        match self.read_record(number, 1)? {
            Some((record, _)) if record.previous_digest == self.position.digest => {
                let path = self.segments.storage().path(&file_name(number));
                Err(Error::corrupt(path, 0, "the header of a segment in use", "other bytes"))
            }
            _ => Ok(()),
        }
    }

    /// Checks the pages of batches that nothing proves durable, gives up what isn't whole, and makes the rest durable.
    fn prove(&mut self) -> Result<()> {
        let first = self.tail.batches.partition_point(|batch| batch.version() <= self.durable);
        let mut page = vec![0; self.segments.geometry().page_size() as usize];
        for index in first..self.tail.batches.len() {
            let is_whole = {
                let batch = &self.tail.batches[index];
                let mut is_whole = true;
                for (id, checksum, location) in batch.pages(self.segments) {
                    let (number, slot) = self.segments.geometry().split(location);
                    let segment = self.segments.get(number).expect("a batch lies in known segments");
                    self.segments.read_slots(segment, slot, &mut page)?;
                    self.tail.bytes_read += page.len() as u64;
                    if PageChecksum::of(id, &page) != checksum {
                        is_whole = false;
                        break;
                    }
                }
                is_whole
            };
            if !is_whole {
                self.tail.position = self.tail.batches[index].before.unwrap_or(self.tail.position);
                self.tail.batches.truncate(index);
                self.tail.is_torn = true;
                break;
            }
        }
        let end = self.tail.position.sequence;
        self.tail.visited.retain(|(_, _, sequence)| *sequence <= end);
        self.rewrite_from(first)
    }

    /// Writes what is unproven again, byte for byte, and syncs it: after a failed sync the system may believe that pages
    /// are clean which never reached the disk. A file that another store has too was synced without failure before that store got it,
    /// and isn't written to.
    fn rewrite_from(&mut self, first: usize) -> Result<()> {
        let geometry = self.segments.geometry();
        let mut touched: Vec<(u32, bool)> = Vec::new();
        for batch in &self.tail.batches[first..] {
            for (number, slots) in &batch.places {
                let segment = self.segments.get(*number).expect("a batch lies in known segments");
                let is_shared = match touched.iter().find(|(other, _)| other == number) {
                    Some((_, is_shared)) => *is_shared,
                    None => {
                        let is_shared = self.segments.is_shared(*number);
                        touched.push((*number, is_shared));
                        is_shared
                    }
                };
                if is_shared {
                    continue;
                }
                let len = (slots.end - slots.start) as usize * geometry.page_size() as usize;
                let mut bytes = vec![0; len];
                self.segments.read_slots(segment, slots.start, &mut bytes)?;
                let path = || self.segments.storage().path(&file_name(*number));
                self.segments
                    .file(segment)?
                    .write_all_at(&[IoSlice::new(&bytes)], geometry.offset(slots.start))
                    .map_err(|error| super::backing::disk_error("write to", path(), len as u64, error))?;
                self.tail.bytes_read += bytes.len() as u64;
                self.tail.bytes_rewritten += bytes.len() as u64;
            }
        }
        let touched: Vec<_> = touched.into_iter().map(|(number, _)| (number, 0)).collect();
        super::unsynced::sync_files(self.segments, &touched).map_err(AppendFailure::into_error)
    }
}
