//! Reading without a mapping: pages by pread, into a cache of bounded size.
//!
//! A page is known by segment, generation and slot. A location keeps its bytes until nobody can reach it (invariant 8), and a
//! segment's place is used again only under a higher generation, so what the cache holds under a key is never wrong; it
//! becomes unreachable, and is displaced like anything else that nobody asks for. A segment that is packed keeps its
//! generation and its locations, and hence its cached pages.
//!
//! A page is verified before it enters the cache. An error of the system is given to whoever asked and not remembered.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;

use quick_cache::sync::Cache;

use super::backing::Opened;
use super::packed::place;
use super::segment::{Segments, usize_of};
use crate::error::{Error, Result};
use crate::sync::Mutex;

/// A page's bytes: in the mapping or the tail, or in memory of their own.
#[derive(Clone, Debug)]
pub(crate) enum PageBytes<'a> {
    InPlace(&'a [u8]),
    Copied(Arc<[u8]>),
}

impl Deref for PageBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            PageBytes::InPlace(bytes) => bytes,
            PageBytes::Copied(bytes) => bytes,
        }
    }
}

/// A page as the cache knows it: segment, generation, slot.
type Key = (u32, u32, u32);

/// Counts pages by their bytes and what it takes to keep them.
#[derive(Clone)]
struct Weight;

/// Bytes of memory that a cached page takes beside its own.
const ENTRY_BYTES: u64 = 64;

impl quick_cache::Weighter<Key, Arc<[u8]>> for Weight {
    fn weight(&self, _: &Key, page: &Arc<[u8]>) -> u64 {
        page.len() as u64 + ENTRY_BYTES
    }
}

/// Most segment files that are kept open for reading.
const OPEN_MAX: usize = 128;

/// Verified pages that were read lately.
pub(crate) struct PageCache {
    pages: Cache<Key, Arc<[u8]>, Weight>,
    /// Segments whose files were opened for reading, the oldest first.
    open: Mutex<VecDeque<u32>>,
}

impl PageCache {
    /// For at most `bytes` of pages of `page_size` bytes.
    pub(crate) fn new(bytes: u64, page_size: u32) -> PageCache {
        let pages = usize_of(bytes / (u64::from(page_size) + ENTRY_BYTES));
        PageCache {
            pages: Cache::with_weighter(pages.max(1), bytes, Weight),
            open: Mutex::new(VecDeque::new()),
        }
    }

    pub(crate) fn fill(&self, stats: &mut crate::stats::Stats) {
        stats.cache_bytes = self.pages.weight();
        stats.cache_hits = self.pages.hits();
        stats.cache_misses = self.pages.misses();
    }

    /// Takes note that a segment's file was opened, and tells which one to close for it.
    pub(super) fn note_open(&self, number: u32) -> Option<u32> {
        let mut open = self.open.lock();
        open.push_back(number);
        if open.len() > OPEN_MAX { open.pop_front() } else { None }
    }

    pub(super) fn get(&self, key: Key) -> Option<Arc<[u8]>> {
        self.pages.get(&key)
    }

    pub(super) fn put(&self, key: Key, page: Arc<[u8]>) {
        self.pages.insert(key, page);
    }
}

impl Segments {
    /// Reads bytes at byte `start` of a segment from its file, whole or packed.
    pub(super) fn read_file(&self, number: u32, start: usize, bytes: &mut [u8]) -> Result<()> {
        if self.is_base(number) {
            return self.owner(number).read_file(number, start, bytes);
        }
        let segment = self.segment_of(number)?;
        // `opened` counts as a reader until the read is done: the file is not used for anything else meanwhile.
        let opened: Opened = self.open_checked(segment)?;
        if opened.is_new
            && let Some(oldest) = self.cache().and_then(|cache| cache.note_open(number))
        {
            self.close_unwritten(oldest);
        }
        let offset = match opened.ranks() {
            Some(ranks) => place(ranks, self.geometry(), start, bytes.len()),
            None => start.checked_add(bytes.len()).map(|_| start),
        };
        let offset = offset.ok_or_else(|| self.beyond(number, start))?;
        if opened.ranks().is_none() && (offset + bytes.len()) as u64 > self.geometry().segment_bytes() {
            return Err(self.beyond(number, start));
        }
        let read = opened.file.read_exact_at(bytes, offset as u64);
        read.map_err(|error| Error::io("read", self.path(number), error))
    }
}
