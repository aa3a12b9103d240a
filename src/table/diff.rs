//! The walk of two roots: what differs, and what only one of them sees.
//!
//! Two versions share every node that no commit between them touched, so a walk that stops at shared nodes costs in
//! proportion to what differs, not to the store. One walk serves the difference of two snapshots and the
//! reclaiming of a dropped one.

use super::edit::Dead;
use super::node::{Entry, FANOUT, Link, capacity};
use super::root::Root;
use super::slab::Slab;
use super::walk::Walk;
use crate::error::Result;
use crate::id::{PageId, Version};

/// What stands in one tree where the walk is in the other.
#[derive(Clone, Copy)]
pub(super) enum Side<'a> {
    /// A node, or nothing, at the same level.
    At(Link),
    /// The whole other tree lies lower, at the first child of this place.
    Below(&'a Root),
}

/// The children of a [`Side`].
#[expect(clippy::large_enum_variant, reason = "it lives on the stack for one step of a walk")]
pub(super) enum Children<'a> {
    Links([Link; FANOUT]),
    /// The first is the other tree, or above it; there are no more.
    Below(&'a Root),
}

impl<'a> Side<'a> {
    pub(super) const NOTHING: Side<'static> = Side::At(Link::None);

    pub(super) fn of(root: &'a Root, level: u32) -> Side<'a> {
        match root.height {
            0 => Side::NOTHING,
            height if height - 1 == level => Side::At(root.word.link()),
            height if height - 1 < level => Side::Below(root),
            _ => unreachable!("a walk starts at the higher of two roots"),
        }
    }

    pub(super) fn children(self, walk: &Walk<'_>, level: u32) -> Result<Children<'a>> {
        Ok(match self {
            Side::At(link) => Children::Links(walk.children(link, level)?),
            Side::Below(root) => Children::Below(root),
        })
    }

    pub(super) fn entries(self, walk: &Walk<'_>) -> Result<[Entry; FANOUT]> {
        match self {
            Side::At(link) => walk.entries(link),
            Side::Below(_) => Ok([Entry::ABSENT; FANOUT]),
        }
    }

    pub(super) fn same(self, other: Side<'_>, walk: &Walk<'_>) -> bool {
        match (self, other) {
            (Side::At(a), Side::At(b)) => walk.same(a, b),
            // A tree that lies below has a node there.
            (Side::Below(_), _) | (_, Side::Below(_)) => false,
        }
    }
}

impl<'a> Children<'a> {
    /// The child at `index` of a place at `level`.
    pub(super) fn side(&self, level: u32, index: usize) -> Side<'a> {
        match self {
            Children::Links(links) => Side::At(links[index]),
            Children::Below(root) if index == 0 => Side::of(root, level - 1),
            Children::Below(_) => Side::NOTHING,
        }
    }
}

/// Called with a page, what stands there in the older version and what in the newer; whether to go on.
type VisitDifference<'v> = dyn FnMut(PageId, Entry, Entry) -> Result<bool> + 'v;

/// Calls `visit` for every page from `from` on whose entry differs between two versions, in ascending order.
pub(crate) fn for_each_difference(
    slab: &Slab,
    old: &Root,
    new: &Root,
    from: PageId,
    visit: &mut VisitDifference<'_>,
) -> Result<()> {
    let height = old.height.max(new.height);
    if height == 0 {
        return Ok(());
    }
    let (walk, level) = (slab.walk(), height - 1);
    differences(&walk, Side::of(old, level), Side::of(new, level), level, 0, from, visit).map(drop)
}

fn differences(
    walk: &Walk<'_>,
    old: Side<'_>,
    new: Side<'_>,
    level: u32,
    first: u64,
    from: PageId,
    visit: &mut VisitDifference<'_>,
) -> Result<bool> {
    if old.same(new, walk) || first.saturating_add(capacity(level + 1)) <= from.0 {
        return Ok(true);
    }
    if level == 0 {
        let (old, new) = (old.entries(walk)?, new.entries(walk)?);
        for (id, (old, new)) in (first..).zip(old.into_iter().zip(new)) {
            if old != new && id >= from.0 && !visit(PageId(id), old, new)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    let (old, new) = (old.children(walk, level)?, new.children(walk, level)?);
    for index in 0..FANOUT {
        let child = first + (index as u64) * capacity(level);
        if !differences(walk, old.side(level, index), new.side(level, index), level - 1, child, from, visit)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Calls `visit` with what `root` reaches and `next` (a later version) doesn't, and that was born after `previous`:
/// exactly what no other version sees if `previous` and `next` are the live neighbours of `root`.
pub(crate) fn only_in(
    slab: &Slab,
    root: &Root,
    previous: Option<Version>,
    next: &Root,
    visit: &mut dyn FnMut(Dead),
) -> Result<()> {
    let height = root.height.max(next.height);
    if height == 0 {
        return Ok(());
    }
    let (walk, level) = (slab.walk(), height - 1);
    lost(&walk, Side::of(root, level), Side::of(next, level), level, previous, visit)
}

fn lost(
    walk: &Walk<'_>,
    side: Side<'_>,
    next: Side<'_>,
    level: u32,
    previous: Option<Version>,
    visit: &mut dyn FnMut(Dead),
) -> Result<()> {
    if side.same(next, walk) {
        return Ok(());
    }
    if let Side::At(link) = side {
        let Some(dead) = walk.dead(link, level)? else { return Ok(()) };
        if previous.is_some_and(|previous| dead.birth() <= previous) {
            // The node, and hence all below it (invariant 2), is in the previous version's tree too.
            return Ok(());
        }
        visit(dead);
    }
    if level == 0 {
        for (entry, kept) in side.entries(walk)?.into_iter().zip(next.entries(walk)?) {
            if let Some(location) = entry.location() {
                let birth = entry.birth();
                if entry != kept && previous.is_none_or(|previous| birth > previous) {
                    visit(Dead::Page { location, birth });
                }
            }
        }
        return Ok(());
    }
    let (side, next) = (side.children(walk, level)?, next.children(walk, level)?);
    for index in 0..FANOUT {
        lost(walk, side.side(level, index), next.side(level, index), level - 1, previous, visit)?;
    }
    Ok(())
}
