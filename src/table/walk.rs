//! Going through a version's tree, or two, without keeping in memory what is read on the way.

use super::edit::Dead;
use super::node::{Entry, FANOUT, Link, NodeAddress};
use super::slab::{NodeImage, Slab};
use crate::error::Result;
use crate::id::Version;
use crate::sync::RwLockReadGuard;

/// A node's contents, taken out of it.
pub(crate) enum Peeked {
    Inner(Version, [Link; FANOUT]),
    Leaf(Version, [Entry; FANOUT]),
}

impl Peeked {
    pub(crate) fn birth(&self) -> Version {
        match self {
            Peeked::Inner(birth, _) | Peeked::Leaf(birth, _) => *birth,
        }
    }
}

impl From<NodeImage> for Peeked {
    fn from(image: NodeImage) -> Peeked {
        match image {
            NodeImage::Inner { birth, children } => {
                Peeked::Inner(birth, children.map(|child| child.map_or(Link::None, Link::Disk)))
            }
            NodeImage::Leaf { birth, entries } => Peeked::Leaf(birth, entries),
        }
    }
}

/// Whoever goes through a tree, or two, without keeping what is read on the way. Nothing is evicted meanwhile, so links
/// may be held by value; they come from a root whose version the walker keeps alive.
pub(crate) struct Walk<'s> {
    slab: &'s Slab,
    _stays: RwLockReadGuard<'s, ()>,
}

impl Walk<'_> {
    /// The contents of the node at `level` that `link` leads to.
    pub(crate) fn peek(&self, link: Link, level: u32) -> Result<Option<Peeked>> {
        self.slab.peek(link, level)
    }

    /// The children of the inner node that `link` leads to.
    pub(crate) fn children(&self, link: Link, level: u32) -> Result<[Link; FANOUT]> {
        Ok(match self.slab.peek(link, level)? {
            Some(Peeked::Inner(_, links)) => links,
            Some(Peeked::Leaf(..)) | None => [Link::None; FANOUT],
        })
    }

    /// The entries of the leaf that `link` leads to.
    pub(crate) fn entries(&self, link: Link) -> Result<[Entry; FANOUT]> {
        Ok(match self.slab.peek(link, 0)? {
            Some(Peeked::Leaf(_, entries)) => entries,
            Some(Peeked::Inner(..)) | None => [Entry::ABSENT; FANOUT],
        })
    }

    /// The node that `link` leads to, as the reclaimer's lists name it.
    pub(crate) fn dead(&self, link: Link, level: u32) -> Result<Option<Dead>> {
        self.slab.dead(link, level)
    }

    /// Where the node that `link` leads to lies on disk, if it does.
    pub(crate) fn address(&self, link: Link) -> Option<NodeAddress> {
        match link {
            Link::None => None,
            Link::Disk(address) => Some(address),
            Link::Memory(pointer) => self.slab.head_of(pointer).disk(),
        }
    }

    /// Whether two links lead to the same node, be it named by a copy in memory or by its place on disk.
    pub(crate) fn same(&self, a: Link, b: Link) -> bool {
        a == b || self.address(a).is_some_and(|address| self.address(b) == Some(address))
    }
}

impl Slab {
    /// Begins a walk, during which nothing is evicted. Walks should end: an export takes one for a stretch.
    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk { slab: self, _stays: self.walks.read() }
    }
}
