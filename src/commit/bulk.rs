//! One version of any size: pages are appended as they come, and count only when the last part is there.
//!
//! For a store that nobody else writes to yet: an import's.

use std::sync::Arc;

use super::lead::LogState;
use crate::core::Core;
use crate::error::Result;
use crate::format::checksum::PageChecksum;
use crate::format::stream::StreamHeader;
use crate::id::{Location, PageId, Version};
use crate::log::append::Batch;
use crate::log::layout::Shape;
use crate::table::edit::Edit;

/// Bytes of pages that are gathered before they are appended.
const CHUNK_BYTES: usize = 2 << 20;

/// See the head of this file.
pub(crate) struct BulkLoad {
    core: Arc<Core>,
    header: StreamHeader,
    /// Pages that are not appended yet, and their bytes one after the other.
    pages: Vec<(PageId, PageChecksum)>,
    bytes: Vec<u8>,
    /// What was appended: where each page lies.
    placed: Vec<(PageId, PageChecksum, Location)>,
    parts: u32,
}

impl BulkLoad {
    /// Begins the version that `header` tells of, in a store that stands at version 0.
    pub(crate) fn new(core: Arc<Core>, header: &StreamHeader) -> BulkLoad {
        let header = header.clone();
        BulkLoad { core, header, pages: Vec::new(), bytes: Vec::new(), placed: Vec::new(), parts: 0 }
    }

    /// Takes one more page; ids ascend.
    pub(crate) fn page(&mut self, id: PageId, checksum: PageChecksum, bytes: &[u8]) -> Result<()> {
        self.pages.push((id, checksum));
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= CHUNK_BYTES { self.append(false) } else { Ok(()) }
    }

    fn append(&mut self, is_final: bool) -> Result<()> {
        let core = self.core.clone();
        let mut log = core.log.lock();
        let LogState { appender, .. } = &mut *log;
        let page_size = core.page_size();
        let pages: Vec<(PageId, PageChecksum, &[u8])> = self
            .pages
            .iter()
            .zip(self.bytes.chunks_exact(page_size))
            .map(|((id, checksum), bytes)| (*id, *checksum, bytes))
            .collect();
        let meta = (self.parts == 0 && !self.header.meta.is_empty()).then_some(&self.header.meta[..]);
        let shape = Shape { pages: pages.len(), freed: 0, extra_bytes: meta.map_or(0, <[u8]>::len) };
        let plan = appender.plan(shape, false);
        self.placed.extend(pages.iter().zip(plan.locations()).map(|((id, sum, _), at)| (*id, *sum, at)));
        let batch = Batch {
            version: self.header.version,
            durable: Version(0),
            created_at_ms: self.header.created_at_ms,
            truncate_to: None,
            page_count: self.header.page_count,
            fingerprint: self.header.fingerprint,
            meta,
            names: None,
            freed: &[],
            pages: &pages,
            first_part: self.parts,
            is_final,
        };
        appender.append(&plan, &batch, false).map_err(|failure| core.fail(failure))?;
        self.parts += plan.part_count();
        self.pages.clear();
        self.bytes.clear();
        Ok(())
    }

    /// Appends the last part and publishes the version.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.append(true)?;
        let core = &self.core;
        // No node is evicted while an edit is under way.
        let _log = core.log.lock();
        let guard = core.epoch.pin();
        let tip = core.published.load(&guard);
        let mut edit = Edit::new(&core.slab, tip, self.header.version, Version(0));
        for (id, checksum, location) in &self.placed {
            edit.put(*id, *location, checksum.short())?;
        }
        edit.raise_page_count(self.header.page_count);
        edit.set_meta(self.header.meta.clone().into());
        core.publish(edit, self.placed.iter().map(|(_, _, location)| *location), self.header.created_at_ms);
        Ok(())
    }
}
