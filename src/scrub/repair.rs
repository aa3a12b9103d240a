//! Mending damaged pages.

use std::collections::HashMap;
use std::time::Instant;

use serde::Serialize;

use super::scan::{DAMAGED_MAX, DamagedPage};
use super::source::{RepairSource, Wanted};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::id::Version;
use crate::log::packed::Patches;
use crate::space::{Budget, Held, Maintenance};
use crate::store::Store;
use crate::sync::atomic::Ordering;
use crate::table::lookup::lookup;

/// What became of a damaged page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum RepairOutcome {
    /// Its bytes are right again, in every version that sees them.
    Repaired,
    /// It was not damaged any more.
    Sound,
    /// No version sees these bytes any more, so nobody needs them.
    Gone,
    /// No source has the right bytes.
    NoSource,
    /// Views that are open for long keep the segment from being rewritten: close them, and try again.
    /// Or the store is a fork and the page its parent's: repair it there.
    Blocked,
}

/// What a repair has done.
#[non_exhaustive]
#[derive(Debug, Default, Serialize)]
pub struct RepairReport {
    /// What became of each page, in the order in which they were given.
    pub outcomes: Vec<RepairOutcome>,
    /// Segment files that were written anew.
    pub segments_rewritten: u64,
    /// Bytes that were copied for it.
    pub bytes_copied: u64,
    /// Sources that failed, by their place in the list, and why. What they gave before was used if it was right.
    #[serde(skip)]
    pub source_failures: Vec<(usize, Error)>,
}

impl RepairReport {
    /// Whether no damage is left of what was given.
    pub fn is_whole(&self) -> bool {
        let is_well =
            |outcome: &RepairOutcome| !matches!(outcome, RepairOutcome::NoSource | RepairOutcome::Blocked);
        self.outcomes.iter().all(is_well)
    }
}

impl Store {
    /// Mends damaged pages that [`Store::scrub`] has listed, from the given sources, in the order given, and from what other versions
    /// of this store have. Bytes are written only if they have the page's checksum. Each segment with a damaged page is
    /// written anew, as maintenance does it: the pages are right again in all snapshots, a crash leaves the segment as it was or
    /// mended, and clones that share the damaged file keep what they have (they can be mended in the same way).
    ///
    /// Costs a checkpoint, the walk of the page table, and a copy of the segments concerned. Views that are open meanwhile still see the
    /// damage; those opened afterwards don't. Damaged table nodes are not mended.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use vellum::{Options, RepairSource, Scrub, Store};
    /// # let (store, clone) = (Store::in_memory(Options::new())?, Store::in_memory(Options::new())?);
    /// let found = store.scrub(Scrub::new(), &mut ())?;
    /// let done = store.repair(&found.damaged, &mut [RepairSource::Store(&clone)])?;
    /// assert!(done.is_whole());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for more than 2,048 pages, [`Error::Corrupt`] if a table node is damaged, [`Error::Full`] if there is no room
    /// for a copy, and what a checkpoint gives. After any error the store is as it was, but for segments that were mended before.
    pub fn repair(&self, damaged: &[DamagedPage], sources: &mut [RepairSource<'_>]) -> Result<RepairReport> {
        if damaged.len() > 2 * DAMAGED_MAX {
            let expected = format!("at most {} at a time are", 2 * DAMAGED_MAX);
            return Err(Error::InvalidOption {
                option: "damaged",
                value: damaged.len().to_string(),
                expected,
            });
        }
        let core = self.core();
        core.check_poison()?;
        let mut report = RepairReport::default();
        if damaged.is_empty() {
            return Ok(report);
        }
        let mut wanted = Wanted::new(core.page_size(), damaged);
        wanted.look_in_store(core)?;
        for (index, source) in sources.iter_mut().enumerate() {
            if let Err(error) = wanted.look_in(source) {
                report.source_failures.push((index, error));
            }
        }
        core.mend(damaged, &wanted, &mut report)?;
        Ok(report)
    }
}

impl Core {
    fn mend(&self, damaged: &[DamagedPage], wanted: &Wanted, report: &mut RepairReport) -> Result<()> {
        let geometry = self.segments.geometry();
        let mut numbers: Vec<u32> = damaged.iter().map(|page| geometry.split(page.location).0).collect();
        numbers.sort_unstable();
        numbers.dedup();
        self.settle_log(&numbers)?;
        let mut space = self.space.lock();
        let busy = Busy::take(self, &numbers);
        let mut patches: HashMap<u32, Patches> = HashMap::new();
        for page in damaged {
            let outcome = self.look_at(page, wanted)?;
            if let (RepairOutcome::Repaired, Some(bytes)) = (outcome, wanted.get(page)) {
                let (number, slot) = geometry.split(page.location);
                patches.entry(number).or_default().insert(slot, bytes.clone());
            }
            report.outcomes.push(outcome);
        }
        let chosen: Vec<u32> =
            busy.numbers.iter().copied().filter(|number| patches.contains_key(number)).collect();
        let mut done = Maintenance::default();
        if !chosen.is_empty() {
            self.pack_busy(&mut space, &chosen, &patches, Budget::unlimited(), Instant::now(), &mut done)?;
            self.write_catalogs_past(&space)?;
            self.remove_retired(&mut space, self.options.pool_max(), &mut done)?;
        }
        (report.segments_rewritten, report.bytes_copied) = (done.segments_packed, done.bytes_copied);
        // What was written is believed when it was read back.
        for (page, outcome) in damaged.iter().zip(&mut report.outcomes) {
            if *outcome == RepairOutcome::Repaired {
                *outcome = match self.look_at(page, wanted)? {
                    RepairOutcome::Sound | RepairOutcome::Gone => RepairOutcome::Repaired,
                    _ => RepairOutcome::Blocked,
                };
            }
        }
        Ok(())
    }

