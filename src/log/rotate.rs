//! The appender's way from segment to segment: into fresh files and recycled ones.

use std::io::IoSlice;
use std::sync::Arc;

use super::ahead::Room;
use super::append::{Appender, Position, Spare};
use super::failure::AppendFailure;
use super::segment::{Segment, file_name};
use super::unsynced::sync_file;
use crate::error::Error;
use crate::format::segment::SegmentHeader;
use crate::id::Version;
use crate::sync::atomic::Ordering;

impl Appender {
    /// The numbers in which the log goes on behind the next segment, in their order, and whether their files are still to be
    /// created: the one that the next segment's header names, then recycled segments, then low numbers, so that tables by number stay short.
    pub(super) fn coming(&self) -> impl Iterator<Item = (u32, bool)> {
        let named = self.ready.map(|ready| (ready.next, ready.next_is_fresh));
        let recycled = self.pool.iter().rev().map(|number| (*number, false));
        let limit = self.segments.geometry().segment_limit();
        let fresh = self.vacant.iter().copied().chain(self.fresh..limit);
        named.into_iter().chain(recycled).chain(fresh.map(|number| (number, true)))
    }

    pub(super) fn take_coming(&mut self) -> Option<(u32, bool)> {
        let (number, is_fresh) = self.coming().next()?;
        if self.ready.take().is_some() {
            return Some((number, is_fresh));
        }
        if !is_fresh {
            self.pool.pop();
        } else if !self.vacant.remove(&number) {
            self.fresh = number + 1;
        }
        Some((number, is_fresh))
    }

    /// Segments from before `log_start`, which recovery needs no records of, that the log isn't in and that don't stand ready yet.
    fn settled(&self, log_start: u64) -> impl Iterator<Item = u32> {
        let is_settled = move |number: u32, sequence: u64| {
            sequence < log_start
                && number != self.position.segment
                && !self.comes_to(number)
                && !self.busy.contains(&number)
        };
        let settled = self.files.iter().filter(move |(number, (_, at))| is_settled(**number, *at));
        settled.map(|(number, _)| *number).filter(|number| !self.pool.contains(number))
    }

    fn is_dead(&self, number: u32) -> bool {
        self.segments.get(number).is_some_and(|s| s.allocated.load(Ordering::Acquire) == 0)
    }

    /// Takes wholly dead segments from before `log_start` back for use: nothing that is live, nothing that the durable
    /// roots reach and no part of the log that recovery may need lies in them (invariants 8 and 9).
    pub(crate) fn recycle_dead(&mut self, log_start: u64) {
        let can_reuse = |number: &u32| {
            self.segments.packed_record(*number).is_none() && !self.segments.is_shared(*number)
        };
        let dead: Vec<u32> =
            self.settled(log_start).filter(|number| self.is_dead(*number)).filter(can_reuse).collect();
        self.pool.extend(dead);
        self.show_pool();
    }

    /// Keeps a file that nobody needs for the log to go on in; its first `written` slots were written.
    pub(crate) fn keep_spare(&mut self, name: String, written: u32) {
        self.spares.push(Spare { name, written });
        self.spares.sort_by_key(|spare| spare.written);
        self.show_pool();
    }

    /// How many of the files that stand ready are wanted where nobody commits, so that the log can go on for half a segment at least in
    /// blocks that were written before.
    pub(crate) fn files_wanted_at_rest(&self) -> usize {
        let half = self.segments.geometry().segment_slots() / 2;
        let has_room = self.room.prepared.saturating_sub(self.writable_from()) >= half;
        let has_next = !self.position.next_is_fresh || self.ready.is_some_and(|next| next.written() >= half);
        usize::from(!has_room && !has_next)
    }

    /// Gives up the spare files that come to more than `most` together with the pool, those of which the least was written first.
    pub(crate) fn take_spares(&mut self, most: usize) -> Vec<String> {
        let kept = most.saturating_sub(self.pool.len());
        let gone = self.spares.drain(..self.spares.len().saturating_sub(kept));
        let gone = gone.map(|spare| spare.name).collect();
        self.show_pool();
        gone
    }

