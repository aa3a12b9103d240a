//! One file a store, and the floor.

pub(crate) mod canopydb;
pub(crate) mod fjall;
pub(crate) mod floor;
pub(crate) mod lmdb;
#[cfg(feature = "libmdbx")]
pub(crate) mod mdbx;
pub(crate) mod redb;
#[cfg(feature = "rocksdb")]
pub(crate) mod rocksdb;
pub(crate) mod sled;
pub(crate) mod sqlite;
pub(crate) mod vellum;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most that the store may grow to, in bytes, for those that must say so: address space, not disk.
const MAP_BYTES: usize = 256 << 30;

/// Bytes of cache that a store with a cache of its own gets: room for all pages and a half more, so that nobody reads a
/// file in a loop that is meant to run in memory. Under `--memory` it is what fits.
fn cache_bytes(pages: u64) -> u64 {
    let wanted = (pages * crate::pages::PAGE as u64) / 2 * 3;
    match crate::cgroup::limit_of_this_process() {
        Some(limit) => wanted.min(limit / 2),
        None => wanted,
    }
}

/// A path in `dir` that wasn't given before in this process.
fn fresh(dir: &Path, name: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    dir.join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)))
}
