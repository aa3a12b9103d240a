//! What an application registers, and what is known of it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use super::worker::Window;
use crate::error::{Error, Result};
use crate::names::check_name;
use crate::store::Store;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex};

/// Most hooks of a store.
const HOOKS_MAX: usize = 64;

/// What a hook returns: an error of the application's own is kept as the source of [`Error::HookFailed`].
pub type HookResult = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// What an application does around a quiesced snapshot: see
/// [`Store::create_snapshot_quiesced`](crate::Store::create_snapshot_quiesced).
///
/// The calls come from a thread of the store's, one at a time. Each may fail, panic or take too long: the store copes with all
/// three. `thaw` follows every call of `freeze`, whatever came of that.
pub trait QuiesceHook: Send {
    /// Writes what the application holds in memory into pages, and commits them: the snapshot then includes it. Writers go on
    /// meanwhile. Does nothing by default.
    ///
    /// # Errors
    /// Whatever keeps the application from being ready: without an essential hook there is no snapshot.
    fn prepare(&mut self, store: &Store, window: &Window) -> HookResult {
        let _ = (store, window);
        Ok(())
    }

    /// Stops the application's writers, and returns when they have stopped. Be quick: they stand still until `thaw`.
    ///
    /// # Errors
    /// As for `prepare`; `thaw` is called all the same.
    fn freeze(&mut self, window: &Window) -> HookResult;

    /// Lets the application's writers go on. Called after each `freeze`, also after one that failed or panicked: when the snapshot
    /// is there, when it failed, or when the deadline has passed, whichever comes first.
    ///
    /// # Errors
    /// They are reported beside the snapshot, which is not lost by them.
    fn thaw(&mut self) -> HookResult;

    /// Says that no snapshot counts on this hook, so that what `prepare` has begun can be undone: after `thaw`, if there was a
    /// `freeze`. Does nothing by default.
    fn abort(&mut self, cause: AbortCause) {
        let _ = cause;
    }
}

/// Whether a snapshot may do without a hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum HookNeed {
    /// If it fails there is no snapshot.
    Essential,
    /// If it fails, the snapshot is taken all the same and tells of it. It may use half of the time that is left, so that
    /// one that hangs leaves some for the others.
    Optional,
}

/// What a hook was asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum HookPhase {
    /// [`QuiesceHook::prepare`].
    Prepare,
    /// [`QuiesceHook::freeze`].
    Freeze,
    /// [`QuiesceHook::thaw`].
    Thaw,
    /// [`QuiesceHook::abort`].
    Abort,
}

impl fmt::Display for HookPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HookPhase::Prepare => "prepare",
            HookPhase::Freeze => "freeze",
            HookPhase::Thaw => "thaw",
            HookPhase::Abort => "abort",
        })
    }
}

/// Why [`QuiesceHook::abort`] is called.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AbortCause {
    /// This hook or another failed, or the snapshot itself did.
    Failed,
    /// The deadline passed: this call or the snapshot took too long.
    Late,
}

/// Why a hook failed.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum HookCause {
    /// It returned an error.
    Failed(Arc<dyn std::error::Error + Send + Sync>),
    /// It panicked, with this message.
    Panicked(String),
    /// It had not returned when its time was over, and may still be running.
    TimedOut,
    /// It is still running from an earlier snapshot.
    StillRunning,
    /// No thread could be started for it.
    NoThread(Arc<std::io::Error>),
}

impl fmt::Display for HookCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HookCause::Failed(error) => write!(f, "failed: {error}"),
            HookCause::Panicked(message) => write!(f, "panicked: {message}"),
            HookCause::TimedOut => f.write_str("did not return in time"),
            HookCause::StillRunning => f.write_str("is still running from an earlier snapshot"),
            HookCause::NoThread(error) => write!(f, "could get no thread: {error}"),
        }
    }
}

