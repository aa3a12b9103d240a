//! Snapshots as streams of bytes.
//!
//! - `write`: one snapshot to any `Write`;
//! - `read`: the strict reader, which trusts nothing;
//! - `raw`: page i at offset i * page_size;
//! - `export`, `import`: the calls of the public face.

mod export;
mod import;
mod raw;
mod read;
mod write;

use serde::Serialize;

use crate::id::{Fingerprint, StoreId, Version};

pub use raw::RawSummary;
pub use read::verify_stream;

/// What a stream holds, as far as it was written or checked.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StreamSummary {
    /// The store that was exported.
    pub store_id: StoreId,
    /// The version that was exported.
    pub version: Version,
    /// Its fingerprint, computed from the pages in the stream.
    pub fingerprint: Fingerprint,
    /// Bytes of a page.
    pub page_size: u32,
    /// The version's page count.
    pub page_count: u64,
    /// Pages in the stream.
    pub pages: u64,
    /// Bytes of the whole stream.
    pub bytes: u64,
}
