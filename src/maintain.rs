//! The store's own thread: full groups to the system, checkpoints when the log has grown enough, and reclaiming while nobody
//! commits.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::govern::Event;
use crate::id::Version;
use crate::log::ahead::{SPARE, SpareInMaking};
use crate::log::failure::AppendFailure;
use crate::log::ready::{Making, sync_making};
use crate::log::unsynced::sync_apart;
use crate::space::{Budget, Effort, Maintenance, Rest};
use crate::stats::Recovery;
use crate::sync::atomic::Ordering;
use crate::sync::{Condvar, Mutex};

mod load;
#[cfg(all(test, feature = "sim", not(any(loom, shuttle))))]
mod tests;

use load::{Load, SOON};

/// How often the thread looks without being asked.
const IDLE: Duration = Duration::from_millis(100);

/// Bytes that the thread copies in one round of packing, before it looks at its other duties.
const ROUND_BYTES: u64 = 32 << 20;

/// Wakes and stops the thread.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stops: bool,
    is_due: bool,
    has_jobs: bool,
}

impl Signal {
    /// Asks for a checkpoint soon.
    pub(crate) fn wake(&self) {
        let mut state = self.state.lock();
        if !state.is_due {
            state.is_due = true;
            self.changed.notify_one();
        }
    }

    /// Says that there is something in the handover.
    pub(crate) fn hand_over(&self) {
        let mut state = self.state.lock();
        if !state.has_jobs {
            state.has_jobs = true;
            self.changed.notify_one();
        }
    }

    fn stop(&self) {
        self.state.lock().stops = true;
        self.changed.notify_all();
    }

    /// Waits for something in the handover, for a while.
    fn wait_for_jobs(&self) {
        let mut state = self.state.lock();
        if !state.has_jobs {
            state = self.changed.wait_timeout(state, IDLE);
        }
        state.has_jobs = false;
    }

    /// Waits for work, unless some is known; `false` when it is time to end.
    fn wait(&self, has_work: bool) -> bool {
        let mut state = self.state.lock();
        if !has_work && !state.stops && !state.is_due && !state.has_jobs {
            state = self.changed.wait_timeout(state, IDLE);
        }
        (state.is_due, state.has_jobs) = (false, false);
        !state.stops
    }
}

/// The thread, joined on drop.
#[derive(Debug)]
pub(crate) struct Maintainer {
    signal: Arc<Signal>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Maintainer {
    pub(crate) fn start(core: &Arc<Core>, recovery: Recovery) -> std::io::Result<Maintainer> {
        let signal = core.signal.clone();
        let weak = Arc::downgrade(core);
        let name = "vellum-maintain".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn({
            let signal = signal.clone();
            move || run(&weak, &signal, recovery)
        })?;
        Ok(Maintainer { signal, thread: Some(thread) })
    }
}

impl Drop for Maintainer {
    fn drop(&mut self) {
        self.signal.stop();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has poisoned the store if it had anything of the disk in hand.
            let _ = thread.join();
        }
    }
}

