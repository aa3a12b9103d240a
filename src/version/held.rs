//! Roots and nodes that are kept alive by something else than a borrow: the reclaimer's lists and the registry's slots.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use crate::table::node::NodePointer;
use crate::table::root::Root;
use crate::table::slab::Slab;

/// A root that whoever holds this value keeps alive: it stands in a registry slot that the holder owns or scans, or in
/// the reclaimer's lists, and only the reclaimer frees roots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct HeldRoot(NonNull<Root>);

// SAFETY: a `Root` is never changed after it is published, and `Root` is `Sync`; who may read it is argued above.
unsafe impl Send for HeldRoot {}
// SAFETY: as above.
unsafe impl Sync for HeldRoot {}

impl HeldRoot {
    pub(crate) fn new(root: NonNull<Root>) -> HeldRoot {
        HeldRoot(root)
    }

    pub(crate) fn pointer(self) -> NonNull<Root> {
        self.0
    }

    /// The root, for as long as the holder is borrowed.
    #[inline]
    pub(crate) fn root(&self) -> &Root {
        // SAFETY: the root lives while the holder keeps it; see the type.
        unsafe { self.0.as_ref() }
    }

    /// Frees the root. Called by the reclaimer alone, once, after the root's version is dead and its further grace
    /// period has passed (invariants 4, 5 and 7).
    pub(super) fn free(self) {
        // SAFETY: published roots come from boxes; the caller is the one place that frees them, once each.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Frees a node that only is in memory, which the reclaimer judged dead and whose further grace period has passed.
pub(super) fn free_node(slab: &Slab, pointer: NodePointer) {
    // SAFETY: the reclaimer gives each dead item here once (invariant 5), after nobody can reach it (invariants 4, 7).
    unsafe { slab.free(pointer) }
}
