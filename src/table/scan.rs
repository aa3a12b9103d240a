//! Going through what one version sees and the next doesn't, over damage: what can't be read is noted, and the rest goes on.

use super::diff::Side;
use super::node::{Entry, FANOUT, NodeAddress, capacity};
use super::root::Root;
use super::slab::Slab;
use super::walk::Walk;
use crate::error::{Error, Result};
use crate::id::PageId;

/// A portion of what was gone through, in ascending order of page ids.
#[derive(Default)]
pub(crate) struct Stretch {
    pub(crate) pages: Vec<(PageId, Entry)>,
    /// Nodes that are on disk: the first page that they cover, their place, their level.
    pub(crate) nodes: Vec<(PageId, NodeAddress, u32)>,
    /// Nodes that couldn't be read, so that what is below them wasn't seen: the first page that they cover, their level.
    pub(crate) lost: Vec<(PageId, u32, Error)>,
    /// Where the next portion begins; `None` at the end.
    pub(crate) next: Option<PageId>,
}

/// Gathers what `root` reaches and `next` (a later version) doesn't, from page `from` on: some `limit` pages and nodes, and what
/// stands in the last leaf beside them.
pub(crate) fn gather_only_in(
    slab: &Slab,
    root: &Root,
    next: Option<&Root>,
    from: PageId,
    limit: usize,
) -> Result<Stretch> {
    let mut stretch = Stretch::default();
    let height = root.height.max(next.map_or(0, |next| next.height));
    if let Some(level) = height.checked_sub(1) {
        let other = next.map_or(Side::NOTHING, |next| Side::of(next, level));
        let walk = slab.walk();
        gather(
            &walk,
            Side::of(root, level),
            other,
            level,
            0,
            &mut Gather { from, limit, leaves: 0, stretch: &mut stretch },
        )?;
    }
    Ok(stretch)
}

struct Gather<'a> {
    from: PageId,
    limit: usize,
    /// Leaves that were gone through: one at least, or the next portion would begin where this one does.
    leaves: usize,
    stretch: &'a mut Stretch,
}

fn gather(
    walk: &Walk<'_>,
    side: Side<'_>,
    other: Side<'_>,
    level: u32,
    first: u64,
    to: &mut Gather<'_>,
) -> Result<()> {
    let is_before = first.saturating_add(capacity(level + 1)) <= to.from.0;
    if is_before || to.stretch.next.is_some() || side.same(other, walk) {
        return Ok(());
    }
    if level == 0 {
        if to.leaves > 0 && to.stretch.pages.len() + to.stretch.nodes.len() >= to.limit {
            to.stretch.next = Some(PageId(first));
            return Ok(());
        }
        to.leaves += 1;
    }
    if let Side::At(link) = side {
        // One that begins before was met by the portion before.
        if let Some(address) = walk.address(link).filter(|_| first >= to.from.0) {
            to.stretch.nodes.push((PageId(first), address, level));
        }
    }
    if level == 0 {
        let Some(entries) = readable(side.entries(walk), first, level, to)? else { return Ok(()) };
        let others = absolve(other.entries(walk))?.unwrap_or([Entry::ABSENT; FANOUT]);
        for (id, (entry, kept)) in (first..).zip(entries.into_iter().zip(others)) {
            if id >= to.from.0 && entry.is_page() && entry != kept {
                to.stretch.pages.push((PageId(id), entry));
            }
        }
        return Ok(());
    }
    let Some(children) = readable(side.children(walk, level), first, level, to)? else { return Ok(()) };
    let others = absolve(other.children(walk, level))?;
    for index in 0..FANOUT {
        let child = first + (index as u64) * capacity(level);
        // Where the other tree can't be read, nothing counts as shared with it.
        let other = others.as_ref().map_or(Side::NOTHING, |others| others.side(level, index));
        gather(walk, children.side(level, index), other, level - 1, child, to)?;
    }
    Ok(())
}

/// What was read; a node that can't be is noted instead.
fn readable<T>(read: Result<T>, first: u64, level: u32, to: &mut Gather<'_>) -> Result<Option<T>> {
    match read {
        Err(error @ (Error::Corrupt { .. } | Error::Io { .. })) => {
            if first >= to.from.0 {
                to.stretch.lost.push((PageId(first), level, error));
            }
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// What was read; damage there is found by whoever goes through that version.
fn absolve<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(Error::Corrupt { .. } | Error::Io { .. }) => Ok(None),
        other => other.map(Some),
    }
}
