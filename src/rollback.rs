//! Going back to an older version, as a new one.
//!
//! The pages that differ are written anew, and what is there only now is freed: history goes on, and whatever was pinned stays as
//! it is. To link the old pages again would be cheaper, but a page's life is one interval of versions: what is reclaimed is
//! decided from its birth and its death alone.

use std::time::Duration;

use serde::Serialize;

use crate::commit::lead::{LogState, try_batch};
use crate::commit::request::Request;
use crate::commit::whole::{Whole, commit_whole};
use crate::error::{Error, Result};
use crate::format::names::NameChange;
use crate::id::{PageId, Version};
use crate::names::Naming;
use crate::options::Durability;
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::table::diff::for_each_difference;
use crate::table::node::Entry;
use crate::table::root::Root;

/// For how long the state that was rolled back from is kept.
const HEAD_KEPT: Duration = Duration::from_hours(7 * 24);

/// What a rollback did.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RolledBack {
    /// The version that has the old contents again.
    pub version: Version,
    /// The snapshot that keeps what was there before; `None` if nothing differed.
    pub head: Option<String>,
    /// Pages written.
    pub pages_written: u64,
    /// Pages freed.
    pub pages_freed: u64,
}

impl Store {
    /// Makes the contents of `snapshot` the current ones again: pages, page count and meta bytes, in one atomic, durable commit.
    ///
    /// Nothing is lost by it: what was there before is kept as the named snapshot `before-rollback-VERSION`, which expires after a
    /// week, and all other snapshots stay. Costs in proportion to what differs: pages are copied. Writers wait meanwhile, readers
    /// don't; a transaction that began before conflicts if it touches what the rollback touched.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use vellum::{Options, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// let mut txn = store.begin()?;
    /// let id = txn.allocate()?;
    /// txn.write(id, &[1; 4096])?;
    /// txn.commit()?;
    /// let good = store.snapshot();
    ///
    /// let mut txn = store.begin()?;
    /// txn.write(id, &[2; 4096])?;
    /// txn.commit()?;
    /// let done = store.rollback_to(&good)?;
    /// assert_eq!(store.snapshot().fingerprint(), good.fingerprint());
    /// let undone = store.open_snapshot(&done.head.unwrap())?;
    /// assert_eq!(undone.view().page(id)?.unwrap()[0], 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a snapshot of another store, [`Error::SnapshotRevoked`], what reading the snapshot's pages
    /// gives, and what a commit gives. After any error the contents are as they were.
    pub fn rollback_to(&self, snapshot: &Snapshot) -> Result<RolledBack> {
        let core = self.core();
        snapshot.check_of(core, "snapshot")?;
        let _in_use = snapshot.in_use()?;
        let mut done = self.roll_back(&mut core.log.lock(), snapshot);
        if matches!(done, Err(Error::Full { .. })) && core.make_room() {
            done = self.roll_back(&mut core.log.lock(), snapshot);
        }
        core.after_commit();
        done
    }

    fn roll_back(&self, log: &mut LogState, snapshot: &Snapshot) -> Result<RolledBack> {
        let target = snapshot.root();
        let tip = self.core().current();
        let (head, pages_written, pages_freed) = (None, 0, 0);
        if tip.root().has_contents_of(target) {
            return Ok(RolledBack { version: tip.root().version, head, pages_written, pages_freed });
        }
        let name = format!("before-rollback-{}", tip.root().version.0);
        let info =
            Naming::new().label("rollback-to", target.version.0.to_string()).expires_in(HEAD_KEPT).info()?;
        self.change_names_in(log, NameChange::Create { name: name.clone(), info })?;
        let done = self.write_back(log, snapshot);
        if done.is_err() {
            // The name does no harm if this fails too, and expires.
            let _ = self.change_names_in(log, NameChange::Drop { name: name.clone(), when_released: false });
        }
        done.map(|done| RolledBack { head: Some(name), ..done })
    }

    fn change_names_in(&self, log: &mut LogState, change: NameChange) -> Result<()> {
        let request = Request { names: Some(change), ..Request::nothing(Durability::Sync) };
        try_batch(self.core(), log, &[request]).into_iter().try_for_each(|done| done.map(drop))
    }

    fn write_back(&self, log: &mut LogState, snapshot: &Snapshot) -> Result<RolledBack> {
        let (core, target, tip) = (self.core(), snapshot.root(), self.core().current());
        let tip = tip.root();
        let mut written: Vec<(PageId, Entry)> = Vec::new();
        let (mut freed, mut pages_freed): (Vec<(PageId, u64)>, u64) = (Vec::new(), 0);
        for_each_difference(&core.slab, target, tip, PageId(0), &mut |id, old, new| {
            if old.is_page() {
                written.push((id, old));
                return Ok(true);
            }
            pages_freed += u64::from(new.is_page());
            match freed.last_mut() {
                _ if !new.is_page() || id.0 >= target.page_count => {}
                Some((first, count)) if first.0 + *count == id.0 => *count += 1,
                _ => freed.push((id, 1)),
            }
            Ok(true)
        })?;
        let pages_written = written.len() as u64;
        let whole = Whole {
            version: tip.version.next(),
            created_at_ms: core.now_ms(tip),
            truncate_to: Some(target.page_count).filter(|count| *count < tip.page_count),
            freed,
            page_count: target.page_count,
            meta: Some(target.meta.clone()),
            fingerprint: target.fingerprint,
        };
        let table = core.segments.table();
        let version = commit_whole(core, log, &whole, true, &mut |put| {
            written.iter().try_for_each(|(id, entry)| {
                match core.segments.verified_page(&table, *id, *entry)? {
                    Some((bytes, checksum)) => put(*id, checksum, &bytes),
                    None => Ok(()),
                }
            })
        })?;
        Ok(RolledBack { version, head: None, pages_written, pages_freed })
    }
}

impl Root {
    fn has_contents_of(&self, other: &Root) -> bool {
        (self.fingerprint, self.page_count, &self.meta) == (other.fingerprint, other.page_count, &other.meta)
    }
}
