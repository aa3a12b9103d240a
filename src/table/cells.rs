//! Memory for nodes of one kind: cells of one size, in blocks, so that what a store reads through lies together.
//!
//! A lookup goes from node to node and meets each in memory that is rarely near. Where nodes come one by one from the general
//! allocator, every step also misses the processor's list of addresses (TLB), because they lie on as many pages of 4 KiB; blocks of
//! 2 MiB are asked for as huge pages. A cell that was freed last is used first, while it is near.
//!
//! A store with few nodes takes little: its blocks are of 16 KiB, then of 128 KiB, and only then of 2 MiB. A block whose last cell is
//! freed goes back to the general allocator, but for one. A full block is followed by the one with room that has the lowest address, so that others
//! come to be empty.
//!
//! The argument for all unsafe code here, once: a block's bytes are reached by raw pointers only. A cell is in one of three states. It
//! was never used (at or beyond `Block::fresh`); or it is free and in the block's list, whose link stands in its first bytes; or [`Cells::put`] has
//! given it to a caller, and nothing here touches it until [`Cells::take`]. A block is only given back when no cell of it is in the
//! third state, or with the `Cells`, after which no node of the slab is followed.
//!
//! Under loom and cargo-fuzz each node is an allocation of its own: the one watches protocols, of which this is none, the other
//! notices the use of what was freed.
#![allow(unsafe_code)]

use std::alloc::{self, Layout};
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::sync::Mutex;

#[cfg(all(test, not(any(loom, shuttle, fuzzing))))]
mod tests;

/// What cells are aligned to, and their sizes a multiple of: a line of the processor's cache.
const LINE: usize = 64;
/// Blocks of this size are aligned to it, as a huge page is.
const HUGE: usize = 2 << 20;
/// The sizes of the first blocks; those after are [`HUGE`].
const FIRST: [usize; 2] = [16 << 10, 128 << 10];

/// Whether each node is an allocation of its own: see the head of this file.
const IS_WATCHED: bool = cfg!(any(loom, fuzzing));

/// See the head of this file.
pub(super) struct Cells<T> {
    state: Mutex<State>,
    of: PhantomData<*mut T>,
}

#[derive(Default)]
struct State {
    /// By address.
    blocks: Vec<Block>,
    /// The place of the one that cells are had from, as long as it has room.
    current: usize,
    /// The addresses of all that have room.
    roomy: BTreeSet<usize>,
    /// Whether one of the blocks has no cell in use.
    has_empty: bool,
}

struct Block {
    start: NonNull<u8>,
    layout: Layout,
    cells: usize,
    /// Cells in use.
    used: usize,
    /// The first cell that was never used.
    fresh: usize,
    /// The cell that was freed last.
    free: Option<NonNull<u8>>,
}

// SAFETY: `State` hands cells out under its lock, each to one caller; what the nodes in them allow is told in `slab`.
unsafe impl<T: Send> Send for Cells<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Cells<T> {}
// SAFETY: a block belongs to the `State` that lists it and isn't tied to a thread.
unsafe impl Send for Block {}

impl<T> Cells<T> {
    /// The bytes of a cell.
    pub(super) const BYTES: usize = size_of::<T>().next_multiple_of(LINE);

    pub(super) fn new() -> Cells<T> {
        const { assert!(align_of::<T>() <= LINE && Self::BYTES * 8 < FIRST[0]) };
        Cells { state: Mutex::default(), of: PhantomData }
    }

    /// Keeps `node` until [`Cells::take`] gets what is returned. The process ends if there is no memory, as with a `Box`.
    pub(super) fn put(&self, node: T) -> *mut T {
        if IS_WATCHED {
            return Box::into_raw(Box::new(node));
        }
        let cell = self.state.lock().cell(Self::BYTES).cast::<T>();
        // SAFETY: the cell is the caller's from here on; it is large enough and aligned for a `T`, as `new` asserts.
        unsafe { cell.write(node) };
        cell.as_ptr()
    }

    /// Drops the node and uses its memory for others.
    ///
    /// # Safety
    /// `node` comes from [`Cells::put`] of the same `Cells` and is given here once; nobody follows it any more.
    pub(super) unsafe fn take(&self, node: *mut T) {
        if IS_WATCHED {
            // SAFETY: made by `put` from a box, and given here once, by the caller's promise.
            drop(unsafe { Box::from_raw(node) });
            return;
        }
        // SAFETY: `put` has written it, and by the caller's promise nobody else follows it.
        unsafe { node.drop_in_place() };
        let given_up = NonNull::new(node.cast()).and_then(|cell| self.state.lock().free(cell));
        // Not under the lock: it may be a call of the system, for which whoever needs a cell would wait. (Who needs a block has to.)
        drop(given_up);
    }
}

