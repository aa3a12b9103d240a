//! Where nodes live in memory: the unsafe core of the page table.
//!
//! Every node is in a cell (`cells`) that this file fills, lends and frees; the rest of the crate sees references.
//! The argument for all of it, once:
//!
//! - *Lending.* A reference to a node is only made from a borrowed [`Word`], for as long as that borrow lasts. A word
//!   is borrowed from a node or from a root, and a root is borrowed from something that keeps its version alive: an
//!   epoch guard that was pinned before the root was loaded, a registry slot, the reclaimer's own list, or the edit
//!   that builds it. While a version is alive nothing that its root reaches is freed (invariant 4), but for copies of
//!   nodes on disk that are evicted (see there). So the target outlives the borrow.
//! - *Mutating.* [`Slab::own_inner`] and [`Slab::own_leaf`] give `&mut` only to nodes whose birth is the version that is being
//!   built. Such a node was made by that edit, is reached by exactly one word of the unpublished tree, and the caller
//!   holds that word by `&mut`.
//! - *Freeing.* [`Slab::free`] takes a node that the reclaimer judged dead (no live version sees it) after one grace period,
//!   and whose further grace period has passed too (invariant 7); or one that was never published. Each node is
//!   given to it once (invariant 5), which `resident_bytes` falling to zero at the end shows in tests.
//! - *Copies.* A node that is on disk is named by its address, and its memory is a copy that can be had again.
//!   [`Written::copies`] owns them: whoever takes one out of it, frees it. A node that isn't on disk is named by its pointer.
//!   One that died before a checkpoint wrote it for the sake of older versions is named by its pointer until it is judged:
//!   [`Written::listed`] lets those who come by the address find it, so that a node is never in memory twice.
//! - *Evicting.* [`Slab::evict`] takes all copies at once and lets every word that leads to one from a node which stays
//!   lead to the disk again. The words that stay are those of nodes that are in no `copies`: they hang together at
//!   the top of each tree, since a node is written after its children. Copies are freed after a grace period. A word is
//!   only led to a copy under the lock under which the copy was found, so that none is after the copies were taken. So a
//!   reference to one is held only under a guard (readers), under the commit lock (edits), under the reclaimer's, or by a
//!   [`Walk`](super::walk::Walk), all of which evictions stay away from.
#![allow(unsafe_code)]
#![expect(
    clippy::cast_ptr_alignment,
    reason = "a tagged pointer is cast back to the type that it was made from"
)]

use std::collections::HashMap;
use std::ptr;

use super::cells::Cells;
use super::edit::Dead;
use super::node::{Entry, FANOUT, Head, Inner, Leaf, Link, NodeAddress, NodePointer, Word, index_at};
use super::walk::Peeked;
use crate::error::Result;
use crate::id::Version;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, Planted, RwLock, has_planted};

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

/// Nodes by their addresses.
pub(crate) type Copies = HashMap<NodeAddress, NodePointer>;

/// The nodes in memory that are on disk too. Each is in one of the two.
#[derive(Default)]
pub(super) struct Written {
    /// Owned here.
    pub(super) copies: Copies,
    /// Owned by the reclaimer's lists, which name them by their pointers.
    listed: Copies,
}

impl Written {
    fn find(&self, address: NodeAddress) -> Option<NodePointer> {
        self.copies.get(&address).or_else(|| self.listed.get(&address)).copied()
    }
}

