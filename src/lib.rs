//! vellum: an embedded MVCC page store for database engines.
//!
//! An engine (SQL, key-value, graph, vector, a file format) keeps fixed-size pages under dense page ids. vellum keeps them
//! for it: readers pin an atomic snapshot in nanoseconds and are never blocked; many writers commit new page versions at
//! once, atomically and durably; old versions go as soon as nobody can see them; a consistent snapshot is exported while
//! writing goes on, checked, and imported elsewhere.
//!
//! ```
//! # fn main() -> vellum::Result<()> {
//! # let home = tempfile::tempdir().unwrap();
//! # let dir = home.path().join("store");
//! use vellum::{Options, Store};
//!
//! let store = Store::open(&dir, Options::new())?;
//! let mut txn = store.begin()?;
//! let root = txn.allocate()?;
//! txn.page_mut(root)?[..5].copy_from_slice(b"hello");
//! txn.commit()?;                                    // on the disk when this returns
//!
//! let before = store.snapshot();                    // a version to keep, for as long as needed
//! let mut txn = store.begin()?;
//! txn.page_mut(root)?[..5].copy_from_slice(b"world");
//! txn.commit()?;
//!
//! assert_eq!(&store.view().page(root)?.unwrap()[..5], b"world");
//! assert_eq!(&before.view().page(root)?.unwrap()[..5], b"hello");
//! # Ok(()) }
//! ```
//!
//! # Where to find what
//! | you want to | see |
//! |---|---|
//! | open, create or close a store | [`Store::open`], [`Options`], [`Store::in_memory`], [`Store::close`] |
//! | read | [`Store::view`] for a moment, [`Store::snapshot`] for longer; [`View::page`] is a `&[u8]` in place |
//! | write | [`Store::begin`], [`WriteTxn`]; retry on [`Error::Conflict`] |
//! | choose what a commit waits for | [`Durability`], [`WriteTxn::commit_with`], [`Store::sync`] |
//! | choose what transactions may see | [`Isolation`] |
//! | tell what changed | [`Snapshot::diff`], [`Snapshot::fingerprint`] |
//! | back up and restore | [`Snapshot::export`], [`verify_stream`], [`Store::import`], [`Snapshot::export_raw`] |
//! | have the application flush and stand still for a snapshot | [`Store::create_snapshot_quiesced`], [`QuiesceHook`] |
//! | take, keep and export snapshots of several stores at one moment | [`Group`] |
//! | find damage while it can be mended, and mend it | [`Store::scrub`], [`Store::repair`] |
//! | compress, encrypt, slow down | [`ExportOptions`], [`ImportOptions`] |
//! | go on with what was cut | [`Snapshot::begin_export`], [`Store::run_export`], [`Inbox`] |
//! | rehearse a restore | [`drill`], [`Snapshot::drill`] |
//! | keep snapshots, and let them go | [`Store::create_snapshot`], [`Store::prune`] with a [`Retention`], [`Store::tick`] with a [`Schedule`] |
//! | go back in time | [`Store::set_history`], [`Store::snapshot_at`], [`Store::snapshot_at_time`], [`Store::rollback_to`] |
//! | check | [`Store::verify`], [`Snapshot::verify`], [`Store::stats`], [`Store::recovery`] |
//! | have SQLite on it: readers that never wait, snapshots, a database per test | `sqlite` (feature `sqlite`) |
//! | put an engine on it that keeps everything in one file | [`StoreFile`] |
//! | bring another disk, or a hostile one | [`storage::Storage`], [`Store::open_on`], `storage::sim` (feature `sim`) |
//!
//! # What holds
//! - A commit that returned under [`Durability::Sync`] survives a kill or a power cut at any moment, whole; what is
//!   recovered is a prefix of the order in which commits were published.
//! - Every page is checked against its checksum, seeded with its id, when it is first read after opening, and at every
//!   export. Damage is [`Error::Corrupt`] with file and offset; it is never a panic, nor other bytes.
//! - A failed write or sync ends writing for good ([`Error::Poisoned`]); reads go on. A full disk refuses the
//!   transaction ([`Error::Full`]) and nothing else.
//! - On 64-bit Linux. Pages are read from a memory mapping: a medium that fails under it raises SIGBUS, as with every
//!   store that maps its files.
//!
//! How it works, and why so, is told in `ARCHITECTURE.md`.

mod alloc;
mod audit;
mod buffers;
mod calendar;
mod checkpoint;
mod clone;
mod commit;
mod core;
mod error;
mod file;
mod format;
#[cfg(fuzzing)]
pub mod fuzzing;
mod govern;
mod group;
mod histogram;
mod history;
mod id;
mod log;
#[cfg(all(test, loom))]
mod loom_tests;
mod maintain;
#[cfg(feature = "metrics")]
mod metrics;
mod names;
mod open;
mod options;
mod pins;
#[cfg(test)]
mod planted;
mod progress;
mod quiesce;
#[cfg(test)]
mod random;
mod rate;
mod retention;
mod rollback;
mod schedule;
mod scrub;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
mod snapshot;
mod space;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod stats;
#[cfg(feature = "status")]
mod status;
pub mod storage;
mod store;
mod stream;
mod sync;
mod table;
mod txn;
mod verify;
mod version;

pub use audit::Audit;
pub use calendar::Period;
pub use clone::Cloned;
pub use error::{Error, Result};
pub use file::StoreFile;
pub use govern::{Event, RetainedPolicy};
pub use group::{
    Group, GroupCreated, GroupId, GroupSnapshot, GroupSummary, MemberSummary, verify_group_export,
};
pub use histogram::Histogram;
pub use history::{History, KeptVersion};
pub use id::{Fingerprint, PageId, StoreId, Version};
pub use names::{Bookmark, Hold, NamedSnapshot, Naming, SnapshotSpace};
pub use options::{Durability, Isolation, Options, ReadMode, Verify};
pub use pins::{Pin, PinKind};
pub use progress::{Observer, Progress};
pub use quiesce::{
    AbortCause, HookCause, HookFailure, HookInfo, HookNeed, HookPhase, HookResult, Quiesce, QuiesceHook,
    Quiesced, Window,
};
pub use retention::{KeepReason, Pruned, Retention, RetentionDecision, RetentionPlan};
pub use rollback::RolledBack;
pub use schedule::{CatchUp, Schedule, Tick};
pub use scrub::{
    DamagedNode, DamagedPage, RepairOutcome, RepairReport, RepairSource, Scrub, ScrubCursor, ScrubReport,
};
pub use snapshot::{Snapshot, View};
pub use space::{Budget, Maintenance};
pub use stats::{Recovery, SegmentSpace, Stats};
#[cfg(feature = "status")]
pub use status::Status;
pub use store::Store;
pub use stream::{
    Checked, DeltaBase, Drilled, ExportOptions, ExportToken, ImportOptions, Inbox, PatchSummary, RawSummary,
    ResumePoint, StreamBase, StreamKey, StreamSummary, apply_patch, drill, fold, fold_as, resume_point,
    verify_chain, verify_chain_as, verify_patch, verify_stream, verify_stream_as,
};
pub use txn::WriteTxn;
pub use verify::VerifyReport;

/// What README shows is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
