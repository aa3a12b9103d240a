//! What the leader does with a batch: validate, lay out, edit the table, append, sync, publish.
//!
//! Nothing is visible before the last step and nothing is changed by a failure before it: the edit is dropped, the
//! log's end stays where it was (invariant 10). A failure that leaves the disk's state unknown poisons the store.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::request::{Request, ranges};
use super::validate::{Truncation, Validator};
use crate::core::{Core, panicked};
use crate::error::{Error, Result};
use crate::format::checksum::PageChecksum;
use crate::format::names::NameChange;
use crate::format::record::extra_bytes;
use crate::id::{Location, PageId, Version};
use crate::log::append::{Appender, Batch};
use crate::log::failure::AppendFailure;
use crate::log::layout::Shape;
use crate::options::Durability;
use crate::pins::PinKind;
use crate::sync::atomic::Ordering;
use crate::sync::{Planted, has_planted};
use crate::table::edit::{Dead, Edit};
use crate::table::root::Root;
use crate::version::epoch::Epoch;
use crate::version::grace::Grace;

/// What the commit lock guards.
#[derive(Debug)]
pub(crate) struct LogState {
    pub(crate) appender: Appender,
    /// Truncations that open transactions may be older than, oldest first.
    pub(crate) truncations: VecDeque<Truncation>,
    /// Batches since the last pass of the reclaimer.
    pub(crate) unreclaimed: u32,
}

/// Batches between two passes of the reclaimer.
const RECLAIM_EVERY: u32 = 64;
/// Pins that passes look at for each commit, on average; more pins make passes rarer.
const PINS_A_COMMIT: usize = 16;
/// How long a commit waits for views that hold up too much memory.
const LIMBO_WAIT: Duration = Duration::from_secs(3);

/// What one batch changes, whoever asks for it.
pub(crate) struct Change<'a> {
    pub(crate) truncate_to: Option<u64>,
    pub(crate) freed: &'a [(PageId, u64)],
    pub(crate) page_count: u64,
    pub(crate) meta: Option<Arc<[u8]>>,
    pub(crate) names: Option<&'a NameChange>,
}

/// Applies a change to the tip: the only way from one version to the next, for commits, recovery and imports alike.
pub(crate) fn edit_tip<'s>(
    core: &'s Core,
    tip: &Root,
    version: Version,
    settled: Version,
    change: &Change<'_>,
    pages: impl Iterator<Item = (PageId, PageChecksum, Location)>,
) -> Result<Edit<'s>> {
    let mut edit = Edit::new(&core.slab, tip, version, settled);
    change_edit(&mut edit, change, pages)?;
    Ok(edit)
}

/// Applies a change to a version in the making.
pub(super) fn change_edit(
    edit: &mut Edit<'_>,
    change: &Change<'_>,
    pages: impl Iterator<Item = (PageId, PageChecksum, Location)>,
) -> Result<()> {
    if let Some(page_count) = change.truncate_to {
        edit.truncate(page_count)?;
    }
    for (first, count) in change.freed {
        for id in first.0..first.0.saturating_add(*count) {
            edit.free(PageId(id))?;
        }
    }
    for (id, checksum, location) in pages {
        edit.put(id, location, checksum.short())?;
    }
    edit.raise_page_count(change.page_count);
    if let Some(meta) = &change.meta {
        edit.set_meta(meta.clone());
    }
    Ok(())
}

/// Commits a batch of requests; the results are in their order. Called by one thread at a time. Where the disk is full, it
/// waits for the space that can be had back, and tries once more.
pub(crate) fn commit_batch(core: &Core, requests: &[Request]) -> Vec<Result<Version>> {
    // A record carries one change of the names: one that changes them ends its batch.
    requests
        .split_inclusive(|request| request.names.is_some())
        .flat_map(|requests| commit_one_batch(core, requests))
        .collect()
}

fn commit_one_batch(core: &Core, requests: &[Request]) -> Vec<Result<Version>> {
    if core.is_short_of_disk.swap(false, Ordering::Relaxed) {
        core.gain_room();
    }
    let results = try_batch(core, &mut core.log.lock(), requests);
    let is_refused = |result: &Result<Version>| matches!(result, Err(Error::Full { .. }));
    // A full disk refuses all that was admitted alike, and what was not admitted is not admitted now.
    match results.iter().any(is_refused) && core.make_room() {
        true => try_batch(core, &mut core.log.lock(), requests),
        false => results,
    }
}

