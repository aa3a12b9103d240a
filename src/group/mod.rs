//! Snapshots of several stores at one moment.
//!
//! # How the moment is the same for all
//! 1. The commit locks of all members are taken, in the order of the stores' ids, so that two groups over the same stores never
//!    wait for each other in a circle. While they are held no member commits, and what has been committed is visible: that is
//!    the moment.
//! 2. Under the locks each member commits the name, to memory only: nothing waits for a disk. Then the locks are given back.
//! 3. All members are synced, and only then the snapshot is acknowledged.
//!
//! # How it is told whether a group is whole
//! Each member's snapshot carries the group's id and the members in its labels. A group snapshot counts only if every one of the
//! members that it names has it: a crash between the syncs, or between two drops, leaves one that is found, reported, refused when
//! opened, and can be dropped.
//!
//! Holds: the locks are taken in id order and before everything that a commit takes; see the order of locks in `core.rs`.

mod create;
mod export;
mod import;
mod labels;
mod list;
mod parallel;
#[cfg(all(test, not(loom)))]
mod tests;

pub use create::GroupCreated;
pub use export::{GroupSummary, MemberSummary, verify_group_export};
pub use labels::GroupId;
pub(crate) use labels::group_of;
pub use list::GroupSnapshot;

use crate::error::{Error, Result};
use crate::store::Store;
use labels::{MEMBERS_MAX, MemberId};

/// Several stores whose snapshots are taken, opened, exported and dropped as one.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// use vellum::{Group, Options, Store};
/// let (orders, stock) = (Store::in_memory(Options::new())?, Store::in_memory(Options::new())?);
/// let group = Group::new(&[&orders, &stock])?;
/// group.create_snapshot("nightly")?;
/// assert!(group.snapshots()[0].is_complete());
/// let members = group.open_snapshot("nightly")?;      // in the order of group.members()
/// assert_eq!(members.len(), 2);
/// group.drop_snapshot("nightly")?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Group {
    /// In the order of their ids, each once.
    members: Vec<Store>,
}

impl Group {
    /// A group of stores, in any order. It is a view of them and nothing is written: what makes a group is its snapshots.
    ///
    /// # Errors
    /// [`Error::DuplicateMember`] if a store is given twice, [`Error::InvalidOption`] for none or more than 24.
    pub fn new(stores: &[&Store]) -> Result<Group> {
        if stores.is_empty() || stores.len() > MEMBERS_MAX {
            let expected = format!("1 to {MEMBERS_MAX} stores are");
            return Err(Error::InvalidOption { option: "group", value: stores.len().to_string(), expected });
        }
        let mut members: Vec<Store> = stores.iter().map(|store| (*store).clone()).collect();
        members.sort_by_key(|store| store.id().0);
        match members.windows(2).find(|pair| MemberId::of(pair[0].id()) == MemberId::of(pair[1].id())) {
            Some(pair) => Err(Error::DuplicateMember { store: pair[1].id() }),
            None => Ok(Group { members }),
        }
    }

    /// The stores, in the order of their ids, which is that of all lists of members.
    pub fn members(&self) -> &[Store] {
        &self.members
    }
}
