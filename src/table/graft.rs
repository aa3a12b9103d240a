//! The top of one store's tree as another store's: how a fork comes by nodes that it can't read from the disk.

use super::node::{Head, Inner, Leaf, Link, NodeAddress, NodePointer, Word};
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

/// Nodes that were copied, while there are not too many.
struct Copied {
    nodes: Vec<NodePointer>,
    /// How many more may be.
    left: usize,
    is_too_much: bool,
}

impl Slab {
    /// What another slab should begin with to have the tree of `root`, a version of this slab's that the caller keeps: a link to
    /// the disk, or copies of the nodes that it can't read there. `None` if these are too many, or aren't in memory.
    pub(crate) fn graft(&self, root: &Root, graft: &Graft<'_>) -> Option<Word> {
        // Nothing is evicted meanwhile, so nodes may be looked at.
        let _walk = self.walk();
        let mut copied = Copied { nodes: Vec::new(), left: graft.most, is_too_much: false };
        let mut word = Word::new(self.on_disk(&root.word, graft));
        self.copy_under(&mut word, graft, &mut copied);
        if copied.is_too_much {
            copied.nodes.into_iter().for_each(|pointer| graft.to.free_unpublished(pointer));
            return None;
        }
        Some(word)
    }

    /// The link to a node on disk, if the other slab can read it there.
    fn on_disk(&self, word: &Word, graft: &Graft<'_>) -> Link {
        match word.link() {
            Link::Memory(pointer) => match self.head_of(pointer).disk() {
                Some(address) if (graft.is_there)(address) => Link::Disk(address),
                _ => Link::Memory(pointer),
            },
            other => other,
        }
    }

    /// Replaces the node of this slab that a word of the other one leads to by a copy, with all below it.
    fn copy_under(&self, word: &mut Word, graft: &Graft<'_>, copied: &mut Copied) {
        let pointer = match word.link() {
            Link::None => return,
            Link::Disk(address) => return copied.is_too_much |= !(graft.is_there)(address),
            Link::Memory(pointer) => pointer,
        };
        copied.is_too_much |= copied.left == 0;
        if copied.is_too_much {
            return word.set(Link::None);
        }
        copied.left -= 1;
        let copy = match self.node_of(pointer) {
            NodeRef::Inner(inner) => {
                // First this, which waits for the memory of many nodes at once.
                let mut words =
                    std::array::from_fn(|index| Word::new(self.on_disk(&inner.words[index], graft)));
                for word in &mut words {
                    self.copy_under(word, graft, copied);
                }
                graft.to.keep_inner(Inner { head: Head::new(inner.head.birth, None), words })
            }
            NodeRef::Leaf(leaf) => {
                graft.to.keep_leaf(Leaf { head: Head::new(leaf.head.birth, None), entries: leaf.entries })
            }
        };
        copied.nodes.push(copy);
        word.set(Link::Memory(copy));
    }
}
