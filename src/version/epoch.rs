//! Guards: epoch-based reclamation (Fraser, "Practical lock-freedom", 2004; crossbeam-epoch), private to each store.
//!
//! Each store has a collector of its own, so that a stalled reader of one store holds up no other. Each thread keeps a
//! handle for each store that it reads in thread-local storage; the handle of the store read last is found first.

use crossbeam_epoch::{Collector, Guard, LocalHandle};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Tells stores apart in thread-local storage; only ever counts up. Not shared state in any other sense.
static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

/// A store's collector.
#[derive(Debug)]
pub(crate) struct Epoch {
    collector: Collector,
    key: u64,
    /// Dies with the store, which lets threads drop handles that they no longer need.
    life: Arc<()>,
}

struct Registration {
    key: u64,
    handle: LocalHandle,
    life: Weak<()>,
}

#[cfg(not(loom))]
thread_local! {
    static HANDLES: RefCell<Vec<Registration>> = const { RefCell::new(Vec::new()) };
}
#[cfg(loom)]
loom::thread_local! {
    static HANDLES: RefCell<Vec<Registration>> = RefCell::new(Vec::new());
}

impl Epoch {
    pub(crate) fn new() -> Epoch {
        Epoch {
            collector: Collector::new(),
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            life: Arc::new(()),
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
                handles.push(Registration { key: self.key, handle: self.collector.register(), life });
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
