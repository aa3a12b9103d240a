//! Where the right bytes of a damaged page may be had.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use super::scan::DamagedPage;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::checksum::PageChecksum;
use crate::id::PageId;
use crate::space::Held;
use crate::store::Store;
use crate::stream::{ImportOptions, each_page_of};
use crate::table::lookup::lookup;

/// Something that may have the right bytes of a damaged page. It need not be trusted: only bytes that have the checksum which
/// the damaged store's table keeps of the page are used.
#[non_exhaustive]
pub enum RepairSource<'a> {
    /// A clone, a restored copy or any other store with pages of the same size: its current version, its named snapshots and
    /// whatever else it keeps.
    Store(&'a Store),
    /// An export stream, full or delta, which is read to its end.
    Stream(&'a mut dyn Read),
    /// The same, read under options: with the key of an encrypted one, say.
    StreamWith(&'a mut dyn Read, ImportOptions),
}

impl std::fmt::Debug for RepairSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RepairSource::Store(store) => f.debug_tuple("Store").field(store).finish(),
            RepairSource::Stream(_) | RepairSource::StreamWith(..) => f.write_str("Stream"),
        }
    }
}

/// What is wanted of one page: checksums, and the bytes that were found for each.
type Contents = Vec<(u64, Option<Arc<[u8]>>)>;

/// The pages that are wanted, by id and checksum, and their bytes as they are found.
pub(super) struct Wanted {
    page_size: usize,
    pages: HashMap<PageId, Contents>,
}

impl Wanted {
    pub(super) fn new(page_size: usize, damaged: &[DamagedPage]) -> Wanted {
        let mut pages: HashMap<PageId, Contents> = HashMap::new();
        for page in damaged {
            let known = pages.entry(page.page).or_default();
            if known.iter().all(|(checksum, _)| *checksum != page.checksum) {
                known.push((page.checksum, None));
            }
        }
        Wanted { page_size, pages }
    }

    pub(super) fn get(&self, page: &DamagedPage) -> Option<&Arc<[u8]>> {
        let known = self.pages.get(&page.page)?;
        known.iter().find(|(checksum, _)| *checksum == page.checksum)?.1.as_ref()
    }

    fn is_complete(&self) -> bool {
        self.pages.values().flatten().all(|(_, bytes)| bytes.is_some())
    }

    /// Takes the bytes if they are what is wanted: the one place that decides it.
    fn offer(&mut self, id: PageId, bytes: &[u8]) {
        let Some(known) = self.pages.get_mut(&id) else { return };
        if bytes.len() != self.page_size || known.iter().all(|(_, found)| found.is_some()) {
            return;
        }
        let short = PageChecksum::of(id, bytes).short();
        for (checksum, found) in known.iter_mut().filter(|(_, found)| found.is_none()) {
            if *checksum == short {
                *found = Some(Arc::from(bytes));
            }
        }
    }

    /// Looks for what is still wanted in a source.
    pub(super) fn look_in(&mut self, source: &mut RepairSource<'_>) -> Result<()> {
        if self.is_complete() {
            return Ok(());
        }
        match source {
            RepairSource::Store(store) => self.look_in_store(store.core()),
            RepairSource::Stream(stream) => self.look_in_stream(&mut **stream, &ImportOptions::new()),
            RepairSource::StreamWith(stream, options) => self.look_in_stream(&mut **stream, options),
        }
    }

    fn look_in_stream(&mut self, stream: &mut dyn Read, options: &ImportOptions) -> Result<()> {
        each_page_of(stream, options, &mut |id, bytes| self.offer(id, bytes))
    }

    /// Looks in every version that the store keeps. What is damaged there too is passed over.
    pub(super) fn look_in_store(&mut self, core: &Core) -> Result<()> {
        if core.page_size() != self.page_size {
            let (asked, found) = (self.page_size, core.page_size());
            let size = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
            return Err(Error::PageSizeMismatch { asked: size(asked), found: size(found) });
        }
        let mut held = Held::new(core);
        let mut roots = vec![held.hold_current()];
        held.hold_live(|_, root| roots.push(root));
        let ids: Vec<(PageId, Vec<u64>)> = self
            .pages
            .iter()
            .map(|(id, known)| {
                (*id, known.iter().filter(|known| known.1.is_none()).map(|known| known.0).collect())
            })
            .collect();
        let table = core.segments.table();
        for root in &roots {
            for (id, checksums) in &ids {
                let entry = match lookup(&core.slab, root.root(), *id, &core.epoch.pin()) {
                    Ok(entry) if entry.is_page() && checksums.contains(&entry.short_checksum()) => entry,
                    _ => continue,
                };
                if let Ok(Some((bytes, _))) = core.segments.verified_page(&table, *id, entry) {
                    self.offer(*id, &bytes);
                }
            }
        }
        Ok(())
    }
}
