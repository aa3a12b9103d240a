//! Words, entries and nodes: the parts of the page table in memory.
//!
//! An inner node holds [`FANOUT`] words, a leaf [`FANOUT`] entries of 16 bytes. A node is filled by the one edit
//! that made it and never changes after it is published (invariant 1), but for three marks that say the same
//! thing in another way: a word that names a node on disk may be replaced by one that names its copy in memory, and back;
//! `disk` is set when a checkpoint wrote the node, `died` when a commit replaced it.

use crate::id::{Location, PACKED_BITS, Version};
use crate::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("vellum keeps disk addresses in pointer-sized words: it needs a 64-bit target");

/// Bits of a page id that one level resolves. loom's models shrink the tree, not the code.
pub(crate) const FANOUT_BITS: u32 = if cfg!(loom) { 1 } else { 6 };
/// Children of an inner node, entries of a leaf.
pub(crate) const FANOUT: usize = 1 << FANOUT_BITS;
/// Levels that cover every page id.
pub(crate) const HEIGHT_MAX: u32 = PACKED_BITS.div_ceil(FANOUT_BITS);

/// The number of page ids under a tree of `height` levels.
pub(crate) fn capacity(height: u32) -> u64 {
    1u64 << (height * FANOUT_BITS).min(63)
}

/// The lowest tree that holds `page_count` pages.
pub(crate) fn height_for(page_count: u64) -> u32 {
    let mut height = 0;
    while page_count > 0 && (height == 0 || capacity(height) < page_count) {
        height += 1;
    }
    height
}

/// Which child of a node at `level` (a leaf is level 0) leads to page `id`.
#[inline]
pub(crate) fn index_at(level: u32, id: u64) -> usize {
    let index = (id >> (level * FANOUT_BITS)) & (FANOUT as u64 - 1);
    // An index is below FANOUT, so nothing is ever replaced by 0.
    usize::try_from(index).unwrap_or(0)
}

/// Where a node lies on disk: its byte address in the segments' common address space, in units of 16 bytes. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct NodeAddress(pub(crate) u64);

impl NodeAddress {
    /// The grain of node addresses, in bytes.
    pub(crate) const UNIT: u64 = 16;
}

/// What the table knows of one page: location (40 bits), birth (40), short checksum (48).
///
/// All zero: nothing was ever there. Location [`Location::TOMBSTONE`]: freed in the version `birth`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Entry {
    /// location | low 24 bits of birth << 40
    pub(crate) low: u64,
    /// high 16 bits of birth | checksum << 16
    pub(crate) high: u64,
}

impl Entry {
    pub(crate) const ABSENT: Entry = Entry { low: 0, high: 0 };
    const BIRTH_LOW_BITS: u32 = 64 - PACKED_BITS;
    const BIRTH_HIGH_BITS: u32 = PACKED_BITS - Self::BIRTH_LOW_BITS;

    pub(crate) fn page(location: Location, birth: Version, short_checksum: u64) -> Entry {
        debug_assert!(location.0 <= Location::LIMIT && birth <= Version::MAX && short_checksum >> 48 == 0);
        Entry {
            low: location.0 | (birth.0 << PACKED_BITS),
            high: (birth.0 >> Self::BIRTH_LOW_BITS) | (short_checksum << Self::BIRTH_HIGH_BITS),
        }
    }

    pub(crate) fn tombstone(birth: Version) -> Entry {
        Entry::page(Location::TOMBSTONE, birth, 0)
    }

    /// The version that wrote or freed the page; 0 where nothing ever was.
    pub(crate) fn birth(self) -> Version {
        let high = self.high & ((1 << Self::BIRTH_HIGH_BITS) - 1);
        Version((self.low >> PACKED_BITS) | (high << Self::BIRTH_LOW_BITS))
    }

    /// Where the page's bytes lie, if it has any.
    #[inline]
    pub(crate) fn location(self) -> Option<Location> {
        let location = self.raw_location();
        // Location 0 is the header of segment 0, so an absent entry needs no test of its own.
        (location.0 != 0 && location != Location::TOMBSTONE).then_some(location)
    }

    /// The bits of the location, whatever they stand for.
    #[inline]
    pub(crate) fn raw_location(self) -> Location {
        Location(self.low & ((1 << PACKED_BITS) - 1))
    }

    pub(crate) fn is_page(self) -> bool {
        self.location().is_some()
    }

    /// The low 48 bits of the page's checksum.
    pub(crate) fn short_checksum(self) -> u64 {
        self.high >> Self::BIRTH_HIGH_BITS
    }
}

/// A pointer-sized link to a child: a node in memory (bit 1 set: a leaf), or, with bit 0 set, a node on disk or (address
/// 0) nothing. So one test of bit 0 tells a lookup whether it can go on.
#[derive(Debug)]
pub(crate) struct Word(AtomicPtr<u8>);

/// A [`Word`], told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    None,
    Memory(NodePointer),
    Disk(NodeAddress),
}

/// A node in memory, of either kind. Only the slab makes and follows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct NodePointer(pub(super) *mut u8);

const DISK: usize = 1;
const LEAF: usize = 2;

impl NodePointer {
    pub(super) fn from_inner(inner: *mut Inner) -> Self {
        NodePointer(inner.cast())
    }

    pub(super) fn from_leaf(leaf: *mut Leaf) -> Self {
        NodePointer(leaf.cast::<u8>().map_addr(|address| address | LEAF))
    }

    pub(crate) fn is_leaf(self) -> bool {
        self.0.addr() & LEAF != 0
    }

    /// The inner node's address.
    #[inline]
    pub(super) fn inner(self) -> *mut Inner {
        debug_assert!(!self.is_leaf());
        self.0.cast()
    }

