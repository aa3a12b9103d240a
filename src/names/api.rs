//! Named snapshots and bookmarks as a store's user sees them.

use std::time::SystemTime;

use serde::Serialize;

use super::labels::{Naming, check_name, millis_of, time_of};
use super::table::{Named, Names};
use crate::error::{Error, Result};
use crate::format::names::{BookmarkRecord, CHANGE_BYTES_MAX, DROPS_MAX, HoldRecord, NameChange};
use crate::id::{Fingerprint, Version};
use crate::snapshot::Snapshot;
use crate::store::Store;

/// A reason not to drop a named snapshot.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Who holds it.
    pub owner: String,
    /// From when on the hold doesn't count.
    pub expires_at: Option<SystemTime>,
}

/// What is known of a named snapshot without opening it.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedSnapshot {
    /// Its name.
    pub name: String,
    /// The version that it keeps.
    pub version: Version,
    /// When it was made.
    pub created_at: SystemTime,
    /// In ascending order of the keys.
    pub labels: Vec<(String, String)>,
    /// From when on retention may drop it.
    pub expires_at: Option<SystemTime>,
    /// Holds that count now, those of running exports, clones and drills among them.
    pub holds: Vec<Hold>,
    /// Whether it was dropped already, and goes with its last hold.
    pub is_leaving: bool,
    /// The fingerprint of its contents.
    pub fingerprint: Fingerprint,
    /// Page ids in use are below this.
    pub page_count: u64,
    /// Pages that hold bytes.
    pub live_pages: u64,
}

impl NamedSnapshot {
    fn new(name: &str, named: &Named, names: &Names, now_ms: u64) -> NamedSnapshot {
        let root = named.root.root();
        let hold = |hold: &HoldRecord| Hold {
            owner: hold.owner.clone(),
            expires_at: hold.expires_at_ms.and_then(time_of),
        };
        let running =
            names.running_on(named.pin).map(|owner| Hold { owner: owner.to_owned(), expires_at: None });
        NamedSnapshot {
            name: name.to_owned(),
            version: root.version,
            created_at: time_of(root.created_at_ms).unwrap_or(SystemTime::UNIX_EPOCH),
            labels: named.info.labels.clone(),
            expires_at: named.info.expires_at_ms.and_then(time_of),
            holds: named.holds_at(now_ms).map(hold).chain(running).collect(),
            is_leaving: named.is_leaving,
            fingerprint: root.fingerprint,
            page_count: root.page_count,
            live_pages: root.live_pages,
        }
    }
}

/// A version that is remembered without its pages: enough to tell what changed since.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bookmark {
    /// Its name.
    pub name: String,
    /// The version.
    pub version: Version,
    /// The fingerprint of the version's contents.
    pub fingerprint: Fingerprint,
    /// When the version was committed.
    pub created_at: SystemTime,
}

