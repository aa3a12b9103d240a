//! Where nodes live in memory: the unsafe core of the page table.
//!
//! Every node is one allocation that this file makes, lends and frees; the rest of the crate sees references.
//! The argument for all of it, once:
//!
//! - *Lending.* A reference to a node is only made from a borrowed [`Word`], for as long as that borrow lasts. A word
//!   is borrowed from a node or from a root, and a root is borrowed from something that keeps its version alive: an
//!   epoch guard that was pinned before the root was loaded, a registry slot, the reclaimer's own list, or the edit
//!   that builds it. While a version is alive nothing that its root reaches is freed (invariant 4). So the target
//!   outlives the borrow.
//! - *Mutating.* [`Slab::own_inner`] and [`Slab::own_leaf`] give `&mut` only to nodes whose birth is the version that is being
//!   built. Such a node was made by that edit, is reached by exactly one word of the unpublished tree, and the caller
//!   holds that word by `&mut`.
//! - *Freeing.* [`Slab::free`] takes a node that the reclaimer judged dead (no live version sees it) after one grace period,
//!   and whose further grace period has passed too (invariant 7); or one that was never published. Each node is
//!   given to it once (invariant 5), which `resident_bytes` falling to zero at the end shows in tests.
//! - *One copy.* A node on disk has at most one copy in memory: `faulted` maps its address to it, so two parents that
//!   share a child reach the same copy, and freeing that copy frees them all.
#![allow(unsafe_code)]
#![expect(
    clippy::cast_ptr_alignment,
    reason = "a tagged pointer is cast back to the type that it was made from"
)]

use std::collections::HashMap;
use std::ptr;

use super::node::{Entry, FANOUT, Head, Inner, Leaf, Link, NodeAddress, NodePointer, Word};
use crate::error::Result;
use crate::id::Version;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// A node's contents as they stand on disk.
pub(crate) enum NodeImage {
    Inner { birth: Version, children: [Option<NodeAddress>; FANOUT] },
    Leaf { birth: Version, entries: [Entry; FANOUT] },
}

/// Reads nodes that are not in memory: the segments.
pub(crate) trait NodeSource: Send + Sync {
    /// Reads and checks the node at `address`, which must be one of `level`.
    fn read_node(&self, address: NodeAddress, level: u32) -> Result<NodeImage>;
}

/// Owner of all nodes of one store.
pub(crate) struct Slab {
    source: Box<dyn NodeSource>,
    resident_bytes: AtomicU64,
    faulted: Mutex<HashMap<NodeAddress, NodePointer>>,
}

// SAFETY: a node pointer is a name; it is only followed under the rules above, which don't depend on the thread.
unsafe impl Send for NodePointer {}
// SAFETY: as above.
unsafe impl Sync for NodePointer {}

impl std::fmt::Debug for Slab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slab").field("resident_bytes", &self.resident_bytes()).finish_non_exhaustive()
    }
}

/// The bytes of a node in memory.
pub(crate) fn memory_size(is_leaf: bool) -> u64 {
    if is_leaf { size_of::<Leaf>() as u64 } else { size_of::<Inner>() as u64 }
}

impl Slab {
    pub(crate) fn new(source: Box<dyn NodeSource>) -> Slab {
        Slab { source, resident_bytes: AtomicU64::new(0), faulted: Mutex::new(HashMap::new()) }
    }

