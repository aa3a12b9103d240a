//! Newtypes for every number that means something, with their arithmetic beside them.
//!
//! A [`PageId`] can't be mistaken for a [`Version`], nor either for a `Location`; conversions are
//! explicit, and the widths of the packed forms (leaf entries, node words) are stated here once.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of bits that a leaf entry keeps of a [`Location`] and of a birth [`Version`].
pub(crate) const PACKED_BITS: u32 = 40;

/// The dense number under which an engine stores a page: 0, 1, 2 and so on.
///
/// ```
/// use vellum::PageId;
/// let id = PageId(7);
/// assert_eq!(id.get(), 7);
/// assert_eq!(id.to_string(), "page 7");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PageId(pub u64);

impl PageId {
    /// The greatest page id that a store can hold: 2^40 - 1.
    pub const MAX: PageId = PageId((1 << PACKED_BITS) - 1);
    /// Stands for the engine's own meta bytes where an error names what two transactions contended for.
    pub const META: PageId = PageId(u64::MAX);
    /// Stands for the store's page count where an error names what two transactions contended for.
    pub const PAGE_COUNT: PageId = PageId(u64::MAX - 1);

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for PageId {
    fn from(id: u64) -> Self {
        PageId(id)
    }
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            PageId::META => f.write_str("the meta bytes"),
            PageId::PAGE_COUNT => f.write_str("the page count"),
            PageId(id) => write!(f, "page {id}"),
        }
    }
}

/// The number of a committed batch. Version 0 is the empty store; versions rise strictly in the order of publishing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Version(pub u64);

impl Version {
    /// The greatest version that a store can reach: 2^40 - 1, some eight pebibytes of one-page commits.
    pub const MAX: Version = Version((1 << PACKED_BITS) - 1);

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The version that the next batch gets.
    pub(crate) const fn next(self) -> Version {
        Version(self.0 + 1)
    }
}

impl From<u64> for Version {
    fn from(version: u64) -> Self {
        Version(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {}", self.0)
    }
}

/// Where a page's bytes lie: `segment * slots_per_segment + slot`. It never changes while the page lives (invariant 8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Location(pub(crate) u64);

impl Location {
    /// Marks a freed page in a leaf entry; no slot has this location.
    pub(crate) const TOMBSTONE: Location = Location((1 << PACKED_BITS) - 1);
    /// The number of locations that can be told apart.
    pub(crate) const LIMIT: u64 = (1 << PACKED_BITS) - 1;
}

/// The random identity of a store, given at creation. A clone or an import gets its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId(pub u128);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

/// A 128-bit value of a version's whole contents: equal contents have equal fingerprints, whatever their history.
///
/// It is the sum, modulo 2^128, over all pages of a mix of the page's id and its checksum. It detects
/// accidents; it is not proof against somebody who makes pages up to collide.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Fingerprint(pub u128);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// 128-bit values are hexadecimal text for people, and 16 bytes in vellum's own formats: JSON has no such numbers.
macro_rules! serialize_as_hex {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match serializer.is_human_readable() {
                    true => serializer.collect_str(self),
                    false => self.0.serialize(serializer),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if !deserializer.is_human_readable() {
                    return u128::deserialize(deserializer).map($name);
                }
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                u128::from_str_radix(&text, 16).map($name).map_err(serde::de::Error::custom)
            }
        }
    };
}

serialize_as_hex!(StoreId);
serialize_as_hex!(Fingerprint);
