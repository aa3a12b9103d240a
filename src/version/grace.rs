//! Grace periods as tickets: when ticket t has passed, every guard that was pinned when t was issued is gone.
//!
//! Issuing defers a closure through the epoch collector. The closure runs in whatever thread happens to collect, a
//! reader's included, so it does nothing but raise a counter; freeing is the reclaimer's work. Tickets are issued in
//! rising order, and a grace period that covers a later ticket covers the earlier ones, so one number tells it all.

use crossbeam_epoch::Guard;

use super::epoch::Epoch;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Planted, has_planted};

/// The tickets of one store.
#[derive(Debug)]
pub(crate) struct Grace {
    issued: AtomicU64,
    passed: Arc<AtomicU64>,
}

/// Tries to move the epoch on in one call of [`Grace::advance`]: a period takes two moves.
const ADVANCES: usize = 3;

impl Grace {
    pub(crate) fn new() -> Grace {
        Grace { issued: AtomicU64::new(0), passed: Arc::new(AtomicU64::new(0)) }
    }

    /// A ticket for the grace period that begins now.
    pub(crate) fn issue(&self, guard: &Guard) -> u64 {
        let ticket = self.issued.fetch_add(1, Ordering::AcqRel) + 1;
        let passed = self.passed.clone();
        guard.defer(move || {
            passed.fetch_max(ticket, Ordering::AcqRel);
        });
        ticket
    }

    /// The greatest ticket whose grace period has passed; so have those of all lower ones.
    pub(crate) fn passed(&self) -> u64 {
        let passes = if has_planted(Planted::NoGrace) { &self.issued } else { &*self.passed };
        passes.load(Ordering::Acquire)
    }

    /// Tries to bring grace periods to their end. Never waits.
    ///
    /// A deferred closure stays with the thread that deferred it until that thread pins often enough, which it may
    /// never do again. So this thread adds a ticket of its own, which covers all before it.
    pub(crate) fn advance(&self, epoch: &Epoch) {
        if self.passed() != self.issued.load(Ordering::Acquire) {
            self.issue(&epoch.pin());
        }
        for _ in 0..ADVANCES {
            if self.passed() == self.issued.load(Ordering::Acquire) {
                return;
            }
            epoch.pin().flush();
        }
    }
}