fn run(core: &Weak<Core>, signal: &Signal, recovery: Recovery) {
    #[cfg(feature = "status")]
    let mut teller = crate::status::Teller::new(recovery);
    #[cfg(not(feature = "status"))]
    let _ = recovery;
    let mut load = Load::new();
    let (mut is_wasteful, mut is_postponed) = (false, false);
    let spare: Mutex<Option<SpareInMaking>> = Mutex::default();
    let mut rest = Rest::new();
    while signal.wait(is_wasteful) {
        let Some(core) = core.upgrade() else { return };
        core.attend();
        let has_looked = load.age() >= IDLE;
        if has_looked || (core.checkpoint_is_due() && !load.is_busy() && load.age() >= SOON) {
            load.look(core.appended(), core.appended_durably(), core.counters.sync_nanos());
            core.is_patient.store(load.is_buffered(), Ordering::Relaxed);
        }
        let mut is_due = core.checkpoint_is_due();
        if has_looked {
            is_due |= is_postponed && !load.is_busy();
            core.idle_work();
            core.govern();
            // What can't be written now is tried again; what can't be written at all, the next commit says.
            let _ = core.drop_expired_name();
            // What a dropped name kept comes back when two catalogs were written without it.
            if core.names.lock().has_leaving() || core.history.lock().is_pressed() {
                is_due |= core.write_catalog_anew().is_ok();
            }
            #[cfg(feature = "status")]
            teller.tell(&core);
        }
        if core.slab.wants_eviction() {
            core.trim_table(&core.log.lock());
        }
        let is_busy = load.is_busy();
        if is_busy {
            core.make_next_ready_beside();
        }
        if core.checkpoint_is_due() {
            // A full disk is tried again later; a broken one has poisoned the store, and commits say so.
            let _ = core.attend_beside(&|| core.write_checkpoint(), is_busy);
        }
        if is_due || is_wasteful {
            let round = core.round_bytes();
            // Where the disk is short, what it holds matters more than who waits for it.
            is_postponed = load.is_busy() && !core.is_disk_short();
            let effort = if is_postponed { Effort::Least } else { Effort::Kept };
            match core.attend_beside(&|| core.tidy(effort, Budget::unlimited().bytes(round)), is_busy) {
                // Rounds go on while they get somewhere; between them the thread sees to its other duties.
                Ok(done) => is_wasteful = done.segments_packed > 0,
                Err(error) => {
                    is_wasteful = false;
                    core.tell_failure(error);
                }
            }
        }
        if has_looked && load.gives_back() {
            let left = core.log.lock().appender.take_left_tails();
            // Not under the lock: giving much memory back takes a while.
            drop(left);
        }
        let is_at_rest = rest.has_given_up();
        if has_looked && let Some(spare) = spare.lock().take_if(|_| is_at_rest || core.is_disk_short()) {
            spare.give_up(&core.segments);
        }
        if has_looked && !is_wasteful && !load.is_busy() && !is_at_rest && core.wants_ahead(load.pace()) {
            let make = || {
                core.prepare_ahead(load.pace()).and_then(|()| core.make_spare(&mut spare.lock(), load.pace()))
            };
            if let Err(error) = core.attend_beside(&make, false) {
                core.tell_unless_full(error);
            }
        }
        if has_looked
            && !is_wasteful
            && let Err(error) = core.give_back_at_rest(&mut rest, core.round_bytes())
        {
            core.tell_unless_full(error);
        }
    }
}

impl Core {
    /// Bytes that one round of packing copies: with a rate, a second's at most.
    fn round_bytes(&self) -> u64 {
        ROUND_BYTES.min(self.options.pack_rate_max().unwrap_or(ROUND_BYTES))
    }

    fn tell_failure(&self, error: Error) {
        self.counters.maintenance_failed();
        self.options.events().tell(&Event::MaintenanceFailed { error });
    }

    /// Without room nothing is made ahead, and nothing is amiss.
    fn tell_unless_full(&self, error: Error) {
        if !matches!(error, Error::Full { .. }) {
            self.tell_failure(error);
        }
    }

    /// What a committing thread does when its commit is done.
    pub(crate) fn after_commit(&self) {
        if self.slab.is_crowded() {
            self.slab.await_walks();
            self.trim_table(&self.log.lock());
        }
        if !self.options.has_thread() && self.counters.is_time_to_govern() {
            self.govern();
        }
        if !self.checkpoint_is_due() {
            return;
        }
        if self.options.has_thread() {
            self.signal.wake();
            // A thread that can't keep up must not let the log, and hence recovery, or the table grow without bound.
            if !self.log_is_overdue() && !self.table_is_overdue() {
                return;
            }
            if self.log_is_overdue() {
                // It may be busy with packing: then commits wait for it, or waste would grow faster than it is cleared.
                drop(self.space.lock());
            }
        } else if self.checkpoint.try_lock().is_none() {
            return;
        }
        // The commit has succeeded, whatever becomes of the checkpoint; a failure that matters poisons the store.
        let _ = self.write_checkpoint();
    }

    /// Asks for a table that fits what readers need.
    #[cold]
    pub(crate) fn trim_table_soon(&self) {
        if self.options.has_thread() {
            self.signal.wake();
        } else if let Some(log) = self.log.try_lock() {
            self.trim_table(&log);
        }
    }

    /// Whether anything is to be made ready for `pace` bytes more.
    fn wants_ahead(&self, pace: u64) -> bool {
        let wants_room = self.log.lock().appender.wants_room_ahead(pace);
        (wants_room || self.wants_spare(pace).is_some()) && !self.is_disk_short()
    }

    /// How far a spare file is to be written for `pace` bytes more, if one is wanted.
    fn wants_spare(&self, pace: u64) -> Option<u64> {
        self.log.lock().appender.wants_spare(pace).filter(|_| self.options.pool_max() > 0)
    }

