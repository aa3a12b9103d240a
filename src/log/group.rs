//! Small batches gathered into one record before they are handed to the system.
//!
//! A batch that needs no sync is published as soon as its pages stand in the tail, the memory from which readers read the
//! active segment. Its record is written later, together with those of the batches after it: as one record that lists
//! the pages of all, in order. What a crash takes is the end of the published order, never a part of a batch, because
//! the record counts as a whole or not at all (invariants 3 and 10). A sync, a checkpoint, a batch of another kind and
//! the end of the segment all write the open group out first.

use crate::format::checksum::PageChecksum;
use crate::format::record::{FIXED_BYTES, ITEM_BYTES};
use crate::id::{Fingerprint, PageId, Version};

/// Most bytes of pages in a group: what a crash of the process may take, and what is written in one go.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// A record in the making: one slot for itself, then the pages.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The slot of the record.
    pub(crate) start: u32,
    pub(crate) pages: Vec<(PageId, PageChecksum)>,
    pub(crate) meta: Option<Vec<u8>>,
    /// Of the last batch that joined.
    pub(crate) version: Version,
    pub(crate) durable: Version,
    pub(crate) created_at_ms: u64,
    pub(crate) page_count: u64,
    pub(crate) fingerprint: Fingerprint,
    /// Batches in it.
    pub(crate) batches: u32,
}

impl Group {
    pub(crate) fn new(start: u32) -> Group {
        Group {
            start,
            pages: Vec::new(),
            meta: None,
            version: Version(0),
            durable: Version(0),
            created_at_ms: 0,
            page_count: 0,
            fingerprint: Fingerprint::EMPTY,
            batches: 0,
        }
    }
}

/// The most pages that a group's record of one slot can list beside so many bytes of meta; `None` if those alone are too
/// many.
pub(crate) fn capacity(page_size: u32, meta_bytes: usize) -> Option<usize> {
    let page_size = page_size as usize;
    let for_items = page_size.checked_sub(FIXED_BYTES + 16 + meta_bytes)?;
    Some((for_items / ITEM_BYTES).min(GROUP_BYTES_MAX / page_size))
}
