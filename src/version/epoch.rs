//! Guards: epoch-based reclamation (Fraser, "Practical lock-freedom", 2004; crossbeam-epoch), private to each store.
//!
//! Each store has a collector of its own, so that a stalled reader of one store holds up no other. Each thread keeps a
//! handle for each store that it reads in thread-local storage; the handle of the store read last is found first.

use crossbeam_epoch::{Collector, Guard, LocalHandle};
use std::cell::RefCell;
use std::rc::Rc;
// Marks and keys take part in no protocol, so loom need not watch them.
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::id::Version;
use crate::sync::Mutex;

/// Tells stores apart in thread-local storage; only ever counts up. Not shared state in any other sense.
static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

/// A store's collector.
#[derive(Debug)]
pub(crate) struct Epoch {
    collector: Collector,
    key: u64,
    /// Dies with the store, which lets threads drop handles that they no longer need.
    life: Arc<()>,
    /// Of every thread that has a handle.
    watched: Mutex<Vec<Watched>>,
}

/// What a thread tells of its views. Written by that thread alone.
#[derive(Debug)]
struct Mark {
    thread: String,
    /// Views that are open.
    open: AtomicU32,
    /// How often there was none and then one.
    turns: AtomicU64,
    /// The version that the first of them reads.
    version: AtomicU64,
}

/// A mark as it was last looked at.
#[derive(Debug)]
struct Watched {
    mark: Arc<Mark>,
    turn: u64,
    since: Instant,
    is_told: bool,
}

/// A thread that has had a view open for some time.
pub(crate) struct OpenView {
    pub(crate) thread: String,
    pub(crate) version: Version,
    /// At least so long.
    pub(crate) age: Duration,
}

struct Registration {
    key: u64,
    handle: LocalHandle,
    /// Goes after the handle, so that the handle never is what ends the collector: it would free itself in the middle of its own end.
    _collector: Collector,
    life: Weak<()>,
    /// Counted without atomics by the views of this thread.
    mark: Rc<OwnMark>,
}

