//! A file's contents in memory: what the memory storage and the simulated disk keep their bytes in.
//!
//! Readers hold slices of a file, through a [`Mapping`], while other bytes of the same file are written. So the bytes
//! lie in one allocation that doesn't move and is reached by raw pointers only: a `&mut [u8]` of the whole file,
//! however short-lived, would claim the readers' bytes as well. [`Contents`] copies in and out under its owner's
//! lock; a mapping's reader takes no lock and relies on invariants 1, 4, 7 and 8 (see `mapping`).
//!
//! Two rules keep it simple. Bytes between the length and the capacity are zero, so that growing writes nothing. And
//! an allocation that is mapped neither moves nor shrinks: lengthening past the capacity and shortening are refused.
#![allow(unsafe_code)]

use std::alloc::{self, Layout};
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use super::mapping::{Mapping, beyond_end};

/// The alignment of every buffer, and the grain of its capacity: that of a memory-mapped file.
const ALIGNMENT: usize = 4096;
/// What the allocator is asked to align to. Beyond this std doesn't use `calloc` but clears the memory itself, and
/// so touches every page of a large buffer; aligning by hand keeps untouched memory free of cost.
const ALLOCATOR_ALIGNMENT: usize = 16;

/// From this size on the system is asked for huge pages, if that is wanted.
const HUGE_MIN: usize = 16 << 20;

/// How memory is had from the system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Paging {
    /// 2 MiB at a time if it is much: a 512th of the page faults.
    Huge,
    /// A page at a time, which is quicker where little will be written: clearing 2 MiB takes longer than what follows.
    Small,
}

/// One allocation of zeroed bytes that never moves.
struct Block {
    /// As the allocator gave it, with the layout to give it back; `None` for no bytes.
    allocation: Option<(NonNull<u8>, Layout)>,
    /// The first aligned byte.
    base: NonNull<u8>,
    capacity: usize,
    paging: Paging,
}

// SAFETY: the allocation belongs to the Block alone and isn't tied to a thread.
unsafe impl Send for Block {}
// SAFETY: through a shared Block only `Mapping` and `Contents` reach the bytes; the head of this file says how they
// keep out of each other's way.
unsafe impl Sync for Block {}

impl Block {
    /// Allocates `capacity` zero bytes. `OutOfMemory` if there is not so much.
    fn new(capacity: usize, paging: Paging) -> io::Result<Block> {
        if capacity == 0 {
            return Ok(Block { allocation: None, base: NonNull::dangling(), capacity: 0, paging });
        }
        let no_memory =
            || io::Error::new(io::ErrorKind::OutOfMemory, format!("no memory for {capacity} bytes"));
        let padded = capacity.checked_add(ALIGNMENT).ok_or_else(no_memory)?;
        let layout = Layout::from_size_align(padded, ALLOCATOR_ALIGNMENT).map_err(|_| no_memory())?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc::alloc_zeroed(layout) }).ok_or_else(no_memory)?;
        let address = start.addr().get();
        let shift = address.next_multiple_of(ALIGNMENT) - address;
        // SAFETY: the shift is less than ALIGNMENT, by which the allocation is longer than the capacity.
        let base = unsafe { start.add(shift) };
        if capacity >= HUGE_MIN && paging == Paging::Huge && !cfg!(miri) {
            // SAFETY: the range lies within the allocation; the advice changes no byte. Without it things are slower.
            let _ = unsafe {
                rustix::mm::madvise(base.as_ptr().cast(), capacity, rustix::mm::Advice::LinuxHugepage)
            };
        }
        Ok(Block { allocation: Some((start, layout)), base, capacity, paging })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some((start, layout)) = self.allocation {
            // SAFETY: allocated in `new` with this layout, and given back only here.
            unsafe { alloc::dealloc(start.as_ptr(), layout) };
        }
    }
}

/// The bytes of one file.
pub(super) struct Contents {
    block: Arc<Block>,
    len: usize,
}

impl Contents {
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn new(len: u64) -> io::Result<Contents> {
        Contents::paged(len, Paging::Huge)
    }

    /// `len` zero bytes, which is also the capacity: the length up to which mapped contents can grow.
    pub(super) fn paged(len: u64, paging: Paging) -> io::Result<Contents> {
        let len = addressable(len)?;
        Ok(Contents { block: Arc::new(Block::new(capacity_for(len)?, paging)?), len })
    }

    pub(super) fn len(&self) -> u64 {
        self.len as u64
    }

