//! What a member's snapshot says of its group, in its labels.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};
use crate::id::StoreId;
use crate::names::Naming;

/// The key of the label with the group's id.
const GROUP: &str = "vellum-group";
/// The keys of the labels with the members.
const MEMBERS: [&str; 2] = ["vellum-members", "vellum-members-2"];
/// Most members that one label names: 16 digits and a space each, in at most 255 bytes.
const LABEL_MEMBERS: usize = 12;
/// Most members of a group.
pub(super) const MEMBERS_MAX: usize = LABEL_MEMBERS * MEMBERS.len();

/// The random identity of a group snapshot: the same in all its members.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u128);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupId({self})")
    }
}

impl Serialize for GroupId {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The first 64 bits of a store's id: enough to tell the members of a group apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct MemberId(u64);

impl MemberId {
    pub(super) fn of(store: StoreId) -> MemberId {
        MemberId(u64::try_from(store.0 >> 64).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What the labels say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct GroupLabels {
    pub(super) id: GroupId,
    /// In ascending order, each once.
    pub(super) members: Vec<MemberId>,
}

impl GroupLabels {
    /// Adds the labels to the caller's.
    pub(super) fn add_to(&self, naming: Naming) -> Result<Naming> {
        if let Some(taken) = [GROUP].iter().chain(&MEMBERS).find(|key| naming.has_label(key)) {
            return Err(Error::InvalidName {
                what: "a label's key",
                value: (*taken).to_owned(),
                expected: "another key is: a group's snapshots use this one themselves".to_owned(),
            });
        }
        let naming = naming.label(GROUP, self.id.to_string());
        let parts = self.members.chunks(LABEL_MEMBERS).zip(MEMBERS);
        Ok(parts.fold(naming, |naming, (members, key)| {
            let text: Vec<String> = members.iter().map(MemberId::to_string).collect();
            naming.label(key, text.join(" "))
        }))
    }

    /// Reads them; `None` if the snapshot is no group's.
    pub(super) fn read(labels: &[(String, String)]) -> Option<GroupLabels> {
        let get = |key: &str| labels.iter().find(|(other, _)| other == key).map(|(_, value)| value.as_str());
        let id = GroupId(u128::from_str_radix(get(GROUP)?, 16).ok()?);
        let members = MEMBERS.iter().filter_map(|key| get(key)).flat_map(|text| text.split(' '));
        let members: Vec<MemberId> =
            members.map(|text| u64::from_str_radix(text, 16).ok().map(MemberId)).collect::<Option<_>>()?;
        let is_sound = !members.is_empty() && members.windows(2).all(|pair| pair[0] < pair[1]);
        is_sound.then_some(GroupLabels { id, members })
    }
}

/// The group that a snapshot with these labels is one of.
pub(crate) fn group_of(labels: &[(String, String)]) -> Option<GroupId> {
    GroupLabels::read(labels).map(|group| group.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_groups_of_all_sizes_are_read_as_they_were_written() {
        for size in 1..=MEMBERS_MAX as u64 {
            let members = (0..size).map(|n| MemberId(u64::MAX - size + n)).collect();
            let labels = GroupLabels { id: GroupId(u128::MAX - 5), members };
            let naming = labels.add_to(Naming::new().label("why", "it")).unwrap();
            let info = naming.info().unwrap();
            assert_eq!(GroupLabels::read(&info.labels), Some(labels));
            for cut in 0..info.labels.len() {
                let mut fewer = info.labels.clone();
                let (key, _) = fewer.remove(cut);
                let read = GroupLabels::read(&fewer);
                // Without the second half it is another, smaller group, and then not all of those agree.
                assert!(key == "why" || key == MEMBERS[1] || key == MEMBERS[0] || read.is_none(), "{key}");
            }
        }
        for wrong in ["", "xyz", "1 1", "2 1", "1  2"] {
            let labels = [(GROUP.to_owned(), "7".to_owned()), (MEMBERS[0].to_owned(), wrong.to_owned())];
            assert_eq!(GroupLabels::read(&labels), None, "{wrong:?}");
        }
        let taken = GroupLabels { id: GroupId(1), members: vec![MemberId(1)] };
        let taken = taken.add_to(Naming::new().label(GROUP, "mine"));
        assert!(matches!(taken, Err(Error::InvalidName { .. })));
    }
}
