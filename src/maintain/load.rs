//! What the store's thread knows of how much commits need the disk.

use std::time::{Duration, Instant};

use crate::log::ahead::AHEAD_BYTES;
use crate::rate::Rate;

/// Bytes a second from which on commits need the disk for themselves.
const BUSY_RATE: u64 = 4 << 20;
/// For how long the log must have grown slower before packing goes on.
const CALM: Duration = Duration::from_millis(300);

/// For how long after a burst memory is kept for the next one: as long as files are (`space::rest`).
const KEPT: Duration = Duration::from_secs(6);

/// What is appended after the log has not grown for so long is another burst.
const PAUSE: Duration = Duration::from_millis(50);
/// A look that comes so long after the last one says little of the moment.
const BLIND: Duration = Duration::from_millis(400);
/// What of an earlier burst is remembered after the next: a quarter, so that a small one after a large one isn't followed by zeros that
/// nobody comes to.
const FADING: u64 = 4;
/// How soon after the last look the thread looks again, when there is something to decide.
pub(super) const SOON: Duration = Duration::from_millis(5);

/// Whether commits need the disk: packing beside them would take its share of it and make their syncs wait.
pub(super) struct Load {
    appended: Rate,
    /// Nanoseconds that commits have spent in syncs.
    synced: Rate,
    /// Bytes of durable commits, at the last look.
    durable: u64,
    busy_at: Option<Instant>,
    /// The last burst's end.
    used_at: Option<Instant>,
    /// No commit has synced between the last two looks.
    is_buffered: bool,
    /// By how much durable commits have let the log grow without a pause, and did before the last pauses. What is loaded without a sync says
    /// nothing of what they will want.
    growing: u64,
    grown: u64,
}

impl Load {
    /// Of a store that was just opened.
    pub(super) fn new() -> Load {
        let (appended, synced) = (Rate::new(0), Rate::new(0));
        Load {
            appended,
            synced,
            durable: 0,
            busy_at: None,
            used_at: None,
            is_buffered: false,
            growing: 0,
            grown: 0,
        }
    }

    /// `durable` are the bytes of durable commits among those `appended`.
    pub(super) fn look(&mut self, appended: u64, durable: u64, sync_nanos: u64) {
        // After a long time without a look, in a process that stood still say, a low rate tells nothing of now: what held before
        // holds until the next look.
        let is_blind = self.appended.age() > BLIND;
        let has_synced = self.synced.look(sync_nanos) > 0;
        if appended > self.appended.count() {
            let more = durable.saturating_sub(self.durable);
            // What lies beyond is never made ready, and would only be forgotten more slowly.
            self.growing = self.growing.saturating_add(more).min(AHEAD_BYTES);
            self.durable = durable;
        } else if self.growing > 0 && self.appended.age() >= PAUSE {
            (self.grown, self.growing) = (self.growing.max(self.grown / FADING), 0);
        }
        if self.appended.look(appended) >= BUSY_RATE || (is_blind && self.busy_at.is_some()) {
            self.busy_at = Some(Instant::now());
            self.used_at = self.busy_at;
        } else if !self.is_busy() {
            self.busy_at = None;
        }
        self.is_buffered = !has_synced;
    }

    /// The bytes by which durable commits may be expected to let the log grow before it stands still again.
    pub(super) fn pace(&self) -> u64 {
        self.growing.max(self.grown)
    }

    /// Whether commits come fast and don't wait for the disk.
    pub(super) fn is_buffered(&self) -> bool {
        self.is_busy() && self.is_buffered
    }

    /// The time since the last look.
    pub(super) fn age(&self) -> Duration {
        self.appended.age()
    }

