//! One version of any size, made by one who has the commit lock: an import, a delta applied, a rollback.
//!
//! Pages are appended in parts as they come, and count only when the last part is there: recovery takes a batch whole or not
//! at all, and a failure on the way takes the log's end back to where it was. What the change leads to is known
//! beforehand; the last part is written only if it does lead there.

use std::sync::Arc;

use super::lead::{Change, LogState, PoisonOnPanic, edit_tip, wait_for_limbo};
use super::validate::Truncation;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::checksum::PageChecksum;
use crate::id::{Fingerprint, Location, PageId, Version};
use crate::log::append::{Appender, Batch, Plan};
use crate::log::failure::AppendFailure;
use crate::log::layout::Shape;
use crate::sync::atomic::Ordering;

/// Most bytes of pages that are gathered before they are appended; a segment's bytes, if that is less.
const CHUNK_BYTES: u64 = 2 << 20;

/// What the version is to be, beside its pages.
pub(crate) struct Whole {
    pub(crate) version: Version,
    pub(crate) created_at_ms: u64,
    pub(crate) truncate_to: Option<u64>,
    pub(crate) freed: Vec<(PageId, u64)>,
    pub(crate) page_count: u64,
    pub(crate) meta: Option<Arc<[u8]>>,
    /// Of all pages of the version.
    pub(crate) fingerprint: Fingerprint,
}

/// Takes one more page; ids ascend.
pub(crate) type Put<'a> = dyn FnMut(PageId, PageChecksum, &[u8]) -> Result<()> + 'a;

