//! The segments that a fork reads and doesn't own: those of the store that it was forked from.
//!
//! They are told by their numbers, which are below those of the fork's own segments. Whoever forks pays nothing for them: the fork's
//! table has an empty entry for each, which is filled with the parent's own entry (mapping, marks of what was verified) when it
//! is first read. What the fork's version reaches stays under its locations as long as the snapshot is held, whatever
//! the parent packs or uses again.

use std::sync::Arc;

use super::loaded::Loaded;
use super::segment::{SegmentTable, Segments};
use crate::error::Result;

/// See the head of this file.
pub(crate) struct Base {
    segments: Arc<Segments>,
    /// The fork's own numbers begin here.
    limit: u32,
}

impl Base {
    /// All segments that `segments` has now.
    pub(crate) fn of(segments: Arc<Segments>) -> Base {
        let limit = segments.table().len().max(1);
        Base { segments, limit }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }
}

impl Segments {
    /// Whether the segment belongs to a store that this one was forked from.
    pub(crate) fn is_base(&self, number: u32) -> bool {
        self.base.as_ref().is_some_and(|base| number < base.limit)
    }

    /// The lowest number that is no other store's.
    pub(crate) fn own_from(&self) -> u32 {
        self.base.as_ref().map_or(0, |base| base.limit)
    }

    /// The segments that the one of this number is one of.
    pub(super) fn owner(&self, number: u32) -> &Segments {
        match &self.base {
            Some(base) if number < base.limit => base.segments.owner(number),
            _ => self,
        }
    }

    /// What readers find of a segment, for the table of a fork.
    pub(super) fn entry(&self, number: u32) -> Result<Arc<Loaded>> {
        let table = self.table();
        self.loaded(&table, number)?;
        Ok(table.entry(number).expect("it was just filled").clone())
    }

    /// The entry that a fork's table gets, if the segment isn't its own.
    pub(super) fn base_entry(&self, number: u32) -> Option<Result<Arc<Loaded>>> {
        let base = self.base.as_ref().filter(|base| number < base.limit)?;
        Some(base.segments.entry(number))
    }
}

impl SegmentTable {
    /// The lowest number that is above those of all segments.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }
}