    /// The leaf's address; one subtraction, which folds into the access that follows.
    #[inline]
    pub(super) fn untagged_leaf(self) -> *mut Leaf {
        debug_assert!(self.is_leaf());
        self.0.wrapping_byte_sub(LEAF).cast()
    }

    /// The address without its tag.
    #[inline]
    pub(super) fn untagged(self) -> *mut u8 {
        self.0.map_addr(|address| address & !LEAF)
    }
}

impl Word {
    pub(crate) fn new(link: Link) -> Word {
        Word(AtomicPtr::new(Self::pack(link)))
    }

    fn pack(link: Link) -> *mut u8 {
        match link {
            Link::None => std::ptr::without_provenance_mut(DISK),
            Link::Memory(pointer) => pointer.0,
            Link::Disk(address) => {
                let address = usize::try_from(address.0).expect("a 64-bit target");
                std::ptr::without_provenance_mut((address << 1) | DISK)
            }
        }
    }

    #[inline]
    pub(crate) fn link(&self) -> Link {
        // Acquire pairs with the release of `replace`: a node that was read in is seen whole.
        let raw = self.0.load(Ordering::Acquire);
        match raw.addr() {
            DISK => Link::None,
            address if address & DISK != 0 => Link::Disk(NodeAddress((address >> 1) as u64)),
            _ => Link::Memory(NodePointer(raw)),
        }
    }

    /// The node that the word leads to, if it is in memory: the quick half of [`Word::link`].
    #[inline]
    pub(super) fn resident(&self) -> Option<NodePointer> {
        let raw = self.0.load(Ordering::Acquire);
        (raw.addr() & DISK == 0).then_some(NodePointer(raw))
    }

    /// Sets the word of a node that nobody else sees yet.
    pub(crate) fn set(&mut self, link: Link) {
        self.0.store(Self::pack(link), Ordering::Release);
    }

    /// Replaces the link to a node in memory by the one to the same node on disk.
    pub(super) fn unload(&self, from: NodePointer, to: NodeAddress) {
        // Losing a race is impossible where this is called, and would be harmless: the word leads to the same node.
        let _ =
            self.0.compare_exchange(from.0, Self::pack(Link::Disk(to)), Ordering::Release, Ordering::Relaxed);
    }

    /// Replaces a disk link by the link to the same node in memory.
    pub(super) fn rebase(&self, from: NodeAddress, to: NodePointer) {
        // Losing the race is fine: the other thread put the same node there (invariant 1).
        let _ =
            self.0.compare_exchange(Self::pack(Link::Disk(from)), to.0, Ordering::Release, Ordering::Relaxed);
    }
}

/// Set in [`Head::died`] while the reclaimer has the node itself in a list, and not its place on disk.
const LISTED: u64 = 1 << 63;

/// What every node begins with.
#[derive(Debug)]
pub(crate) struct Head {
    /// The version whose edit made the node; not below any child's (invariant 2).
    pub(crate) birth: Version,
    /// The node's address on disk, in [`NodeAddress`] units; 0 while it is dirty.
    disk: AtomicU64,
    /// The version whose commit replaced the node, with [`LISTED`].
    died: AtomicU64,
    #[cfg(loom)]
    pub(super) canary: loom::cell::UnsafeCell<u32>,
}

impl Head {
    pub(crate) fn new(birth: Version, disk: Option<NodeAddress>) -> Head {
        Head {
            birth,
            disk: AtomicU64::new(disk.map_or(0, |address| address.0)),
            died: AtomicU64::new(0),
            #[cfg(loom)]
            canary: loom::cell::UnsafeCell::new(1),
        }
    }

    pub(crate) fn disk(&self) -> Option<NodeAddress> {
        match self.disk.load(Ordering::Acquire) {
            0 => None,
            address => Some(NodeAddress(address)),
        }
    }

    /// To be called once, by [`Slab::written`](super::slab::Slab::written).
    pub(super) fn set_disk(&self, address: NodeAddress) {
        self.disk.store(address.0, Ordering::Release);
    }

    /// Whether a commit has replaced the node; meaningful under the commit lock.
    pub(crate) fn has_died(&self) -> bool {
        self.died.load(Ordering::Relaxed) != 0
    }

    /// Marks a node that is put into the reclaimer's lists because `version` replaced it.
    pub(crate) fn set_died(&self, version: Version) {
        self.died.store(version.0 | LISTED, Ordering::Relaxed);
    }

    pub(super) fn is_listed(&self) -> bool {
        self.died.load(Ordering::Relaxed) & LISTED != 0
    }

    pub(super) fn unlist(&self) {
        self.died.fetch_and(!LISTED, Ordering::Relaxed);
    }
}

/// A node above the leaves.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) head: Head,
    pub(crate) words: [Word; FANOUT],
}

/// A node that holds pages' entries.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) head: Head,
    pub(crate) entries: [Entry; FANOUT],
}

impl Inner {
    pub(crate) fn empty(birth: Version) -> Inner {
        Inner { head: Head::new(birth, None), words: std::array::from_fn(|_| Word::new(Link::None)) }
    }
}

impl Leaf {
    pub(crate) fn empty(birth: Version) -> Leaf {
        Leaf { head: Head::new(birth, None), entries: [Entry::ABSENT; FANOUT] }
    }

    /// The same entries under a newer birth, without the tombstones that no open transaction can need:
    /// those of `settled` and before.
    pub(crate) fn copied(mut entries: [Entry; FANOUT], birth: Version, settled: Version) -> Leaf {
        for entry in &mut entries {
            if !entry.is_page() && entry.birth() <= settled {
                *entry = Entry::ABSENT;
            }
        }
        Leaf { head: Head::new(birth, None), entries }
    }
}