/// Owner of all nodes of one store.
pub(crate) struct Slab {
    source: Box<dyn NodeSource>,
    /// Bytes of nodes that should be in memory at most.
    pub(super) limit: u64,
    inners: Cells<Inner>,
    leaves: Cells<Leaf>,
    resident_bytes: AtomicU64,
    pub(super) written: Mutex<Written>,
    /// Bytes of the copies; changed under their lock.
    pub(super) copied_bytes: AtomicU64,
    /// Held shared by walks, alone by evictions.
    pub(super) walks: RwLock<()>,
    /// Bytes of nodes that readers would have kept, had there been room, since the last eviction.
    pub(super) refused_bytes: AtomicU64,
    reads: AtomicU64,
    pub(super) evictions: AtomicU64,
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

/// What an entry of `copies` takes, roundly.
const OVERHEAD: u64 = 24;

/// The bytes of a node in memory.
pub(crate) fn memory_size(is_leaf: bool) -> u64 {
    OVERHEAD + if is_leaf { Cells::<Leaf>::BYTES as u64 } else { Cells::<Inner>::BYTES as u64 }
}

/// What a reader finds behind a word.
pub(super) enum Entered<'a, T> {
    /// The node in memory.
    Kept(&'a T),
    /// The node as read from disk; there was no room to keep it.
    Passing(Box<NodeImage>),
    Nothing,
}

impl Slab {
    pub(crate) fn new(source: Box<dyn NodeSource>, limit: u64) -> Slab {
        Slab {
            source,
            limit,
            inners: Cells::new(),
            leaves: Cells::new(),
            resident_bytes: AtomicU64::new(0),
            written: Mutex::default(),
            copied_bytes: AtomicU64::new(0),
            walks: RwLock::new(()),
            refused_bytes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// Bytes of all nodes in memory, those that wait to be freed included.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.resident_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the nodes in memory that no checkpoint has written, and of those that wait to be freed.
    pub(crate) fn unwritten_bytes(&self) -> u64 {
        self.resident_bytes().saturating_sub(self.copied_bytes.load(Ordering::Relaxed))
    }

    /// Bytes of nodes that should be in memory at most.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Nodes read from disk, and evictions.
    pub(crate) fn reads_and_evictions(&self) -> (u64, u64) {
        (self.reads.load(Ordering::Relaxed), self.evictions.load(Ordering::Relaxed))
    }

    pub(super) fn keep_inner(&self, inner: Inner) -> NodePointer {
        self.resident_bytes.fetch_add(memory_size(false), Ordering::Relaxed);
        NodePointer::from_inner(self.inners.put(inner))
    }

    pub(super) fn keep_leaf(&self, leaf: Leaf) -> NodePointer {
        self.resident_bytes.fetch_add(memory_size(true), Ordering::Relaxed);
        NodePointer::from_leaf(self.leaves.put(leaf))
    }

    /// For a reader under a guard: the inner node at `level` that `word` leads to.
    #[inline]
    pub(super) fn enter_inner<'a>(&self, word: &'a Word, level: u32) -> Result<Entered<'a, Inner>> {
        debug_assert!(level > 0);
        match word.resident() {
            // SAFETY: lending, as argued at the head of this file; words above level 0 lead to inner nodes.
            Some(pointer) => Ok(Entered::Kept(unsafe { lend_inner(pointer) })),
            None => self.enter(word, level, |pointer| {
                // SAFETY: as above.
                unsafe { lend_inner(pointer) }
            }),
        }
    }