    /// Fills `buf` from `offset`; `UnexpectedEof` if the contents end before that.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| beyond_end())?;
        if offset.checked_add(buf.len()).is_none_or(|end| end > self.len) {
            return Err(beyond_end());
        }
        // SAFETY: the source lies within the block; `buf` is borrowed exclusively and so is no part of it; nobody
        // writes meanwhile, since `write` and `set_len` borrow `self` exclusively.
        unsafe { self.block.base.as_ptr().add(offset).copy_to_nonoverlapping(buf.as_mut_ptr(), buf.len()) };
        Ok(())
    }

    /// Writes `bytes` at `offset`, lengthening the contents if they end before that.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(bytes.len() as u64).ok_or_else(too_large)?;
        if end > self.len() {
            self.set_len(end)?;
        }
        let offset = addressable(offset)?;
        // SAFETY: the target lies within the block, since the contents reach to `end`; nobody else copies in or out,
        // since `self` is borrowed exclusively; no mapping's reader looks at these bytes (the head of this file).
        unsafe { self.block.base.as_ptr().add(offset).copy_from(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Sets the length; new bytes are zero. `ResourceBusy` if that can't be done under an existing mapping.
    pub(super) fn set_len(&mut self, len: u64) -> io::Result<()> {
        let len = addressable(len)?;
        if len > self.block.capacity {
            self.move_to(capacity_for(len.max(self.block.capacity.saturating_mul(2)))?)?;
        } else if len < self.len {
            if self.is_mapped() {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "a mapped file can't be shortened"));
            }
            // SAFETY: the range lies within the block, which nobody else reaches: it isn't mapped, and `self` is
            // borrowed exclusively.
            unsafe { self.block.base.as_ptr().add(len).write_bytes(0, self.len - len) };
        }
        self.len = len;
        Ok(())
    }

    /// Maps the first `len` bytes; `UnexpectedEof` if there are fewer.
    pub(super) fn map(&self, len: usize) -> io::Result<Mapping> {
        if len > self.len {
            return Err(beyond_end());
        }
        // SAFETY: the block's bytes are initialized and stay where they are until the last Arc is dropped, and the
        // mapping holds one; that readers' bytes aren't written is what the head of this file states.
        Ok(unsafe { Mapping::new(self.block.base, len, Box::new(Arc::clone(&self.block))) })
    }

    /// Independent contents of length `len`: these bytes as far as they go, then zeros.
    #[cfg(feature = "sim")]
    pub(super) fn copy(&self, len: u64) -> io::Result<Contents> {
        let mut copy = Contents::new(len)?;
        let mut piece = [0; ALIGNMENT];
        let both = copy.len.min(self.len);
        for start in (0..both).step_by(ALIGNMENT) {
            let piece = &mut piece[..ALIGNMENT.min(both - start)];
            self.read(piece, start as u64)?;
            // Zeros are there already, and not writing them keeps the copy as sparse as the original.
            if piece.iter().any(|byte| *byte != 0) {
                copy.write(piece, start as u64)?;
            }
        }
        Ok(copy)
    }

    /// Whether a mapping of these contents lives.
    pub(super) fn is_mapped(&mut self) -> bool {
        // `get_mut` and not `strong_count`: it orders the last reads through a dropped mapping before what follows.
        Arc::get_mut(&mut self.block).is_none()
    }

    /// Moves the contents to an allocation of `capacity` bytes.
    fn move_to(&mut self, capacity: usize) -> io::Result<()> {
        if self.is_mapped() {
            let advice = "a mapped file can't be lengthened beyond the length it was created with";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, advice));
        }
        let block = Block::new(capacity, self.block.paging)?;
        // SAFETY: two allocations, both at least `len` bytes long; nobody else reaches either.
        unsafe { block.base.as_ptr().copy_from_nonoverlapping(self.block.base.as_ptr(), self.len) };
        self.block = Arc::new(block);
        Ok(())
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").field("len", &self.len).field("capacity", &self.block.capacity).finish()
    }
}

/// The capacity that holds `len` bytes.
fn capacity_for(len: usize) -> io::Result<usize> {
    len.checked_next_multiple_of(ALIGNMENT).ok_or_else(too_large)
}

/// A length or an offset as this machine can address it.
fn addressable(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| too_large())
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "more bytes than can be addressed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_buffer_neither_moves_nor_shrinks() {
        let mut contents = Contents::new(4096).unwrap();
        contents.write(b"held", 0).unwrap();
        let mapping = contents.map(4096).unwrap();
        let held = mapping.slice(0, 4).unwrap();
        for len in [4095, 4097] {
            assert_eq!(contents.set_len(len).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        }
        assert_eq!(contents.write(b"far", 8000).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        contents.set_len(4096).unwrap();
        assert_eq!((contents.len(), held), (4096, &b"held"[..]));
        drop(mapping);
        contents.set_len(1).unwrap();
        contents.set_len(100_000).unwrap();
        let mut bytes = [9; 4];
        contents.read(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"h\0\0\0", "what moved is what was kept");
    }

    #[test]
    fn a_mapped_buffer_grows_up_to_its_capacity() {
        let mut contents = Contents::new(1).unwrap();
        let mapping = contents.map(1).unwrap();
        contents.write(b"grown", 1).unwrap();
        assert_eq!((contents.len(), mapping.slice(0, 1)), (6, Some(&[0][..])));
    }

    #[test]
    fn absurd_lengths_are_errors() {
        for len in [u64::MAX, u64::MAX >> 1, 1 << 62] {
            // Miri gives up itself where an allocator would refuse.
            if cfg!(miri) && len == 1 << 62 {
                continue;
            }
            let error = Contents::new(len).unwrap_err();
            assert!(
                matches!(error.kind(), io::ErrorKind::FileTooLarge | io::ErrorKind::OutOfMemory),
                "{error}"
            );
        }
    }

    #[test]
    #[cfg(all(target_os = "linux", not(miri)))]
    fn untouched_bytes_cost_no_memory() {
        let resident = || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        let before = resident();
        let contents = Contents::new(1 << 30).unwrap();
        let after = resident();
        assert!(after < before + (512 << 20), "{before} bytes resident before, {after} after");
        drop(contents);
    }
}
