//! What was written since a version of which nothing but the number is left.
//!
//! A node that was born before is as it was then, with all below it (invariant 2). Of a node that was born since, nobody knows
//! what it replaced: what holds nothing there may have held something, and is told as well.

use super::node::{Entry, FANOUT, Link, capacity};
use super::root::Root;
use super::slab::Slab;
use super::walk::{Peeked, Walk};
use crate::error::Result;
use crate::id::{PageId, Version};

/// Called with a first id, a count, and the entry if it is a page (then the count is one); whether to go on.
type VisitSince<'v> = dyn FnMut(PageId, u64, Option<Entry>) -> Result<bool> + 'v;

/// Calls `visit`, in ascending order from `from` on, with every page that was written after `since`, and with all ids below the
/// page count that hold nothing and may have held something then.
pub(crate) fn for_each_since(
    slab: &Slab,
    root: &Root,
    since: Version,
    from: PageId,
    visit: &mut VisitSince<'_>,
) -> Result<()> {
    let mut finder = Finder { walk: slab.walk(), page_count: root.page_count, since, from: from.0, visit };
    let covered = if root.height == 0 { 0 } else { capacity(root.height) };
    let goes_on = root.height == 0 || finder.look(root.word.link(), root.height - 1, 0)?;
    if goes_on {
        finder.nothing(covered, u64::MAX)?;
    }
    Ok(())
}

struct Finder<'a, 'v> {
    walk: Walk<'a>,
    page_count: u64,
    since: Version,
    from: u64,
    visit: &'a mut VisitSince<'v>,
}

impl Finder<'_, '_> {
    fn look(&mut self, link: Link, level: u32, first: u64) -> Result<bool> {
        let end = first.saturating_add(capacity(level + 1));
        if end <= self.from || first >= self.page_count {
            return Ok(true);
        }
        match self.walk.peek(link, level)? {
            None => self.nothing(first, end),
            Some(peeked) if peeked.birth() <= self.since => Ok(true),
            Some(Peeked::Leaf(_, entries)) => {
                let within = (first..self.page_count).zip(entries).filter(|(id, _)| *id >= self.from);
                for (id, entry) in within.collect::<Vec<_>>() {
                    let goes_on = match entry.is_page() {
                        true if entry.birth() <= self.since => true,
                        true => (self.visit)(PageId(id), 1, Some(entry))?,
                        false => (self.visit)(PageId(id), 1, None)?,
                    };
                    if !goes_on {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Some(Peeked::Inner(_, links)) => {
                for (index, child) in (0..FANOUT as u64).zip(links) {
                    if !self.look(child, level - 1, first + index * capacity(level))? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    fn nothing(&mut self, first: u64, end: u64) -> Result<bool> {
        let (first, end) = (first.max(self.from), end.min(self.page_count));
        if first < end { (self.visit)(PageId(first), end - first, None) } else { Ok(true) }
    }
}
