//! The appender's way from segment to segment: into fresh files and recycled ones.

use std::io::IoSlice;
use std::sync::Arc;

use super::append::{AppendFailure, Appender, Position, sync_file};
use super::segment::file_name;
use crate::error::Error;
use crate::format::segment::SegmentHeader;
use crate::id::Version;
use crate::sync::atomic::Ordering;

impl Appender {
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

    /// Lets the log go on in the next segment. Its header is durable before anything is written behind it.
    pub(super) fn rotate(&mut self, durable: Version) -> Result<(), AppendFailure> {
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
}