    /// For a reader under a guard: the leaf that `word` leads to.
    #[inline]
    pub(super) fn enter_leaf<'a>(&self, word: &'a Word) -> Result<Entered<'a, Leaf>> {
        match word.resident() {
            // SAFETY: lending, as argued at the head of this file; words to level 0 lead to leaves.
            Some(pointer) => Ok(Entered::Kept(unsafe { lend_leaf(pointer) })),
            None => self.enter(word, 0, |pointer| {
                // SAFETY: as above.
                unsafe { lend_leaf(pointer) }
            }),
        }
    }

    #[cold]
    fn enter<'a, T>(
        &self,
        word: &'a Word,
        level: u32,
        lend: impl Fn(NodePointer) -> &'a T,
    ) -> Result<Entered<'a, T>> {
        let address = match word.link() {
            Link::Memory(pointer) => return Ok(Entered::Kept(lend(pointer))),
            Link::None => return Ok(Entered::Nothing),
            Link::Disk(address) => address,
        };
        let lead = |pointer| word.rebase(address, pointer);
        let found = self.find_and(address, lead);
        let pointer = match found {
            Some(pointer) => pointer,
            None => {
                // Without the lock: others find what is there meanwhile.
                let image = self.read(address, level)?;
                let size = memory_size(level == 0);
                // An eighth is left for what commits make.
                if self.resident_bytes() + size > self.limit - self.limit / 8 {
                    self.refused_bytes.fetch_add(size, Ordering::Relaxed);
                    return Ok(Entered::Passing(Box::new(image)));
                }
                self.keep_copy(address, &image, lead)
            }
        };
        if has_planted(Planted::LateRebase) {
            word.rebase(address, pointer);
        }
        Ok(Entered::Kept(lend(pointer)))
    }

    /// The node at `address`, if it is in memory, after `lead` was told of it: no eviction comes between.
    fn find_and(&self, address: NodeAddress, lead: impl Fn(NodePointer)) -> Option<NodePointer> {
        let written = self.written.lock();
        let found = written.find(address)?;
        if !has_planted(Planted::LateRebase) {
            lead(found);
        }
        Some(found)
    }

    /// Reads a node below one that there was no room for.
    pub(super) fn read_passing(&self, address: NodeAddress, level: u32) -> Result<NodeImage> {
        self.refused_bytes.fetch_add(memory_size(level == 0), Ordering::Relaxed);
        self.read(address, level)
    }

    fn read(&self, address: NodeAddress, level: u32) -> Result<NodeImage> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.source.read_node(address, level)
    }

    /// Keeps a node that was read, unless another thread was quicker, and tells `lead` of it.
    fn keep_copy(&self, address: NodeAddress, image: &NodeImage, lead: impl Fn(NodePointer)) -> NodePointer {
        let mut written = self.written.lock();
        let pointer = written.find(address).unwrap_or_else(|| {
            let pointer = match image {
                NodeImage::Inner { birth, children } => self.keep_inner(Inner {
                    head: Head::new(*birth, Some(address)),
                    words: children.map(|child| Word::new(child.map_or(Link::None, Link::Disk))),
                }),
                NodeImage::Leaf { birth, entries } => {
                    self.keep_leaf(Leaf { head: Head::new(*birth, Some(address)), entries: *entries })
                }
            };
            self.copied_bytes.fetch_add(memory_size(pointer.is_leaf()), Ordering::Relaxed);
            written.copies.insert(address, pointer);
            pointer
        });
        if !has_planted(Planted::LateRebase) {
            lead(pointer);
        }
        pointer
    }

    /// The contents of the node that `link` leads to. Under the commit lock, or in a walk.
    pub(super) fn peek(&self, link: Link, level: u32) -> Result<Option<Peeked>> {
        let pointer = match link {
            Link::None => return Ok(None),
            Link::Memory(pointer) => pointer,
            Link::Disk(address) => {
                let found = self.written.lock().find(address);
                match found {
                    Some(pointer) => pointer,
                    None => return self.read(address, level).map(|image| Some(Peeked::from(image))),
                }
            }
        };
        Ok(Some(match self.node_of(pointer) {
            NodeRef::Inner(inner) => {
                Peeked::Inner(inner.head.birth, std::array::from_fn(|index| inner.words[index].link()))
            }
            NodeRef::Leaf(leaf) => Peeked::Leaf(leaf.head.birth, leaf.entries),
        }))
    }

    /// Page `id`'s entry in a tree of `height` levels that covers it, if all nodes on the way are in memory and there are four levels
    /// of them at most. Unrolled, because a read should cost few instructions: only then do the memory accesses of several reads overlap.
    #[inline]
    pub(super) fn resident_entry(word: &Word, height: u32, id: u64) -> Option<Entry> {
        // No function: what gives an `Option` of a reference costs a further test.
        macro_rules! below {
            ($word:expr, $level:literal) => {
                // SAFETY: lending, as argued at the head of this file: each word is borrowed from a node that is, or from
                // the root, and words above level 0 lead to inner nodes.
                unsafe { &(*$word.resident()?.inner()).words[index_at($level, id)] }
            };
        }
        let mut word = word;
        if height > 2 {
            if height > 3 {
                if height > 4 {
                    return None;
                }
                word = below!(word, 3);
            }
            word = below!(word, 2);
        }
        if height > 1 {
            word = below!(word, 1);
        }
        // SAFETY: as above; words at level 0 lead to leaves.
        word.resident().map(|leaf| unsafe { (*leaf.untagged_leaf()).entries[index_at(0, id)] })
    }

    /// Makes the inner node at `word` one of `version`: itself if it is, else a copy. Returns what it replaced.
    pub(crate) fn own_inner<'a>(
        &self,
        word: &'a mut Word,
        level: u32,
        version: Version,
        made: &mut Vec<NodePointer>,
    ) -> Result<(&'a mut Inner, Option<Dead>)> {
        if let Some(own) = self.own(word, version) {
            // SAFETY: mutating, as argued at the head of this file: the node's birth is `version`.
            return Ok((unsafe { &mut *own.untagged().cast::<Inner>() }, None));
        }
        let before = word.link();
        let inner = match self.peek(before, level)? {
            Some(Peeked::Inner(_, links)) => {
                Inner { head: Head::new(version, None), words: links.map(Word::new) }
            }
            Some(Peeked::Leaf(..)) => unreachable!("words above level 0 lead to inner nodes"),
            None => Inner::empty(version),
        };
        let replaced = self.dead(before, level)?;
        let pointer = self.keep_inner(inner);
        word.set(Link::Memory(pointer));
        made.push(pointer);
        // SAFETY: as above.
        Ok((unsafe { &mut *pointer.untagged().cast::<Inner>() }, replaced))
    }

    /// Makes the leaf at `word` one of `version`, dropping tombstones up to `settled` from a copy.
    pub(crate) fn own_leaf<'a>(
        &self,
        word: &'a mut Word,
        version: Version,
        settled: Version,
        made: &mut Vec<NodePointer>,
    ) -> Result<(&'a mut Leaf, Option<Dead>)> {
        if let Some(own) = self.own(word, version) {
            // SAFETY: mutating, as argued at the head of this file: the node's birth is `version`.
            return Ok((unsafe { &mut *own.untagged().cast::<Leaf>() }, None));
        }
        let before = word.link();
        let leaf = match self.peek(before, 0)? {
            Some(Peeked::Leaf(_, entries)) => Leaf::copied(entries, version, settled),
            Some(Peeked::Inner(..)) => unreachable!("words to level 0 lead to leaves"),
            None => Leaf::empty(version),
        };
        let replaced = self.dead(before, 0)?;
        let pointer = self.keep_leaf(leaf);
        word.set(Link::Memory(pointer));
        made.push(pointer);
        // SAFETY: as above.
        Ok((unsafe { &mut *pointer.untagged().cast::<Leaf>() }, replaced))
    }

    /// The node at `word`, if the edit of `version` has made it.
    fn own(&self, word: &Word, version: Version) -> Option<NodePointer> {
        let pointer = word.resident()?;
        (self.head_of(pointer).birth == version).then_some(pointer)
    }

    /// The node that `link` leads to, as the reclaimer's lists name it. Under the commit lock, or in a walk.
    pub(super) fn dead(&self, link: Link, level: u32) -> Result<Option<Dead>> {
        let (address, birth) = match link {
            Link::None => return Ok(None),
            Link::Memory(pointer) => {
                let head = self.head_of(pointer);
                match head.disk() {
                    Some(address) => (address, head.birth),
                    None => return Ok(Some(Dead::Node { pointer, birth: head.birth })),
                }
            }
            Link::Disk(address) => match self.peek(link, level)? {
                Some(found) => (address, found.birth()),
                None => return Ok(None),
            },
        };
        Ok(Some(Dead::Stored { address, is_leaf: level == 0, birth }))
    }

    /// Takes note that a checkpoint has written a node. Under the commit lock.
    pub(crate) fn written(&self, pointer: NodePointer, address: NodeAddress) {
        // The lock orders this with `unlisted`.
        let head = self.head_of(pointer);
        let hasty = has_planted(Planted::HastyWritten).then(|| head.is_listed());
        let mut written = self.written.lock();
        head.set_disk(address);
        if hasty.unwrap_or_else(|| head.is_listed()) {
            written.listed.insert(address, pointer);
        } else {
            self.adopt(&mut written, address, pointer);
        }
    }

    /// Takes note that a node which had died stays, because an older version sees it.
    pub(crate) fn unlisted(&self, pointer: NodePointer) {
        let mut written = self.written.lock();
        let head = self.head_of(pointer);
        head.unlist();
        if let Some(address) = head.disk() {
            written.listed.remove(&address);
            self.adopt(&mut written, address, pointer);
        }
    }

    fn adopt(&self, written: &mut Written, address: NodeAddress, pointer: NodePointer) {
        self.copied_bytes.fetch_add(memory_size(pointer.is_leaf()), Ordering::Relaxed);
        let before = written.copies.insert(address, pointer);
        debug_assert!(before.is_none(), "a node is in memory once");
    }

    /// Forgets a node whose place on disk is free and that nobody reaches any more. A copy of it is freed.
    pub(crate) fn forget(&self, address: NodeAddress) {
        let found = {
            let mut written = self.written.lock();
            // That one is freed by whoever has it in a list.
            written.listed.remove(&address);
            let found = written.copies.remove(&address);
            let bytes = found.map_or(0, |pointer| memory_size(pointer.is_leaf()));
            self.copied_bytes.fetch_sub(bytes, Ordering::Relaxed);
            found
        };
        if let Some(pointer) = found {
            // SAFETY: the reclaimer calls this for a node that is dead after its further grace period; `copies` owned the
            // copy, and gave it here.
            unsafe { self.free(pointer) }
        }
    }

    /// Frees some of the copies that were evicted, a grace period ago; whether that were all.
    pub(crate) fn free_copies(&self, copies: &mut Vec<NodePointer>, some: usize) -> bool {
        for pointer in copies.drain(copies.len().saturating_sub(some)..) {
            // SAFETY: no word has led to it for a grace period; `copies` owned it.
            unsafe { self.free(pointer) }
        }
        copies.is_empty()
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
        let _ = head;
        self.resident_bytes.fetch_sub(memory_size(pointer.is_leaf()), Ordering::Relaxed);
        if pointer.is_leaf() {
            // SAFETY: made by `keep_leaf`, and freed once, by the caller's promise.
            unsafe { self.leaves.take(pointer.untagged_leaf()) };
        } else {
            // SAFETY: made by `keep_inner`, and freed once, by the caller's promise.
            unsafe { self.inners.take(pointer.inner()) };
        }
    }

    /// Frees a node that an edit made and that no published tree reaches.
    pub(super) fn free_unpublished(&self, pointer: NodePointer) {
        // SAFETY: only the edit that made the node calls this, once for each, when it gives its tree up (or has
        // taken the node out of it); nobody else has ever seen it.
        unsafe { self.free(pointer) }
    }

    /// Lists every copy.
    pub(crate) fn list_copies(&self, seen: &mut std::collections::HashSet<NodePointer>) {
        seen.extend(self.written.lock().copies.values());
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
