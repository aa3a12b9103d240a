//! The versions in the window, and the slots that they keep filled.

use std::collections::VecDeque;

use crate::format::history::{HistoryRecord, KEPT_MAX, Span};
use crate::names::departed::Departed;
use crate::table::root::Root;
use crate::version::held::HeldRoot;
use crate::version::registry::{Registry, SlotId};

/// Most versions that one commit lets go, so that the first one after a long rest isn't held up.
const GIVEN_UP_A_COMMIT: usize = 64;

#[derive(Debug)]
struct Kept {
    pin: SlotId,
    root: HeldRoot,
    /// Whether a catalog on disk may list it.
    is_listed: bool,
}

/// The window as a checkpoint took it, each version held by one more count.
#[derive(Debug)]
pub(crate) struct HistoryList {
    number: u64,
    pub(crate) policy: Option<HistoryRecord>,
    pub(crate) kept: Vec<(SlotId, HeldRoot)>,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Window {
    policy: Option<HistoryRecord>,
    /// The oldest version first.
    kept: VecDeque<Kept>,
    departed: Departed,
    /// How many catalogs should be written soon, because space is short and what has departed waits for them.
    pressed: u8,
}

impl Window {
    pub(crate) fn new(policy: Option<HistoryRecord>) -> Window {
        Window { policy, kept: VecDeque::new(), departed: Departed::default(), pressed: 0 }
    }

    /// Takes over a version that the catalog lists, later ones after earlier ones; its slot is filled.
    pub(crate) fn restore(&mut self, pin: SlotId, root: HeldRoot) {
        self.kept.push_back(Kept { pin, root, is_listed: true });
    }

    pub(crate) fn policy(&self) -> Option<HistoryRecord> {
        self.policy
    }

    /// Lets in the version that was just published, whose slot `take` fills, and some go.
    pub(crate) fn published(
        &mut self,
        tip: HeldRoot,
        take: impl FnOnce() -> SlotId,
        registry: &Registry<Root>,
    ) {
        if self.policy.is_none() {
            return;
        }
        self.let_in(tip, take, registry);
        for _ in 0..GIVEN_UP_A_COMMIT {
            if !self.give_up_oldest_if_over(registry) {
                return;
            }
        }
    }

    /// Keeps to another policy from `tip` on, which is the current version.
    pub(crate) fn set(
        &mut self,
        policy: Option<HistoryRecord>,
        tip: HeldRoot,
        take: impl FnOnce() -> SlotId,
        registry: &Registry<Root>,
    ) {
        self.policy = policy;
        if policy.is_none() {
            while let Some(gone) = self.kept.pop_front() {
                self.departed.leave(gone.pin, gone.is_listed, registry);
            }
            return;
        }
        if self.kept.back().is_none_or(|newest| newest.root.root().version != tip.root().version) {
            self.let_in(tip, take, registry);
        }
        while self.give_up_oldest_if_over(registry) {}
    }

    fn let_in(&mut self, tip: HeldRoot, take: impl FnOnce() -> SlotId, registry: &Registry<Root>) {
        let interval = self.policy.map_or(0, |policy| policy.interval_ms);
        let stretch = |root: HeldRoot| root.root().created_at_ms.checked_div(interval);
        let superseded = self.kept.pop_back_if(|newest| interval > 0 && stretch(newest.root) == stretch(tip));
        self.kept.push_back(Kept { pin: take(), root: tip, is_listed: false });
        if let Some(gone) = superseded {
            self.departed.leave(gone.pin, gone.is_listed, registry);
        }
    }

    fn give_up_oldest_if_over(&mut self, registry: &Registry<Root>) -> bool {
        let (Some(policy), Some(newest)) = (self.policy, self.kept.back()) else { return false };
        let newest_ms = newest.root.root().created_at_ms;
        let is_over = match policy.span {
            Span::Versions(count) => self.kept.len() as u64 > count,
            // The one that was current when the window begins stays.
            Span::Millis(time) => {
                let begins = newest_ms.checked_sub(time);
                let follows = self.kept.get(1).map(|kept| kept.root.root().created_at_ms);
                self.kept.len() > KEPT_MAX
                    || follows.is_some_and(|at| begins.is_some_and(|begins| at <= begins))
            }
        };
        if is_over && let Some(gone) = self.kept.pop_front() {
            self.departed.leave(gone.pin, gone.is_listed, registry);
        }
        is_over
    }

    /// Lets the older quarter go, but never the newest version, because old versions keep too much. Returns how many went.
    pub(crate) fn shorten(&mut self, registry: &Registry<Root>) -> usize {
        let count = self.kept.len().div_ceil(4).min(self.kept.len().saturating_sub(1));
        for gone in self.kept.drain(..count) {
            self.pressed = if gone.is_listed { 2 } else { self.pressed };
            self.departed.leave(gone.pin, gone.is_listed, registry);
        }
        count
    }

    /// The versions, the oldest first. The roots may be looked at as long as the window is locked.
    pub(crate) fn roots(&self) -> impl DoubleEndedIterator<Item = HeldRoot> + ExactSizeIterator {
        self.kept.iter().map(|kept| kept.root)
    }

    /// The slot and root of the newest version that `is_in` is true of; it is true of all before one that it is true of.
    pub(crate) fn newest(&self, is_in: impl Fn(&Root) -> bool) -> Option<(SlotId, HeldRoot)> {
        let count = self.kept.partition_point(|kept| is_in(kept.root.root()));
        let found = self.kept.get(count.checked_sub(1)?)?;
        Some((found.pin, found.root))
    }

    /// Slots that wait for catalogs that don't list them.
    pub(crate) fn leaving(&self) -> impl Iterator<Item = SlotId> {
        self.departed.pins()
    }

    /// Whether slots wait for catalogs that don't list them.
    pub(crate) fn has_leaving(&self) -> bool {
        !self.departed.is_empty()
    }

    /// Whether they should not wait for the next checkpoints: those come by themselves as the log grows.
    pub(crate) fn is_pressed(&self) -> bool {
        self.pressed > 0
    }

    /// Lists all versions for a catalog that is about to be written.
    pub(crate) fn list(&mut self, registry: &Registry<Root>) -> HistoryList {
        let number = self.departed.next_list();
        let kept = self.kept.iter_mut().map(|kept| {
            kept.is_listed = true;
            registry.retain(kept.pin);
            (kept.pin, kept.root)
        });
        HistoryList { number, policy: self.policy, kept: kept.collect() }
    }

    /// Takes note that a catalog with `list` is on the disk, or that writing it failed.
    pub(crate) fn listed(&mut self, list: &HistoryList, is_written: bool, registry: &Registry<Root>) {
        for (pin, _) in &list.kept {
            // They are never revoked.
            let _ = registry.release(*pin);
        }
        if is_written {
            self.departed.written(list.number, registry);
            self.pressed = self.pressed.saturating_sub(1);
        }
    }
}
