//! Buffers for the pages of transactions, kept for the next ones: the allocator, which joins and splits blocks of that size again
//! and again, took a sixth of the time of a commit of 64 pages.

use std::sync::Mutex;

/// Bytes that are kept at most.
const KEPT_BYTES: usize = 1 << 20;

/// See the head of this file. Its lock is std's in every build, and nobody waits for it: loom has no part in it.
#[derive(Debug)]
pub(crate) struct PageBuffers {
    page_size: usize,
    free: Mutex<Vec<Box<[u8]>>>,
}

impl PageBuffers {
    pub(crate) fn new(page_size: u32) -> PageBuffers {
        PageBuffers { page_size: page_size as usize, free: Mutex::default() }
    }

    /// A copy of a page.
    pub(crate) fn copy_of(&self, bytes: &[u8]) -> Box<[u8]> {
        let kept = self.free.try_lock().ok().and_then(|mut free| free.pop());
        match kept {
            Some(mut buffer) if buffer.len() == bytes.len() => {
                buffer.copy_from_slice(bytes);
                buffer
            }
            _ => bytes.into(),
        }
    }

    /// Takes buffers of a page each back.
    pub(crate) fn give_back(&self, buffers: impl Iterator<Item = Box<[u8]>>) {
        if let Ok(mut free) = self.free.try_lock() {
            let room = (KEPT_BYTES / self.page_size).saturating_sub(free.len());
            free.extend(buffers.take(room));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_was_given_back_is_used_again_and_holds_the_copy_only() {
        let buffers = PageBuffers::new(512);
        let first = buffers.copy_of(&[1; 512]);
        let place = first.as_ptr();
        buffers.give_back(std::iter::once(first));
        let second = buffers.copy_of(&[2; 512]);
        assert_eq!((second.as_ptr(), &*second), (place, &[2; 512][..]));
        let third = buffers.copy_of(&[3; 512]);
        assert_ne!(third.as_ptr(), place);
    }

    #[test]
    fn no_more_than_a_mebibyte_is_kept() {
        let buffers = PageBuffers::new(65_536);
        buffers.give_back((0..100).map(|_| vec![0; 65_536].into_boxed_slice()));
        assert_eq!(buffers.free.lock().unwrap().len(), 16);
    }
}
