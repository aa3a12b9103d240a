//! The top of one store's tree as another store's: how a fork comes by nodes that it can't read from the disk.

use super::node::{Head, Inner, Leaf, Link, NodeAddress, Word};
use super::root::Root;
use super::slab::{NodeRef, Slab};

/// Where a tree is to be continued.
pub(crate) struct Graft<'a> {
    pub(crate) to: &'a Slab,
    /// Whether that slab can read the node at an address.
    pub(crate) is_there: &'a dyn Fn(NodeAddress) -> bool,
    /// Nodes that are copied at most.
    pub(crate) most: usize,
}

impl Slab {
    /// What another slab should begin with to have the tree of `root`, a version of this slab's that the caller keeps: a link to
    /// the disk, or copies of the nodes that it can't read there. `None` if these are too many, or aren't in memory.
    pub(crate) fn graft(&self, root: &Root, graft: &Graft<'_>) -> Option<Word> {
        // Nothing is evicted meanwhile, so nodes may be looked at.
        let _walk = self.walk();
        let mut left = graft.most;
        self.count(&root.word, graft, &mut left).then(|| Word::new(self.continued(&root.word, graft)))
    }

    /// Whether there are at most `left` nodes under `word` that are to be copied, and all of them can be.
    fn count(&self, word: &Word, graft: &Graft<'_>, left: &mut usize) -> bool {
        let pointer = match word.link() {
            Link::None => return true,
            Link::Disk(address) => return (graft.is_there)(address),
            Link::Memory(pointer) => pointer,
        };
        if self.head_of(pointer).disk().is_some_and(graft.is_there) {
            return true;
        }
        let Some(rest) = left.checked_sub(1) else { return false };
        *left = rest;
        match self.node_of(pointer) {
            NodeRef::Inner(inner) => inner.words.iter().all(|child| self.count(child, graft, left)),
            NodeRef::Leaf(_) => true,
        }
    }

    fn continued(&self, word: &Word, graft: &Graft<'_>) -> Link {
        let Link::Memory(pointer) = word.link() else { return word.link() };
        if let Some(address) = self.head_of(pointer).disk().filter(|address| (graft.is_there)(*address)) {
            return Link::Disk(address);
        }
        Link::Memory(match self.node_of(pointer) {
            NodeRef::Inner(inner) => graft.to.keep_inner(Inner {
                head: Head::new(inner.head.birth, None),
                words: std::array::from_fn(|index| Word::new(self.continued(&inner.words[index], graft))),
            }),
            NodeRef::Leaf(leaf) => {
                graft.to.keep_leaf(Leaf { head: Head::new(leaf.head.birth, None), entries: leaf.entries })
            }
        })
    }
}
