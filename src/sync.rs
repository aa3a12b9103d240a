//! The one door to threads, locks and atomics: std's in a build for use, loom's under `cfg(loom)`, shuttle's under
//! `cfg(shuttle)`.
//!
//! Everything concurrent in vellum takes these names from here, so that loom and shuttle explore the real code and
//! not a model of it. A lock's poison mark (std) is ignored by whoever takes the lock: what a panic leaves behind a lock
//! is judged where it matters, by `Core::check_poison`, which looks at the marks and poisons the whole store.

#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::{Arc, atomic};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::thread;

#[cfg(loom)]
pub(crate) use loom::sync::{Arc, atomic};
#[cfg(loom)]
pub(crate) use loom::thread;

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Arc, atomic};
#[cfg(shuttle)]
pub(crate) use shuttle::thread;

#[cfg(loom)]
use loom::sync as imp;
#[cfg(shuttle)]
use shuttle::sync as imp;
#[cfg(not(any(loom, shuttle)))]
use std::sync as imp;

/// Bugs that tests plant in the real code, to show that they would be found. There are none in a build for use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Planted {
    /// A version is published without release.
    RelaxedPublish = 1,
    /// A registry slot is emptied without release.
    RelaxedRelease = 2,
    /// The leader forgets to wake the one who leads next.
    ForgottenLeader = 3,
    /// What a dropped version alone saw is told by the newest version, and not by the one up to which all is judged.
    NewestNeighbour = 4,
    /// An item is judged by the versions before its birth too.
    ForgottenBirth = 5,
    /// An item counts as seen by the version that replaced it.
    DeathSeen = 6,
    /// What a dropped name kept is given back although catalogs on disk list it.
    NameGoneAtOnce = 7,
    /// The same, when one of the two catalogs on disk lists it.
    NameGoneAfterOne = 8,
    /// A group's members are named one after the other, each under its own lock only.
    GroupOneByOne = 9,
    /// Grace periods count as passed as soon as they are asked for.
    NoGrace = 10,
    /// What was judged dead is freed with the first grace period that passes, not with its own.
    LimboOrder = 11,
    /// A word is led to a copy after the look at which copies there are, and not in the same breath.
    LateRebase = 12,
    /// A job of the handover ends before its failure is remembered.
    LateFailure = 20,
    /// A job of the handover is begun while another is being done.
    TwoWriters = 21,
    /// Whoever finds the queue of commits empty leads, although somebody does already.
    TwoLeaders = 22,
    /// A leader that panics leaves its followers without an answer.
    OrphanedFollowers = 23,
    /// Whether a dead node is in the reclaimer's lists is looked at before the lock is taken under which that changes.
    HastyWritten = 24,
    /// Who waits for limbo waits for others to end grace periods.
    IdleWait = 25,
    /// A grace period for what is replaced may begin before readers are led to what comes in its place.
    ReplacedTooSoon = 26,
    /// What comes in its place is stored without release.
    RelaxedReplace = 27,
}

/// The bug that is planted now, as a number; each test that plants one does so in a process of its own.
#[cfg(any(loom, test))]
pub(crate) static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Whether `bug` is planted: never, outside the crate's own tests.
#[inline]
pub(crate) fn has_planted(bug: Planted) -> bool {
    #[cfg(any(loom, test))]
    {
        PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as u8
    }
    #[cfg(not(any(loom, test)))]
    {
        let _ = bug;
        false
    }
}

/// Release, unless `bug` is planted.
#[inline]
pub(crate) fn release_unless(bug: Planted) -> atomic::Ordering {
    if has_planted(bug) { atomic::Ordering::Relaxed } else { atomic::Ordering::Release }
}

/// A mutual exclusion lock whose `lock` can't fail.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(imp::Mutex<T>);

/// Holds a [`Mutex`] until dropped.
pub(crate) type MutexGuard<'a, T> = imp::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(imp::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// Whether a thread has panicked while it had the lock.
    pub(crate) fn is_poisoned(&self) -> bool {
        #[cfg(not(any(loom, shuttle)))]
        return self.0.is_poisoned();
        #[cfg(any(loom, shuttle))]
        return false;
    }

    #[cfg(not(loom))]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(imp::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(imp::TryLockError::WouldBlock) => None,
        }
    }

    #[cfg(loom)]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// A lock that many may hold together, or one alone.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(imp::RwLock<T>);

/// Holds a [`RwLock`] together with others.
pub(crate) type RwLockReadGuard<'a, T> = imp::RwLockReadGuard<'a, T>;
/// Holds a [`RwLock`] alone.
pub(crate) type RwLockWriteGuard<'a, T> = imp::RwLockWriteGuard<'a, T>;

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        RwLock(imp::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        match self.0.read() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        match self.0.write() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    pub(crate) fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        match self.0.try_write() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
}

/// A condition variable for [`Mutex`].
#[derive(Debug, Default)]
pub(crate) struct Condvar(imp::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Condvar(imp::Condvar::new())
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        match self.0.wait(guard) {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// Waits at most `timeout`; spurious returns are possible. loom has no time: there it only yields.
    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: std::time::Duration,
    ) -> MutexGuard<'a, T> {
        match self.0.wait_timeout(guard, timeout) {
            Ok((guard, _)) => guard,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A value that is read all the time and replaced now and then, without readers and writers waiting for each other.
#[cfg(not(any(loom, shuttle)))]
#[derive(Debug)]
pub(crate) struct Swap<T>(arc_swap::ArcSwap<T>);

/// What [`Swap::load`] lends.
#[cfg(not(any(loom, shuttle)))]
pub(crate) type Swapped<T> = arc_swap::Guard<std::sync::Arc<T>>;

#[cfg(not(any(loom, shuttle)))]
impl<T> Swap<T> {
    pub(crate) fn new(value: std::sync::Arc<T>) -> Self {
        Swap(arc_swap::ArcSwap::new(value))
    }

    #[inline]
    pub(crate) fn load(&self) -> Swapped<T> {
        self.0.load()
    }

    pub(crate) fn swap(&self, value: std::sync::Arc<T>) -> std::sync::Arc<T> {
        self.0.swap(value)
    }
}

/// loom can't see into arc-swap and raises false alarms, shuttle can't switch threads in it: a lock stands in for it.
#[cfg(any(loom, shuttle))]
#[derive(Debug)]
pub(crate) struct Swap<T>(Mutex<std::sync::Arc<T>>);

/// What [`Swap::load`] lends.
#[cfg(any(loom, shuttle))]
pub(crate) type Swapped<T> = std::sync::Arc<T>;

#[cfg(any(loom, shuttle))]
impl<T> Swap<T> {
    pub(crate) fn new(value: std::sync::Arc<T>) -> Self {
        Swap(Mutex::new(value))
    }

    pub(crate) fn load(&self) -> Swapped<T> {
        self.0.lock().clone()
    }

    pub(crate) fn swap(&self, value: std::sync::Arc<T>) -> std::sync::Arc<T> {
        std::mem::replace(&mut *self.0.lock(), value)
    }
}
