//! Bytes of a file that are read in place: a memory mapping, or the buffer of a file in memory.
//!
//! The soundness argument, once: a slice is only used by those who know that its bytes were written before they learnt
//! of them (a page's root is published after its bytes, with release) and are not written again before nobody can reach
//! them (invariants 1, 4, 7, 8). Bytes beside them may be written meanwhile; no slice covers both. What remains is
//! that another program changes the file: then a checksum doesn't match, or the access faults if the file was cut; the
//! store's lock and its directory's rights are there against that.
#![allow(unsafe_code)]

use std::any::Any;

/// A readable range of bytes at a fixed address, for as long as the value lives.
pub struct Mapping {
    base: *const u8,
    len: usize,
    is_file: bool,
    _owner: Box<dyn Any + Send + Sync>,
}

// SAFETY: the bytes are only read through the mapping, under the rules at the head of this file, from any thread; the
// owner is `Send + Sync` itself.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Bytes that `owner` keeps at `base`.
    ///
    /// # Safety
    /// `base` leads to `len` readable bytes that stay there as long as `owner` lives.
    pub(super) unsafe fn new(base: *const u8, len: usize, is_file: bool, owner: Box<dyn Any + Send + Sync>) -> Mapping {
        Mapping { base, len, is_file, _owner: owner }
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes from `offset` on; `None` beyond the end.
    #[inline]
    pub fn slice(&self, offset: usize, len: usize) -> Option<&[u8]> {
        if offset > self.len || len > self.len - offset {
            return None;
        }
        // SAFETY: within the range that the owner keeps; nobody writes to these bytes meanwhile, as argued above.
        Some(unsafe { std::slice::from_raw_parts(self.base.add(offset), len) })
    }

    /// Lets the system bring these bytes in at once, before they are read one after the other. Best effort.
    pub fn will_read(&self, offset: usize, len: usize) {
        if !self.is_file || offset >= self.len || cfg!(miri) {
            return;
        }
        let start = offset & !4095;
        let len = (offset + len).min(self.len) - start;
        // SAFETY: the range lies within the mapping; the advice changes no byte.
        let _ = unsafe {
            let address = self.base.add(start).cast_mut().cast();
            rustix::mm::madvise(address, len, rustix::mm::Advice::LinuxPopulateRead)
        };
    }
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapping").field("len", &self.len).finish_non_exhaustive()
    }
}
