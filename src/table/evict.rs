//! Keeping the nodes in memory within their bound; see "Evicting" in `slab`.

use std::collections::HashSet;

use super::node::{Link, NodePointer, Word};
use super::root::Root;
use super::slab::{Copies, NodeRef, Slab};
use crate::sync::atomic::Ordering;

impl Slab {
    /// Whether there are more nodes in memory than should be, or readers have found no room for twice as much as fits:
    /// then what is there is not what they need.
    pub(crate) fn wants_eviction(&self) -> bool {
        let is_over = self.resident_bytes() > self.limit && self.copied_bytes.load(Ordering::Relaxed) > 0;
        is_over || self.refused_bytes.load(Ordering::Relaxed) / 2 > self.limit
    }

    /// Whether there are so many nodes in memory that commits should wait until some can be dropped.
    pub(crate) fn is_crowded(&self) -> bool {
        self.resident_bytes() > self.limit.saturating_add(self.limit / 16)
            && self.copied_bytes.load(Ordering::Relaxed) > 0
    }

    /// Waits until the walks that are under way have ended. Whoever walks takes no other lock meanwhile.
    pub(crate) fn await_walks(&self) {
        drop(self.walks.write());
    }

    /// Takes all copies away from readers to come, unless a walk is under way. `roots` are all that anybody may read from,
    /// but the reclaimer's and the commit lock are held, so nothing is in the making. The copies are to be freed
    /// ([`Slab::free_copies`]) after a grace period.
    pub(crate) fn evict<'r>(&self, roots: impl Iterator<Item = &'r Root>) -> Option<Copies> {
        let _alone = self.walks.try_write()?;
        // First this, so that no reader puts one of them back.
        let copies = {
            let mut written = self.written.lock();
            self.copied_bytes.store(0, Ordering::Relaxed);
            std::mem::take(&mut written.copies)
        };
        let mut seen = HashSet::new();
        for root in roots {
            self.unload(&root.word, &mut seen);
        }
        self.refused_bytes.store(0, Ordering::Relaxed);
        self.evictions.fetch_add(1, Ordering::Relaxed);
        Some(copies)
    }

    fn unload(&self, word: &Word, seen: &mut HashSet<NodePointer>) {
        let Link::Memory(pointer) = word.link() else { return };
        let head = self.head_of(pointer);
        match head.disk() {
            Some(address) if !head.is_listed() => word.unload(pointer, address),
            _ => {
                if let NodeRef::Inner(inner) = self.node_of(pointer)
                    && seen.insert(pointer)
                {
                    inner.words.iter().for_each(|child| self.unload(child, seen));
                }
            }
        }
    }
}