impl State {
    /// A cell that nobody uses.
    fn cell(&mut self, bytes: usize) -> NonNull<u8> {
        if self.blocks.get(self.current).is_none_or(Block::is_full) {
            self.current = self.next_block(bytes);
        }
        let block = &mut self.blocks[self.current];
        self.has_empty &= block.used > 0;
        let cell = block.pop(bytes);
        if block.is_full() {
            self.roomy.remove(&block.address());
        }
        cell
    }

    /// The place of a block with room.
    #[cold]
    fn next_block(&mut self, bytes: usize) -> usize {
        if let Some(lowest) = self.roomy.first() {
            return self.place_of(*lowest);
        }
        let block = Block::new(FIRST.get(self.blocks.len()).copied().unwrap_or(HUGE), bytes);
        let address = block.address();
        let place = self.blocks.partition_point(|other| other.address() < address);
        self.blocks.insert(place, block);
        self.roomy.insert(address);
        place
    }

    /// The place of the block in which an address lies.
    #[inline]
    fn place_of(&self, address: usize) -> usize {
        match self.blocks.get(self.current) {
            Some(block) if block.holds(address) => self.current,
            _ => self.blocks.partition_point(|block| block.address() <= address) - 1,
        }
    }

    /// Takes a cell back. Returns the block that is to be given up, if that was its last cell and another is empty already.
    fn free(&mut self, cell: NonNull<u8>) -> Option<Block> {
        let place = self.place_of(cell.addr().get());
        let block = &mut self.blocks[place];
        if block.is_full() {
            self.roomy.insert(block.address());
        }
        block.push(cell);
        if block.used > 0 || !std::mem::replace(&mut self.has_empty, true) {
            return None;
        }
        let block = self.blocks.remove(place);
        self.roomy.remove(&block.address());
        // Those behind it have moved; the next cell is had from the lowest one again.
        self.current = usize::MAX;
        Some(block)
    }
}

impl Block {
    fn new(size: usize, bytes: usize) -> Block {
        let align = if size == HUGE { HUGE } else { LINE };
        let layout = Layout::from_size_align(size, align).expect("a power of two");
        // SAFETY: the size isn't zero.
        let start = NonNull::new(unsafe { alloc::alloc(layout) });
        let Some(start) = start else { alloc::handle_alloc_error(layout) };
        if size == HUGE && !cfg!(miri) {
            // SAFETY: the range is the allocation; the advice changes no byte. Without it things are slower.
            let _ = unsafe {
                rustix::mm::madvise(start.as_ptr().cast(), size, rustix::mm::Advice::LinuxHugepage)
            };
        }
        Block { start, layout, cells: size / bytes, used: 0, fresh: 0, free: None }
    }

    #[inline]
    fn address(&self) -> usize {
        self.start.addr().get()
    }

    /// Whether an address lies in it.
    #[inline]
    fn holds(&self, address: usize) -> bool {
        address.wrapping_sub(self.address()) < self.layout.size()
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.used == self.cells
    }

    /// A cell of one that isn't full.
    #[inline]
    fn pop(&mut self, bytes: usize) -> NonNull<u8> {
        debug_assert!(!self.is_full());
        self.used += 1;
        if let Some(cell) = self.free {
            // SAFETY: a free cell's first bytes are the link that `push` has written.
            self.free = unsafe { cell.cast::<Option<NonNull<u8>>>().read() };
            return cell;
        }
        // SAFETY: not all cells are in use and none is in the list, so this one was never used and lies within the block.
        let cell = unsafe { self.start.add(self.fresh * bytes) };
        self.fresh += 1;
        cell
    }

    #[inline]
    fn push(&mut self, cell: NonNull<u8>) {
        debug_assert!(self.holds(cell.addr().get()));
        // SAFETY: nobody uses the cell any more, and it is large enough and aligned for a pointer.
        unsafe { cell.cast::<Option<NonNull<u8>>>().write(self.free) };
        self.free = Some(cell);
        self.used -= 1;
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and given back only here.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}
