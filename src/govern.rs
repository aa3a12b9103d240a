//! Limits on what readers may keep: bytes of old versions, and views that stay open.
//!
//! What old versions keep is told from the store's account: what is in use less what the current version reaches. That is
//! cheap and a little too high (it has what waits to be reclaimed), so only when it is over the limit are the
//! pins weighed exactly.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::id::Version;
use crate::pins::{Pin, PinKind};
use crate::sync::atomic::{AtomicBool, Ordering};

/// What happens when old versions keep more than [`Options::retained_limit`](crate::Options::retained_limit) allows.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum RetainedPolicy {
    /// The observer is told ([`Event::RetainedLimit`]), and nothing else.
    Warn,
    /// [`Store::try_snapshot`](crate::Store::try_snapshot) and [`Store::create_snapshot`](crate::Store::create_snapshot) fail with
    /// [`Error::RetainedLimit`] until it is less. The history window is shortened before anybody is refused. What each pin keeps is at most one copy of the store, so this bounds the whole.
    Refuse,
    /// Snapshots are taken from their holders, the one that keeps the most first, until it is less: reading from them fails
    /// with [`Error::SnapshotRevoked`]. Named snapshots and transactions are never taken. The history window is shortened first.
    Revoke,
}

/// What a store tells of by itself.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Event {
    /// Old versions keep more than the limit. Told once, and again when it was less in between.
    RetainedLimit {
        /// Bytes that only old versions see.
        retained_bytes: u64,
        /// The limit.
        limit: u64,
        /// The pins, the one that keeps the most first.
        pins: Vec<Pin>,
    },
    /// A snapshot was taken from its holders, under [`RetainedPolicy::Revoke`].
    SnapshotRevoked {
        /// What it was.
        pin: Pin,
    },
    /// The history window was shortened from its old end, under [`RetainedPolicy::Refuse`] or [`RetainedPolicy::Revoke`].
    HistoryShortened {
        /// How many versions it let go.
        versions: usize,
    },
    /// A view has been open for longer than [`Options::view_limit`](crate::Options::view_limit). Told once a view.
    ViewStalled {
        /// The name of the thread that has it open, or its number.
        thread: String,
        /// The version that was read first.
        version: Version,
        /// For how long at least.
        age: Duration,
    },
    /// Work in the background failed and will be tried again. What ends all writing is told by the next commit.
    MaintenanceFailed {
        /// Why.
        error: Error,
    },
}

type EventObserver = dyn Fn(&Event) + Send + Sync;

/// Whom a store tells.
#[derive(Clone, Default)]
pub(crate) struct EventSink(Option<Arc<EventObserver>>);

impl EventSink {
    pub(crate) fn new(observer: impl Fn(&Event) + Send + Sync + 'static) -> EventSink {
        EventSink(Some(Arc::new(observer)))
    }

    pub(crate) fn tell(&self, event: &Event) {
        if let Some(observer) = &self.0 {
            observer(event);
        }
    }
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "an observer" } else { "nobody" })
    }
}

/// What was found by the last look.
#[derive(Debug, Default)]
pub(crate) struct Governor {
    is_over: AtomicBool,
}

impl Core {
    /// Bytes that only old versions see, and what waits to be reclaimed.
    pub(crate) fn retained_bytes(&self) -> u64 {
        let mut stats = crate::stats::Stats::default();
        self.segments.fill(&mut stats);
        stats.allocated_bytes.saturating_sub(stats.live_bytes)
    }

    /// Holds what readers keep against the limits. Costs little while they are kept.
    pub(crate) fn govern(&self) {
        for view in self.epoch.stalled_views(self.options.view_max()) {
            let (thread, version, age) = (view.thread, view.version, view.age);
            self.options.events().tell(&Event::ViewStalled { thread, version, age });
        }
        let Some((limit, policy)) = self.options.retained_max() else { return };
        if self.retained_bytes() <= limit {
            self.governor.is_over.store(false, Ordering::Relaxed);
            return;
        }
        let may_shorten = policy != RetainedPolicy::Warn && self.history.lock().roots().len() > 1;
        if policy != RetainedPolicy::Revoke && !may_shorten && self.governor.is_over.load(Ordering::Relaxed) {
            // Told already; a look at the exact figure is worth it only for those who ask for a pin.
            return;
        }
        // What can't be read now is found again by whoever reads it.
        let _ = self.weigh(limit, policy);
    }

