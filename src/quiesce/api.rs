//! Quiesced snapshots as a store's user sees them.

use std::time::Duration;

use super::freeze::Frozen;
use super::hook::HookFailure;
use crate::error::Result;
use crate::names::Naming;
use crate::snapshot::Snapshot;
use crate::store::Store;

/// How long hooks may take.
///
/// ```
/// use std::time::Duration;
/// use vellum::Quiesce;
/// let quiesce = Quiesce::new().deadline(Duration::from_secs(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiesce {
    pub(super) deadline: Duration,
    pub(super) prepare_deadline: Duration,
}

impl Default for Quiesce {
    fn default() -> Quiesce {
        Quiesce { deadline: Duration::from_secs(10), prepare_deadline: Duration::from_mins(1) }
    }
}

impl Quiesce {
    /// The defaults: a minute to prepare, ten seconds to freeze and take the snapshot.
    #[must_use]
    pub fn new() -> Quiesce {
        Quiesce::default()
    }

    /// How long the application may stand still at most, from the first hook's `freeze` on. When the time is over, hooks are
    /// thawed whatever else happens, and there is no snapshot. Default 10 s.
    #[must_use]
    pub fn deadline(mut self, time: Duration) -> Quiesce {
        self.deadline = time;
        self
    }

    /// How long all hooks together may prepare, while the application goes on. Default 60 s.
    #[must_use]
    pub fn prepare_deadline(mut self, time: Duration) -> Quiesce {
        self.prepare_deadline = time;
        self
    }
}

/// A snapshot that was taken while the application stood still.
#[non_exhaustive]
#[derive(Debug)]
pub struct Quiesced {
    /// The snapshot, opened.
    pub snapshot: Snapshot,
    /// Optional hooks that failed, so that the snapshot is without what they would have flushed, and hooks of any kind that
    /// failed to thaw.
    pub failures: Vec<HookFailure>,
    /// From the first `freeze` until the last `thaw` had returned.
    pub frozen_for: Duration,
}

impl Store {
    /// Gives the contents a name, as [`Store::create_snapshot_with`] does, while the application stands still: all registered
    /// hooks prepare (what they commit is in the snapshot), then freeze; then the snapshot is taken; then they thaw, the last
    /// first. Without hooks it is the same as the former, and starts no thread.
    ///
    /// The call takes no longer than both deadlines of `quiesce` together, the snapshot's commit, and once more the freeze's
    /// deadline if hooks hang in `thaw`. If anything fails, all hooks are thawed and told by `abort`, and there is no
    /// snapshot of that name; only a crash between the snapshot's commit and the finding that it came too late
    /// can leave one.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use std::sync::{Arc, Mutex};
    /// use vellum::{HookNeed, HookResult, Naming, Options, PageId, Quiesce, QuiesceHook, Store, Window};
    ///
    /// /// Rows that are written to a page once in a while.
    /// struct Cache(Arc<Mutex<Vec<u8>>>);
    ///
    /// impl QuiesceHook for Cache {
    ///     fn prepare(&mut self, store: &Store, _: &Window) -> HookResult {
    ///         let mut txn = store.begin()?;
    ///         for row in self.0.lock().unwrap().drain(..) {
    ///             let id = txn.allocate()?;
    ///             txn.page_mut(id)?[0] = row;
    ///         }
    ///         txn.commit()?;
    ///         Ok(())
    ///     }
    ///     fn freeze(&mut self, _: &Window) -> HookResult {
    ///         Ok(()) // here: take the lock that writers take
    ///     }
    ///     fn thaw(&mut self) -> HookResult {
    ///         Ok(()) // here: give it back
    ///     }
    /// }
    ///
    /// let store = Store::in_memory(Options::new())?;
    /// let rows = Arc::new(Mutex::new(vec![7]));
    /// store.add_hook("row cache", HookNeed::Essential, Cache(rows.clone()))?;
    /// let done = store.create_snapshot_quiesced("nightly", Naming::new(), Quiesce::new())?;
    /// assert_eq!(done.snapshot.view().page(PageId(0))?.unwrap()[0], 7);
    /// assert!(done.failures.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::HookFailed`](crate::Error::HookFailed) for an essential hook,
    /// [`Error::QuiesceLate`](crate::Error::QuiesceLate) if the snapshot was there only after the deadline,
    /// [`Error::QuiesceBusy`](crate::Error::QuiesceBusy) if others used the hooks for too long, and what
    /// [`Store::create_snapshot_with`] gives.
    pub fn create_snapshot_quiesced(&self, name: &str, naming: Naming, quiesce: Quiesce) -> Result<Quiesced> {
        // What can be refused at once should not stop anybody.
        self.check_new_name(name, &naming)?;
        let frozen = Frozen::freeze(&[self], &quiesce)?;
        let snapshot = self.create_snapshot_with(name, naming)?;
        if let Err(error) = frozen.claim() {
            drop(frozen);
            self.drop_snapshot(name)?;
            return Err(error);
        }
        let (failures, frozen_for) = frozen.thaw();
        Ok(Quiesced { snapshot, failures, frozen_for })
    }
}