    /// Gives up the dead segments that aren't worth keeping: packed ones, those that a clone has too, and whole ones beyond
    /// `pool_max`. The next
    /// catalog doesn't list them; their files may go when neither catalog slot does.
    pub(crate) fn give_up_dead(&mut self, log_start: u64, pool_max: usize) -> Vec<u32> {
        let is_useless =
            |number: &u32| self.segments.packed_record(*number).is_some() || self.segments.is_shared(*number);
        let mut gone: Vec<u32> =
            self.settled(log_start).filter(|number| self.is_dead(*number)).filter(is_useless).collect();
        let kept = pool_max.saturating_sub(self.spares.len());
        gone.extend(self.pool.drain(..self.pool.len().saturating_sub(kept)));
        self.files.retain(|number, _| !gone.contains(number));
        self.show_pool();
        gone
    }

    /// Segments that may be packed: (number, bytes of the file, bytes in use).
    pub(crate) fn sparse(&self, log_start: u64) -> Vec<(u32, u64, u64)> {
        let unsynced = |number: u32| self.unsynced.iter().any(|(other, _)| *other == number);
        let weigh = |number: u32| {
            let segment = self.segments.get(number)?;
            let (_, len) = self.segments.file_of(segment);
            Some((number, len, segment.allocated.load(Ordering::Acquire)))
        };
        self.settled(log_start).filter(|number| !unsynced(*number)).filter_map(weigh).collect()
    }

    /// Lets the number of a segment that is wholly gone be used again.
    pub(crate) fn vacate(&mut self, number: u32) {
        if number < self.fresh && !self.uses(number) {
            self.vacant.insert(number);
        }
    }

    /// Lets all numbers that no segment has be used again, those that `is_free` refuses excepted.
    pub(crate) fn vacate_gaps(&mut self, is_free: impl Fn(u32) -> bool) {
        let gaps = (0..self.fresh).filter(|number| !self.uses(*number) && is_free(*number));
        self.vacant = gaps.collect();
    }

    /// Whether the log may go on in a segment of that number before anybody vacates it.
    pub(crate) fn may_come_to(&self, number: u32) -> bool {
        number >= self.fresh || self.vacant.contains(&number)
    }

    /// Whether the log is, or is about to be, in a segment of that number, or one that has a file.
    pub(crate) fn uses(&self, number: u32) -> bool {
        self.comes_to(number) || self.files.contains_key(&number)
    }

    /// Whether it is settled that the log goes on in a segment of that number.
    fn comes_to(&self, number: u32) -> bool {
        self.position.next == number || self.ready.is_some_and(|ready| ready.next == number)
    }

    /// Refuses to make a further file for what has to leave the reserve.
    pub(super) fn check_reserve(&self, number: u32) -> Result<(), AppendFailure> {
        if self.to_leave == 0 {
            return Ok(());
        }
        let (needed, storage) = (self.segments.geometry().segment_bytes(), self.segments.storage());
        // Where the room isn't known, the disk says so when it is full.
        match storage.available() {
            Ok(Some(available)) if available < needed.saturating_add(self.to_leave) => {
                let source = Arc::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
                Err(AppendFailure::Clean(Error::Full {
                    needed,
                    file: storage.path(&file_name(number)),
                    source,
                }))
            }
            _ => Ok(()),
        }
    }

    /// Gives a segment that has no file one of the spare ones. Returns how many slots of it were written before. If that fails there is
    /// still the making of a fresh one.
    pub(super) fn adopt_spare(&mut self, segment: &Segment) -> Option<u32> {
        // One of that very name must not be used for another segment afterwards.
        let own = file_name(segment.number);
        let spare = match self.spares.iter().position(|spare| spare.name == own) {
            Some(at) => self.spares.remove(at),
            None => self.spares.pop()?,
        };
        self.segments.adopt_file(segment, &spare.name).is_ok().then_some(spare.written)
    }

    /// Sees to it that nothing at the log's end continues it: a part of a batch that was given up there, by this session or
    /// by one that was cut off. Else recovery would follow that one instead of the log, which goes on in another segment.
    /// Returns whether the file had to be written to, and was synced.
    pub(super) fn blank_end(&mut self) -> Result<bool, AppendFailure> {
        let geometry = self.segments.geometry();
        let (segment, slot) = (self.position.segment, self.writable_from());
        let is_written = self.has_stale_end && slot < geometry.segment_slots();
        if is_written {
            self.make_room(1, false)?;
            let zeros = vec![0; geometry.page_size() as usize];
            self.write_file(&[IoSlice::new(&zeros)], geometry.offset(slot), geometry.page_bytes())?;
            sync_file(&self.segments, segment).map_err(AppendFailure::Fatal)?;
        }
        self.has_stale_end = false;
        Ok(is_written)
    }

