//! Group commit: the first to come leads, those who come meanwhile follow, and one sync serves them all.
//!
//! # The hand-off
//! Everybody queues an item. Whoever finds no leader becomes it: takes all that is queued, in the order of queueing, and
//! processes it outside the lock. Then it leaves each follower its result and wakes it, and if others have queued
//! meanwhile, wakes the first of them to lead next. A waiter leaves the queue's lock only by sleeping on its own
//! condition variable, and its state changes only under that lock, so no wake-up can be lost.
//!
//! # Gathering
//! Those whom the last batch has served are likely to be back at once, and without more ado they would form the batch after the
//! next: two halves that take turns. So where processing takes long, as a sync does, a leader waits a moment for them, a quarter of that time at most, until
//! as many are there as could be; where that was in vain, the next leaders don't, ever more of them. A single writer never waits.
//!
//! If the leader panics, its followers get the result of the `failed` hook, and leadership passes on.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sync::{Arc, Condvar, Mutex, MutexGuard, Planted, has_planted};

/// Most items that one leader takes at once.
const BATCH_MAX: usize = 1024;

/// The share of a batch's time that a leader waits for more items at most, and the least time for which it waits at all: waking up takes
/// some 10 us. loom has no time, and explores it always.
const PATIENCE_SHARE: u32 = 4;
const PATIENCE_MIN: Duration =
    if cfg!(any(loom, shuttle)) { Duration::ZERO } else { Duration::from_micros(20) };
/// After so many vain waits in a row the number of leaders that don't wait grows no more.
const MISSES_MAX: u32 = 6;

enum State<R> {
    Waiting,
    Leads,
    Done(R),
}

struct Waiter<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
}

type Item<T, R> = (T, Arc<Waiter<R>>);

struct Queue<T, R> {
    has_leader: bool,
    items: VecDeque<Item<T, R>>,
    /// The number of items that the leader waits for; beyond reach while none waits.
    wanted: usize,
    /// Items of the batch before, and how long batches take, smoothed.
    last: usize,
    takes: Duration,
    /// Vain waits in a row, and how many leaders are still not to wait.
    misses: u32,
    skips: u32,
}

