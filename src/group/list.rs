//! Finding group snapshots, opening and dropping them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use super::Group;
use super::labels::{GroupId, GroupLabels, MemberId};
use crate::error::{Error, Result};
use crate::id::StoreId;
use crate::names::NamedSnapshot;
use crate::snapshot::Snapshot;

/// A group snapshot as its members' names tell of it.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupSnapshot {
    /// Who it is.
    pub id: GroupId,
    /// Its name: that of the first member that has it.
    pub name: String,
    /// When the first of its members committed it.
    pub created_at: SystemTime,
    /// The stores of this group that have it, in the order of their ids, and what they say of it.
    pub members: Vec<(StoreId, NamedSnapshot)>,
    /// Members that don't have it, or that aren't among the stores of this [`Group`]: the first 16 digits of their ids.
    pub missing: Vec<String>,
}

impl GroupSnapshot {
    /// Whether every member has it. If not it is no consistent whole: it can't be opened, only dropped.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

impl Group {
    /// The group snapshots that any member has, the oldest first, incomplete ones included.
    pub fn snapshots(&self) -> Vec<GroupSnapshot> {
        let mut found: BTreeMap<GroupId, (Vec<MemberId>, GroupSnapshot)> = BTreeMap::new();
        for store in &self.members {
            for named in store.snapshots() {
                let Some(GroupLabels { id, members }) = GroupLabels::read(&named.labels) else { continue };
                let (expected, group) = found.entry(id).or_insert_with(|| {
                    let group = GroupSnapshot {
                        id,
                        name: named.name.clone(),
                        created_at: named.created_at,
                        members: Vec::new(),
                        missing: Vec::new(),
                    };
                    (Vec::new(), group)
                });
                expected.extend(members);
                group.created_at = group.created_at.min(named.created_at);
                group.members.push((store.id(), named));
            }
        }
        let mut groups: Vec<GroupSnapshot> = Vec::with_capacity(found.len());
        for (mut expected, mut group) in found.into_values() {
            expected.sort_unstable();
            expected.dedup();
            let has =
                |member: &MemberId| group.members.iter().any(|(store, _)| MemberId::of(*store) == *member);
            group.missing = expected.iter().filter(|member| !has(member)).map(MemberId::to_string).collect();
            groups.push(group);
        }
        groups.sort_by(|a, b| a.created_at.cmp(&b.created_at).then(a.id.cmp(&b.id)));
        groups
    }

    /// Opens a group snapshot: the members' snapshots, in the order of [`Group::members`]. They stay readable when it is
    /// dropped.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], [`Error::GroupIncomplete`], and [`Error::InvalidOption`] if this [`Group`] has more stores than
    /// the snapshot has members.
    pub fn open_snapshot(&self, name: &str) -> Result<Vec<Snapshot>> {
        let group = self.complete(name)?;
        let opened = self.members.iter().zip(&group.members).map(|(store, (_, named))| {
            let snapshot = store.open_snapshot(&named.name)?;
            match snapshot.version() == named.version {
                true => Ok(snapshot),
                // Dropped since, and made anew.
                false => Err(Error::SnapshotNotFound { name: named.name.clone() }),
            }
        });
        opened.collect()
    }

    /// The one group snapshot of that name, if all of the stores have it.
    pub(super) fn complete(&self, name: &str) -> Result<GroupSnapshot> {
        let mut incomplete = None;
        for group in self.snapshots().into_iter().filter(|group| group.name == name) {
            if !group.is_complete() {
                incomplete = Some(Error::GroupIncomplete { name: name.to_owned(), missing: group.missing });
            } else if group.members.len() < self.members.len() {
                incomplete = Some(Error::InvalidOption {
                    option: "group",
                    value: format!("{} stores", self.members.len()),
                    expected: format!("a group of the {} stores of this snapshot is", group.members.len()),
                });
            } else {
                return Ok(group);
            }
        }
        Err(incomplete.unwrap_or_else(|| Error::SnapshotNotFound { name: name.to_owned() }))
    }

    /// Drops a group snapshot in all members that have it; an incomplete one too. A crash on the way leaves an incomplete one,
    /// which the same call drops.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], [`Error::SnapshotHeld`] if any member's snapshot is held (then all members still have it,
    /// unless the hold was taken while they were dropped), and what a commit gives.
    pub fn drop_snapshot(&self, name: &str) -> Result<()> {
        let groups: Vec<GroupSnapshot> =
            self.snapshots().into_iter().filter(|group| group.name == name).collect();
        let named = || groups.iter().flat_map(|group| &group.members);
        if named().next().is_none() {
            return Err(Error::SnapshotNotFound { name: name.to_owned() });
        }
        if let Some((_, held)) = named().find(|(_, named)| !named.holds.is_empty()) {
            let holders = held.holds.iter().map(|hold| hold.owner.clone()).collect();
            return Err(Error::SnapshotHeld { name: held.name.clone(), holders });
        }
        for (id, named) in named() {
            let Some(store) = self.members.iter().find(|store| store.id() == *id) else { continue };
            match store.drop_snapshot(&named.name) {
                // Somebody else was faster.
                Ok(()) | Err(Error::SnapshotNotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
