//! One hook's thread for the length of one snapshot.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::hook::{AbortCause, Hook, HookCause, HookFailure, HookNeed, HookPhase, HookResult, QuiesceHook};
use crate::store::Store;
use crate::sync::atomic::{AtomicU8, Ordering};

/// How much time a call has.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    end: Instant,
}

impl Window {
    /// A window from now on. What the clock can't count up to ends in a century.
    pub(super) fn new(time: Duration) -> Window {
        let now = Instant::now();
        let far = Duration::from_hours(24 * 365 * 100);
        Window { end: now.checked_add(time.min(far)).unwrap_or(now) }
    }

    /// The time that is left.
    pub fn remaining(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Whether it is too late: nobody waits any more, and what the call has begun should be left.
    pub fn is_over(&self) -> bool {
        self.remaining().is_zero()
    }

    /// What a hook may use of the time that is left.
    fn share(&self, need: HookNeed) -> Duration {
        match need {
            HookNeed::Essential => self.remaining(),
            HookNeed::Optional => self.remaining() / 2,
        }
    }
}

/// What the thread is told.
enum Command {
    /// Until when the call should return, and until when it may stand still.
    Freeze {
        own: Window,
        whole: Window,
    },
    End {
        is_taken: bool,
    },
}

/// What it says when a call has returned.
type Answer = Result<(), HookCause>;

/// Not frozen, or not any more.
const OPEN: u8 = 0;
/// Frozen, and nobody has relied on it yet.
const FROZEN: u8 = 1;
/// Was frozen when the snapshot was there.
const CLAIMED: u8 = 2;
/// Thawed by itself because the deadline had passed.
const EXPIRED: u8 = 3;

/// The thread, for the one who takes the snapshot. When this is dropped without a word the thread thaws and aborts.
pub(super) struct Worker {
    pub(super) hook: Arc<Hook>,
    commands: Sender<Command>,
    answers: Receiver<Answer>,
    state: Arc<AtomicU8>,
}

impl Worker {
    /// Starts the hook's thread, which begins with `prepare`, and waits for that.
    pub(super) fn prepare(hook: &Arc<Hook>, store: &Store, window: Window) -> Result<Worker, HookFailure> {
        let failure = |cause| hook.failure(HookPhase::Prepare, cause);
        if hook.is_running.swap(true, Ordering::AcqRel) {
            return Err(failure(HookCause::StillRunning));
        }
        let running = Running(hook.clone());
        let (commands, orders) = channel();
        let (reports, answers) = channel();
        let state = Arc::new(AtomicU8::new(OPEN));
        let thread = Thread { running, state: state.clone(), orders, reports };
        let own = Window::new(window.share(hook.need));
        let store = store.clone();
        let started = std::thread::Builder::new()
            .name("vellum-quiesce".to_owned())
            .spawn(move || thread.run(store, own));
        if let Err(error) = started {
            return Err(failure(HookCause::NoThread(Arc::new(error))));
        }
        let worker = Worker { hook: hook.clone(), commands, answers, state };
        match worker.answer(own) {
            Ok(()) => Ok(worker),
            Err(cause) => Err(worker.give_up(HookPhase::Prepare, cause, own)),
        }
    }

    /// Has the hook freeze; it thaws by itself at the end of the window.
    pub(super) fn freeze(self, whole: Window) -> Result<Worker, HookFailure> {
        let own = Window::new(whole.share(self.hook.need));
        // If the thread is gone, so is its answer.
        let _ = self.commands.send(Command::Freeze { own, whole });
        match self.answer(own) {
            Ok(()) => Ok(self),
            Err(cause) => Err(self.give_up(HookPhase::Freeze, cause, own)),
        }
    }

    /// Leaves a hook that has failed; what it has to undo it does meanwhile, unless it hangs.
    fn give_up(self, phase: HookPhase, cause: HookCause, window: Window) -> HookFailure {
        if !matches!(cause, HookCause::TimedOut) {
            // What it fails in after that is noted, but was not what went wrong.
            let _ = self.outcome(window);
        }
        self.hook.failure(phase, cause)
    }