impl Bookmark {
    pub(crate) fn new(record: &BookmarkRecord) -> Bookmark {
        Bookmark {
            name: record.name.clone(),
            version: record.version,
            fingerprint: record.fingerprint,
            created_at: time_of(record.created_at_ms).unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}

impl Store {
    /// Gives the current contents a name, under which they are kept, over restarts too, until the name is dropped.
    ///
    /// Costs one durable commit, whatever the store's size: the snapshot is a version of its own, with the contents of
    /// the version before it and of the commits that share its batch.
    ///
    /// # Errors
    /// [`Error::SnapshotExists`], [`Error::InvalidName`], [`Error::RetainedLimit`], and what a commit gives.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use vellum::{Options, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// let mut txn = store.begin()?;
    /// let id = txn.allocate()?;
    /// txn.write(id, &[1; 4096])?;
    /// txn.commit()?;
    /// store.create_snapshot("before the upgrade")?;
    ///
    /// let mut txn = store.begin()?;
    /// txn.write(id, &[2; 4096])?;
    /// txn.commit()?;
    ///
    /// let before = store.open_snapshot("before the upgrade")?;
    /// assert_eq!(before.view().page(id)?.unwrap()[0], 1);
    /// store.drop_snapshot("before the upgrade")?;
    /// # Ok(()) }
    /// ```
    pub fn create_snapshot(&self, name: &str) -> Result<Snapshot> {
        self.create_snapshot_with(name, Naming::new())
    }

    /// [`Store::create_snapshot`] with labels or an expiry.
    ///
    /// # Errors
    /// As [`Store::create_snapshot`].
    pub fn create_snapshot_with(&self, name: &str, naming: Naming) -> Result<Snapshot> {
        check_name("a snapshot's name", name)?;
        self.core().admit_pin()?;
        self.change_names(NameChange::Create { name: name.to_owned(), info: naming.info()? })?;
        self.open_snapshot(name)
    }

    /// Whether a snapshot of that name could be made now.
    pub(crate) fn check_new_name(&self, name: &str, naming: &Naming) -> Result<()> {
        check_name("a snapshot's name", name)?;
        let change = NameChange::Create { name: name.to_owned(), info: naming.clone().info()? };
        check_size(&change)?;
        self.core().check_poison()?;
        self.core().names.lock().check(&change, self.core().clock_ms())
    }

    /// Opens a named snapshot. Costs a look-up; the snapshot stays readable when its name is dropped.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`].
    pub fn open_snapshot(&self, name: &str) -> Result<Snapshot> {
        let core = self.core();
        let names = core.names.lock();
        let named = names.get(name)?;
        // The name's own count keeps the slot filled while another is added.
        core.registry.retain(named.pin);
        Ok(Snapshot::of_slot(core.clone(), named.root, named.pin))
    }

    /// Takes the name away. What only this snapshot saw is freed when nobody has it open any more; on disk after the next
    /// two checkpoints, which the store's own thread or [`Store::maintain`] write.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], [`Error::SnapshotHeld`] with the holders (who asked for a hold, and what exports, clones and
    /// drills run on it in this process), and what a commit gives.
    pub fn drop_snapshot(&self, name: &str) -> Result<()> {
        self.change_names(NameChange::Drop { name: name.to_owned(), when_released: false })
    }

    /// Takes the name away as soon as nobody holds the snapshot any more: at once, or with the release of its last hold. Exports
    /// and clones that run don't count: they keep the pages that they read, and go on.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], and what a commit gives.
    pub fn drop_snapshot_when_released(&self, name: &str) -> Result<()> {
        self.change_names(NameChange::Drop { name: name.to_owned(), when_released: true })
    }

    /// Gives a snapshot or a bookmark another name.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], [`Error::SnapshotExists`], [`Error::InvalidName`], and what a commit gives.
    pub fn rename_snapshot(&self, from: &str, to: &str) -> Result<()> {
        check_name("a snapshot's name", to)?;
        self.change_names(NameChange::Rename { from: from.to_owned(), to: to.to_owned() })
    }

    /// Replaces the labels and the expiry of a named snapshot.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], [`Error::InvalidName`], and what a commit gives.
    pub fn describe_snapshot(&self, name: &str, naming: Naming) -> Result<()> {
        self.change_names(NameChange::Describe { name: name.to_owned(), info: naming.info()? })
    }

    /// The named snapshots, the oldest version first.
    pub fn snapshots(&self) -> Vec<NamedSnapshot> {
        let (names, now_ms) = (self.core().names.lock(), self.core().clock_ms());
        let new = |(name, named): (&String, &Named)| NamedSnapshot::new(name, named, &names, now_ms);
        let mut found: Vec<_> = names.iter().map(new).collect();
        found.sort_by_key(|snapshot| snapshot.version);
        found
    }

    /// Keeps a named snapshot from being dropped, until it is released or the time has come (`None`: never). A second hold of the
    /// same owner replaces the first. Costs a durable commit.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use vellum::{Error, Options, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// store.create_snapshot("nightly")?;
    /// store.hold_snapshot("nightly", "audit", None)?;
    /// assert!(matches!(store.drop_snapshot("nightly"), Err(Error::SnapshotHeld { .. })));
    /// store.release_snapshot("nightly", "audit")?;
    /// store.drop_snapshot("nightly")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], [`Error::InvalidName`], and what a commit gives.
    pub fn hold_snapshot(&self, name: &str, owner: &str, expires_at: Option<SystemTime>) -> Result<()> {
        check_name("an owner", owner)?;
        let hold = HoldRecord { owner: owner.to_owned(), expires_at_ms: expires_at.map(millis_of) };
        self.change_names(NameChange::Hold { name: name.to_owned(), hold })
    }

    /// Ends a hold. Costs a durable commit.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], [`Error::HoldNotFound`], and what a commit gives.
    pub fn release_snapshot(&self, name: &str, owner: &str) -> Result<()> {
        self.change_names(NameChange::Release { name: name.to_owned(), owner: owner.to_owned() })
    }

    /// Remembers `snapshot`'s version under a name, without keeping any page of it: enough to export later what has changed since
    /// (see [`Store::apply`]). Costs a durable commit.
    ///
    /// # Errors
    /// [`Error::SnapshotExists`], [`Error::InvalidName`], [`Error::InvalidOption`] for a snapshot of another store, and what a
    /// commit gives.
    pub fn create_bookmark(&self, name: &str, snapshot: &Snapshot) -> Result<()> {
        check_name("a bookmark's name", name)?;
        snapshot.check_of(self.core(), "snapshot")?;
        let root = snapshot.root();
        self.change_names(NameChange::Bookmark {
            name: name.to_owned(),
            version: root.version,
            fingerprint: root.fingerprint,
            created_at_ms: root.created_at_ms,
        })
    }

    /// A bookmark.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`].
    pub fn bookmark(&self, name: &str) -> Result<Bookmark> {
        self.core().names.lock().bookmark(name).map(Bookmark::new)
    }

    /// The bookmarks, in the order of their names.
    pub fn bookmarks(&self) -> Vec<Bookmark> {
        self.core().names.lock().bookmarks().map(Bookmark::new).collect()
    }

    /// Forgets a bookmark.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], and what a commit gives.
    pub fn drop_bookmark(&self, name: &str) -> Result<()> {
        self.change_names(NameChange::Forget { name: name.to_owned() })
    }

    /// Drops the named snapshots of these versions, [`DROPS_MAX`] at most and in ascending order, in one commit.
    pub(crate) fn drop_versions(&self, versions: Vec<Version>) -> Result<()> {
        debug_assert!(versions.len() <= DROPS_MAX && versions.is_sorted());
        self.core().commit_names(NameChange::DropAll { versions })
    }

    fn change_names(&self, change: NameChange) -> Result<()> {
        self.core().change_names(change)
    }
}

/// Refuses what doesn't fit into a record.
pub(super) fn check_size(change: &NameChange) -> Result<()> {
    let bytes = change.encode().map_or(usize::MAX, |bytes| bytes.len());
    match bytes <= CHANGE_BYTES_MAX {
        true => Ok(()),
        false => Err(Error::InvalidName {
            what: "a change of the names",
            value: format!("{bytes} bytes"),
            expected: format!("at most {CHANGE_BYTES_MAX} bytes are"),
        }),
    }
}
