//! Pins that are taken from their holders, and pins that names keep.

use std::ptr::NonNull;

use loom::sync::{Arc, Mutex};

use super::{Bug, Core, Payload, explore, explore_planted};
use crate::sync::Planted;
use crate::version::registry::{Note, SlotId};

/// How a reader of a snapshot reads while the snapshot is revoked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Looks at the mark inside its guard, and reads under it.
    View,
    /// Looks at the mark before it pins.
    HastyView,
    /// Counts itself in while it reads.
    User,
    /// Reads on after it has counted itself out.
    LateUser,
}

impl Core {
    /// The payload behind a slot, whether or not the slot has it still.
    fn pinned() -> (Arc<Core>, NonNull<Payload>, SlotId) {
        let core = Core::new();
        let payload = core.current();
        let slot = core.registry.take(payload, Note::new(0, 0));
        (core, payload, slot)
    }

    /// Ends the payload if no slot has it, after the further grace period.
    fn end_unless_seen(&self, payload: NonNull<Payload>, bug: Bug) {
        if self.sees(payload) {
            return;
        }
        let ticket = self.grace.issue(&self.epoch.pin());
        self.grace.advance(&self.epoch);
        if bug == Bug::NoGrace || self.grace.passed() >= ticket {
            // SAFETY: the memory lives until the model ends; whether it may end is what is tested.
            unsafe { payload.as_ref() }.end();
        }
    }

    fn read(&self, payload: NonNull<Payload>, slot: SlotId, reader: Reader) {
        // SAFETY: the memory lives until the model ends; whether the version does is what is tested.
        let payload = unsafe { payload.as_ref() };
        match reader {
            Reader::View => {
                let _guard = self.epoch.pin();
                if !self.registry.is_revoked(slot) {
                    payload.read();
                }
            }
            Reader::HastyView => {
                let is_revoked = self.registry.is_revoked(slot);
                let _guard = self.epoch.pin();
                if !is_revoked {
                    payload.read();
                }
            }
            Reader::User | Reader::LateUser => {
                if self.registry.enter(slot) {
                    if reader == Reader::User {
                        payload.read();
                    }
                    self.registry.leave(slot);
                    if reader == Reader::LateUser {
                        payload.read();
                    }
                }
            }
        }
    }
}

fn a_reader_beside_a_revocation(reader: Reader, bug: Bug) -> impl Fn() + Sync + Send + 'static {
    move || {
        let (core, payload, slot) = Core::pinned();
        let address = payload.as_ptr() as usize;
        let thread = {
            let core = core.clone();
            loom::thread::spawn(move || {
                let payload = NonNull::new(address as *mut Payload).expect("it was one");
                core.read(payload, slot, reader);
            })
        };
        core.published.publish(Payload::new());
        assert!(core.registry.revoke(slot));
        core.end_unless_seen(payload, bug);
        thread.join().unwrap();
    }
}

#[test]
fn a_version_outlives_every_reader_of_a_revoked_snapshot() {
    for (name, reader) in [("view", Reader::View), ("user", Reader::User)] {
        let name = format!("{name} beside revocation");
        explore(&name, 2, a_reader_beside_a_revocation(reader, Bug::None));
    }
    for (name, reader, bug) in [
        ("view beside revocation, looks before it pins", Reader::HastyView, Bug::None),
        ("view beside revocation, no grace", Reader::View, Bug::NoGrace),
        ("user beside revocation, reads after it left", Reader::LateUser, Bug::None),
    ] {
        explore_planted(name, 2, None, a_reader_beside_a_revocation(reader, bug));
    }
}

/// One thread opens a named version and reads it, one drops the name, one reclaims.
fn a_name_opened_and_dropped_beside_a_scan(is_pin_moved: bool) -> impl Fn() + Sync + Send + 'static {
    move || {
        let core = Core::new();
        let payload = core.current();
        // The name's slot is not the first, so that a pin that moves to the first one moves behind a scan.
        let first = core.registry.take(payload, Note::new(0, 0));
        let name = Arc::new(Mutex::new(Some(core.registry.take(payload, Note::new(0, 0)))));
        let _ = core.registry.release(first);
        let address = payload.as_ptr() as usize;
        let opener = {
            let (core, name) = (core.clone(), name.clone());
            loom::thread::spawn(move || {
                let payload = NonNull::new(address as *mut Payload).expect("it was one");
                let slot = {
                    let name = name.lock().unwrap();
                    let Some(slot) = *name else { return };
                    if is_pin_moved {
                        core.registry.take(payload, Note::new(0, 0))
                    } else {
                        core.registry.retain(slot);
                        slot
                    }
                };
                if let Some(slot) = name.lock().unwrap().take() {
                    let _ = core.registry.release(slot);
                }
                // SAFETY: the memory lives until the model ends; whether the version does is what is tested.
                unsafe { payload.as_ref() }.read();
                let _ = core.registry.release(slot);
            })
        };
        core.published.publish(Payload::new());
        core.end_unless_seen(payload, Bug::None);
        opener.join().unwrap();
    }
}

#[test]
fn a_named_version_that_is_open_outlives_its_name() {
    explore("name beside a scan", 3, a_name_opened_and_dropped_beside_a_scan(false));
    let model = a_name_opened_and_dropped_beside_a_scan(true);
    explore_planted("name beside a scan, the pin moves", 3, None, model);
    let model = a_name_opened_and_dropped_beside_a_scan(false);
    explore_planted("name beside a scan, relaxed release", 3, Some(Planted::RelaxedRelease), model);
}
