//! The current version: one atomic pointer that a commit swings and readers follow.
//!
//! A publish is a release store, a load an acquire load under a guard: whoever sees the pointer sees all that the
//! commit wrote before it. What the pointer led to before is not freed here; the reclaimer does that, after a grace
//! period that begins after the publish, so a reference that was loaded under a guard outlives the guard's holder's use
//! of it (invariants 4 and 7).
#![allow(unsafe_code)]

use std::ptr::NonNull;

use crossbeam_epoch::Guard;

use crate::sync::atomic::{AtomicPtr, Ordering};
use crate::sync::{Planted, release_unless};

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Published<T>(AtomicPtr<T>);

impl<T> Published<T> {
    pub(crate) fn new(first: Box<T>) -> Published<T> {
        Published(AtomicPtr::new(Box::into_raw(first)))
    }

    /// Where the current value is; only to be followed by who knows that it is kept. What is to be freed one day is reached by this:
    /// a pointer made of a reference may only read.
    #[inline]
    pub(crate) fn pointer(&self) -> NonNull<T> {
        // SAFETY: the pointer comes from a box.
        unsafe { NonNull::new_unchecked(self.0.load(Ordering::Acquire)) }
    }

    /// The current value, for as long as the guard is held.
    #[inline]
    pub(crate) fn load<'g>(&self, _guard: &'g Guard) -> &'g T {
        // SAFETY: the pointer comes from a box. It is freed at the earliest after a grace period that began after another
        // value was published in its place, and the guard, pinned before this load, is waited for by that period.
        unsafe { &*self.0.load(Ordering::Acquire) }
    }

    /// Makes `next` the current value. One thread publishes at a time. The value before it now belongs to whoever
    /// reclaims (`version::held`).
    pub(crate) fn publish(&self, next: Box<T>) {
        self.0.store(Box::into_raw(next), release_unless(Planted::RelaxedPublish));
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        // SAFETY: the current value comes from a box, and with `self` gone nobody can reach it any more: guards borrow
        // from the store that owns this.
        drop(unsafe { Box::from_raw(self.0.load(Ordering::Acquire)) });
    }
}