/// See the head of this file.
pub(crate) struct GroupCommit<T, R> {
    queue: Mutex<Queue<T, R>>,
    /// As many items are there as the leader waits for.
    gathered: Condvar,
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
        let queue = Queue {
            has_leader: false,
            items: VecDeque::new(),
            wanted: usize::MAX,
            last: 0,
            takes: Duration::ZERO,
            misses: 0,
            skips: 0,
        };
        GroupCommit { queue: Mutex::new(queue), gathered: Condvar::new(), failed }
    }

    /// Has `item` processed by `lead`, alone or together with others', and returns its result. `lead` answers each item, in
    /// order, or none of them, which counts as a panic; one call of it runs at a time.
    pub(crate) fn submit(&self, item: T, mut lead: impl FnMut(Vec<T>) -> Vec<R>) -> R {
        let mut queue = self.queue.lock();
        let is_led = queue.has_leader && !has_planted(Planted::TwoLeaders);
        let leads = !is_led && queue.items.is_empty();
        queue.has_leader |= leads;
        if leads && queue.last < 2 {
            drop(queue);
            return self.lead(vec![item], Vec::new(), &mut lead);
        }
        let waiter = Arc::new(Waiter { state: Mutex::new(State::Waiting), changed: Condvar::new() });
        queue.items.push_back((item, waiter.clone()));
        if leads {
            let company = queue.last;
            return self.lead_company(queue, company, &mut lead);
        }
        if queue.items.len() == queue.wanted {
            self.gathered.notify_one();
        }
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
        let queue = self.queue.lock();
        let company = queue.items.len() + queue.last;
        self.lead_company(queue, company, &mut lead)
    }

    /// Leads all that is queued, whose first is the leader's own item, once it is as many as `company`, or the time for that is over.
    fn lead_company<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue<T, R>>,
        company: usize,
        lead: &mut impl FnMut(Vec<T>) -> Vec<R>,
    ) -> R {
        if queue.skips > 0 {
            queue.skips -= 1;
        } else if queue.items.len() < company.min(BATCH_MAX) {
            queue = self.gather(queue, company.min(BATCH_MAX));
        }
        let count = queue.items.len().min(BATCH_MAX);
        let (items, waiters): (Vec<T>, Vec<_>) = queue.items.drain(..count).unzip();
        drop(queue);
        self.lead(items, waiters, lead)
    }

    /// Waits for those who are likely to come.
    fn gather<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue<T, R>>,
        company: usize,
    ) -> MutexGuard<'a, Queue<T, R>> {
        let patience = queue.takes / PATIENCE_SHARE;
        if patience < PATIENCE_MIN {
            return queue;
        }
        let before = queue.items.len();
        queue.wanted = company;
        queue = self.await_others(queue, patience);
        queue.wanted = usize::MAX;
        let came = queue.items.len() - before;
        // Fewer than that, and the wait cost more than their company saves.
        if came * (PATIENCE_SHARE as usize) < before {
            queue.misses = (queue.misses + 1).min(MISSES_MAX);
            queue.skips = 1 << queue.misses;
        } else {
            queue.misses = 0;
        }
        queue
    }

    #[cfg(not(any(loom, shuttle)))]
    fn await_others<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue<T, R>>,
        patience: Duration,
    ) -> MutexGuard<'a, Queue<T, R>> {
        let begun = Instant::now();
        loop {
            let left = patience.saturating_sub(begun.elapsed());
            if queue.items.len() >= queue.wanted || left.is_zero() {
                return queue;
            }
            queue = self.gathered.wait_timeout(queue, left);
        }
    }

    /// Without time, once, and whether or not anybody comes.
    #[cfg(any(loom, shuttle))]
    fn await_others<'a>(
        &'a self,
        queue: MutexGuard<'a, Queue<T, R>>,
        _: Duration,
    ) -> MutexGuard<'a, Queue<T, R>> {
        drop(queue);
        crate::sync::thread::yield_now();
        self.queue.lock()
    }

    /// Processes a batch and hands on. Without `waiters` the only item is the leader's; else the first is.
    fn lead(
        &self,
        items: Vec<T>,
        waiters: Vec<Arc<Waiter<R>>>,
        lead: &mut impl FnMut(Vec<T>) -> Vec<R>,
    ) -> R {
        let count = items.len();
        let hand_on = HandOn { group: self, waiters, count, begun: Instant::now() };
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
    /// Items of the batch, and when it began to be processed.
    count: usize,
    begun: Instant,
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
        queue.last = self.count;
        queue.takes = (queue.takes * 3 + self.begun.elapsed()) / 4;
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

    /// Batches of 20 ms, long enough for everybody to be back within a quarter of that on a busy machine too. Without waiting, eight writers
    /// form two halves, which makes four a batch.
    #[test]
    fn writers_that_come_back_are_waited_for() {
        let group: GroupCommit<u64, u64> = GroupCommit::new(|| u64::MAX);
        let calls = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (group, calls) = (&group, &calls);
                scope.spawn(move || {
                    for _ in 0..20 {
                        group.submit(thread, |items| {
                            calls.fetch_add(1, Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(20));
                            items
                        });
                    }
                });
            }
        });
        let calls = calls.into_inner();
        assert!(calls <= 30, "{calls} batches of 160 items");
    }

    #[test]
    fn who_is_alone_waits_for_nobody_and_a_vain_wait_makes_the_next_rarer() {
        let group: GroupCommit<u64, u64> = GroupCommit::new(|| u64::MAX);
        let lead = |items: Vec<u64>| {
            std::thread::sleep(Duration::from_millis(2));
            items
        };
        for _ in 0..5 {
            group.submit(1, lead);
        }
        let state = || {
            let queue = group.queue.lock();
            (queue.misses, queue.skips, queue.last)
        };
        assert_eq!(state(), (0, 0, 1));
        // As if eight had been served together, of whom seven don't come back.
        for round in 1..4 {
            group.queue.lock().last = 8;
            group.queue.lock().skips = 0;
            group.submit(1, lead);
            assert_eq!(state(), (round, 1 << round, 1));
        }
        group.queue.lock().last = 8;
        group.submit(1, lead);
        assert_eq!(state(), (3, 7, 1));
    }

    #[test]
    fn a_leader_that_panics_takes_nobody_with_it() {
        let group: GroupCommit<u64, Option<u64>> = GroupCommit::new(|| None);
        let (batches, failures) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let (group, batches, failures) = (&group, &batches, &failures);
                scope.spawn(move || {
                    for round in 0..if cfg!(miri) { 20 } else { 200 } {
                        let submitted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                            group.submit(round, |items| {
                                std::thread::sleep(std::time::Duration::from_micros(20));
                                // Whoever leads: a certain thread may never lead in a certain round.
                                if batches.fetch_add(1, Ordering::Relaxed) % 10 == 0 {
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
        assert!(failures.into_inner() > 0, "some leader has panicked");
        assert_eq!(group.submit(5, |items| items.into_iter().map(Some).collect()), Some(5), "and it goes on");
    }
}
