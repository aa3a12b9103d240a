//! What recovery found, applied.
//!
//! The log's tail may hold tens of thousands of batches. Nobody can ever look at a version between the checkpoint and the end but those
//! that have a name or belong to the history window, so all up to the next such one are applied as a single version: a node that many of
//! them touch is copied once. What was changed is born in its own version all the same, so deltas since any version are what they were.

#[cfg(all(test, feature = "sim", not(any(loom, shuttle))))]
mod tests;

use std::sync::Arc;

use super::lead::{Change, change_edit};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::names::NameChange;
use crate::id::{PageId, Version};
use crate::log::recover::FoundBatch;
use crate::log::segment::file_name;
use crate::table::edit::Edit;

/// The pages after which a run of batches is applied: their places are listed in memory.
const RUN_PAGES: usize = 1 << 16;

/// How many of the batches that recovery found become one version: as far as nobody can ever want one of those between for itself,
/// because it has a name or belongs to the history window, and as the list of what they replace is bounded.
pub(crate) fn found_run(core: &Core, batches: &[FoundBatch]) -> usize {
    if core.history.lock().policy().is_some() {
        return 1;
    }
    let mut pages = 0;
    let is_last = |batch: &FoundBatch| {
        let records = &batch.records;
        pages += records.iter().map(|record| record.pages.len()).sum::<usize>();
        pages >= RUN_PAGES || records.first().is_some_and(|record| record.names.is_some())
    };
    batches.iter().position(is_last).map_or(batches.len(), |last| last + 1)
}

/// Applies batches that recovery found, all as one version, whose number is the last one's.
pub(crate) fn apply_found(core: &Core, batches: &[FoundBatch]) -> Result<()> {
    let Some(newest) = batches.last().filter(|batch| !batch.records.is_empty()) else { return Ok(()) };
    let guard = core.epoch.pin();
    let tip = core.published.load(&guard);
    let mut edit = Edit::new(&core.slab, tip, newest.version(), Version(0));
    // None but the last batch has names: see `found_run`.
    let (mut names, mut created_at_ms) = (None, 0);
    for batch in batches {
        let (Some(first), Some(last)) = (batch.records.first(), batch.records.last()) else { continue };
        created_at_ms = last.created_at_ms;
        edit.begin_step(batch.version());
        let has_stepped = match first.names.as_deref().map(NameChange::decode).transpose() {
            Ok(change) => {
                names = change;
                step_found(core, &mut edit, batch, names.as_ref())?
            }
            Err(_) => false,
        };
        let is_right = has_stepped
            && edit.root().fingerprint == last.fingerprint
            && edit.root().page_count == last.page_count;
        if !is_right {
            let path = core.segments.storage().path(&file_name(last.segment));
            let offset = core.segments.geometry().offset(u32::try_from(last.slot).unwrap_or(0));
            let expected = format!("{} with fingerprint {}", last.version, last.fingerprint);
            return Err(Error::corrupt(path, offset, expected, "changes that lead to another state"));
        }
    }
    let pages = batches.iter().flat_map(|batch| batch.pages(&core.segments));
    core.publish(edit, pages.map(|(_, _, location)| location), created_at_ms);
    if let Some(names) = &names {
        core.apply_name_change(names);
    }
    Ok(())
}

/// Changes what a batch changes, whose names would change by `names`; `false` if it asks for what can't be.
fn step_found(
    core: &Core,
    edit: &mut Edit<'_>,
    batch: &FoundBatch,
    names: Option<&NameChange>,
) -> Result<bool> {
    let (Some(first), Some(last)) = (batch.records.first(), batch.records.last()) else { return Ok(true) };
    let freed: Vec<(PageId, u64)> =
        batch.records.iter().flat_map(|record| record.freed.iter().copied()).collect();
    let change = Change {
        truncate_to: first.truncate_to,
        freed: &freed,
        page_count: last.page_count,
        meta: first.meta.as_ref().map(|meta| Arc::from(meta.as_slice())),
        names: None,
    };
    let can_apply = names.is_none_or(|change| core.names.lock().check(change, last.created_at_ms).is_ok());
    let end = PageId::MAX.0 + 1;
    let is_sane = batch.pages(&core.segments).all(|(id, _, _)| id.0 < end)
        && freed.iter().all(|(first, count)| first.0.saturating_add(*count) <= end)
        && last.page_count <= end
        && can_apply;
    if is_sane {
        change_edit(edit, &change, batch.pages(&core.segments))?;
    }
    Ok(is_sane)
}
