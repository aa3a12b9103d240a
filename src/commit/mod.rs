//! From private pages to a published version.
//!
//! - `queue`: who leads, who follows, who is woken;
//! - `request`: what a transaction hands over;
//! - `validate`: first committer wins;
//! - `lead`: what the leader does with a batch;
//! - `whole`: one version of any size, for imports, deltas and rollbacks.
//! - `found`: what recovery found, applied.

pub(crate) mod found;
pub(crate) mod lead;
pub(crate) mod queue;
pub(crate) mod request;
pub(crate) mod validate;
pub(crate) mod whole;

#[cfg(all(test, not(loom)))]
mod tests;
