//! From a page id to its entry, and the walk over all entries in order of their ids.
//!
//! A lookup follows `height` words, whatever the version: nothing on the way depends on how much was written since.

use crossbeam_epoch::Guard;

use super::node::{Entry, FANOUT, Link, NodeAddress, capacity, index_at};
use super::root::Root;
use super::slab::{Entered, NodeImage, Slab};
use super::walk::{Peeked, Walk};
use crate::error::Result;
use crate::id::{PageId, Version};

/// The entry of page `id` in the version of `root`; [`Entry::ABSENT`] where there is none. The guard is older than what
/// keeps the root.
#[inline]
pub(crate) fn lookup(slab: &Slab, root: &Root, id: PageId, _guard: &Guard) -> Result<Entry> {
    if root.height == 0 || id.0 >= capacity(root.height) {
        return Ok(Entry::ABSENT);
    }
    let mut word = &root.word;
    for level in (1..root.height).rev() {
        match slab.enter_inner(word, level)? {
            Entered::Kept(inner) => word = &inner.words[index_at(level, id.0)],
            Entered::Passing(image) => return lookup_on_disk(slab, *image, level, id),
            Entered::Nothing => return Ok(Entry::ABSENT),
        }
    }
    match slab.enter_leaf(word)? {
        Entered::Kept(leaf) => Ok(leaf.entries[index_at(0, id.0)]),
        Entered::Passing(image) => lookup_on_disk(slab, *image, 0, id),
        Entered::Nothing => Ok(Entry::ABSENT),
    }
}

/// The rest of a lookup from a node that there was no room to keep.
#[cold]
fn lookup_on_disk(slab: &Slab, mut image: NodeImage, mut level: u32, id: PageId) -> Result<Entry> {
    loop {
        let child: Option<NodeAddress> = match image {
            NodeImage::Leaf { entries, .. } => return Ok(entries[index_at(0, id.0)]),
            NodeImage::Inner { children, .. } => children[index_at(level, id.0)],
        };
        let Some(address) = child else { return Ok(Entry::ABSENT) };
        level -= 1;
        image = slab.read_passing(address, level)?;
    }
}

/// The entry of page `id`, which the tree of `root` covers, if that takes no reading of nodes and no thinking.
#[inline]
pub(crate) fn quick_lookup(root: &Root, id: PageId) -> Option<Entry> {
    Slab::resident_entry(&root.word, root.height, id.0)
}

/// Leaves whose entries are gathered in one walk, before `visit` sees them: what it does may take long.
const STRETCH_LEAVES: usize = if cfg!(loom) { 2 } else { 64 };

/// Calls `visit` with every entry that isn't absent, tombstones included, from page `from` on, in ascending order.
/// `visit` ends the walk by returning `Ok(false)`.
pub(crate) fn for_each_entry(
    slab: &Slab,
    root: &Root,
    from: PageId,
    visit: &mut dyn FnMut(PageId, Entry) -> Result<bool>,
) -> Result<()> {
    let mut stretch = Stretch { next: Some(from.0), leaves: Vec::with_capacity(STRETCH_LEAVES) };
    while let (Some(from), 1..) = (stretch.next.take(), root.height) {
        stretch.leaves.clear();
        stretch.gather(&slab.walk(), root.word.link(), root.height - 1, 0, from)?;
        for (first, entries) in &stretch.leaves {
            for (id, entry) in (*first..).zip(entries) {
                if id >= from && *entry != Entry::ABSENT && !visit(PageId(id), *entry)? {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Some of a version's leaves, in ascending order.
struct Stretch {
    /// Where the next stretch begins; `None` at the end.
    next: Option<u64>,
    leaves: Vec<(u64, [Entry; FANOUT])>,
}

impl Stretch {
    fn gather(&mut self, walk: &Walk<'_>, link: Link, level: u32, first: u64, from: u64) -> Result<()> {
        if link == Link::None || self.next.is_some() || first.saturating_add(capacity(level + 1)) <= from {
            return Ok(());
        }
        if level == 0 {
            if self.leaves.len() == STRETCH_LEAVES {
                self.next = Some(first);
            } else {
                self.leaves.push((first, walk.entries(link)?));
            }
            return Ok(());
        }
        let span = capacity(level);
        for (index, child) in (0u64..).zip(walk.children(link, level)?) {
            self.gather(walk, child, level - 1, first + index * span, from)?;
        }
        Ok(())
    }
}

/// The first ids from `from` on, below `end`, that hold no page in `root`: at most `limit` of them.
pub(crate) fn find_holes(slab: &Slab, root: &Root, from: u64, end: u64, limit: usize) -> Result<Vec<PageId>> {
    let mut holes = Vec::new();
    let mut expected = from;
    for_each_entry(slab, root, PageId(from), &mut |id, entry| {
        if id.0 >= end {
            return Ok(false);
        }
        if entry.is_page() {
            let gap = (expected..id.0).take(limit - holes.len());
            holes.extend(gap.map(PageId));
            expected = id.0 + 1;
        }
        Ok(holes.len() < limit)
    })?;
    holes.extend((expected..end).take(limit.saturating_sub(holes.len())).map(PageId));
    Ok(holes)
}

/// The greatest birth of any entry at or beyond `from`, with its page; for the conflicts of a truncation.
/// Only subtrees younger than `than` are entered.
pub(crate) fn youngest_from(
    slab: &Slab,
    root: &Root,
    from: u64,
    than: Version,
) -> Result<Option<(PageId, Version)>> {
    if root.height == 0 {
        return Ok(None);
    }
    let mut found = None;
    youngest(&slab.walk(), root.word.link(), root.height - 1, 0, from, than, &mut found)?;
    Ok(found)
}

fn youngest(
    walk: &Walk<'_>,
    link: Link,
    level: u32,
    first: u64,
    from: u64,
    than: Version,
    found: &mut Option<(PageId, Version)>,
) -> Result<()> {
    if found.is_some() || first.saturating_add(capacity(level + 1)) <= from {
        return Ok(());
    }
    match walk.peek(link, level)? {
        // A node is never older than what is below it (invariant 2), so an old one ends the search.
        Some(node) if node.birth() <= than => {}
        Some(Peeked::Leaf(_, entries)) => {
            let young = (first..).zip(entries).find(|(id, entry)| *id >= from && entry.birth() > than);
            *found = young.map(|(id, entry)| (PageId(id), entry.birth()));
        }
        Some(Peeked::Inner(_, links)) => {
            for (index, child) in (0u64..).zip(links) {
                youngest(walk, child, level - 1, first + index * capacity(level), from, than, found)?;
            }
        }
        None => {}
    }
    Ok(())
}