    /// Whether memory that commits used is to be given back: unless there was a burst a short while ago, and so perhaps soon another.
    pub(super) fn gives_back(&self) -> bool {
        self.used_at.is_none_or(|at| at.elapsed() >= KEPT)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy_at.is_some_and(|at| at.elapsed() < CALM)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// A load of 1 TiB since the last look, some milliseconds ago at most.
    const MUCH: u64 = 1 << 40;

    fn busy_before(ago: Duration) -> Option<Instant> {
        Instant::now().checked_sub(ago)
    }

    #[test]
    fn a_log_that_grows_fast_is_busy_and_then_calm_again() {
        let mut load = Load::new();
        assert!(!load.is_busy());
        load.look(1, 0, 0);
        assert!(!load.is_busy(), "one byte is no load");
        load.look(MUCH, 0, 0);
        assert!(load.is_busy());
        // It is busy for a while after the last growth, however long that takes here.
        load.busy_at = busy_before(CALM + Duration::from_millis(1));
        load.look(MUCH, 0, 0);
        assert!(!load.is_busy());
    }

    #[test]
    fn commits_that_sync_are_no_buffered_load() {
        let mut load = Load::new();
        load.look(MUCH, 0, 0);
        assert!(load.is_buffered());
        load.look(2 * MUCH, 0, 5);
        assert!(load.is_busy() && !load.is_buffered());
        load.look(3 * MUCH, 0, 5);
        assert!(load.is_buffered());
        load.busy_at = busy_before(CALM + Duration::from_millis(1));
        assert!(!load.is_buffered(), "nothing is any load when it is calm");
    }

    #[test]
    fn what_a_burst_used_is_given_back_when_no_other_has_followed_for_a_while() {
        let mut load = Load::new();
        load.look(1, 0, 0);
        assert!(load.gives_back(), "what a slow log used is not kept");
        load.look(MUCH, 0, 0);
        assert!(!load.gives_back(), "it is busy");
        let past = |load: &mut Load, ago| load.used_at = busy_before(ago);
        past(&mut load, KEPT / 2);
        load.look(2 * MUCH, 0, 0);
        past(&mut load, KEPT / 2);
        assert!(!load.gives_back(), "another burst may follow");
        past(&mut load, KEPT);
        assert!(load.gives_back());
    }

    #[test]
    fn the_pace_is_what_came_without_a_pause_and_fades_with_each() {
        let mut load = Load::new();
        // Each growth is a commit's that synced.
        let look = |load: &mut Load, appended| load.look(appended, appended, appended);
        let pause = |load: &mut Load, appended| {
            load.appended.looked_before(PAUSE);
            look(load, appended);
        };
        look(&mut load, 100);
        look(&mut load, 100);
        look(&mut load, 300);
        assert_eq!(load.pace(), 300, "a look that comes at once is no pause");
        pause(&mut load, 300);
        assert_eq!(load.pace(), 300);
        look(&mut load, 310);
        pause(&mut load, 310);
        pause(&mut load, 310);
        assert_eq!(load.pace(), 300 / FADING);
        look(&mut load, 510);
        assert_eq!(load.pace(), 200);
    }

    #[test]
    fn what_is_loaded_without_a_sync_is_no_pace() {
        let mut load = Load::new();
        load.look(MUCH, 0, 0);
        assert_eq!(load.pace(), 0);
        load.look(MUCH + 100, 100, 1);
        assert_eq!(load.pace(), 100);
        // A sync of what was loaded.
        load.look(2 * MUCH, 100, 2);
        assert_eq!(load.pace(), 100);
        load.look(3 * MUCH, 2 * MUCH, 3);
        assert_eq!(load.pace(), AHEAD_BYTES, "more is never made ready");
    }

    #[test]
    fn who_stood_still_knows_nothing_new() {
        let mut load = Load::new();
        let stood_still = |load: &mut Load| {
            load.appended.looked_before(BLIND + Duration::from_millis(1));
            load.busy_at = load.busy_at.and_then(|_| busy_before(CALM + BLIND));
        };
        stood_still(&mut load);
        load.look(1, 0, 0);
        assert!(!load.is_busy(), "it was calm before");
        load.look(MUCH, 0, 0);
        stood_still(&mut load);
        load.look(MUCH, 0, 0);
        assert!(load.is_busy() && load.is_buffered(), "it was busy before");
        load.busy_at = busy_before(CALM + Duration::from_millis(1));
        load.look(MUCH, 0, 0);
        assert!(!load.is_busy(), "the next look tells");
    }
}
