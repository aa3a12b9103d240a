//! The path copy: from one version's tree to the next.
//!
//! An [`Edit`] starts as the tip's tree, copies each touched node once, and ends either as a new [`Root`] with the list
//! of what it replaced, or, dropped, as nothing: all nodes that it made are freed, and the tip is as it was
//! (invariant 10). What it replaced is only listed, never touched: readers of older versions still see it.

use super::node::{Entry, Link, NodeAddress, NodePointer, Word, capacity, height_for, index_at};
use super::root::Root;
use super::slab::Slab;
use super::walk::{Peeked, Walk};
use crate::error::Result;
use crate::id::{Location, PageId, Version};

/// Something that a version no longer reaches, and that older ones from `birth` on may.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Dead {
    /// A node that only is in memory, or was when it died.
    Node {
        pointer: NodePointer,
        birth: Version,
    },
    /// A node on disk; a copy of it may be in memory.
    Stored {
        address: NodeAddress,
        is_leaf: bool,
        birth: Version,
    },
    Page {
        location: Location,
        birth: Version,
    },
}

impl Dead {
    pub(crate) fn birth(&self) -> Version {
        match *self {
            Dead::Node { birth, .. } | Dead::Stored { birth, .. } | Dead::Page { birth, .. } => birth,
        }
    }
}

/// A version in the making.
pub(crate) struct Edit<'s> {
    slab: &'s Slab,
    version: Version,
    /// The version that what is changed now is born in: the edit's own, or one on the way there.
    births: Version,
    /// Tombstones up to this version are needed by no open transaction.
    settled: Version,
    root: Root,
    dead: Vec<Dead>,
    /// All nodes made, also those dropped again (`abandoned`).
    made: Vec<NodePointer>,
    abandoned: Vec<NodePointer>,
    finished: bool,
}

