//! The walk of two roots: what differs, and what only one of them sees.
//!
//! Two versions share every node that no commit between them touched, so a walk that stops at shared nodes costs in
//! proportion to what differs, not to the store. One walk serves the difference of two snapshots and the
//! reclaiming of a dropped one.

use super::edit::Dead;
use super::node::{Entry, FANOUT, Word, capacity};
use super::root::Root;
use super::slab::Slab;
use crate::error::Result;
use crate::id::{PageId, Version};

/// What stands in one tree where the walk is in the other.
#[derive(Clone, Copy)]
enum Side<'a> {
    /// A node, or nothing, at the same level.
    Word(&'a Word),
    /// The whole other tree lies lower, at the first child of this place.
    Below(&'a Root),
    Nothing,
}

impl<'a> Side<'a> {
    fn of(root: &'a Root, level: u32) -> Side<'a> {
        match root.height {
            0 => Side::Nothing,
            height if height - 1 == level => Side::Word(&root.word),
            height if height - 1 < level => Side::Below(root),
            _ => unreachable!("a walk starts at the higher of two roots"),
        }
    }

    fn child(self, slab: &Slab, level: u32, index: usize) -> Result<Side<'a>> {
        Ok(match self {
            Side::Word(word) => match slab.inner(word, level)? {
                Some(inner) => Side::Word(&inner.words[index]),
                None => Side::Nothing,
            },
            Side::Below(root) if index == 0 => Side::of(root, level - 1),
            Side::Below(_) | Side::Nothing => Side::Nothing,
        })
    }

    fn entries(self, slab: &Slab) -> Result<[Entry; FANOUT]> {
        Ok(match self {
            Side::Word(word) => slab.leaf(word)?.map_or([Entry::ABSENT; FANOUT], |leaf| leaf.entries),
            Side::Below(_) | Side::Nothing => [Entry::ABSENT; FANOUT],
        })
    }

    fn is_empty(self) -> bool {
        match self {
            Side::Word(word) => word.link() == super::node::Link::None,
            Side::Below(_) => false,
            Side::Nothing => true,
        }
    }

    fn same(self, other: Side<'_>, slab: &Slab) -> bool {
        match (self, other) {
            (Side::Word(a), Side::Word(b)) => slab.same(a, b),
            (a, b) => a.is_empty() && b.is_empty(),
        }
    }
}

/// Calls `visit(id, old, new)` for every page whose entry differs between two versions, in ascending order.
pub(crate) fn for_each_difference(
    slab: &Slab,
    old: &Root,
    new: &Root,
    visit: &mut dyn FnMut(PageId, Entry, Entry) -> Result<()>,
) -> Result<()> {
    let height = old.height.max(new.height);
    if height == 0 {
        return Ok(());
    }
    let level = height - 1;
    differences(slab, Side::of(old, level), Side::of(new, level), level, 0, visit)
}

fn differences(
    slab: &Slab,
    old: Side<'_>,
    new: Side<'_>,
    level: u32,
    first: u64,
    visit: &mut dyn FnMut(PageId, Entry, Entry) -> Result<()>,
) -> Result<()> {
    if old.same(new, slab) {
        return Ok(());
    }
    if level == 0 {
        let (old, new) = (old.entries(slab)?, new.entries(slab)?);
        for (id, (old, new)) in (first..).zip(old.into_iter().zip(new)) {
            if old != new {
                visit(PageId(id), old, new)?;
            }
        }
        return Ok(());
    }
    for index in 0..FANOUT {
        let (old, new) = (old.child(slab, level, index)?, new.child(slab, level, index)?);
        differences(slab, old, new, level - 1, first + (index as u64) * capacity(level), visit)?;
    }
    Ok(())
}

/// Lists what `root` reaches and `next` (a later version) doesn't, and that was born after `previous`: exactly what
/// no other version sees if `previous` and `next` are the live neighbours of `root`.
pub(crate) fn only_in(
    slab: &Slab,
    root: &Root,
    previous: Option<Version>,
    next: &Root,
    found: &mut Vec<Dead>,
) -> Result<()> {
    let height = root.height.max(next.height);
    if height == 0 {
        return Ok(());
    }
    let level = height - 1;
    lost(slab, Side::of(root, level), Side::of(next, level), level, previous, found)
}

fn lost(
    slab: &Slab,
    side: Side<'_>,
    next: Side<'_>,
    level: u32,
    previous: Option<Version>,
    found: &mut Vec<Dead>,
) -> Result<()> {
    if side.is_empty() || side.same(next, slab) {
        return Ok(());
    }
    if let Side::Word(word) = side {
        let Some(head) = slab.head(word, level)? else { return Ok(()) };
        if previous.is_some_and(|previous| head.birth <= previous) {
            // The node, and hence all below it (invariant 2), is in the previous version's tree too.
            return Ok(());
        }
        let birth = head.birth;
        if let super::node::Link::Memory(pointer) = word.link() {
            found.push(Dead::Node { pointer, birth });
        }
    }
    if level == 0 {
        for (entry, kept) in side.entries(slab)?.into_iter().zip(next.entries(slab)?) {
            if let Some(location) = entry.location() {
                let birth = entry.birth();
                if entry != kept && previous.is_none_or(|previous| birth > previous) {
                    found.push(Dead::Page { location, birth });
                }
            }
        }
        return Ok(());
    }
    for index in 0..FANOUT {
        let (side, next) = (side.child(slab, level, index)?, next.child(slab, level, index)?);
        lost(slab, side, next, level - 1, previous, found)?;
    }
    Ok(())
}
