//! vellum: an embedded MVCC page store for database engines.

mod error;
mod format;
mod id;
mod progress;
pub mod storage;
mod sync;

pub use error::{Error, Result};
pub use id::{Fingerprint, PageId, StoreId, Version};
pub use progress::{Observer, Progress};