/// Commits a batch, which changes the names once at most, as far as the disk has room.
pub(crate) fn try_batch(core: &Core, log: &mut LogState, requests: &[Request]) -> Vec<Result<Version>> {
    let poison_on_panic = PoisonOnPanic(core);
    let mut results: Vec<Option<Result<Version>>> = Vec::with_capacity(requests.len());
    if let Err(error) = core.check_poison().and_then(|()| wait_for_limbo(core)) {
        return requests.iter().map(|_| Err(error.clone())).collect();
    }
    let guard = core.epoch.pin();
    let tip = core.published.load(&guard);
    let version = tip.version.next();
    let limit = Version::MAX.0;
    if version > Version::MAX {
        return requests.iter().map(|_| Err(Error::VersionsExhausted { limit })).collect();
    }
    let truncations = log.truncations.make_contiguous();
    let mut validator = Validator::new(&core.slab, tip, &guard, truncations, version);
    let is_only = requests.len() == 1;
    for request in requests {
        let allowed = match &request.names {
            Some(change) => core.names.lock().check(change, core.now_ms(tip)),
            None => Ok(()),
        };
        results.push(allowed.and_then(|()| validator.admit(request, is_only)).err().map(Err));
    }
    let admitted: Vec<&Request> = requests
        .iter()
        .zip(&results)
        .filter(|(_, refused)| refused.is_none())
        .map(|(request, _)| request)
        .collect();
    let conflicts =
        results.iter().filter(|result| matches!(result, Some(Err(Error::Conflict { .. })))).count();
    core.counters.refused((requests.len() - admitted.len()) as u64, conflicts as u64);
    let outcome = match admitted.is_empty() {
        true => Ok(tip.version),
        false => commit_admitted(core, log, tip, version, &admitted),
    };
    drop(guard);
    if outcome.is_ok() {
        core.look_at_disk(log);
        core.reclaim_now_and_then(log);
        core.trim_table(log);
    }
    std::mem::forget(poison_on_panic);
    results.into_iter().map(|refused| refused.unwrap_or_else(|| outcome.clone())).collect()
}

/// A panic in mid-write leaves nothing committable behind.
pub(crate) struct PoisonOnPanic<'a>(pub(crate) &'a Core);

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison(panicked(self.0.path()));
        }
    }
}

fn commit_admitted(
    core: &Core,
    log: &mut LogState,
    tip: &Root,
    version: Version,
    admitted: &[&Request],
) -> Result<Version> {
    let freed = ranges_of(admitted);
    let mut pages: Vec<(PageId, PageChecksum, &[u8])> =
        Vec::with_capacity(admitted.iter().map(|request| request.writes.len()).sum());
    for request in admitted {
        pages.extend(request.writes.iter().map(|(id, checksum, bytes)| (*id, *checksum, &**bytes)));
    }
    let change = Change {
        truncate_to: admitted.iter().filter_map(|request| request.truncate_to).min(),
        freed: &freed,
        page_count: admitted.iter().map(|request| request.page_count).max().unwrap_or(0),
        meta: admitted.iter().rev().find_map(|request| request.meta.clone()),
        names: admitted.iter().find_map(|request| request.names.as_ref()),
    };
    let names = change.names.map(NameChange::encode).transpose();
    let names = names.map_err(|found| Error::InvalidOption {
        option: "name",
        value: found,
        expected: "names that can be written are".to_owned(),
    })?;
    // What a name no longer keeps must be on the disk before anything is freed because of it; a new one only keeps more.
    let is_freeing = change.names.is_some_and(|change| !matches!(change, NameChange::Create { .. }));
    let will_sync = is_freeing || admitted.iter().any(|request| request.durability == Durability::Sync);
    let meta_bytes = change.meta.as_ref().map_or(0, |meta| meta.len());
    let extra_bytes = extra_bytes(meta_bytes, names.as_ref().map(Vec::len));
    let shape = Shape { pages: pages.len(), freed: freed.len(), extra_bytes };
    let is_plain = change.truncate_to.is_none() && freed.is_empty() && names.is_none();
    let mut plan = log.appender.plan(shape, is_plain);
    if log.appender.leaves_segment(&plan) {
        core.reclaim(log);
        plan = log.appender.plan(shape, is_plain);
    }
    let settled = core.oldest_live();
    let located =
        pages.iter().zip(plan.locations()).map(|((id, checksum, _), location)| (*id, *checksum, location));
    let edit = edit_tip(core, tip, version, settled, &change, located)?;
    let batch = Batch {
        version,
        durable: Version(core.durable.load(Ordering::Relaxed)),
        created_at_ms: core.now_ms(tip),
        truncate_to: change.truncate_to,
        page_count: edit.root().page_count,
        fingerprint: edit.root().fingerprint,
        meta: change.meta.as_deref(),
        names: names.as_deref(),
        freed: &freed,
        pages: &pages,
        first_part: 0,
        is_final: true,
    };
    log.appender.append(&plan, &batch, will_sync).map_err(|failure| core.fail(failure))?;
    if log.appender.take_handed_over() {
        core.signal.hand_over();
    }
    if will_sync {
        let begun = Instant::now();
        log.appender.sync().map_err(|failure| core.fail(failure))?;
        core.counters.synced(begun.elapsed());
    }
    let created_at_ms = batch.created_at_ms;
    if let Some(page_count) = change.truncate_to {
        log.truncations.push_back(Truncation { version, page_count });
        log.truncations.retain(|cut| cut.version > settled);
    }
    let locations = plan.locations();
    core.publish(edit, locations, created_at_ms);
    if let Some(names) = change.names {
        core.apply_name_change(names);
    }
    if will_sync {
        core.durable.store(version.0, Ordering::Release);
    }
    core.counters.committed(admitted.len() as u64, pages.len() as u64);
    core.allocator.lock().committed(version, change.truncate_to, admitted);
    Ok(version)
}