    /// Writes the header of the active segment, in which nothing stands yet. It is not durable then.
    fn write_header(&mut self, durable: Version) -> Result<(), AppendFailure> {
        let (geometry, position) = (self.segments.geometry(), self.position);
        let header = SegmentHeader {
            store_id: self.segments.store_id(),
            number: position.segment,
            generation: position.generation,
            page_size: geometry.page_size(),
            slots: geometry.segment_slots(),
            sequence: position.sequence,
            next: position.next,
            previous_digest: Some(position.digest),
            durable,
        };
        self.write_or_erase(&[IoSlice::new(&header.encode_slot())], 0, geometry.page_bytes())
    }

    /// If the log is about to leave a segment with nothing in it, there is no record to say that it ever came there: the header
    /// says so then, which may have been open.
    pub(super) fn close_empty(&mut self, durable: Version) -> Result<(), AppendFailure> {
        if self.position.slot > 1 {
            return Ok(());
        }
        self.write_header(durable)?;
        sync_file(&self.segments, self.position.segment).map_err(AppendFailure::Fatal)
    }

    /// Lets the log go on in another segment, so that the one that it is in changes no more.
    pub(crate) fn seal(&mut self, durable: Version) -> Result<(), AppendFailure> {
        self.flush()?;
        self.or_step_back(|appender| appender.rotate(durable))
    }

    /// Lets the log go on in the next segment. Its header is durable before anything is written behind it.
    pub(super) fn rotate(&mut self, durable: Version) -> Result<(), AppendFailure> {
        self.blank_end()?;
        self.close_empty(durable)?;
        if self.enter_ready()? {
            return Ok(());
        }
        let geometry = self.segments.geometry();
        let (left, number) = (self.position.segment, self.position.next);
        let segments = self.segments.clone();
        let segment = segments.add(number, 0);
        let is_fresh = self.position.next_is_fresh;
        let spare = if is_fresh { self.adopt_spare(segment) } else { None };
        if is_fresh && spare.is_none() {
            self.check_reserve(number)?;
            self.segments.create_file(segment).map_err(AppendFailure::Clean)?;
            self.has_made_file = true;
            self.made.push(number);
            // Its length is durable before its header: recovery takes a file of another length for a cut one.
            sync_file(&self.segments, number).map_err(AppendFailure::Fatal)?;
        }
        let Some((next, next_is_fresh)) = self.take_coming() else {
            let limit = std::io::Error::other("all segment numbers are in use");
            let file = self.segments.storage().path(&file_name(number));
            let error = Error::Full { needed: geometry.segment_bytes(), file, source: Arc::new(limit) };
            return Err(AppendFailure::Clean(error));
        };
        let sequence = self.position.sequence + 1;
        let written = if is_fresh { spare.unwrap_or(0) } else { self.written_in(segment, sequence) };
        let generation = self.segments.generation(segment) + 1;
        let digest = self.position.digest;
        self.position =
            Position { segment: number, generation, sequence, slot: 0, digest, next, next_is_fresh };
        self.room = Room::on_entry(written, geometry);
        self.make_room(1, false)?;
        self.segments.begin_generation(segment, generation);
        self.leave_tail();
        self.segments.read_from_file(left);
        self.write_header(durable)?;
        self.note_appended(geometry.page_bytes(), false);
        self.show_pool();
        self.position.slot = 1;
        self.files.insert(number, (generation, sequence));
        sync_file(&self.segments, number).map_err(AppendFailure::Fatal)?;
        // Its only write was just synced. If the log leaves it as it is, that writes to it once more (`close_empty`).
        self.forget_writes(number);
        if is_fresh {
            let dir = || self.segments.storage().path("");
            self.segments
                .storage()
                .sync_dir()
                .map_err(|error| AppendFailure::Fatal(Error::io("sync", dir(), error)))?;
        }
        Ok(())
    }
}
