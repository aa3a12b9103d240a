//! The history window as a store's user sees it.

use std::time::SystemTime;

use serde::Serialize;

use super::History;
use crate::error::{Error, Result};
use crate::format::names::NameChange;
use crate::id::{Fingerprint, Version};
use crate::names::{millis_of, time_of};
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::table::root::Root;
use crate::version::held::HeldRoot;

/// A version that the history window keeps.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptVersion {
    /// The version.
    pub version: Version,
    /// When it was committed.
    pub created_at: SystemTime,
    /// The fingerprint of its contents.
    pub fingerprint: Fingerprint,
    /// Page ids in use are below this.
    pub page_count: u64,
    /// Pages that hold bytes.
    pub live_pages: u64,
}

impl KeptVersion {
    fn new(root: &Root) -> KeptVersion {
        KeptVersion {
            version: root.version,
            created_at: time_of(root.created_at_ms).unwrap_or(SystemTime::UNIX_EPOCH),
            fingerprint: root.fingerprint,
            page_count: root.page_count,
            live_pages: root.live_pages,
        }
    }
}

impl Store {
    /// Keeps versions without a name from now on, so that [`Store::snapshot_at`] and [`Store::snapshot_at_time`] find them, over
    /// restarts and crashes too. The policy is a part of the store and stays until it is set anew; to set the one that is there
    /// already does nothing. A narrower one lets versions go at once; [`History::off`] lets all go.
    ///
    /// Costs one durable commit. From then on each commit costs one pin more (some tens of nanoseconds), whatever the window's length;
    /// checkpoints write the table nodes that only its versions see, and list it in the catalog (some 150 bytes a version, and
    /// its meta bytes). What it keeps shows in [`Store::pins`] as [`PinKind::History`](crate::PinKind::History), counts
    /// against [`Options::retained_limit`](crate::Options::retained_limit), and under a policy that refuses or revokes it gives way first.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use vellum::{History, Options, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// store.set_history(History::versions(100))?;
    /// let mut txn = store.begin()?;
    /// let id = txn.allocate()?;
    /// txn.write(id, &[1; 4096])?;
    /// let first = txn.commit()?;
    /// let mut txn = store.begin()?;
    /// txn.write(id, &[2; 4096])?;
    /// txn.commit()?;
    ///
    /// let before = store.snapshot_at(first)?;
    /// assert_eq!(before.view().page(id)?.unwrap()[0], 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOption`], and what a commit gives.
    pub fn set_history(&self, history: History) -> Result<()> {
        let policy = history.record()?;
        if self.history_policy() == History(policy) {
            return Ok(());
        }
        self.core().commit_names(NameChange::History { policy })
    }

    /// Which versions the store keeps without a name.
    pub fn history_policy(&self) -> History {
        History(self.core().history.lock().policy())
    }

    /// The versions that the history window keeps, the oldest first; the current one is the last.
    pub fn history(&self) -> Vec<KeptVersion> {
        self.core().history.lock().roots().map(|root| KeptVersion::new(root.root())).collect()
    }

    /// Opens a version that is kept: by the history window, by a name, or because it is the current one. Costs a look-up.
    ///
    /// # Errors
    /// [`Error::VersionNotKept`] with the nearest ones that are.
    pub fn snapshot_at(&self, version: Version) -> Result<Snapshot> {
        let older = match self.newest_kept(|root| root.version <= version) {
            Some(found) if found.version() == version => return Ok(found),
            older => older.map(|older| older.version()),
        };
        let newer = self.kept_versions().into_iter().map(|(kept, _)| kept).find(|kept| *kept > version);
        Err(Error::VersionNotKept { version, older, newer })
    }

    /// Opens the newest version that is kept, by the history window, by a name, or as the current one, and was committed at `time` or
    /// before. Within the window that is what the store was at that time, to the window's interval; before it,
    /// [`Snapshot::created_at`] tells how much older it is. Costs a look-up.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use std::time::{Duration, SystemTime};
    /// use vellum::{History, Options, Store};
    /// let store = Store::in_memory(Options::new().history(History::within(Duration::from_secs(3600))))?;
    /// // What was there before somebody did the wrong thing.
    /// let before = store.snapshot_at_time(SystemTime::now())?;
    /// store.rollback_to(&before)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::TimeNotKept`] if all that is kept is younger.
    pub fn snapshot_at_time(&self, time: SystemTime) -> Result<Snapshot> {
        let asked_ms = millis_of(time);
        self.newest_kept(|root| root.created_at_ms <= asked_ms).ok_or_else(|| {
            let oldest = self.kept_versions().into_iter().next();
            let (oldest, oldest_ms) = oldest.unwrap_or((self.version(), asked_ms));
            Error::TimeNotKept { asked_ms, oldest, oldest_ms }
        })
    }

    /// The newest kept version that `is_in` is true of; it is true of all before one that it is true of.
    fn newest_kept(&self, is_in: impl Fn(&Root) -> bool) -> Option<Snapshot> {
        let core = self.core();
        let current = self.snapshot();
        if is_in(current.root()) {
            return Some(current);
        }
        let (names, history) = (core.names.lock(), core.history.lock());
        let version = |root: HeldRoot| root.root().version;
        let named = names.iter().map(|(_, named)| (named.pin, named.root));
        let named = named.filter(|(_, root)| is_in(root.root())).max_by_key(|(_, root)| version(*root));
        let found = history.newest(is_in).into_iter().chain(named).max_by_key(|(_, root)| version(*root));
        let (pin, root) = found?;
        // The window's or the name's own count keeps the slot filled while another is added.
        core.registry.retain(pin);
        Some(Snapshot::of_slot(core.clone(), root, pin))
    }

    /// The versions that are kept with their times, in ascending order.
    fn kept_versions(&self) -> Vec<(Version, u64)> {
        let core = self.core();
        let current = self.snapshot();
        let (names, history) = (core.names.lock(), core.history.lock());
        let roots = names.iter().map(|(_, named)| named.root).chain(history.roots());
        let told = |root: &Root| (root.version, root.created_at_ms);
        let mut all: Vec<_> = roots.map(|root| told(root.root())).chain([told(current.root())]).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}