impl Mark {
    fn new() -> Mark {
        let thread = std::thread::current();
        let name = thread.name().map_or_else(|| format!("{:?}", thread.id()), str::to_owned);
        let (open, turns, version) = (AtomicU32::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Mark { thread: name, open, turns, version }
    }

    #[inline]
    fn opened(&self, version: Version) {
        let open = self.open.load(Ordering::Relaxed);
        if open == 0 {
            self.version.store(version.0, Ordering::Relaxed);
            self.turns.store(self.turns.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        self.open.store(open + 1, Ordering::Relaxed);
    }
}

/// This thread's mark, which others look at too.
struct OwnMark(Arc<Mark>);

/// Says that a view is open, until it is dropped.
pub(crate) struct OpenMark(Rc<OwnMark>);

impl OpenMark {
    #[inline]
    fn new(mark: Rc<OwnMark>, version: Version) -> OpenMark {
        mark.0.opened(version);
        OpenMark(mark)
    }
}

impl Drop for OpenMark {
    #[inline]
    fn drop(&mut self) {
        let open = &self.0.0.open;
        open.store(open.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
    }
}

#[cfg(not(any(loom, shuttle)))]
thread_local! {
    static HANDLES: RefCell<Vec<Registration>> = const { RefCell::new(Vec::new()) };
}
#[cfg(loom)]
loom::thread_local! {
    static HANDLES: RefCell<Vec<Registration>> = RefCell::new(Vec::new());
}
#[cfg(shuttle)]
shuttle::thread_local! {
    static HANDLES: RefCell<Vec<Registration>> = RefCell::new(Vec::new());
}

impl Epoch {
    pub(crate) fn new() -> Epoch {
        Epoch {
            collector: Collector::new(),
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            life: Arc::new(()),
            watched: Mutex::new(Vec::new()),
        }
    }

    /// Pins the thread: memory that is made dead from now on stays until the guard is dropped. Some 10 ns.
    #[inline]
    pub(crate) fn pin(&self) -> Guard {
        let pinned = HANDLES.try_with(|handles| {
            let handles = handles.try_borrow().ok()?;
            handles.first().filter(|first| first.key == self.key).map(|first| first.handle.pin())
        });
        match pinned {
            Ok(Some(guard)) => guard,
            _ => self.pin_slowly(),
        }
    }

    #[cold]
    fn pin_slowly(&self) -> Guard {
        let pinned = HANDLES.try_with(|handles| {
            let mut handles = handles.try_borrow_mut().ok()?;
            let found = handles.iter().position(|registration| registration.key == self.key);
            let index = found.unwrap_or_else(|| {
                handles.retain(|registration| registration.life.strong_count() > 0);
                let life = Arc::downgrade(&self.life);
                let mark = Rc::new(OwnMark(self.watch()));
                let (handle, collector) = (self.collector.register(), self.collector.clone());
                handles.push(Registration { key: self.key, handle, _collector: collector, life, mark });
                handles.len() - 1
            });
            handles.swap(0, index);
            Some(handles[0].handle.pin())
        });
        match pinned {
            Ok(Some(guard)) => guard,
            // The thread is ending and its storage is gone already.
            _ => self.collector.register().pin(),
        }
    }

    fn watch(&self) -> Arc<Mark> {
        let mark = Arc::new(Mark::new());
        let mut watched = self.watched.lock();
        // Marks of threads that are gone.
        watched.retain(|watched| Arc::strong_count(&watched.mark) > 1);
        watched.push(Watched { mark: mark.clone(), turn: 0, since: Instant::now(), is_told: false });
        mark
    }

    /// Pins the thread for a view, whose version `load` tells.
    #[inline]
    pub(crate) fn pin_for_view<T>(&self, load: impl Fn(&Guard) -> (T, Version)) -> (Guard, T, OpenMark) {
        let pinned = HANDLES.try_with(|handles| {
            let handles = handles.try_borrow().ok()?;
            let first = handles.first().filter(|first| first.key == self.key)?;
            let guard = first.handle.pin();
            let (value, version) = load(&guard);
            Some((guard, value, OpenMark::new(first.mark.clone(), version)))
        });
        match pinned {
            Ok(Some(pinned)) => pinned,
            _ => self.pin_for_view_slowly(load),
        }
    }

    #[cold]
    fn pin_for_view_slowly<T>(&self, load: impl Fn(&Guard) -> (T, Version)) -> (Guard, T, OpenMark) {
        let guard = self.pin_slowly();
        let (value, version) = load(&guard);
        let known = HANDLES.try_with(|handles| {
            let handles = handles.try_borrow().ok()?;
            handles.first().filter(|first| first.key == self.key).map(|first| first.mark.clone())
        });
        // Without storage, because the thread is ending, there is no handle, and nobody looks at the mark.
        let mark = known.ok().flatten().unwrap_or_else(|| Rc::new(OwnMark(Arc::new(Mark::new()))));
        (guard, value, OpenMark::new(mark, version))
    }

    /// The threads that have views open since the last look or longer.
    pub(crate) fn open_views(&self) -> Vec<OpenView> {
        self.look(|_, _| true)
    }

    /// The threads that have had a view open for longer than `limit`, each told once a view.
    pub(crate) fn stalled_views(&self, limit: Duration) -> Vec<OpenView> {
        self.look(|age, is_told| age > limit && !std::mem::replace(is_told, true))
    }

    fn look(&self, mut is_wanted: impl FnMut(Duration, &mut bool) -> bool) -> Vec<OpenView> {
        let mut found = Vec::new();
        for watched in &mut *self.watched.lock() {
            let Watched { mark, turn, since, is_told } = watched;
            let now = mark.turns.load(Ordering::Relaxed);
            if *turn != now {
                (*turn, *since, *is_told) = (now, Instant::now(), false);
            }
            if mark.open.load(Ordering::Relaxed) > 0 && is_wanted(since.elapsed(), is_told) {
                let version = Version(mark.version.load(Ordering::Relaxed));
                found.push(OpenView { thread: mark.thread.clone(), version, age: since.elapsed() });
            }
        }
        found
    }

    /// Whether this thread holds a guard of this store.
    pub(crate) fn pinned_here(&self) -> bool {
        let pinned = HANDLES.try_with(|handles| {
            let handles = handles.try_borrow().ok()?;
            let own = handles.iter().find(|registration| registration.key == self.key)?;
            Some(own.handle.is_pinned())
        });
        matches!(pinned, Ok(Some(true)))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_with_many_stores_pins_each_in_its_own_epoch() {
        let mut epochs: Vec<Epoch> = (0..5).map(|_| Epoch::new()).collect();
        for round in 0..20 {
            for (index, epoch) in epochs.iter().enumerate() {
                let guards = [epoch.pin(), epoch.pin()];
                let are_own = guards.iter().all(|guard| guard.collector() == Some(&epoch.collector));
                assert!(are_own, "epoch {index} in round {round}");
            }
            // Stores go and others come.
            epochs.swap_remove(round % 5);
            epochs.insert(round % 4, Epoch::new());
        }
    }
}
