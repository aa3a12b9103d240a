//! Taking a group snapshot.

use std::time::{Duration, Instant};

use super::Group;
use super::labels::{GroupId, GroupLabels, MemberId};
use super::parallel::for_each_limited;
use crate::commit::lead::{LogState, try_batch, wait_for_limbo};
use crate::commit::request::Request;
use crate::error::{Error, Result};
use crate::format::names::NameChange;
use crate::names::Naming;
use crate::open::random128;
use crate::options::Durability;
use crate::quiesce::{Frozen, HookFailure, Quiesce};
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::sync::{MutexGuard, Planted, has_planted};

/// A group snapshot that was taken.
#[non_exhaustive]
#[derive(Debug)]
pub struct GroupCreated {
    /// Who it is.
    pub id: GroupId,
    /// The members' snapshots, opened, in the order of [`Group::members`].
    pub snapshots: Vec<Snapshot>,
    /// As [`Quiesced::failures`](crate::Quiesced::failures), of all members' hooks.
    pub failures: Vec<HookFailure>,
    /// As [`Quiesced::frozen_for`](crate::Quiesced::frozen_for).
    pub frozen_for: Duration,
    /// For how long no member could commit.
    pub stopped_for: Duration,
}

/// Why naming failed, and in which member.
struct Failed {
    member: usize,
    error: Error,
}

impl Group {
    /// Gives the contents of all members, as they are at one moment, a name, under which they are kept until the group
    /// snapshot is dropped. See [`Group::create_snapshot_with`].
    ///
    /// # Errors
    /// As [`Group::create_snapshot_with`].
    pub fn create_snapshot(&self, name: &str) -> Result<GroupCreated> {
        self.create_snapshot_with(name, Naming::new(), Quiesce::new())
    }

    /// As [`Group::create_snapshot`], with labels or an expiry, and with the time that hooks may take.
    ///
    /// A commit to any member is either in the snapshot, with everything that was committed to any member before it, or it is
    /// not. Hooks of all members prepare and freeze first, as for
    /// [`Store::create_snapshot_quiesced`](crate::Store::create_snapshot_quiesced). Commits of all members then stop for as long as
    /// it takes to add a record to each log in memory; the syncs come after that. Costs one durable commit in each member.
    ///
    /// The labels that say which group a snapshot belongs to take up to 475 of the 512 bytes that labels may have. Members keep
    /// their snapshots under the same name; describing one of them anew takes it out of the group.
    ///
    /// # Errors
    /// What [`Store::create_snapshot_quiesced`](crate::Store::create_snapshot_quiesced) gives, for any member: then none has the
    /// snapshot. If a member's disk fails in the midst of it, the others drop theirs; where even that fails, and after
    /// a crash, the group is listed as incomplete.
    pub fn create_snapshot_with(&self, name: &str, naming: Naming, quiesce: Quiesce) -> Result<GroupCreated> {
        let members = self.members.iter().map(|store| MemberId::of(store.id())).collect();
        let labels = GroupLabels { id: GroupId(random128()), members };
        let naming = labels.add_to(naming)?;
        for store in &self.members {
            store.core().admit_pin()?;
            store.check_new_name(name, &naming)?;
        }
        let change = NameChange::Create { name: name.to_owned(), info: naming.info()? };
        let frozen = Frozen::freeze(&self.members.iter().collect::<Vec<_>>(), &quiesce)?;
        let mut named = self.name_all(name, &change);
        if let Err(Failed { member, error: Error::Full { .. } }) = &named
            && self.members[*member].core().make_room()
        {
            named = self.name_all(name, &change);
        }
        let (snapshots, stopped_for) = named.map_err(|failed| failed.error)?;
        let synced = frozen.claim().and_then(|()| self.sync_all());
        self.members.iter().for_each(|store| store.core().after_commit());
        if let Err(error) = synced {
            drop((frozen, snapshots));
            for store in &self.members {
                // Where this fails the group is incomplete, and listed as such.
                let _ = store.drop_snapshot(name);
            }
            return Err(error);
        }
        let (failures, frozen_for) = frozen.thaw();
        Ok(GroupCreated { id: labels.id, snapshots, failures, frozen_for, stopped_for })
    }

    /// Names the current versions of all members at one moment; nothing is synced yet.
    fn name_all(&self, name: &str, change: &NameChange) -> Result<(Vec<Snapshot>, Duration), Failed> {
        // What may take long is done before anybody is stopped.
        for (member, store) in self.members.iter().enumerate() {
            store.core().be_ready_to_commit().map_err(|error| Failed { member, error })?;
        }
        let mut locks: Vec<MutexGuard<'_, LogState>> = Vec::with_capacity(self.members.len());
        let mut snapshots = Vec::with_capacity(self.members.len());
        let mut begun = Instant::now();
        if !has_planted(Planted::GroupOneByOne) {
            for store in &self.members {
                locks.push(store.core().log.lock());
                if locks.len() == 1 {
                    begun = Instant::now();
                }
            }
            for (member, store) in self.members.iter().enumerate() {
                let checked = store.core().names.lock().check(change, store.core().clock_ms());
                checked.map_err(|error| Failed { member, error })?;
            }
        }
        for (member, store) in self.members.iter().enumerate() {
            let named = match locks.get_mut(member) {
                Some(log) => name_one(store, log, name, change),
                None => name_one(store, &mut store.core().log.lock(), name, change),
            };
            match named {
                Ok(snapshot) => snapshots.push(snapshot),
                Err(error) => {
                    for (store, log) in self.members[..member].iter().zip(&mut locks) {
                        let gone = NameChange::Drop { name: name.to_owned(), when_released: false };
                        // Where this fails the group is incomplete, and listed as such.
                        let _ = change_names(store, log, gone, Durability::Sync);
                    }
                    return Err(Failed { member, error });
                }
            }
        }
        drop(locks);
        Ok((snapshots, begun.elapsed()))
    }

    /// Makes all members durable, each by a thread of its own if they have threads at all.
    fn sync_all(&self) -> Result<()> {
        let has_threads = self.members.iter().all(|store| store.core().options.has_thread());
        let limit = if has_threads { self.members.len() } else { 1 };
        for_each_limited(self.members.len(), limit, &|member| self.members[member].sync()).map(drop)
    }
}

fn name_one(store: &Store, log: &mut LogState, name: &str, change: &NameChange) -> Result<Snapshot> {
    change_names(store, log, change.clone(), Durability::Buffered)?;
    store.open_snapshot(name)
}

fn change_names(store: &Store, log: &mut LogState, change: NameChange, durability: Durability) -> Result<()> {
    let request = Request { names: Some(change), ..Request::nothing(durability) };
    try_batch(store.core(), log, &[request]).into_iter().try_for_each(|done| done.map(drop))
}

impl crate::core::Core {
    /// Does beforehand what a commit might have to wait for.
    fn be_ready_to_commit(&self) -> Result<()> {
        if self.is_short_of_disk.swap(false, crate::sync::atomic::Ordering::Relaxed) {
            self.gain_room();
        }
        self.check_poison().and_then(|()| wait_for_limbo(self))
    }
}
