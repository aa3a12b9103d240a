//! Who pins which version for longer than a guard.
//!
//! A pin is a slot that holds a pointer to the version's root. Taking one is a pop from a free list and a store,
//! releasing it a store and a push: no lock, no search, whatever the number of live pins.
//!
//! # What the reclaimer relies on (invariant 6)
//! - A slot is filled inside a guard that was pinned before the root was loaded. So when a grace period that began
//!   after a publish has passed, every pin of an earlier version that will ever be is in its slot.
//! - A pin never moves between slots: clones of a handle share its slot and count. So a scan that goes through the slots
//!   once can't miss one that wanders behind it.
//! - A slot is emptied with release and scanned with acquire: whatever the holder read happened before.
//!
//! # Revoking
//! A pin can be taken from its holders: the slot is marked first and emptied then. Whoever reads under a guard looks
//! at the mark after pinning the guard, so a view that doesn't see the mark is waited for by the grace period that
//! begins after the slot was found empty. Whoever reads for longer counts itself in as a user for that time: a slot with
//! users is emptied by the last of them.
//!
//! The free list is a Treiber stack of slot indexes whose head carries a tag against ABA (Treiber, "Systems
//! Programming: Coping with Parallelism", 1986). Slots lie in chunks of doubling size that are never freed before
//! the registry is, so a stale `next` may be read but never misused.

use std::ptr::NonNull;
use std::sync::OnceLock;

use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Planted, release_unless};

/// Slots of chunk 0; each later chunk has twice as many.
const FIRST: usize = if cfg!(loom) { 2 } else { 64 };
const CHUNKS: usize = 24;
/// An index that no slot has: the end of the free list.
const NONE: u32 = u32::MAX;

/// The number of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct SlotId(u32);

struct Slot<T> {
    payload: AtomicPtr<T>,
    /// What the holder wants told of it: [`Note`].
    note: AtomicU64,
    refs: AtomicU32,
    /// Who reads what the slot pins, without a guard; with [`REVOKED`].
    users: AtomicU32,
    next: AtomicU32,
}

/// Set in `users` when the pin was taken from its holders.
const REVOKED: u32 = 1 << 31;

/// What the end of one holder's count means.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Released {
    /// Others hold the slot.
    Shared,
    /// The slot is free.
    Last,
    /// The slot is free; its pin had been revoked, so what it pinned may be waiting for this.
    LastOfRevoked,
}

/// Who fills a slot, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Note(u64);

impl Note {
    const MILLIS_BITS: u32 = 56;

    /// `kind` is a number of the caller's.
    #[inline]
    pub(crate) fn new(kind: u8, at_ms: u64) -> Note {
        Note((u64::from(kind) << Self::MILLIS_BITS) | (at_ms & ((1 << Self::MILLIS_BITS) - 1)))
    }

    pub(crate) fn kind(self) -> u8 {
        u8::try_from(self.0 >> Self::MILLIS_BITS).unwrap_or(u8::MAX)
    }

    pub(crate) fn at_ms(self) -> u64 {
        self.0 & ((1 << Self::MILLIS_BITS) - 1)
    }
}

/// See the head of this file.
pub(crate) struct Registry<T> {
    chunks: [OnceLock<Box<[Slot<T>]>>; CHUNKS],
    /// Chunks that are in use; only ever grows, and only after its chunk is there.
    grown: AtomicU32,
    /// tag << 32 | index of the first free slot
    free: AtomicU64,
    live: AtomicU64,
    /// Pins revoked so far: as long as there are none, readers need not look at their slots.
    revoked: AtomicU64,
}

fn place(index: u32) -> (usize, usize) {
    let shifted = index as usize / FIRST + 1;
    let chunk = (usize::BITS - 1 - shifted.leading_zeros()) as usize;
    (chunk, index as usize - FIRST * ((1 << chunk) - 1))
}

fn first_index(chunk: usize) -> u32 {
    u32::try_from(FIRST * ((1 << chunk) - 1)).expect("24 chunks are numbered by 32 bits")
}

impl<T> Registry<T> {
    pub(crate) fn new() -> Registry<T> {
        Registry {
            chunks: [const { OnceLock::new() }; CHUNKS],
            grown: AtomicU32::new(0),
            free: AtomicU64::new(u64::from(NONE)),
            live: AtomicU64::new(0),
            revoked: AtomicU64::new(0),
        }
    }

    fn slot(&self, index: u32) -> &Slot<T> {
        let (chunk, offset) = place(index);
        &self.chunks[chunk].get().expect("an index is only given out with its chunk")[offset]
    }

