//! From private pages to a published version.
//!
//! - `queue`: who leads, who follows, who is woken;
//! - `request`: what a transaction hands over;
//! - `validate`: first committer wins;
//! - `lead`: what the leader does with a batch;
//! - `bulk`: one version of any size, for imports.

pub(crate) mod bulk;
pub(crate) mod lead;
pub(crate) mod queue;
pub(crate) mod request;
pub(crate) mod validate;
