//! A stretch of a file's bytes that stay where they are, to be read without copying.
//!
//! A [`Mapping`] is a base pointer, a length, and an owner that keeps the bytes alive: a memory-mapped file, or an
//! allocation of the memory storage. Pages are handed to engines as slices of it, for as long as their view lives.
//!
//! Why the slices are sound, although other bytes of the same file are written meanwhile: a byte that a reader may
//! look at isn't written until nobody can reach it any more. A page's contents never change after publish
//! (invariant 1), its location keeps its bytes until it is freed (8), it isn't freed while a live version sees it
//! (4), and its place is reused or unmapped only after a further grace period (7). Keeping this is the duty of the
//! `log` and `version` modules; this file adds that no slice reaches beyond the mapping, that the owner outlives
//! every slice, and that a mapped file is at least as long as its mapping, since an access past its end is SIGBUS.
//! What nobody can prove in code is that no other process writes or shortens the file: the lock of the directory
//! keeps other vellum processes out, and everything read through a mapping is checked before it is believed.
#![allow(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::io;
use std::ptr::NonNull;

use memmap2::{Advice, Mmap, MmapOptions};

/// The bytes of a file, mapped for reading from its start.
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    owner: Box<dyn Any + Send + Sync>,
}

// SAFETY: a Mapping only reads; the owner is Send and Sync itself, and what `base` points to belongs to the owner and
// isn't tied to a thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; two threads that read the same bytes don't disturb each other, and no reader's bytes are written
// (see the head of this file).
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Makes a mapping of the `len` bytes at `base`, which `owner` keeps alive.
    ///
    /// # Safety
    /// Until `owner` is dropped, the `len` bytes at `base` must be initialized, belong to one allocation, stay where
    /// they are even when `owner` is moved, and not be written while a slice of them is in use.
    #[must_use]
    pub unsafe fn new(base: NonNull<u8>, len: usize, owner: Box<dyn Any + Send + Sync>) -> Mapping {
        Mapping { base, len, owner }
    }

    /// A mapping of no bytes.
    pub(crate) fn empty() -> Mapping {
        // SAFETY: no bytes, hence nothing to keep alive or to leave alone.
        unsafe { Mapping::new(NonNull::dangling(), 0, Box::new(())) }
    }

    /// Maps the first `len` bytes of `file`; `UnexpectedEof` if it is shorter.
    pub(super) fn of_file(file: &File, len: usize) -> io::Result<Mapping> {
        if len as u64 > file.metadata()?.len() {
            return Err(beyond_end());
        }
        if len == 0 {
            return Ok(Mapping::empty());
        }
        // SAFETY: the file is long enough, and its length is set once (the contract of the storage trait); a reader's
        // bytes are not written while it looks (the head of this file).
        let map = unsafe { MmapOptions::new().len(len).map(file)? };
        let base =
            NonNull::new(map.as_ptr().cast_mut()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        // SAFETY: the pages stay mapped where they are until the Mmap is dropped, wherever that itself lies.
        Ok(unsafe { Mapping::new(base, len, Box::new(map)) })
    }

    /// The `len` bytes from `offset` on, or `None` if they reach beyond the end of the mapping.
    ///
    /// The caller looks only at bytes that nobody writes while it holds the slice: see the head of this file.
    #[inline]
    #[must_use]
    pub(crate) fn slice(&self, offset: usize, len: usize) -> Option<&[u8]> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: the range lies within the mapping, which lives as long as `self`, and by the contract of `new` its
        // bytes are initialized and not written while the slice is in use. A length up to `self.len` fits an isize.
        Some(unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset), len) })
    }

    /// Where the first byte lies, wherever the mapping itself is moved.
    pub(crate) fn start(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// The length in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Says that the `len` bytes from `offset` on are soon read in order, so that the disk starts reading them now.
    /// Returns at once; nothing happens where the bytes are in memory anyway, nor beyond the end.
    ///
    /// It is MADV_WILLNEED and not MADV_SEQUENTIAL, which would stay set for all other readers of the same mapping.
    pub fn advise_sequential(&self, offset: usize, len: usize) {
        if let Some((map, len)) = self.mapped_file(offset, len) {
            // Advice is only advice: without it the bytes come later, but they come.
            map.advise_range(Advice::WillNeed, offset, len).ok();
        }
    }

    /// The mapped file, if the bytes come from one, and how much of `len` lies within it.
    fn mapped_file(&self, offset: usize, len: usize) -> Option<(&Mmap, usize)> {
        let len = len.min(self.len.checked_sub(offset)?);
        let map = self.owner.downcast_ref::<Mmap>()?;
        (len > 0).then_some((map, len))
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("base", &self.base).field("len", &self.len).finish_non_exhaustive()
    }
}

/// Asks the processor for the byte at `address`, so that it is near when it is read a moment later. Nothing is read by this and nobody
/// waits, so there may be anything at that address, or nothing.
#[inline]
pub(crate) fn prefetch(address: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint accesses no memory and can't fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) }
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    let _ = address;
}

/// What a read or a mapping beyond the end of a file gives.
pub(super) fn beyond_end() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends before the bytes asked for")
}
