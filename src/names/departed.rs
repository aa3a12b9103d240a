//! Slots that must stay filled a little longer than what they stand for: until no catalog on disk lists it.
//!
//! An opening after a crash begins with what either catalog slot lists, and only then replays what the log says of it. So what
//! a catalog may list is readable until both slots were overwritten with catalogs that don't list it.

use crate::sync::{Planted, has_planted};
use crate::table::root::Root;
use crate::version::registry::{Registry, SlotId};

#[derive(Debug)]
struct Waiting {
    pin: SlotId,
    /// The number of the last list that may have it.
    listed_in: u64,
    /// Catalogs written since that don't list it.
    catalogs: u8,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    /// How many lists were taken.
    lists: u64,
    waiting: Vec<Waiting>,
}

impl Departed {
    /// The number of the list that is taken now.
    pub(crate) fn next_list(&mut self) -> u64 {
        self.lists += 1;
        self.lists
    }

    /// Lets go of a slot when it may be.
    pub(crate) fn leave(&mut self, pin: SlotId, is_listed: bool, registry: &Registry<Root>) {
        match is_listed && !has_planted(Planted::NameGoneAtOnce) {
            true => self.waiting.push(Waiting { pin, listed_in: self.lists, catalogs: 0 }),
            // Neither names nor history are revoked.
            false => drop(registry.release(pin)),
        }
    }

    /// Takes note that a catalog with the list of this number is on the disk.
    pub(crate) fn written(&mut self, number: u64, registry: &Registry<Root>) {
        self.waiting.retain_mut(|waiting| {
            waiting.catalogs += u8::from(waiting.listed_in < number);
            // Each of the two catalog slots was overwritten since.
            let needed = if has_planted(Planted::NameGoneAfterOne) { 1 } else { 2 };
            if waiting.catalogs >= needed {
                let _ = registry.release(waiting.pin);
            }
            waiting.catalogs < needed
        });
    }

    /// The slots that wait.
    pub(crate) fn pins(&self) -> impl Iterator<Item = SlotId> {
        self.waiting.iter().map(|waiting| waiting.pin)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