/// Commits a version whose pages `pages` gives; durable when this returns, if `will_sync`. Without a failure of the disk, an error
/// leaves everything as it was.
pub(crate) fn commit_whole(
    core: &Core,
    log: &mut LogState,
    whole: &Whole,
    will_sync: bool,
    pages: &mut dyn FnMut(&mut Put<'_>) -> Result<()>,
) -> Result<Version> {
    let poison_on_panic = PoisonOnPanic(core);
    let done = commit(core, log, whole, will_sync, pages);
    std::mem::forget(poison_on_panic);
    done
}

fn commit(
    core: &Core,
    log: &mut LogState,
    whole: &Whole,
    will_sync: bool,
    pages: &mut dyn FnMut(&mut Put<'_>) -> Result<()>,
) -> Result<Version> {
    core.check_poison().and_then(|()| wait_for_limbo(core))?;
    // Nobody else publishes while the commit lock is held, so the tip stays.
    let tip = core.current();
    let tip = tip.root();
    if whole.version <= tip.version || whole.version > Version::MAX {
        return Err(Error::VersionsExhausted { limit: Version::MAX.0 });
    }
    core.reclaim(log);
    let settled = core.oldest_live();
    log.appender.flush().map_err(|failure| core.fail(failure))?;
    let mut edit = None;
    let mut placed = Vec::new();
    let appended = log.appender.or_step_back(|appender| {
        let mut loader = Loader::new(core, whole, appender);
        let gathered = pages(&mut |id, checksum, bytes| loader.put(id, checksum, bytes));
        gathered.map_err(|error| loader.failure.take().unwrap_or(AppendFailure::Clean(error)))?;
        let plan = loader.place(&whole.freed);
        let change = Change {
            truncate_to: whole.truncate_to,
            freed: &whole.freed,
            page_count: whole.page_count,
            meta: whole.meta.clone(),
            names: None,
        };
        let made = edit_tip(core, tip, whole.version, settled, &change, loader.placed.iter().copied());
        let made = made.map_err(AppendFailure::Clean)?;
        let found = made.root().fingerprint;
        if found != whole.fingerprint {
            let (expected, found) = (whole.fingerprint, found);
            return Err(AppendFailure::Clean(Error::WrongBase { expected, found }));
        }
        edit = Some(made);
        loader.append(&plan, &whole.freed, true)?;
        placed = loader.placed;
        Ok(())
    });
    appended.map_err(|failure| core.fail(failure))?;
    if will_sync {
        log.appender.sync().map_err(|failure| core.fail(failure))?;
    }
    let edit = edit.expect("it was made before the last part was appended");
    if let Some(page_count) = whole.truncate_to {
        log.truncations.push_back(Truncation { version: whole.version, page_count });
        log.truncations.retain(|cut| cut.version > settled);
    }
    let (page_count, live_pages) = (edit.root().page_count, edit.root().live_pages);
    core.publish(edit, placed.iter().map(|(_, _, location)| *location), whole.created_at_ms);
    if will_sync {
        core.durable.store(whole.version.0, Ordering::Release);
    }
    core.counters.committed(1, placed.len() as u64);
    core.allocator.lock().begin_anew(page_count, live_pages);
    Ok(whole.version)
}

/// Appends pages in chunks.
struct Loader<'a> {
    core: &'a Core,
    whole: &'a Whole,
    appender: &'a mut Appender,
    /// Pages that are not appended yet, and their bytes one after the other.
    pages: Vec<(PageId, PageChecksum)>,
    bytes: Vec<u8>,
    /// Where each page lies.
    placed: Vec<(PageId, PageChecksum, Location)>,
    parts: u32,
    /// Why appending failed, while the source of the pages gets an error.
    failure: Option<AppendFailure>,
}

impl<'a> Loader<'a> {
    fn new(core: &'a Core, whole: &'a Whole, appender: &'a mut Appender) -> Loader<'a> {
        let (pages, bytes, placed) = (Vec::new(), Vec::new(), Vec::new());
        Loader { core, whole, appender, pages, bytes, placed, parts: 0, failure: None }
    }

    fn put(&mut self, id: PageId, checksum: PageChecksum, bytes: &[u8]) -> Result<()> {
        self.pages.push((id, checksum));
        self.bytes.extend_from_slice(bytes);
        let chunk = CHUNK_BYTES.min(self.core.segments.geometry().segment_bytes());
        if (self.bytes.len() as u64) < chunk {
            return Ok(());
        }
        let plan = self.place(&[]);
        self.append(&plan, &[], false).map_err(|failure| {
            self.failure = Some(failure);
            Error::Cancelled
        })
    }

    fn meta(&self) -> Option<&'a [u8]> {
        self.whole.meta.as_deref().filter(|_| self.parts == 0)
    }

    /// Decides where the gathered pages will lie.
    fn place(&mut self, freed: &[(PageId, u64)]) -> Plan {
        let extra_bytes = self.meta().map_or(0, <[u8]>::len);
        let shape = Shape { pages: self.pages.len(), freed: freed.len(), extra_bytes };
        let plan = self.appender.plan(shape, false);
        let located = self.pages.iter().zip(plan.locations());
        self.placed.extend(located.map(|((id, checksum), location)| (*id, *checksum, location)));
        plan
    }

    /// Appends the gathered pages as they were placed.
    fn append(&mut self, plan: &Plan, freed: &[(PageId, u64)], is_final: bool) -> Result<(), AppendFailure> {
        let page_size = self.core.page_size();
        let pages = self.pages.iter().zip(self.bytes.chunks_exact(page_size));
        let pages: Vec<(PageId, PageChecksum, &[u8])> =
            pages.map(|((id, checksum), bytes)| (*id, *checksum, bytes)).collect();
        let batch = Batch {
            version: self.whole.version,
            durable: Version(self.core.durable.load(Ordering::Relaxed)),
            created_at_ms: self.whole.created_at_ms,
            truncate_to: self.whole.truncate_to.filter(|_| self.parts == 0),
            page_count: self.whole.page_count,
            fingerprint: self.whole.fingerprint,
            meta: self.meta(),
            names: None,
            freed,
            pages: &pages,
            first_part: self.parts,
            is_final,
        };
        self.appender.append(plan, &batch, false)?;
        self.parts += plan.part_count();
        self.pages.clear();
        self.bytes.clear();
        Ok(())
    }
}
