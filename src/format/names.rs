//! What the log and the catalog say of named snapshots and bookmarks.
//!
//! A commit's record carries at most one [`NameChange`], of at most [`CHANGE_BYTES_MAX`] bytes; the catalog lists what
//! they have led to ([`NamedSection`]). Both are written by [`super::code`].

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::control::RootRecord;
use super::history::HistoryRecord;
use super::{Flaw, code};
use crate::id::{Fingerprint, Version};

/// Most bytes of a name, a label's key or value, an owner.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// Most bytes of one change as it is written, so that it fits into the record of the smallest geometry.
pub(crate) const CHANGE_BYTES_MAX: usize = 1024;
/// Most snapshots that one change drops: their versions take some 8 KiB, which fit too.
pub(crate) const DROPS_MAX: usize = 1000;
/// Changes with this number and later ones stand in records of a later format.
const LATER_CHANGES: u32 = 8;

/// A reason not to drop a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct HoldRecord {
    pub(crate) owner: String,
    /// In milliseconds since 1970 (UTC): from then on it doesn't count.
    pub(crate) expires_at_ms: Option<u64>,
}

/// What can be said of a snapshot beside its name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct NameInfo {
    /// In ascending order of the keys, each once.
    pub(crate) labels: Vec<(String, String)>,
    /// In milliseconds since 1970 (UTC): from then on retention may drop the snapshot.
    pub(crate) expires_at_ms: Option<u64>,
}

/// A version that is remembered without its pages.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct BookmarkRecord {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) created_at_ms: u64,
}

/// What a commit changes in the names, beside or instead of pages.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum NameChange {
    /// Names the version that the commit makes.
    Create {
        name: String,
        info: NameInfo,
    },
    /// Takes the name away; `when_released`: with the last hold, if there are any.
    Drop {
        name: String,
        when_released: bool,
    },
    Rename {
        from: String,
        to: String,
    },
    Describe {
        name: String,
        info: NameInfo,
    },
    Hold {
        name: String,
        hold: HoldRecord,
    },
    Release {
        name: String,
        owner: String,
    },
    /// Remembers the version before the commit's, which has the same contents if the commit does nothing else.
    Bookmark {
        name: String,
        version: Version,
        fingerprint: Fingerprint,
        created_at_ms: u64,
    },
    Forget {
        name: String,
    },
    /// Takes the names of so many versions away, in ascending order, each once, none of them held.
    DropAll {
        versions: Vec<Version>,
    },
    /// Says which versions are kept without a name, from the commit's own on.
    History {
        policy: Option<HistoryRecord>,
    },
}

/// Whether a change, as it is written, is one that the first builds with names don't know. Its number comes first.
pub(crate) fn is_later_change(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|number| u32::from_le_bytes(*number) >= LATER_CHANGES)
}

impl NameChange {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        code::encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<NameChange, String> {
        let (change, used) = code::decode::<NameChange>(bytes)?;
        if used == bytes.len() { Ok(change) } else { Err(format!("{used} of {} bytes used", bytes.len())) }
    }
}

/// A named snapshot whose table is on disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct NamedRecord {
    pub(crate) name: String,
    pub(crate) info: NameInfo,
    pub(crate) holds: Vec<HoldRecord>,
    /// Goes with its last hold.
    pub(crate) is_leaving: bool,
    pub(crate) root: RootRecord,
}

/// What a catalog with named snapshots or bookmarks says beside the rest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct NamedSection {
    /// In ascending order of the names.
    pub(crate) snapshots: Vec<NamedRecord>,
    /// In ascending order of the names.
    pub(crate) bookmarks: Vec<BookmarkRecord>,
    /// For each segment of the catalog's list: bytes that the last root or a named snapshot reaches.
    pub(crate) kept_bytes: Vec<u64>,
}

impl NamedSection {
    pub(crate) fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.bookmarks.is_empty()
    }

    /// What a digest can't tell: whether the values make sense beside the catalog's own roots.
    pub(crate) fn check<'a>(
        &'a self,
        known: &mut HashMap<Version, &'a RootRecord>,
        newest: Version,
    ) -> Result<(), Flaw> {
        let wrong = |what: &str, found: String| Err(Flaw::damage(40, what, found));
        let is_ascending = self.snapshots.windows(2).all(|pair| pair[0].name < pair[1].name)
            && self.bookmarks.windows(2).all(|pair| pair[0].name < pair[1].name);
        if !is_ascending {
            return wrong("names in ascending order, each once", "another order".to_owned());
        }
        for snapshot in &self.snapshots {
            let root = &snapshot.root;
            root.check()?;
            if !root.fits(known, newest) {
                return wrong(
                    "named versions that fit the roots",
                    format!("{} as {:?}", root.version, snapshot.name),
                );
            }
        }
        Ok(())
    }
}
