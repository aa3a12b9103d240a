//! Which page ids are free: shared by all transactions, so that two of them don't get the same id.
//!
//! Nothing here is durable or trusted: an id that is handed out is checked against the transaction's own snapshot, and
//! two transactions that end up with the same id conflict at commit. Holes left by earlier sessions are found by
//! walking the table a stretch at a time, only when ids are asked for and none is at hand.

use std::collections::{HashSet, VecDeque};

use crate::commit::request::Request;
use crate::id::{PageId, Version};

/// Holes looked up in one go.
pub(crate) const SCAN_LIMIT: usize = 1024;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Allocator {
    /// Ids from here on were never handed out.
    next: u64,
    /// Freed ids, with the version that freed them.
    free: VecDeque<(PageId, Version)>,
    /// Handed out to transactions that are still open.
    in_flight: HashSet<PageId>,
    /// Holes below this and from `scanned` on have not been looked for yet.
    scan_end: u64,
    scanned: u64,
}

impl Allocator {
    /// `page_count` and `live_pages` of the version that the store was opened at.
    pub(crate) fn new(page_count: u64, live_pages: u64) -> Allocator {
        let scan_end = if live_pages < page_count { page_count } else { 0 };
        Allocator { next: page_count, free: VecDeque::new(), in_flight: HashSet::new(), scan_end, scanned: 0 }
    }

    /// A free id for a transaction that reads `snapshot`, if one is at hand.
    pub(crate) fn take_free(&mut self, snapshot: Version) -> Option<PageId> {
        for _ in 0..self.free.len().min(8) {
            let (id, since) = self.free.pop_front()?;
            if since <= snapshot && !self.in_flight.contains(&id) {
                self.in_flight.insert(id);
                return Some(id);
            }
            if id.0 < self.next && !self.in_flight.contains(&id) {
                self.free.push_back((id, since));
            }
        }
        None
    }

    /// The stretch of the table in which holes should be looked for next.
    pub(crate) fn unscanned(&self) -> Option<(u64, u64)> {
        (self.scanned < self.scan_end).then_some((self.scanned, self.scan_end))
    }

    /// Takes note of what a look for holes found.
    pub(crate) fn scanned(&mut self, holes: Vec<PageId>) {
        self.scanned = match holes.last() {
            Some(last) if holes.len() == SCAN_LIMIT => last.0 + 1,
            _ => self.scan_end,
        };
        let known: HashSet<PageId> = self.free.iter().map(|(id, _)| *id).collect();
        let fresh = holes.into_iter().filter(|id| !known.contains(id) && !self.in_flight.contains(id));
        self.free.extend(fresh.map(|id| (id, Version(0))));
    }

    /// An id beyond all others, at least `from`, if there are any.
    pub(crate) fn take_next(&mut self, from: u64) -> Option<PageId> {
        let id = Some(PageId(self.next.max(from))).filter(|id| *id <= PageId::MAX)?;
        self.next = id.0 + 1;
        self.in_flight.insert(id);
        Some(id)
    }

    /// Has holes looked for from the start, below `end`: those that were made by raising the page count aren't known.
    pub(crate) fn rescan(&mut self, end: u64) {
        (self.scanned, self.scan_end) = (0, end);
    }

    /// Takes back the ids of a transaction that was rolled back or refused.
    pub(crate) fn give_back(&mut self, ids: &[PageId]) {
        for id in ids {
            self.in_flight.remove(id);
            if id.0 < self.next {
                self.free.push_back((*id, Version(0)));
            }
        }
    }

    /// Takes note of ids that were put to use.
    pub(crate) fn settle(&mut self, ids: &[PageId]) {
        for id in ids {
            self.in_flight.remove(id);
        }
    }

    /// Takes note of a version that has little to do with the one before it.
    pub(crate) fn begin_anew(&mut self, page_count: u64, live_pages: u64) {
        let in_flight = std::mem::take(&mut self.in_flight);
        *self = Allocator { in_flight, ..Allocator::new(page_count, live_pages) };
    }

    /// Takes note of a committed batch.
    pub(crate) fn committed(&mut self, version: Version, truncate_to: Option<u64>, admitted: &[&Request]) {
        if let Some(page_count) = truncate_to {
            self.free.retain(|(id, _)| id.0 < page_count);
            self.next = page_count;
            self.scan_end = self.scan_end.min(page_count);
        }
        for request in admitted {
            self.next = self.next.max(request.page_count);
            self.free.extend(request.freed.iter().map(|id| (*id, version)));
        }
    }
}
