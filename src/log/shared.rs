//! A value that readers follow all the time and that is replaced whole now and then: the table of segments.
//!
//! There are two ways to it. Who wants to keep it takes a count of it ([`Shared::load`], an `ArcSwap`). Who holds a guard
//! of the store's epoch follows a pointer ([`Shared::follow`]): one plain load, where taking a count and giving it back is
//! a third of what a view costs. For their sake what was replaced isn't let go at once, but after a grace period that
//! begins after the replacement ([`Shared::released`]; invariant 7).
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;

use crossbeam_epoch::Guard;

use crate::sync::atomic::{AtomicPtr, Ordering};
use crate::sync::{Mutex, Planted, Swap, Swapped, has_planted, release_unless};

/// See the head of this file.
pub(crate) struct Shared<T> {
    counted: Swap<T>,
    /// Where the value of `counted` is.
    pointer: AtomicPtr<T>,
    replaced: Mutex<Vec<Replaced<T>>>,
}

struct Replaced<T> {
    value: Arc<T>,
    /// Of the grace period that it waits for, once that was asked for.
    ticket: Option<u64>,
}

/// A value that is kept by the guard under which it was found; the holder holds that guard too.
pub(crate) struct Followed<T>(NonNull<T>);

impl<T> Followed<T> {
    /// The value, for as long as the holder is borrowed.
    #[inline]
    pub(crate) fn get(&self) -> &T {
        // SAFETY: the guard keeps it; see `Shared::follow`.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Shared<T> {
    pub(crate) fn new(first: T) -> Shared<T> {
        let first = Arc::new(first);
        let pointer = AtomicPtr::new(Arc::as_ptr(&first).cast_mut());
        Shared { counted: Swap::new(first), pointer, replaced: Mutex::default() }
    }

    /// A count of the value as it is now.
    #[inline]
    pub(crate) fn load(&self) -> Swapped<T> {
        self.counted.load()
    }

    /// The value as it is now. Whoever keeps what is returned keeps the guard as long.
    #[inline]
    pub(crate) fn follow(&self, _guard: &Guard) -> Followed<T> {
        // SAFETY: the pointer comes from an `Arc`, of which `counted` or `replaced` has a count. That goes at the earliest after a
        // grace period that began after another pointer was stored here; the guard, pinned before this load, is waited for by it.
        Followed(unsafe { NonNull::new_unchecked(self.pointer.load(Ordering::Acquire)) })
    }

    /// Replaces the value. Called by one thread at a time.
    pub(crate) fn store(&self, next: T) {
        let next = Arc::new(next);
        let pointer = Arc::as_ptr(&next).cast_mut();
        let replaced = Replaced { value: self.counted.swap(next), ticket: None };
        if has_planted(Planted::ReplacedTooSoon) {
            self.replaced.lock().push(replaced);
            self.pointer.store(pointer, Ordering::Release);
            return;
        }
        self.pointer.store(pointer, release_unless(Planted::RelaxedReplace));
        // Only now, because from here on a grace period may be asked for, which is to wait for all who still saw the other pointer.
        self.replaced.lock().push(replaced);
    }

    /// How many values wait for a grace period.
    pub(crate) fn waiting(&self) -> usize {
        self.replaced.lock().len()
    }

    /// What was replaced and is followed by nobody any more. `passed` is the greatest ticket whose grace period has passed;
    /// `issue` gives one for the grace period that begins now, which is asked for if anything was replaced since the last call.
    pub(crate) fn released(&self, passed: u64, issue: impl FnOnce() -> u64) -> Vec<Arc<T>> {
        let mut replaced = self.replaced.lock();
        let ready = replaced.partition_point(|one| one.ticket.is_some_and(|ticket| ticket <= passed));
        let released = replaced.drain(..ready).map(|one| one.value).collect();
        if replaced.last().is_some_and(|one| one.ticket.is_none()) {
            let ticket = issue();
            replaced.iter_mut().for_each(|one| one.ticket = one.ticket.or(Some(ticket)));
        }
        released
    }
}
