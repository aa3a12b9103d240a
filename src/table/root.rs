//! What a version is: the top of its tree, and its totals.

use std::sync::Arc;

use super::node::{Link, Word};
use crate::format::control::RootRecord;
use crate::id::{Fingerprint, Version};

/// One version of the whole store. Published by one atomic store, never changed afterwards.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) version: Version,
    /// The topmost node; `None` in an empty store.
    pub(crate) word: Word,
    /// Levels of the tree; 0 when it is empty, 1 when `word` leads to a leaf.
    pub(crate) height: u32,
    /// Page ids in use are below this.
    pub(crate) page_count: u64,
    /// Pages that hold bytes.
    pub(crate) live_pages: u64,
    pub(crate) fingerprint: Fingerprint,
    /// The engine's own bytes.
    pub(crate) meta: Arc<[u8]>,
    /// The versions that last changed `meta` and `page_count`; for conflicts, hence not kept over a restart.
    pub(crate) meta_birth: Version,
    pub(crate) page_count_birth: Version,
    /// When the version was committed, in milliseconds since 1970 (UTC).
    pub(crate) created_at_ms: u64,
}

impl Root {
    /// The empty store, version 0.
    pub(crate) fn empty(created_at_ms: u64) -> Root {
        Root {
            version: Version(0),
            word: Word::new(Link::None),
            height: 0,
            page_count: 0,
            live_pages: 0,
            fingerprint: Fingerprint::EMPTY,
            meta: Arc::from([]),
            meta_birth: Version(0),
            page_count_birth: Version(0),
            created_at_ms,
        }
    }

    /// What a catalog says of the root, once its nodes are on disk; the address of the topmost is told by the slab.
    pub(crate) fn record(&self, log_sequence: u64) -> RootRecord {
        RootRecord {
            version: self.version,
            address: None,
            height: self.height,
            page_count: self.page_count,
            live_pages: self.live_pages,
            fingerprint: self.fingerprint,
            meta: self.meta.to_vec(),
            created_at_ms: self.created_at_ms,
            log_sequence,
        }
    }

    /// A root as a checkpoint recorded it: its tree is still on disk.
    pub(crate) fn from_record(record: &RootRecord) -> Root {
        Root {
            version: record.version,
            word: Word::new(record.address.map_or(Link::None, Link::Disk)),
            height: record.height,
            page_count: record.page_count,
            live_pages: record.live_pages,
            fingerprint: record.fingerprint,
            meta: record.meta.clone().into(),
            meta_birth: record.version,
            page_count_birth: record.version,
            created_at_ms: record.created_at_ms,
        }
    }
}