fn ranges_of(admitted: &[&Request]) -> Vec<(PageId, u64)> {
    match admitted {
        [only] => ranges(only.freed.iter().copied()),
        many => {
            let mut ids: Vec<PageId> =
                many.iter().flat_map(|request| request.freed.iter().copied()).collect();
            ids.sort_unstable();
            ranges(ids.into_iter())
        }
    }
}

/// Holds a batch up while too much memory waits for views.
pub(crate) fn wait_for_limbo(core: &Core) -> Result<()> {
    let (grace, epoch, limit) = (&core.grace, &core.epoch, core.options.limbo_bytes_max());
    wait_until_within(
        grace,
        epoch,
        limit,
        || core.limbo_bytes(),
        || {
            core.pass();
        },
    )
}

/// Brings grace periods to their end and has `pass` free what it can, until no more than `limit` bytes wait.
pub(crate) fn wait_until_within(
    grace: &Grace,
    epoch: &Epoch,
    limit: u64,
    limbo_bytes: impl Fn() -> u64,
    pass: impl Fn(),
) -> Result<()> {
    let mut limbo = limbo_bytes();
    if limbo <= limit {
        return Ok(());
    }
    let begun = Instant::now();
    loop {
        if !has_planted(Planted::IdleWait) {
            grace.advance(epoch);
        }
        pass();
        limbo = limbo_bytes();
        if limbo <= limit {
            return Ok(());
        }
        // A view of this very thread can't go away while the thread waits here.
        if epoch.pinned_here() || begun.elapsed() > LIMBO_WAIT {
            return Err(Error::LimboFull { limbo, limit });
        }
        crate::sync::thread::yield_now();
        #[cfg(not(any(loom, shuttle)))]
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Core {
    /// Turns a failed append into the error that the committers get.
    pub(crate) fn fail(&self, failure: AppendFailure) -> Error {
        match failure {
            AppendFailure::Clean(error) => error,
            AppendFailure::Fatal(error) => self.poison(error),
        }
    }

    /// Makes the edit the current version: the one atomic store that readers see.
    pub(crate) fn publish(&self, edit: Edit<'_>, pages: impl Iterator<Item = Location>, created_at_ms: u64) {
        let geometry = self.segments.geometry();
        let (root, dead) = edit.finish(created_at_ms);
        let version = root.version;
        for location in pages {
            self.segments.account_birth(geometry.split(location).0, geometry.page_bytes());
        }
        for item in &dead {
            match item {
                Dead::Page { location, .. } => {
                    self.segments.account_death(geometry.split(*location).0, geometry.page_bytes());
                }
                Dead::Node { pointer, .. } => self.slab.head_of(*pointer).set_died(version),
                Dead::Stored { address, is_leaf, .. } => {
                    let (segment, bytes) = self.segments.node_place(*address, *is_leaf);
                    self.segments.account_death(segment, bytes);
                }
            }
        }
        let root = Box::new(root);
        self.published.publish(root);
        // The ticket is issued under a guard that is pinned after the publish.
        let guard = self.epoch.pin();
        let held = self.current();
        let take = || self.registry.take(held.pointer(), PinKind::History.note());
        // Filled at the current version, inside the guard (invariant 6): nobody publishes while the commit lock is held.
        self.history.lock().published(held, take, &self.registry);
        let ticket = self.grace.issue(&guard);
        let mut reclaimer = self.reclaimer.lock();
        reclaimer.retire(held, dead, ticket);
        self.limbo.store(reclaimer.limbo_bytes(), Ordering::Relaxed);
    }

    /// Lets the reclaimer work once in a while.
    fn reclaim_now_and_then(&self, log: &mut LogState) {
        log.unreclaimed += 1;
        // A pass looks at every pin, so that its cost is shared by commits in proportion to them.
        let every =
            RECLAIM_EVERY.max(u32::try_from(self.registry.live() / PINS_A_COMMIT).unwrap_or(u32::MAX));
        // Large commits leave much in memory, which a bounded table has no room for.
        let limit = self.slab.limit();
        let is_much = self.limbo_bytes() > limit / 32 || self.slab.resident_bytes() > limit;
        if log.unreclaimed >= every || is_much {
            log.unreclaimed = 0;
            self.grace.advance(&self.epoch);
            self.pass();
        }
    }

    /// Takes nodes that are on disk out of memory, if there are too many or the wrong ones. Under the commit lock.
    pub(crate) fn trim_table(&self, _log: &LogState) {
        if !self.slab.wants_eviction() {
            return;
        }
        let guard = self.epoch.pin();
        self.reclaimer.lock().evict(self.published.load(&guard), &self.grace, &self.epoch);
        drop(guard);
        self.grace.advance(&self.epoch);
        self.pass();
    }

    /// Lets the reclaimer work and takes dead segments back.
    pub(crate) fn reclaim(&self, log: &mut LogState) {
        self.grace.advance(&self.epoch);
        self.pass();
        log.appender.recycle_dead(self.log_start.load(Ordering::Acquire));
    }
}
