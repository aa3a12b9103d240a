//! Snapshots that hold what the application still has in memory: hooks that flush it, stop its writers for a moment, and let
//! them go on.
//!
//! # How the application is let go on, whatever happens
//! 1. Each hook runs in a thread of its own for the length of one snapshot, and its calls come one after the other: `prepare`,
//!    then `freeze`, then `thaw`, then `abort` if no snapshot came out of it. Who takes the snapshot waits for each answer, and
//!    never longer than the deadline.
//! 2. A hook's thread that has frozen waits for the word to thaw, and thaws by itself when the deadline has passed, or when
//!    whoever should give the word is gone, by a panic or otherwise. So `thaw` follows every call of `freeze`, whatever that
//!    returned, and needs nobody else to be alive.
//! 3. A snapshot counts only if every hook was still frozen when its commit was done: that is looked at after the commit, by
//!    the same word that a thread changes before it thaws by itself.
//! 4. A hook that hangs keeps its thread and nothing else: the others are thawed, the caller gets an error, or the snapshot if
//!    the hook is optional. When it comes back it is told that it was too late, by `thaw` and `abort`; until then it is not
//!    called again, so there is one thread a hook at most. A store without hooks starts none.

mod api;
mod freeze;
mod hook;
mod worker;

pub use api::{Quiesce, Quiesced};
pub(crate) use freeze::Frozen;
pub(crate) use hook::Hooks;
pub use hook::{AbortCause, HookCause, HookFailure, HookInfo, HookNeed, HookPhase, HookResult, QuiesceHook};
pub use worker::Window;