    /// Sees to it that the log has left the segments, and that recovery needs no record in them.
    fn settle_log(&self, numbers: &[u32]) -> Result<()> {
        {
            let mut log = self.log.lock();
            if numbers.contains(&log.appender.position().segment) {
                let durable = Version(self.durable.load(Ordering::Acquire));
                log.appender.seal(durable).map_err(|failure| self.fail(failure))?;
            }
        }
        self.sync()?;
        // Both of the catalog's roots are then behind it.
        self.write_catalog_anew()?;
        self.write_catalog_anew()
    }

    /// What is to be done about a page.
    fn look_at(&self, page: &DamagedPage, wanted: &Wanted) -> Result<RepairOutcome> {
        let mut held = Held::new(self);
        let mut roots = vec![held.hold_current()];
        held.hold_live(|_, root| roots.push(root));
        for root in roots {
            let entry = lookup(&self.slab, root.root(), page.page, &self.epoch.pin())?;
            if entry.location() != Some(page.location) || entry.short_checksum() != page.checksum {
                continue;
            }
            return match self.segments.verified_page(&self.segments.table(), page.page, entry) {
                Ok(_) => Ok(RepairOutcome::Sound),
                Err(Error::Corrupt { .. } | Error::Io { .. }) if wanted.get(page).is_some() => {
                    Ok(RepairOutcome::Repaired)
                }
                Err(Error::Corrupt { .. } | Error::Io { .. }) => Ok(RepairOutcome::NoSource),
                Err(error) => Err(error),
            };
        }
        Ok(RepairOutcome::Gone)
    }
}

/// Segments that may be rewritten, and that nobody else uses for anything until this is dropped; under the space lock.
struct Busy<'a> {
    core: &'a Core,
    numbers: Vec<u32>,
}

impl<'a> Busy<'a> {
    /// Takes those of the segments that the log is done with.
    fn take(core: &'a Core, of: &[u32]) -> Busy<'a> {
        let mut log = core.log.lock();
        let settled = log.appender.sparse(core.log_start.load(Ordering::Acquire));
        let numbers: Vec<u32> =
            settled.into_iter().map(|(number, ..)| number).filter(|number| of.contains(number)).collect();
        log.appender.busy.extend(&numbers);
        Busy { core, numbers }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.core.log.lock().appender.busy.clear();
    }
}
