//! From a page id to its entry, and the walk over all entries in order of their ids.
//!
//! A lookup follows `height` words, whatever the version: nothing on the way depends on how much was written since.

use super::node::{Entry, FANOUT, Word, capacity, index_at};
use super::root::Root;
use super::slab::Slab;
use crate::error::Result;
use crate::id::PageId;

/// The entry of page `id` in the version of `root`; [`Entry::ABSENT`] where there is none.
#[inline]
pub(crate) fn lookup(slab: &Slab, root: &Root, id: PageId) -> Result<Entry> {
    if root.height == 0 || id.0 >= capacity(root.height) {
        return Ok(Entry::ABSENT);
    }
    let mut word = &root.word;
    for level in (1..root.height).rev() {
        let Some(inner) = slab.inner(word, level)? else { return Ok(Entry::ABSENT) };
        word = &inner.words[index_at(level, id.0)];
    }
    Ok(slab.leaf(word)?.map_or(Entry::ABSENT, |leaf| leaf.entries[index_at(0, id.0)]))
}

/// The entry of page `id`, which the tree of `root` covers, if that takes no reading of nodes and no thinking.
#[inline]
pub(crate) fn quick_lookup(root: &Root, id: PageId) -> Option<Entry> {
    Slab::resident_entry(&root.word, root.height, id.0).copied()
}

/// Calls `visit` with every entry that isn't absent, tombstones included, from page `from` on, in ascending order.
/// `visit` ends the walk by returning `Ok(false)`.
pub(crate) fn for_each_entry(
    slab: &Slab,
    root: &Root,
    from: PageId,
    visit: &mut dyn FnMut(PageId, Entry) -> Result<bool>,
) -> Result<()> {
    if root.height == 0 {
        return Ok(());
    }
    walk(slab, &root.word, root.height - 1, 0, from.0, visit).map(|_| ())
}

fn walk(
    slab: &Slab,
    word: &Word,
    level: u32,
    first: u64,
    from: u64,
    visit: &mut dyn FnMut(PageId, Entry) -> Result<bool>,
) -> Result<bool> {
    if first.saturating_add(capacity(level + 1)) <= from {
        return Ok(true);
    }
    if level == 0 {
        let Some(leaf) = slab.leaf(word)? else { return Ok(true) };
        for (id, entry) in (first..).zip(leaf.entries) {
            if id >= from && entry != Entry::ABSENT && !visit(PageId(id), entry)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    let Some(inner) = slab.inner(word, level)? else { return Ok(true) };
    let span = capacity(level);
    for (index, child) in (0u64..).zip(&inner.words) {
        if !walk(slab, child, level - 1, first + index * span, from, visit)? {
            return Ok(false);
        }
    }
    Ok(true)
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
    than: crate::id::Version,
) -> Result<Option<(PageId, crate::id::Version)>> {
    if root.height == 0 {
        return Ok(None);
    }
    let mut found = None;
    youngest(slab, &root.word, root.height - 1, 0, from, than, &mut found)?;
    Ok(found)
}

fn youngest(
    slab: &Slab,
    word: &Word,
    level: u32,
    first: u64,
    from: u64,
    than: crate::id::Version,
    found: &mut Option<(PageId, crate::id::Version)>,
) -> Result<()> {
    if found.is_some() || first.saturating_add(capacity(level + 1)) <= from {
        return Ok(());
    }
    // A node is never older than what is below it (invariant 2), so an old one ends the search.
    if slab.head(word, level)?.is_none_or(|head| head.birth <= than) {
        return Ok(());
    }
    if level == 0 {
        if let Some(leaf) = slab.leaf(word)? {
            let young = (first..).zip(leaf.entries).find(|(id, entry)| *id >= from && entry.birth() > than);
            *found = young.map(|(id, entry)| (PageId(id), entry.birth()));
        }
        return Ok(());
    }
    if let Some(inner) = slab.inner(word, level)? {
        for index in 0..FANOUT {
            let child = first + (index as u64) * capacity(level);
            youngest(slab, &inner.words[index], level - 1, child, from, than, found)?;
        }
    }
    Ok(())
}