    /// Makes a file ready for the log to go on in, if `pace` bytes more lead it there. What fails costs speed and nothing else.
    /// Goes on with `begun` until somebody commits, and leaves there what isn't done by then.
    fn make_spare(&self, begun: &mut Option<SpareInMaking>, pace: u64) -> Result<()> {
        let Some(until) = self.wants_spare(pace) else { return Ok(()) };
        if self.is_disk_short() {
            return Ok(());
        }
        let mut spare = match begun.take() {
            Some(spare) => spare,
            None => SpareInMaking::begin(&self.segments)?,
        };
        let before = self.appended();
        let done = loop {
            match self.check_poison().and_then(|()| spare.step(&self.segments, until)) {
                Ok(false) if self.appended() == before => {}
                ended => break ended,
            }
        };
        match done {
            Ok(true) => {
                let written = spare.written(&self.segments);
                self.log.lock().appender.keep_spare(SPARE.to_owned(), written);
            }
            Ok(false) => *begun = Some(spare),
            Err(error) => {
                spare.give_up(&self.segments);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Prepares the active segment for `pace` bytes more, until somebody commits.
    fn prepare_ahead(&self, pace: u64) -> Result<()> {
        if !self.log.lock().appender.wants_room_ahead(pace) || self.is_disk_short() {
            return Ok(());
        }
        let before = self.appended();
        while self.appended() == before {
            self.check_poison()?;
            let piece = self.log.lock().appender.prepare_ahead(pace);
            let Some(number) = piece.map_err(|failure| self.fail(failure))? else { break };
            sync_apart(&self.segments, number).map_err(|failure| self.fail(failure))?;
        }
        Ok(())
    }

    /// Does what commits would else wait for or do themselves: writes what they handed over, and lets go of what no view reads any
    /// more, which may be the end of a large file.
    pub(crate) fn attend(&self) {
        self.handover.work();
        self.release_tables();
    }

    /// Does `work`, which mostly waits for the disk, in a thread of its own, if one can be had. Meanwhile attends to commits, and makes
    /// the next segment ready if they need the disk.
    fn attend_beside<R: Send>(&self, work: &(dyn Fn() -> R + Sync), is_busy: bool) -> R {
        let is_done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let name = "vellum-disk".to_owned();
            let worker = std::thread::Builder::new().name(name).spawn_scoped(scope, || {
                let done = work();
                is_done.store(true, Ordering::Release);
                self.signal.hand_over();
                done
            });
            let Ok(worker) = worker else { return work() };
            while !is_done.load(Ordering::Acquire) && !worker.is_finished() {
                self.signal.wait_for_jobs();
                self.attend();
                if is_busy {
                    self.make_next_ready_beside();
                }
            }
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Makes the next segment ready for the log, if that will soon come there, and attends to commits meanwhile.
    fn make_next_ready_beside(&self) {
        if self.gauges.wants_next.load(Ordering::Relaxed)
            && let Err(error) = self.attend_beside(&|| self.make_next_ready(), false)
        {
            self.tell_unless_full(error);
        }
    }

    /// Makes the next segment ready for the log, if that will soon come there.
    pub(crate) fn make_next_ready(&self) -> Result<()> {
        self.check_poison()?;
        if self.is_disk_short() {
            return Ok(());
        }
        let fail = |failure| self.fail(failure);
        let Some(mut making) = self.log.lock().appender.begin_next().map_err(fail)? else { return Ok(()) };
        let synced = |making: &Making| match sync_making(&self.segments, making) {
            // The log came there meanwhile, and made another file of that name.
            Err(AppendFailure::Clean(_)) if !self.log.lock().appender.is_making(making) => Ok(()),
            done => done.map_err(fail),
        };
        synced(&making)?;
        let durable = Version(self.durable.load(Ordering::Acquire));
        if self.log.lock().appender.write_next_header(&mut making, durable).map_err(fail)? {
            synced(&making)?;
            self.log.lock().appender.next_is_ready(&making);
        }
        Ok(())
    }

    /// Hands gathered commits to the system, and lets the reclaimer work if anything waits for it.
    fn idle_work(&self) {
        if let Err(failure) = self.log.lock().appender.flush() {
            // The store is poisoned by it, and every later commit says so.
            let _ = self.fail(failure);
        }
        if self.reclaimer.lock().waiting() > 0
            || self.segments.tables_waiting() > 0
            || self.has_dropped_pins()
        {
            self.grace.advance(&self.epoch);
            self.pass();
        }
    }

    /// Reclaims all that can be reclaimed now, writes a checkpoint, and gives disk space back.
    pub(crate) fn maintain(&self, budget: Budget) -> Result<Maintenance> {
        // One that can't be dropped now, on a full disk say, keeps nothing of the rest from being done.
        let most = self.names.lock().iter().count();
        for _ in 0..most {
            if !self.drop_expired_name().unwrap_or(false) {
                break;
            }
        }
        self.write_only_checkpoint()?;
        self.settle();
        self.govern();
        if self.history.lock().is_pressed() {
            self.write_only_checkpoint()?;
            self.settle();
        }
        self.tidy(Effort::All, budget)
    }
}
