//! vellum: an embedded MVCC page store for database engines.

mod alloc;
mod checkpoint;
mod commit;
mod core;
mod error;
mod format;
mod id;
mod log;
#[cfg(all(test, loom))]
mod loom_tests;
mod maintain;
mod open;
mod options;
mod progress;
mod snapshot;
mod stats;
pub mod storage;
mod store;
mod stream;
mod sync;
mod table;
mod txn;
mod verify;
mod version;

pub use error::{Error, Result};
pub use id::{Fingerprint, PageId, StoreId, Version};
pub use options::{Durability, Isolation, Options, Verify};
pub use progress::{Observer, Progress};
pub use snapshot::{Snapshot, View};
pub use stats::{Recovery, Stats};
pub use store::Store;
pub use stream::{RawSummary, StreamSummary, verify_stream};
pub use txn::WriteTxn;
pub use verify::VerifyReport;

/// What fuzzers need beyond the public face; there in builds with `--cfg fuzzing` only.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Makes decoders take every checksum for right, so that a fuzzer gets to what is behind it. Pages are still checked.
    pub fn ignore_checksums(ignores: bool) {
        crate::format::checksum::IGNORED.store(ignores, std::sync::atomic::Ordering::Relaxed);
    }
}