impl Serialize for HookCause {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A hook that failed, and in what.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
pub struct HookFailure {
    /// The hook's name.
    pub hook: String,
    /// What it was asked to do.
    pub phase: HookPhase,
    /// What came of it.
    pub cause: HookCause,
}

impl HookFailure {
    pub(super) fn into_error(self) -> Error {
        Error::HookFailed { hook: self.hook, phase: self.phase, cause: self.cause }
    }
}

/// A registered hook.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
pub struct HookInfo {
    /// Its name.
    pub name: String,
    /// Whether a snapshot may do without it.
    pub need: HookNeed,
    /// Whether one of its calls is running now.
    pub is_running: bool,
    /// How its last snapshot went wrong, if it did.
    pub last_failure: Option<HookFailure>,
}

/// One registration.
pub(super) struct Hook {
    pub(super) name: String,
    pub(super) need: HookNeed,
    /// Only the thread that has set `is_running` locks it, so nobody ever waits here.
    pub(super) body: Mutex<Box<dyn QuiesceHook>>,
    pub(super) is_running: AtomicBool,
    last_failure: Mutex<Option<HookFailure>>,
}

impl Hook {
    /// Notes what became of the hook; the first failure of a run counts.
    pub(super) fn note(&self, failure: Option<&HookFailure>) {
        *self.last_failure.lock() = failure.cloned();
    }

    pub(super) fn failure(&self, phase: HookPhase, cause: HookCause) -> HookFailure {
        let failure = HookFailure { hook: self.name.clone(), phase, cause };
        self.note(Some(&failure));
        failure
    }

    fn info(&self) -> HookInfo {
        HookInfo {
            name: self.name.clone(),
            need: self.need,
            is_running: self.is_running.load(Ordering::Acquire),
            last_failure: self.last_failure.lock().clone(),
        }
    }
}

/// The hooks of a store, in the order of their registration.
#[derive(Default)]
pub(crate) struct Hooks {
    list: Mutex<Vec<Arc<Hook>>>,
    /// Whether they are in use by a snapshot that is being taken.
    is_taken: Mutex<bool>,
    given_back: Condvar,
}

impl Hooks {
    pub(super) fn all(&self) -> Vec<Arc<Hook>> {
        self.list.lock().clone()
    }

    /// Takes the hooks for one snapshot, when no other has them any more.
    pub(super) fn take_turn(&self, time: Duration) -> Result<()> {
        let begun = Instant::now();
        let mut is_taken = self.is_taken.lock();
        while *is_taken {
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Error::QuiesceBusy { waited: time });
            }
            is_taken = self.given_back.wait_timeout(is_taken, left);
        }
        *is_taken = true;
        Ok(())
    }

    pub(super) fn give_turn_back(&self) {
        *self.is_taken.lock() = false;
        self.given_back.notify_one();
    }
}

impl Store {
    /// Registers a hook, to be called around every [`Store::create_snapshot_quiesced`], and every group snapshot that this store
    /// is a member of: in the order of registration, and for `thaw` in the reverse one. It stays until it is removed or the
    /// store is closed. It must not keep a handle to the store itself, which would then never be closed: `prepare` is given one.
    ///
    /// # Errors
    /// [`Error::HookExists`], [`Error::InvalidName`], and [`Error::InvalidOption`] for more than 64 hooks.
    pub fn add_hook(&self, name: &str, need: HookNeed, hook: impl QuiesceHook + 'static) -> Result<()> {
        check_name("a hook's name", name)?;
        let mut hooks = self.hooks().list.lock();
        if hooks.iter().any(|hook| hook.name == name) {
            return Err(Error::HookExists { hook: name.to_owned() });
        }
        if hooks.len() >= HOOKS_MAX {
            let expected = format!("at most {HOOKS_MAX} are");
            return Err(Error::InvalidOption {
                option: "hooks",
                value: (hooks.len() + 1).to_string(),
                expected,
            });
        }
        hooks.push(Arc::new(Hook {
            name: name.to_owned(),
            need,
            body: Mutex::new(Box::new(hook)),
            is_running: AtomicBool::new(false),
            last_failure: Mutex::new(None),
        }));
        Ok(())
    }

    /// Removes a hook. A snapshot that is being taken just now still calls it.
    ///
    /// # Errors
    /// [`Error::HookNotFound`].
    pub fn remove_hook(&self, name: &str) -> Result<()> {
        let mut hooks = self.hooks().list.lock();
        match hooks.iter().position(|hook| hook.name == name) {
            Some(index) => {
                let removed = hooks.remove(index);
                drop(hooks);
                // It is the application's, and may do anything when it goes.
                drop(removed);
                Ok(())
            }
            None => Err(Error::HookNotFound { hook: name.to_owned() }),
        }
    }

    /// The registered hooks, in the order of their registration, and how they last fared.
    pub fn hook_infos(&self) -> Vec<HookInfo> {
        self.hooks().all().iter().map(|hook| hook.info()).collect()
    }
}
