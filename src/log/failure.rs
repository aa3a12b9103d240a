//! What a failure to write to the log means for the store.
//!
//! It is either *clean* (nothing was damaged: a full disk; the position stays where it was, and what was written behind it is
//! overwritten by the next batch) or *fatal* (a write or a sync failed in another way: nobody can tell what the disk holds, so the
//! store must take no more writes; an fsync error is never retried).

use crate::error::Error;

/// Why an append failed, and what that means for the store.
#[derive(Debug)]
pub(crate) enum AppendFailure {
    /// The batch is not there, everything else is as before.
    Clean(Error),
    /// Nobody knows what the disk holds: the store must be poisoned.
    Fatal(Error),
}

impl AppendFailure {
    /// What a write's failure means: a full disk has damaged nothing, of any other nobody knows what it left.
    pub(crate) fn of_write(error: Error) -> AppendFailure {
        match error {
            full @ Error::Full { .. } => AppendFailure::Clean(full),
            other => AppendFailure::Fatal(other),
        }
    }

    /// The failure, where what was appended is published already.
    pub(super) fn into_fatal(self) -> AppendFailure {
        AppendFailure::Fatal(self.into_error())
    }

    /// Why, where it doesn't matter what that means.
    pub(super) fn into_error(self) -> Error {
        match self {
            AppendFailure::Clean(error) | AppendFailure::Fatal(error) => error,
        }
    }
}