    /// Whether the hook was frozen until now.
    pub(super) fn claim(&self) -> bool {
        self.state.compare_exchange(FROZEN, CLAIMED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Ends it, and waits at most so long until the hook has done all that it has to.
    pub(super) fn end(self, is_taken: bool, window: Window) -> Result<Arc<Hook>, HookFailure> {
        // If the thread is gone it has thawed.
        let _ = self.commands.send(Command::End { is_taken });
        match self.outcome(window) {
            Ok(()) => Ok(self.hook),
            Err(cause) => Err(self.hook.failure(HookPhase::Thaw, cause)),
        }
    }

    /// Waits for the end of the thread. The only answer to come is that of `thaw`.
    fn outcome(&self, window: Window) -> Answer {
        let mut thawed = Ok(());
        loop {
            match self.answers.recv_timeout(window.remaining()) {
                Ok(answer) => thawed = answer,
                Err(RecvTimeoutError::Disconnected) => return thawed,
                Err(RecvTimeoutError::Timeout) => return Err(HookCause::TimedOut),
            }
        }
    }

    fn answer(&self, window: Window) -> Answer {
        match self.answers.recv_timeout(window.remaining()) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(HookCause::TimedOut),
            Err(RecvTimeoutError::Disconnected) => {
                Err(HookCause::Panicked("the hook's thread ended".to_owned()))
            }
        }
    }
}

/// Says that the hook is running, until dropped.
struct Running(Arc<Hook>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.is_running.store(false, Ordering::Release);
    }
}

/// What the thread has. `running` goes before `reports`: who sees the latter's end may call the hook again.
struct Thread {
    running: Running,
    state: Arc<AtomicU8>,
    orders: Receiver<Command>,
    reports: Sender<Answer>,
}

impl Thread {
    fn run(self, store: Store, prepare: Window) {
        let hook = self.running.0.clone();
        let mut body = hook.body.lock();
        let prepared = contain(|| body.prepare(&store, &prepare));
        // A hook that hangs later must not keep the store open.
        drop(store);
        let is_prepared = prepared.is_ok();
        let is_heard = self.reports.send(prepared).is_ok() && is_prepared;
        match is_heard.then(|| self.orders.recv()) {
            Some(Ok(Command::Freeze { own, whole })) => self.freeze(&mut **body, own, whole),
            Some(Ok(Command::End { is_taken: true })) => {}
            _ => self.abort(&mut **body, prepare.is_over()),
        }
    }

    /// Freezes, waits, and thaws in any case.
    fn freeze(&self, body: &mut dyn QuiesceHook, own: Window, whole: Window) {
        let frozen = contain(|| body.freeze(&own));
        let (is_frozen, is_late) = (frozen.is_ok(), own.is_over());
        if is_frozen {
            self.state.store(FROZEN, Ordering::Release);
        }
        let is_heard = self.reports.send(frozen).is_ok() && is_frozen;
        let order = match is_heard {
            true => self.orders.recv_timeout(whole.remaining()),
            false => Err(RecvTimeoutError::Disconnected),
        };
        let has_expired = matches!(order, Err(RecvTimeoutError::Timeout))
            && self.state.compare_exchange(FROZEN, EXPIRED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        let thawed = contain(|| body.thaw());
        if let Err(cause) = &thawed {
            // Also if nobody waits for it any more.
            self.running.0.failure(HookPhase::Thaw, cause.clone());
        }
        // Nobody waits for it if the hook was given up.
        let _ = self.reports.send(thawed);
        // Whoever claimed the freeze while it ended has yet to say what became of the snapshot.
        let order = match order {
            Err(RecvTimeoutError::Timeout) if !has_expired => self.orders.recv().ok(),
            other => other.ok(),
        };
        if !matches!(order, Some(Command::End { is_taken: true })) {
            self.abort(body, is_late || whole.is_over());
        }
    }

    fn abort(&self, body: &mut dyn QuiesceHook, is_late: bool) {
        let cause = if is_late { AbortCause::Late } else { AbortCause::Failed };
        let aborted = contain(|| {
            body.abort(cause);
            Ok(())
        });
        if let Err(cause) = aborted {
            self.running.0.failure(HookPhase::Abort, cause);
        }
    }
}

/// Calls the application, whose panics end here.
fn contain(call: impl FnOnce() -> HookResult) -> Answer {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| HookCause::Failed(Arc::from(error))),
        Err(panic) => {
            let message = panic.downcast_ref::<&str>().map(ToString::to_string);
            let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
            // The panic's own value may panic when it is dropped.
            std::mem::forget(panic);
            Err(HookCause::Panicked(message.unwrap_or_else(|| "no message".to_owned())))
        }
    }
}