impl<'s> Edit<'s> {
    /// Starts version `version` as a copy of `tip`.
    pub(crate) fn new(slab: &'s Slab, tip: &Root, version: Version, settled: Version) -> Edit<'s> {
        let root = Root {
            version,
            word: Word::new(tip.word.link()),
            height: tip.height,
            page_count: tip.page_count,
            live_pages: tip.live_pages,
            fingerprint: tip.fingerprint,
            meta: tip.meta.clone(),
            meta_birth: tip.meta_birth,
            page_count_birth: tip.page_count_birth,
            created_at_ms: tip.created_at_ms,
        };
        let (dead, made, abandoned) = (Vec::with_capacity(8), Vec::with_capacity(8), Vec::new());
        Edit { slab, version, births: version, settled, root, dead, made, abandoned, finished: false }
    }

    /// Lets what comes be born in a version between the tip's and the edit's, which rise from call to call. Nobody will ever see
    /// one of them as it was: only whoever asks when a page was last changed meets them. Nodes are born in the edit's version all the
    /// same, which is no earlier than what is below them (invariant 2).
    pub(crate) fn begin_step(&mut self, births: Version) {
        debug_assert!(births <= self.version);
        self.births = births;
    }

    /// The version as it stands, for lookups and conflict checks.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Lets the page of `id` lie at `location` from this version on.
    pub(crate) fn put(&mut self, id: PageId, location: Location, short_checksum: u64) -> Result<()> {
        self.set(id, Entry::page(location, self.births, short_checksum))?;
        self.root.live_pages += 1;
        self.root.fingerprint = self.root.fingerprint.plus(id, short_checksum);
        if id.0 >= self.root.page_count {
            self.set_page_count(id.0 + 1);
        }
        Ok(())
    }

    /// Frees page `id`, leaving a tombstone.
    pub(crate) fn free(&mut self, id: PageId) -> Result<()> {
        self.set(id, Entry::tombstone(self.births))
    }

    /// Drops every page at or beyond `page_count`, and lets the store end there.
    pub(crate) fn truncate(&mut self, page_count: u64) -> Result<()> {
        if self.root.height > 0 && page_count < self.root.page_count {
            let mut root_word = std::mem::replace(&mut self.root.word, Word::new(Link::None));
            let cut = self.cut(&mut root_word, self.root.height - 1, 0, page_count);
            self.root.word = root_word;
            cut?;
            self.shrink(page_count)?;
        }
        self.set_page_count(page_count);
        Ok(())
    }

    /// Raises the page count; lowering is [`Edit::truncate`].
    pub(crate) fn raise_page_count(&mut self, page_count: u64) {
        if page_count > self.root.page_count {
            self.set_page_count(page_count);
        }
    }

    pub(crate) fn set_meta(&mut self, meta: std::sync::Arc<[u8]>) {
        self.root.meta = meta;
        self.root.meta_birth = self.births;
    }

    fn set_page_count(&mut self, page_count: u64) {
        if page_count != self.root.page_count {
            self.root.page_count = page_count;
            self.root.page_count_birth = self.births;
        }
    }

    /// Ends the edit: the new version and what it replaced.
    pub(crate) fn finish(mut self, created_at_ms: u64) -> (Root, Vec<Dead>) {
        self.finished = true;
        self.root.created_at_ms = created_at_ms;
        for pointer in self.abandoned.drain(..) {
            self.slab.free_unpublished(pointer);
        }
        let root = std::mem::replace(&mut self.root, Root::empty(0));
        (root, std::mem::take(&mut self.dead))
    }

    fn set(&mut self, id: PageId, entry: Entry) -> Result<()> {
        debug_assert!(id <= PageId::MAX);
        self.grow(id)?;
        let Edit { slab, version, settled, root, dead, made, .. } = self;
        let mut word = &mut root.word;
        for level in (1..root.height).rev() {
            let (inner, replaced) = slab.own_inner(word, level, *version, made)?;
            dead.extend(replaced);
            word = &mut inner.words[index_at(level, id.0)];
        }
        let (leaf, replaced) = slab.own_leaf(word, *version, *settled, made)?;
        dead.extend(replaced);
        let old = std::mem::replace(&mut leaf.entries[index_at(0, id.0)], entry);
        self.forget(id, old);
        Ok(())
    }

    /// Takes a page out of the totals and lists its place as dead.
    fn forget(&mut self, id: PageId, old: Entry) {
        if let Some(location) = old.location() {
            // A crafted catalog can lie about it.
            self.root.live_pages = self.root.live_pages.saturating_sub(1);
            self.root.fingerprint = self.root.fingerprint.minus(id, old.short_checksum());
            self.dead.push(Dead::Page { location, birth: old.birth() });
        }
    }

    /// Adds levels until the tree covers `id`.
    fn grow(&mut self, id: PageId) -> Result<()> {
        let height = height_for(id.0 + 1);
        while self.root.height < height {
            let below = self.root.word.link();
            if self.root.height > 0 && below != Link::None {
                let mut top = Word::new(Link::None);
                let (inner, _) =
                    self.slab.own_inner(&mut top, self.root.height, self.version, &mut self.made)?;
                inner.words[0].set(below);
                self.root.word = top;
            }
            self.root.height += 1;
        }
        Ok(())
    }

    /// Takes levels away that `page_count` doesn't need.
    fn shrink(&mut self, page_count: u64) -> Result<()> {
        let (height, walk) = (height_for(page_count), self.slab.walk());
        while self.root.height > height {
            let level = self.root.height - 1;
            let top = self.root.word.link();
            let below = match level {
                0 => Link::None,
                _ => walk.children(top, level)?[0],
            };
            self.drop_node(&walk, top, level)?;
            self.root.word.set(below);
            self.root.height -= 1;
        }
        Ok(())
    }

    /// Lists the node that `link` led to, and that this version no longer reaches.
    fn drop_node(&mut self, walk: &Walk<'_>, link: Link, level: u32) -> Result<()> {
        match (walk.dead(link, level)?, link) {
            (Some(dead), Link::Memory(pointer)) if dead.birth() == self.version => {
                self.abandoned.push(pointer);
            }
            (Some(dead), _) => self.dead.push(dead),
            (None, _) => {}
        }
        Ok(())
    }

    fn cut(&mut self, word: &mut Word, level: u32, first: u64, page_count: u64) -> Result<()> {
        if word.link() == Link::None || first.saturating_add(capacity(level + 1)) <= page_count {
            return Ok(());
        }
        if first >= page_count {
            self.kill(&self.slab.walk(), word.link(), level, first)?;
            word.set(Link::None);
            return Ok(());
        }
        if level == 0 {
            let (leaf, replaced) = self.slab.own_leaf(word, self.version, self.settled, &mut self.made)?;
            let beyond = usize::try_from(page_count - first).expect("within a leaf");
            let olds: Vec<Entry> = leaf.entries[beyond..].iter_mut().map(std::mem::take).collect();
            self.dead.extend(replaced);
            for (id, old) in (page_count..).zip(olds) {
                self.forget(PageId(id), old);
            }
            return Ok(());
        }
        let slab = self.slab;
        let (inner, replaced) = slab.own_inner(word, level, self.version, &mut self.made)?;
        self.dead.extend(replaced);
        for (index, child) in (0u64..).zip(&mut inner.words) {
            self.cut(child, level - 1, first + index * capacity(level), page_count)?;
        }
        Ok(())
    }

    /// Lists a whole subtree as dead.
    fn kill(&mut self, walk: &Walk<'_>, link: Link, level: u32, first: u64) -> Result<()> {
        match walk.peek(link, level)? {
            Some(Peeked::Leaf(_, entries)) => {
                for (id, entry) in (first..).zip(entries) {
                    self.forget(PageId(id), entry);
                }
            }
            Some(Peeked::Inner(_, links)) => {
                for (index, child) in (0u64..).zip(links) {
                    self.kill(walk, child, level - 1, first + index * capacity(level))?;
                }
            }
            None => return Ok(()),
        }
        self.drop_node(walk, link, level)
    }
}

impl Drop for Edit<'_> {
    fn drop(&mut self) {
        if !self.finished {
            for pointer in self.made.drain(..) {
                self.slab.free_unpublished(pointer);
            }
        }
    }
}