    /// Weighs the pins exactly; takes some from their holders if the policy says so. Returns what is left to say against
    /// a further pin.
    fn weigh(&self, limit: u64, policy: RetainedPolicy) -> Result<Option<Error>> {
        self.settle();
        let mut is_first = true;
        loop {
            let (retained_bytes, pins) = self.weighed_pins()?;
            let was_over = self.governor.is_over.swap(retained_bytes > limit, Ordering::Relaxed);
            if retained_bytes <= limit {
                return Ok(None);
            }
            if is_first && !was_over {
                let event = Event::RetainedLimit { retained_bytes, limit, pins: pins.clone() };
                self.options.events().tell(&event);
            }
            is_first = false;
            if policy != RetainedPolicy::Warn && self.shorten_history(&pins)? {
                self.settle();
                continue;
            }
            let worst = pins.first().map_or_else(String::new, describe);
            let error = Error::RetainedLimit { retained: retained_bytes, limit, worst };
            if policy != RetainedPolicy::Revoke || !self.revoke_worst(&pins)? {
                return Ok(Some(error));
            }
            self.settle();
        }
    }

    /// Refuses a further pin if the policy says so.
    pub(crate) fn admit_pin(&self) -> Result<()> {
        match self.options.retained_max() {
            Some((limit, policy @ RetainedPolicy::Refuse)) if self.retained_bytes() > limit => {
                self.weigh(limit, policy)?.map_or(Ok(()), Err)
            }
            _ => Ok(()),
        }
    }

    /// Bytes that only old versions see, and who pins them, the one that keeps the most first. What only the durable
    /// checkpoint keeps doesn't count: it goes by itself.
    fn weighed_pins(&self) -> Result<(u64, Vec<Pin>)> {
        let mut pins = self.pins()?;
        pins.retain(|pin| {
            use PinKind::{Fork, History, Named, Snapshot, Transaction};
            matches!(pin.kind, Snapshot | Named | Transaction | History | Fork)
        });
        pins.sort_by_key(|pin| (std::cmp::Reverse(pin.version_bytes), pin.version));
        Ok((self.kept_by_old_versions()?, pins))
    }

    /// Lets the older part of the history window go, if something would come back if all of it did. Whether it has.
    fn shorten_history(&self, pins: &[Pin]) -> Result<bool> {
        let of = |is_historic: bool| -> BTreeSet<Version> {
            let own = pins.iter().filter(|pin| (pin.kind == PinKind::History) == is_historic);
            own.map(|pin| pin.version).collect()
        };
        let alone: BTreeSet<Version> = &of(true) - &of(false);
        if self.freed_with(&alone)? == 0 {
            return Ok(false);
        }
        let versions = self.history.lock().shorten(&self.registry);
        if versions > 0 {
            self.options.events().tell(&Event::HistoryShortened { versions });
        }
        Ok(versions > 0)
    }

    /// Takes the snapshots of one version from their holders: of the version that keeps the most alone, or else the
    /// oldest; never of one that a fork lives on. Whether there was any of which taking it, or it and others, gives something back.
    fn revoke_worst(&self, pins: &[Pin]) -> Result<bool> {
        let of_others: BTreeSet<Version> =
            pins.iter().filter(|pin| pin.kind != PinKind::Snapshot).map(|pin| pin.version).collect();
        let may_go = |pin: &&Pin| !of_others.contains(&pin.version);
        let Some(worst) = pins.iter().find(may_go) else { return Ok(false) };
        let all = pins.iter().filter(may_go).map(|pin| pin.version).collect();
        if self.freed_with(&all)? == 0 {
            return Ok(false);
        }
        // Nothing is packed meanwhile: that relies on pins staying.
        let Some(_space) = self.space.try_lock() else { return Ok(false) };
        let mut slots = Vec::new();
        {
            let mut held = crate::space::Held::new(self);
            held.hold_live(|slot, root| slots.push((slot, root)));
            slots.retain(|(slot, root)| {
                root.root().version == worst.version
                    && PinKind::of(self.registry.note(*slot)) == PinKind::Snapshot
            });
            let mut reclaimer = self.reclaimer.lock();
            slots.retain(|(slot, root)| reclaimer.revoke(*slot, *root, &self.registry));
        }
        let revoked = pins.iter().filter(|pin| pin.kind == PinKind::Snapshot && pin.version == worst.version);
        for pin in revoked.take(slots.len()) {
            self.options.events().tell(&Event::SnapshotRevoked { pin: pin.clone() });
        }
        Ok(!slots.is_empty())
    }
}

fn describe(pin: &Pin) -> String {
    let kind = match pin.kind {
        PinKind::Named => "the named snapshot",
        PinKind::Transaction => "a transaction",
        PinKind::History => "the history window",
        PinKind::Fork => "the snapshot under a fork",
        _ => "a snapshot",
    };
    let owner = pin.owner.as_ref().map_or_else(String::new, |owner| format!(" {owner:?}"));
    format!("{kind}{owner} of {} ({:.0?} old)", pin.version, pin.age)
}