    /// Pins `payload`. The caller holds a guard from before it loaded the payload until this returns.
    #[inline]
    pub(crate) fn take(&self, payload: NonNull<T>, note: Note) -> SlotId {
        let index = loop {
            if let Some(index) = self.pop() {
                break index;
            }
            self.grow();
        };
        let slot = self.slot(index);
        slot.users.store(0, Ordering::Relaxed);
        // Release, so that whoever counts itself in (`retain_live`) doesn't see what the slot held before.
        slot.refs.store(1, Ordering::Release);
        slot.note.store(note.0, Ordering::Relaxed);
        slot.payload.store(payload.as_ptr(), Ordering::Release);
        self.live.fetch_add(1, Ordering::Relaxed);
        SlotId(index)
    }

    /// Says anew who fills a slot, of which the caller is a holder.
    pub(crate) fn renote(&self, id: SlotId, note: Note) {
        self.slot(id.0).note.store(note.0, Ordering::Relaxed);
    }

    /// Counts one more holder of the slot.
    #[inline]
    pub(crate) fn retain(&self, id: SlotId) {
        let before = self.slot(id.0).refs.fetch_add(1, Ordering::Relaxed);
        assert!(before < u32::MAX / 2, "too many clones of one snapshot");
    }

    /// Counts one holder less; the last one frees the slot.
    #[inline]
    pub(crate) fn release(&self, id: SlotId) -> Released {
        let slot = self.slot(id.0);
        if slot.refs.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Released::Shared;
        }
        let was_revoked = slot.users.load(Ordering::Relaxed) & REVOKED != 0;
        if !was_revoked {
            self.empty(slot);
        }
        self.push(id.0, id.0);
        if was_revoked { Released::LastOfRevoked } else { Released::Last }
    }

    #[inline]
    fn empty(&self, slot: &Slot<T>) {
        slot.payload.store(std::ptr::null_mut(), release_unless(Planted::RelaxedRelease));
        self.live.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes the pin of a slot from its holders, of whom the caller is one. Returns whether it had not been taken before.
    pub(crate) fn revoke(&self, id: SlotId) -> bool {
        let slot = self.slot(id.0);
        self.revoked.fetch_add(1, Ordering::SeqCst);
        let before = slot.users.fetch_or(REVOKED, Ordering::SeqCst);
        if before == 0 {
            self.empty(slot);
        }
        before & REVOKED == 0
    }

    /// Whether the pin of a slot, of which the caller is a holder, was taken. Under a guard, a `false` holds as long as
    /// the guard does.
    #[inline]
    pub(crate) fn is_revoked(&self, id: SlotId) -> bool {
        self.revoked.load(Ordering::Acquire) != 0
            && self.slot(id.0).users.load(Ordering::Acquire) & REVOKED != 0
    }

    /// Counts a holder in as a user of what its slot pins, which stays until [`Registry::leave`]; `false` if the pin was
    /// taken.
    pub(crate) fn enter(&self, id: SlotId) -> bool {
        let users = &self.slot(id.0).users;
        let mut found = users.load(Ordering::Relaxed);
        while found & REVOKED == 0 {
            match users.compare_exchange_weak(found, found + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => found = now,
            }
        }
        false
    }

    /// Ends what [`Registry::enter`] began.
    pub(crate) fn leave(&self, id: SlotId) {
        let slot = self.slot(id.0);
        if slot.users.fetch_sub(1, Ordering::AcqRel) == REVOKED | 1 {
            self.empty(slot);
        }
    }

    /// What a slot pins.
    #[cfg(test)]
    pub(crate) fn payload(&self, id: SlotId) -> Option<NonNull<T>> {
        NonNull::new(self.slot(id.0).payload.load(Ordering::Acquire))
    }

    /// Calls `visit` with the payload of every occupied slot.
    pub(crate) fn scan(&self, mut visit: impl FnMut(NonNull<T>)) {
        for chunk in self.chunks.iter().take(self.grown.load(Ordering::Acquire) as usize) {
            for slot in chunk.get().into_iter().flatten() {
                if let Some(payload) = NonNull::new(slot.payload.load(Ordering::Acquire)) {
                    visit(payload);
                }
            }
        }
    }

    /// Counts the caller in as a holder of every occupied slot, and calls `visit` with each slot and its payload, which
    /// stays until the caller releases the slot, unless the pin is taken. A slot that holds nothing is handed to `abandon`
    /// to be released.
    pub(crate) fn retain_live(
        &self,
        mut visit: impl FnMut(SlotId, NonNull<T>),
        mut abandon: impl FnMut(SlotId),
    ) {
        for index in 0..first_index(self.grown.load(Ordering::Acquire) as usize) {
            let refs = &self.slot(index).refs;
            let mut found = refs.load(Ordering::Relaxed);
            while found > 0 {
                match refs.compare_exchange_weak(found, found + 1, Ordering::AcqRel, Ordering::Relaxed) {
                    Ok(_) => break,
                    Err(now) => found = now,
                }
            }
            if found == 0 {
                continue;
            }
            // The slot is held now, so what it holds stays. Nothing, if it is just being filled, or was revoked.
            match NonNull::new(self.slot(index).payload.load(Ordering::Acquire)) {
                Some(payload) => visit(SlotId(index), payload),
                None => abandon(SlotId(index)),
            }
        }
    }

    /// What was said of a slot that the caller holds.
    pub(crate) fn note(&self, id: SlotId) -> Note {
        Note(self.slot(id.0).note.load(Ordering::Relaxed))
    }

    /// How many holders a slot that the caller holds has just now.
    pub(crate) fn holders(&self, id: SlotId) -> u32 {
        self.slot(id.0).refs.load(Ordering::Relaxed)
    }

    /// About how many slots are occupied.
    pub(crate) fn live(&self) -> usize {
        usize::try_from(self.live.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    #[inline]
    fn pop(&self) -> Option<u32> {
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            let index = u32::try_from(head & u64::from(u32::MAX)).unwrap_or(NONE);
            if index == NONE {
                return None;
            }
            let next = self.slot(index).next.load(Ordering::Relaxed);
            let tagged = ((head >> 32).wrapping_add(1) << 32) | u64::from(next);
            match self.free.compare_exchange_weak(head, tagged, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }

    /// Puts a chain of free slots, linked from `first` to `last`, back.
    #[inline]
    fn push(&self, first: u32, last: u32) {
        let mut head = self.free.load(Ordering::Relaxed);
        loop {
            let next = u32::try_from(head & u64::from(u32::MAX)).unwrap_or(NONE);
            self.slot(last).next.store(next, Ordering::Relaxed);
            let tagged = ((head >> 32).wrapping_add(1) << 32) | u64::from(first);
            match self.free.compare_exchange_weak(head, tagged, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    #[cold]
    fn grow(&self) {
        let chunk = self.grown.load(Ordering::Acquire) as usize;
        assert!(chunk < CHUNKS, "a billion snapshots are held at once");
        let (first, len) = (first_index(chunk), FIRST << chunk);
        let mut is_mine = false;
        self.chunks[chunk].get_or_init(|| {
            is_mine = true;
            let slot = |next| Slot {
                payload: AtomicPtr::new(std::ptr::null_mut()),
                note: AtomicU64::new(0),
                refs: AtomicU32::new(0),
                users: AtomicU32::new(0),
                next: AtomicU32::new(next),
            };
            (1u32..).take(len).map(|offset| slot(first + offset)).collect()
        });
        if is_mine {
            self.grown.fetch_add(1, Ordering::AcqRel);
            let last = first + u32::try_from(len - 1).expect("a chunk is numbered by 32 bits");
            self.push(first, last);
        } else {
            crate::sync::thread::yield_now();
        }
    }
}

impl<T> std::fmt::Debug for Registry<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("live", &self.live()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn places_and_indexes_belong_together() {
        let mut expected = 0u32;
        for chunk in 0..if cfg!(miri) { 4 } else { 10 } {
            assert_eq!(first_index(chunk), expected);
            for offset in 0..FIRST << chunk {
                assert_eq!(place(expected), (chunk, offset));
                expected += 1;
            }
        }
    }

    #[test]
    fn a_scan_sees_every_pin_and_no_other() {
        let registry = Registry::new();
        let count = if cfg!(miri) { 150 } else { 1000 };
        let mut values: Vec<Box<u64>> = (0..count).map(Box::new).collect();
        let slots: Vec<SlotId> = values
            .iter_mut()
            .map(|value| registry.take(NonNull::from(&mut **value), Note::new(0, 0)))
            .collect();
        let scanned = || {
            let mut scanned = 0;
            registry.scan(|_| scanned += 1);
            scanned
        };
        assert_eq!((scanned(), registry.live()), (count, values.len()));
        registry.retain(slots[7]);
        assert_eq!(registry.release(slots[7]), Released::Shared, "a clone still pins it");
        for slot in &slots {
            assert_eq!(registry.release(*slot), Released::Last);
        }
        assert_eq!((scanned(), registry.live()), (0, 0));
    }

    #[test]
    fn threads_never_share_a_slot() {
        let registry = Registry::new();
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let registry = &registry;
                scope.spawn(move || {
                    let mut value = Box::new(thread);
                    let pointer = NonNull::from(&mut *value);
                    for _ in 0..if cfg!(miri) { 20 } else { 20_000 } {
                        let slots: Vec<SlotId> =
                            (0..3).map(|_| registry.take(pointer, Note::new(0, 0))).collect();
                        assert!(slots.iter().all(|slot| registry.payload(*slot) == Some(pointer)));
                        for slot in slots {
                            assert_eq!(registry.release(slot), Released::Last);
                        }
                    }
                });
            }
        });
        assert_eq!(registry.live(), 0);
    }
}
