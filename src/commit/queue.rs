//! Group commit: the first to come leads, those who come meanwhile follow, and one sync serves them all.
//!
//! # The hand-off
//! Everybody queues an item. Whoever finds no leader becomes it: takes all that is queued, in the order of queueing, and
//! processes it outside the lock. Then it leaves each follower its result and wakes it, and if others have queued
//! meanwhile, wakes the first of them to lead next. A waiter leaves the queue's lock only by sleeping on its own
//! condition variable, and its state changes only under that lock, so no wake-up can be lost.
//!
//! If the leader panics, its followers get the result of the `failed` hook, and leadership passes on.

use std::collections::VecDeque;

use crate::sync::{Arc, Condvar, Mutex, Planted, has_planted};

/// Most items that one leader takes at once.
const BATCH_MAX: usize = 1024;

enum State<R> {
    Waiting,
    Leads,
    Done(R),
}

struct Waiter<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
}

struct Queue<T, R> {
    has_leader: bool,
    items: VecDeque<(T, Arc<Waiter<R>>)>,
}

/// See the head of this file.
pub(crate) struct GroupCommit<T, R> {
    queue: Mutex<Queue<T, R>>,
    failed: fn() -> R,
}

impl<R> Waiter<R> {
    fn set(&self, state: State<R>) {
        *self.state.lock() = state;
        self.changed.notify_one();
    }
}

impl<T, R> GroupCommit<T, R> {
    /// `failed` makes the result of those whose leader panicked.
    pub(crate) fn new(failed: fn() -> R) -> Self {
        GroupCommit { queue: Mutex::new(Queue { has_leader: false, items: VecDeque::new() }), failed }
    }

    /// Has `item` processed by `lead`, alone or together with others', and returns its result. `lead` answers each item, in
    /// order, or none of them, which counts as a panic; one call of it runs at a time.
    pub(crate) fn submit(&self, item: T, mut lead: impl FnMut(Vec<T>) -> Vec<R>) -> R {
        let mut queue = self.queue.lock();
        let is_led = queue.has_leader && !has_planted(Planted::TwoLeaders);
        if !is_led && queue.items.is_empty() {
            queue.has_leader = true;
            drop(queue);
            return self.lead(vec![item], Vec::new(), &mut lead);
        }
        let waiter = Arc::new(Waiter { state: Mutex::new(State::Waiting), changed: Condvar::new() });
        queue.items.push_back((item, waiter.clone()));
        drop(queue);
        let mut state = waiter.state.lock();
        loop {
            match std::mem::replace(&mut *state, State::Waiting) {
                State::Waiting => state = waiter.changed.wait(state),
                State::Done(result) => return result,
                State::Leads => break,
            }
        }
        drop(state);
        let mut queue = self.queue.lock();
        let count = queue.items.len().min(BATCH_MAX);
        let (items, waiters): (Vec<T>, Vec<_>) = queue.items.drain(..count).unzip();
        drop(queue);
        // The one that is told to lead is the first of the queue.
        self.lead(items, waiters, &mut lead)
    }

    /// Processes a batch and hands on. Without `waiters` the only item is the leader's; else the first is.
    fn lead(
        &self,
        items: Vec<T>,
        waiters: Vec<Arc<Waiter<R>>>,
        lead: &mut impl FnMut(Vec<T>) -> Vec<R>,
    ) -> R {
        let count = items.len();
        let hand_on = HandOn { group: self, waiters };
        let mut results = lead(items).into_iter();
        debug_assert!([0, count].contains(&results.len()), "each item has its result");
        let Some(own) = results.next() else { return (self.failed)() };
        hand_on.finish(results);
        own
    }
}

/// Wakes followers and the next leader, also when the leader panics.
struct HandOn<'a, T, R> {
    group: &'a GroupCommit<T, R>,
    waiters: Vec<Arc<Waiter<R>>>,
}

impl<T, R> HandOn<'_, T, R> {
    fn finish(mut self, results: impl Iterator<Item = R>) {
        let waiters = std::mem::take(&mut self.waiters);
        // The next leader is woken first: the disk should not wait for the followers.
        drop(self);
        for (waiter, result) in waiters.iter().skip(1).zip(results) {
            waiter.set(State::Done(result));
        }
    }
}

impl<T, R> Drop for HandOn<'_, T, R> {
    fn drop(&mut self) {
        if !has_planted(Planted::OrphanedFollowers) {
            for waiter in self.waiters.iter().skip(1) {
                waiter.set(State::Done((self.group.failed)()));
            }
        }
        let mut queue = self.group.queue.lock();
        match queue.items.front() {
            Some(_) if has_planted(Planted::ForgottenLeader) => queue.has_leader = false,
            Some((_, next)) => {
                let next = next.clone();
                drop(queue);
                next.set(State::Leads);
            }
            None => queue.has_leader = false,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const ROUNDS: u64 = if cfg!(miri) { 20 } else { 2_000 };

    #[test]
    fn everybody_gets_their_own_result_in_the_order_of_queueing() {
        let group: GroupCommit<u64, u64> = GroupCommit::new(|| u64::MAX);
        let (calls, sum) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (group, calls, sum) = (&group, &calls, &sum);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let item = thread << 32 | round;
                        let result = group.submit(item, |items| {
                            calls.fetch_add(1, Ordering::Relaxed);
                            items.into_iter().map(|item| item + 1).collect()
                        });
                        assert_eq!(result, item + 1);
                        sum.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 8 * ROUNDS);
        assert!(calls.into_inner() <= 8 * ROUNDS);
    }

    #[test]
    fn a_leader_that_panics_takes_nobody_with_it() {
        let group: GroupCommit<u64, Option<u64>> = GroupCommit::new(|| None);
        let failures = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (group, failures) = (&group, &failures);
                scope.spawn(move || {
                    for round in 0..if cfg!(miri) { 20 } else { 200 } {
                        let submitted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                            group.submit(round, |items| {
                                std::thread::sleep(std::time::Duration::from_micros(20));
                                if thread == 3 && round % 10 == 0 {
                                    std::panic::resume_unwind(Box::new("planted"));
                                }
                                items.into_iter().map(Some).collect()
                            })
                        }));
                        match submitted {
                            Ok(Some(result)) => assert_eq!(result, round),
                            Ok(None) | Err(_) => {
                                failures.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
        // In so few rounds as Miri has time for, the thread that panics may never lead.
        assert!(cfg!(miri) || failures.into_inner() > 0, "some leader has panicked");
        assert_eq!(group.submit(5, |items| items.into_iter().map(Some).collect()), Some(5), "and it goes on");
    }
}
