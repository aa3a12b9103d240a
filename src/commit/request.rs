//! What a transaction hands over for its commit.

use std::collections::HashSet;
use std::sync::Arc;

use crate::format::checksum::PageChecksum;
use crate::format::names::NameChange;
use crate::id::{Fingerprint, PageId, Version};
use crate::options::Durability;

/// What a serializable transaction saw, and therefore depends on.
#[derive(Debug, Default)]
pub(crate) struct ReadSet {
    pub(crate) pages: HashSet<PageId>,
    pub(crate) page_count: bool,
    pub(crate) meta: bool,
    /// All of it: fingerprint and page count of what was read, which must still be what the store holds.
    pub(crate) contents: Option<(Fingerprint, u64)>,
}

/// A transaction that asks to be committed.
#[derive(Debug)]
pub(crate) struct Request {
    /// The version that the transaction read from.
    pub(crate) snapshot: Version,
    /// `None` under snapshot isolation.
    pub(crate) reads: Option<ReadSet>,
    /// Written pages in ascending order, with their checksums.
    pub(crate) writes: Vec<(PageId, PageChecksum, Box<[u8]>)>,
    /// Freed pages in ascending order.
    pub(crate) freed: Vec<PageId>,
    /// Cut the store to so many pages before anything else.
    pub(crate) truncate_to: Option<u64>,
    /// The page count is at least this afterwards.
    pub(crate) page_count: u64,
    pub(crate) meta: Option<Arc<[u8]>>,
    pub(crate) names: Option<NameChange>,
    pub(crate) durability: Durability,
}

impl Request {
    /// A request that changes no page.
    pub(crate) fn nothing(durability: Durability) -> Request {
        Request {
            snapshot: Version(0),
            reads: None,
            writes: Vec::new(),
            freed: Vec::new(),
            truncate_to: None,
            page_count: 0,
            meta: None,
            names: None,
            durability,
        }
    }
}

/// Consecutive ids as (first, count), in order.
pub(crate) fn ranges(ids: impl Iterator<Item = PageId>) -> Vec<(PageId, u64)> {
    let mut ranges: Vec<(PageId, u64)> = Vec::new();
    for id in ids {
        match ranges.last_mut() {
            Some((first, count)) if first.0 + *count == id.0 => *count += 1,
            _ => ranges.push((id, 1)),
        }
    }
    ranges
}
