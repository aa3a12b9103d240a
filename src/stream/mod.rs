//! Snapshots as streams of bytes.
//!
//! - `write`: one snapshot to any `Write`;
//! - `runs`: neighbouring changes that become one record;
//! - `read`: the strict reader, which trusts nothing;
//! - `staging`: where a store is built before it gets its name;
//! - `pages`: the pages of a stream and nothing else;
//! - `raw`: page i at offset i * page_size;
//! - `delta`: what a version has that another, or a bookmark, hasn't;
//! - `chain`: streams one after the other: folded into one, or checked;
//! - `options`: how a stream is written and read; `codec`, `seal`, `pace`: compressed, encrypted, at a rate;
//! - `token`, `point`, `inbox`: streams that were cut are gone on with, where they come from and where they arrive;
//! - `drill`: a restore that is only a trial; `patch`: deltas for raw files;
//! - `export`, `import`, `apply`: the calls of the public face.

mod apply;
mod chain;
mod codec;
mod delta;
mod drill;
mod export;
mod import;
mod inbox;
mod options;
mod pace;
mod pages;
mod patch;
mod point;
mod printed;
mod raw;
mod read;
mod runs;
mod seal;
mod source;
pub(crate) mod staging;
mod token;
mod write;

use serde::Serialize;

use crate::format::stream::{BaseState, StreamHeader};
use crate::id::{Fingerprint, StoreId, Version};

pub(crate) use apply::WAITING;
pub use chain::{fold, fold_as, verify_chain, verify_chain_as};
pub use delta::DeltaBase;
pub use drill::{Checked, Drilled, drill};
pub use inbox::{Inbox, resume_point};
pub use options::{ExportOptions, ImportOptions, StreamKey};
pub(crate) use pages::each_page_of;
pub use patch::{PatchSummary, apply_patch, verify_patch};
pub use point::ResumePoint;
pub use raw::RawSummary;
pub use read::{verify_stream, verify_stream_as};
pub use token::ExportToken;

/// The state that a delta begins at.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StreamBase {
    /// The version.
    pub version: Version,
    /// The fingerprint of its contents: the only thing that [`Store::apply`](crate::Store::apply) asks for.
    pub fingerprint: Fingerprint,
}

/// What a stream holds, as far as it was written or checked.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StreamSummary {
    /// The store that was exported.
    pub store_id: StoreId,
    /// The version that was exported.
    pub version: Version,
    /// What the stream has to be applied to, if it is a delta.
    pub base: Option<StreamBase>,
    /// The version's fingerprint. Of a full stream it was computed from the pages in it; a delta's is checked by whoever
    /// applies it.
    pub fingerprint: Fingerprint,
    /// Bytes of a page.
    pub page_size: u32,
    /// The version's page count.
    pub page_count: u64,
    /// Pages in the stream.
    pub pages: u64,
    /// Ids that the stream says hold nothing, whether or not they did in a delta's base.
    pub freed: u64,
    /// Bytes of the whole stream.
    pub bytes: u64,
}

impl StreamSummary {
    fn new(header: &StreamHeader, pages: u64, freed: u64, bytes: u64) -> StreamSummary {
        let base = header.base.map(|BaseState { version, fingerprint }| StreamBase { version, fingerprint });
        StreamSummary {
            store_id: header.store_id,
            version: header.version,
            base,
            fingerprint: header.fingerprint,
            page_size: header.page_size,
            page_count: header.page_count,
            pages,
            freed,
            bytes,
        }
    }
}
