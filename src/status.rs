//! What a store in use tells about itself: one small file that its own thread writes now and then.
//!
//! A store is locked by the process that has it open, so nobody else can look into it. This file can be read by anybody. It is
//! replaced as a whole, never synced, and never read by the store: nothing depends on it, and whatever it says may be
//! out of date. It is removed when the store is closed; one that a crash left goes with the next opening.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::core::{Core, now_ms};
use crate::error::{Error, Result};
use crate::govern::Event;
use crate::pins::Pin;
use crate::stats::{Recovery, Stats};
use crate::store::Store;

/// Under this name the file is built.
const NEW: &str = "status.new";

/// Pins told at most: those that keep most.
const PINS_MAX: usize = 200;

/// Looking takes this part of the thread's time at most: one in so many.
const PART: u32 = 20;

/// How a store stands, in a form that can be written down: see [`Options::status_every`](crate::Options::status_every).
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The form of what follows; a reader of another form should say so, and no more. Fields may be added under the same.
    pub format: u32,
    /// The store's identity.
    pub store: String,
    /// The process that has the store open.
    pub process: u32,
    /// When this was found out, in milliseconds since 1970 (UTC).
    pub written_at_ms: u64,
    /// Milliseconds until the next look, if there is to be one.
    pub next_in_ms: Option<u64>,
    /// Microseconds that it took.
    pub took_micros: u64,
    /// The store in numbers.
    pub stats: Stats,
    /// Pins in all.
    pub pin_count: u64,
    /// The pins that keep most, at most 200, the greediest first.
    pub pins: Vec<Pin>,
}

impl Status {
    /// The name of the file in the store's directory.
    pub const FILE: &str = "status.json";

    /// The form that this version writes.
    pub const FORMAT: u32 = 1;

    fn of(core: &Core, recovery: Recovery) -> Result<Status> {
        let begun = Instant::now();
        let mut pins = core.pins()?;
        let pin_count = pins.len() as u64;
        pins.sort_by_key(|pin| (std::cmp::Reverse((pin.version_bytes, pin.age)), pin.version));
        pins.truncate(PINS_MAX);
        Ok(Status {
            format: Self::FORMAT,
            store: core.store_id().to_string(),
            process: std::process::id(),
            written_at_ms: now_ms(),
            next_in_ms: None,
            stats: core.stats(recovery),
            pin_count,
            pins,
            took_micros: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
        })
    }
}

impl Store {
    /// How the store stands: [`Store::stats`], and of [`Store::pins`] those that keep most. To be written where those who can't
    /// open the store can read it; [`Options::status_every`](crate::Options::status_every) does that.
    ///
    /// Costs what [`Store::pins`] does.
    ///
    /// # Errors
    /// As [`Store::pins`].
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use vellum::{Options, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// let status = store.status()?;
    /// assert_eq!(status.process, std::process::id());
    /// # Ok(()) }
    /// ```
    pub fn status(&self) -> Result<Status> {
        Status::of(self.core(), self.recovery())
    }
}

/// Writes the file when it is time to. The store's own thread has it.
pub(crate) struct Teller {
    recovery: Recovery,
    due: Instant,
    /// Whether the last attempt failed; said once.
    has_failed: bool,
}

impl Teller {
    pub(crate) fn new(recovery: Recovery) -> Teller {
        Teller { recovery, due: Instant::now(), has_failed: false }
    }

    /// Writes the file if that is asked for and it is time.
    pub(crate) fn tell(&mut self, core: &Core) {
        let Some(every) = core.options.status_interval() else { return };
        if Instant::now() < self.due {
            return;
        }
        let begun = Instant::now();
        let written = self.write(core, every);
        // If looking is costly it is done less often.
        let pause = every.max(begun.elapsed().saturating_mul(PART));
        self.due = begun + pause;
        let has_failed = written.is_err();
        if let Err(error) = written
            && !self.has_failed
        {
            core.options.events().tell(&Event::MaintenanceFailed { error });
        }
        self.has_failed = has_failed;
    }

    fn write(&self, core: &Core, every: Duration) -> Result<()> {
        let mut status = Status::of(core, self.recovery)?;
        let pause = every.max(Duration::from_micros(status.took_micros).saturating_mul(PART));
        status.next_in_ms = Some(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        let storage = core.segments.storage();
        let fail = |operation| move |error| Error::io(operation, storage.path(NEW), error);
        let bytes = serde_json::to_vec(&status).map_err(|error| fail("write to")(error.into()))?;
        // One that a crash left.
        let _ = storage.remove(NEW);
        let file = storage.create(NEW, 0).map_err(fail("create"))?;
        let written = file.write_all_at(&[IoSlice::new(&bytes)], 0).map_err(fail("write to"));
        drop(file);
        written.and_then(|()| storage.rename(NEW, Status::FILE).map_err(fail("rename"))).inspect_err(|_| {
            // What is left of it would only take room.
            let _ = storage.remove(NEW);
        })
    }
}

impl Core {
    /// Removes what was told, if it was: what isn't there any more can't mislead.
    pub(crate) fn end_status(&self) {
        if self.options.status_interval().is_some() {
            let _ = self.segments.storage().remove(Status::FILE);
        }
    }
}
