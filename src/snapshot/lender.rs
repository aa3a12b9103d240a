//! Pages that are lent for as long as somebody likes.

use std::sync::Arc;

use super::Snapshot;
use crate::error::Result;
use crate::id::{PageId, Version};
use crate::log::cached::PageBytes;
use crate::log::segment::SegmentTable;
use crate::table::lookup::{lookup, quick_lookup};
use crate::table::node::capacity;

/// Lends pages of a snapshot, where a [`View`](super::View) would have to stay with its thread.
///
/// While anything is lent ([`Lender::begin`] to [`Lender::end`]), it keeps what a view keeps, by other means: the version by the
/// snapshot, entered so that it can't be revoked meanwhile (4), and the mappings by the table of segments. Bytes at a
/// location never change while a version sees them (8).
pub(crate) struct Lender {
    snapshot: Snapshot,
    table: Arc<SegmentTable>,
    covered: u64,
    is_lending: bool,
}

impl Lender {
    pub(crate) fn new(snapshot: &Snapshot) -> Lender {
        // Taken after the root was published, so it has every segment that the version reaches.
        let table = Arc::clone(&snapshot.core.segments.table());
        let (height, page_count) = (snapshot.root().height, snapshot.page_count());
        let covered = if height == 0 { 0 } else { page_count.min(capacity(height)) };
        Lender { snapshot: snapshot.clone(), table, covered, is_lending: false }
    }

    /// From now on what is lent stays.
    ///
    /// # Errors
    /// [`Error::SnapshotRevoked`](crate::Error::SnapshotRevoked).
    pub(crate) fn begin(&mut self) -> Result<()> {
        if !self.is_lending {
            // Left again at the end.
            std::mem::forget(self.snapshot.in_use()?);
            self.is_lending = true;
        }
        Ok(())
    }

    /// Nothing is lent any more.
    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.is_lending) {
            self.snapshot.core.registry.leave(self.snapshot.slot);
        }
    }

    /// The page's bytes where they lie; `None` if it holds nothing or would have to be copied, or if lending hasn't begun.
    pub(crate) fn page(&self, id: PageId) -> Result<Option<&[u8]>> {
        let Snapshot { core, .. } = &self.snapshot;
        let root = self.snapshot.root();
        if !self.is_lending || id.0 >= root.page_count {
            return Ok(None);
        }
        core.segments.prefetch(id);
        let guard = core.epoch.pin();
        if id.0 < self.covered
            && let Some(entry) = quick_lookup(root, id)
            && let Some(bytes) = core.segments.quick_page(&self.table, entry)
        {
            return Ok(Some(bytes));
        }
        let entry = lookup(&core.slab, root, id, &guard)?;
        match core.segments.page(&self.table, id, entry)? {
            Some(PageBytes::InPlace(bytes)) => {
                let of = |neighbour| quick_lookup(root, neighbour);
                core.segments.learn_place(self.covered, id, (entry, bytes), of);
                Ok(Some(bytes))
            }
            _ => Ok(None),
        }
    }

    /// The version that is lent.
    pub(crate) fn version(&self) -> Version {
        self.snapshot.version()
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        self.end();
    }
}
