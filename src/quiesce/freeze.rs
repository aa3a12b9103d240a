//! The hooks of one or several stores, frozen together until dropped.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::api::Quiesce;
use super::hook::{HookFailure, HookNeed};
use super::worker::{Window, Worker};
use crate::error::{Error, Result};
use crate::store::Store;

/// Applications that stand still. Dropped, they go on.
pub(crate) struct Frozen {
    /// In the order in which they were frozen.
    workers: Vec<Worker>,
    /// Those whose turn to freeze has not come.
    prepared: VecDeque<Worker>,
    failures: Vec<HookFailure>,
    deadline: Duration,
    /// Since when the first stands still.
    since: Instant,
    _turns: Vec<Turn>,
}

/// A store's hooks, used by nobody else until dropped.
struct Turn(Store);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.hooks().give_turn_back();
    }
}

impl Frozen {
    /// Prepares all hooks of the stores and then freezes them. The stores come in an order that all callers keep to.
    pub(crate) fn freeze(stores: &[&Store], quiesce: &Quiesce) -> Result<Frozen> {
        let prepare = Window::new(quiesce.prepare_deadline);
        let mut hooks = Vec::new();
        let mut turns = Vec::new();
        for store in stores {
            let own = store.hooks().all();
            if !own.is_empty() {
                store.hooks().take_turn(prepare.remaining())?;
                turns.push(Turn((*store).clone()));
            }
            hooks.extend(own.into_iter().map(|hook| (*store, hook)));
        }
        let mut frozen = Frozen {
            workers: Vec::with_capacity(hooks.len()),
            prepared: VecDeque::with_capacity(hooks.len()),
            failures: Vec::new(),
            deadline: quiesce.deadline,
            since: Instant::now(),
            _turns: turns,
        };
        for (store, hook) in hooks {
            match Worker::prepare(&hook, store, prepare) {
                Ok(worker) => frozen.prepared.push_back(worker),
                Err(failure) => frozen.forgive(hook.need, failure)?,
            }
        }
        frozen.since = Instant::now();
        let window = Window::new(quiesce.deadline);
        while let Some(worker) = frozen.prepared.pop_front() {
            let need = worker.hook.need;
            match worker.freeze(window) {
                Ok(worker) => frozen.workers.push(worker),
                Err(failure) => frozen.forgive(need, failure)?,
            }
        }
        Ok(frozen)
    }

    /// Takes note of a failure that the snapshot can do without.
    fn forgive(&mut self, need: HookNeed, failure: HookFailure) -> Result<()> {
        match need {
            HookNeed::Essential => Err(failure.into_error()),
            HookNeed::Optional => {
                self.failures.push(failure);
                Ok(())
            }
        }
    }

    /// Says that the snapshot is there. An error if any hook has thawed before.
    pub(crate) fn claim(&self) -> Result<()> {
        let mut is_frozen = true;
        for worker in &self.workers {
            is_frozen &= worker.claim();
        }
        match is_frozen {
            true => Ok(()),
            false => Err(Error::QuiesceLate { deadline: self.deadline }),
        }
    }

    /// Lets the applications go on, the last first. What failed on the way, and for how long they stood still.
    pub(crate) fn thaw(mut self) -> (Vec<HookFailure>, Duration) {
        self.end(true);
        (std::mem::take(&mut self.failures), self.since.elapsed())
    }

    fn end(&mut self, is_taken: bool) {
        let window = Window::new(self.deadline);
        loop {
            // One that hangs leaves the others their share.
            let left = u32::try_from(self.prepared.len() + self.workers.len()).unwrap_or(u32::MAX);
            let Some(worker) = self.prepared.pop_back().or_else(|| self.workers.pop()) else { return };
            match worker.end(is_taken, Window::new(window.remaining() / left.max(1))) {
                Ok(hook) if is_taken => hook.note(None),
                Ok(_) => {}
                Err(failure) => self.failures.push(failure),
            }
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.end(false);
    }
}