    /// Bytes of all nodes in memory, those that wait to be freed included.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.resident_bytes.load(Ordering::Relaxed)
    }

    fn keep_inner(&self, inner: Inner) -> NodePointer {
        self.resident_bytes.fetch_add(memory_size(false), Ordering::Relaxed);
        NodePointer::from_inner(Box::into_raw(Box::new(inner)))
    }

    fn keep_leaf(&self, leaf: Leaf) -> NodePointer {
        self.resident_bytes.fetch_add(memory_size(true), Ordering::Relaxed);
        NodePointer::from_leaf(Box::into_raw(Box::new(leaf)))
    }

    /// The child that `word` of a node at `level + 1` (or of a root) leads to, read in if it is on disk.
    #[cold]
    fn pointer(&self, word: &Word, level: u32) -> Result<Option<NodePointer>> {
        match word.link() {
            Link::Memory(pointer) => Ok(Some(pointer)),
            Link::None => Ok(None),
            Link::Disk(address) => self.fault(word, address, level).map(Some),
        }
    }

    #[inline]
    pub(crate) fn inner<'a>(&self, word: &'a Word, level: u32) -> Result<Option<&'a Inner>> {
        debug_assert!(level > 0);
        let found = match word.resident() {
            Some(pointer) => Some(pointer),
            None => self.pointer(word, level)?,
        };
        // SAFETY: lending, as argued at the head of this file; words above level 0 lead to inner nodes.
        Ok(found.map(|pointer| unsafe { lend_inner(pointer) }))
    }

    #[inline]
    pub(crate) fn leaf<'a>(&self, word: &'a Word) -> Result<Option<&'a Leaf>> {
        let found = match word.resident() {
            Some(pointer) => Some(pointer),
            None => self.pointer(word, 0)?,
        };
        // SAFETY: lending, as argued at the head of this file; words to level 0 lead to leaves.
        Ok(found.map(|pointer| unsafe { lend_leaf(pointer) }))
    }

    /// The low word of page `id`'s entry in a tree of `height` levels that covers it, if all nodes on the way are in
    /// memory. Unrolled for the usual heights, because a read should cost few instructions: only then do the memory
    /// accesses of several reads overlap.
    #[inline]
    pub(super) fn resident_entry(word: &Word, height: u32, id: u64) -> Option<&Entry> {
        let index = |level: u32| super::node::index_at(level, id);
        let inner = |word: &Word| {
            // SAFETY: lending, as argued at the head of this file: each word is borrowed from a node that is, or from
            // the root, and words above level 0 lead to inner nodes.
            word.resident().map(|pointer| unsafe { &(*pointer.inner()).words })
        };
        let word = match height {
            1 => word,
            2 => &inner(word)?[index(1)],
            3 => &inner(&inner(word)?[index(2)])?[index(1)],
            4 => &inner(&inner(&inner(word)?[index(3)])?[index(2)])?[index(1)],
            _ => return None,
        };
        // SAFETY: as above.
        word.resident().map(|pointer| unsafe { &(*pointer.untagged_leaf()).entries[index(0)] })
    }

    /// The head of the node that `word` leads to, if it is in memory.
    pub(crate) fn resident_head<'a>(&self, word: &'a Word) -> Option<&'a Head> {
        match word.link() {
            // SAFETY: lending, as argued at the head of this file.
            Link::Memory(pointer) => Some(unsafe { lend_head(pointer) }),
            Link::None | Link::Disk(_) => None,
        }
    }

    /// The head of the node that `word` of a node at `level + 1` leads to, read in if it is on disk.
    pub(crate) fn head<'a>(&self, word: &'a Word, level: u32) -> Result<Option<&'a Head>> {
        // SAFETY: lending, as argued at the head of this file.
        Ok(self.pointer(word, level)?.map(|pointer| unsafe { lend_head(pointer) }))
    }

    /// Whether two words lead to the same node, be it named by its copy in memory or by its place on disk.
    pub(crate) fn same(&self, a: &Word, b: &Word) -> bool {
        match (a.link(), b.link()) {
            (Link::Memory(_), Link::Disk(address)) => {
                self.resident_head(a).is_some_and(|head| head.disk() == Some(address))
            }
            (Link::Disk(address), Link::Memory(_)) => {
                self.resident_head(b).is_some_and(|head| head.disk() == Some(address))
            }
            (a, b) => a == b,
        }
    }

    #[cold]
    fn fault(&self, word: &Word, address: NodeAddress, level: u32) -> Result<NodePointer> {
        // The lock is held over the read, so that a node is read once however many threads ask for it.
        let mut faulted = self.faulted.lock();
        let pointer = if let Some(found) = faulted.get(&address) {
            *found
        } else {
            let disk = Some(address);
            let pointer = match self.source.read_node(address, level)? {
                NodeImage::Inner { birth, children } => self.keep_inner(Inner {
                    head: Head::new(birth, disk),
                    words: children.map(|child| Word::new(child.map_or(Link::None, Link::Disk))),
                }),
                NodeImage::Leaf { birth, entries } => {
                    self.keep_leaf(Leaf { head: Head::new(birth, disk), entries })
                }
            };
            faulted.insert(address, pointer);
            pointer
        };
        word.rebase(address, pointer);
        Ok(pointer)
    }

    /// Makes the inner node at `word` one of `version`: itself if it is, else a copy. Returns what it replaced.
    pub(crate) fn own_inner<'a>(
        &self,
        word: &'a mut Word,
        level: u32,
        version: Version,
        made: &mut Vec<NodePointer>,
    ) -> Result<(&'a mut Inner, Option<NodePointer>)> {
        let found = self.pointer(word, level)?;
        // SAFETY: lending: `word` is borrowed while the reference is used.
        let copy = match found.map(|pointer| unsafe { lend_inner(pointer) }) {
            Some(inner) if inner.head.birth == version => None,
            Some(inner) => Some(inner.copied(version)),
            None => Some(Inner::empty(version)),
        };
        let replaced = if copy.is_some() { found } else { None };
        let pointer = match (copy, found) {
            (Some(copy), _) => self.keep_inner(copy),
            (None, Some(own)) => own,
            (None, None) => unreachable!("a missing node gets an empty one"),
        };
        if replaced.is_some() || found.is_none() {
            word.set(Link::Memory(pointer));
            made.push(pointer);
        }
        // SAFETY: mutating, as argued at the head of this file: the node's birth is `version`.
        Ok((unsafe { &mut *pointer.untagged().cast::<Inner>() }, replaced))
    }

    /// Makes the leaf at `word` one of `version`, dropping tombstones up to `settled` from a copy.
    pub(crate) fn own_leaf<'a>(
        &self,
        word: &'a mut Word,
        version: Version,
        settled: Version,
        made: &mut Vec<NodePointer>,
    ) -> Result<(&'a mut Leaf, Option<NodePointer>)> {
        let found = self.pointer(word, 0)?;
        // SAFETY: lending: `word` is borrowed while the reference is used.
        let copy = match found.map(|pointer| unsafe { lend_leaf(pointer) }) {
            Some(leaf) if leaf.head.birth == version => None,
            Some(leaf) => Some(leaf.copied(version, settled)),
            None => Some(Leaf::empty(version)),
        };
        let replaced = if copy.is_some() { found } else { None };
        let pointer = match (copy, found) {
            (Some(copy), _) => self.keep_leaf(copy),
            (None, Some(own)) => own,
            (None, None) => unreachable!("a missing node gets an empty one"),
        };
        if replaced.is_some() || found.is_none() {
            word.set(Link::Memory(pointer));
            made.push(pointer);
        }
        // SAFETY: mutating, as argued at the head of this file: the node's birth is `version`.
        Ok((unsafe { &mut *pointer.untagged().cast::<Leaf>() }, replaced))
    }

    /// The head of a node that the caller knows to be alive: one of its own edit, of a dead list, or of a held root.
    pub(crate) fn head_of<'a>(&'a self, pointer: NodePointer) -> &'a Head {
        // SAFETY: lending; the callers (edit, checkpoint, reclaim) hold the node's version or the node itself.
        unsafe { lend_head::<'a>(pointer) }
    }

    /// The node itself, under the same condition as [`Slab::head_of`].
    pub(crate) fn node_of(&self, pointer: NodePointer) -> NodeRef<'_> {
        if pointer.is_leaf() {
            // SAFETY: as in `head_of`; the tag says that it is a leaf.
            NodeRef::Leaf(unsafe { lend_leaf(pointer) })
        } else {
            // SAFETY: as in `head_of`; the tag says that it is an inner node.
            NodeRef::Inner(unsafe { lend_inner(pointer) })
        }
    }

    /// Frees a node for good.
    ///
    /// # Safety
    /// The node is alive, nobody can reach it any more, and it is given to this function once (see "Freeing" above).
    pub(crate) unsafe fn free(&self, pointer: NodePointer) {
        // SAFETY: the caller gives a live node.
        let head = unsafe { lend_head(pointer) };
        #[cfg(loom)]
        head.canary.with_mut(|canary| {
            // SAFETY: loom checks that no access is concurrent with this one; that is what it is for.
            unsafe { *canary = 0 }
        });
        if let Some(address) = head.disk() {
            let mut faulted = self.faulted.lock();
            if faulted.get(&address).is_some_and(|found| *found == pointer) {
                faulted.remove(&address);
            }
        }
        self.resident_bytes.fetch_sub(memory_size(pointer.is_leaf()), Ordering::Relaxed);
        if pointer.is_leaf() {
            // SAFETY: made by `keep_leaf` from a box, and freed once, by the caller's promise.
            drop(unsafe { Box::from_raw(pointer.untagged().cast::<Leaf>()) });
        } else {
            // SAFETY: made by `keep_inner` from a box, and freed once, by the caller's promise.
            drop(unsafe { Box::from_raw(pointer.untagged().cast::<Inner>()) });
        }
    }

    /// Frees a node that an edit made and that no published tree reaches.
    pub(super) fn free_unpublished(&self, pointer: NodePointer) {
        // SAFETY: only the edit that made the node calls this, once for each, when it gives its tree up (or has
        // taken the node out of it); nobody else has ever seen it.
        unsafe { self.free(pointer) }
    }

    /// Lists every node that was read in: an edit that was given up may have been the only one to reach it.
    pub(crate) fn list_faulted(&self, seen: &mut std::collections::HashSet<NodePointer>) {
        seen.extend(self.faulted.lock().values());
    }

    /// Lists every node in memory that `word` reaches and that `seen` has not met yet.
    pub(crate) fn list_tree(&self, word: &Word, seen: &mut std::collections::HashSet<NodePointer>) {
        let Link::Memory(pointer) = word.link() else { return };
        if !seen.insert(pointer) {
            return;
        }
        if let NodeRef::Inner(inner) = self.node_of(pointer) {
            for child in &inner.words {
                self.list_tree(child, seen);
            }
        }
    }
}

/// A node of either kind.
#[derive(Clone, Copy)]
pub(crate) enum NodeRef<'a> {
    Inner(&'a Inner),
    Leaf(&'a Leaf),
}

/// # Safety
/// `pointer` leads to a live inner node that stays alive for `'a`.
#[inline]
unsafe fn lend_inner<'a>(pointer: NodePointer) -> &'a Inner {
    debug_assert!(!pointer.is_leaf());
    // SAFETY: the caller's promise.
    let inner = unsafe { &*pointer.untagged().cast::<Inner>() };
    touch(&inner.head);
    inner
}

/// # Safety
/// `pointer` leads to a live leaf that stays alive for `'a`.
#[inline]
unsafe fn lend_leaf<'a>(pointer: NodePointer) -> &'a Leaf {
    debug_assert!(pointer.is_leaf());
    // SAFETY: the caller's promise.
    let leaf = unsafe { &*pointer.untagged_leaf() };
    touch(&leaf.head);
    leaf
}

/// # Safety
/// `pointer` leads to a live node that stays alive for `'a`.
#[inline]
unsafe fn lend_head<'a>(pointer: NodePointer) -> &'a Head {
    // SAFETY: the caller's promise; the tag tells the kind, and both kinds are read by field, whatever their layout.
    unsafe {
        if pointer.is_leaf() {
            &*ptr::addr_of!((*pointer.untagged().cast::<Leaf>()).head)
        } else {
            &*ptr::addr_of!((*pointer.untagged().cast::<Inner>()).head)
        }
    }
}

/// Shows loom every use of a node, so that it reports one that races with the node's end.
#[inline]
fn touch(head: &Head) {
    #[cfg(loom)]
    head.canary.with(|canary| {
        // SAFETY: loom checks that no write is concurrent with this read; that is what it is for.
        assert_eq!(unsafe { *canary }, 1, "a freed node was read");
    });
    let _ = head;
}
