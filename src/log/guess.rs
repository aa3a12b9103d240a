//! Where a page probably lies, told by its neighbours.
//!
//! Pages that were written together lie together, those of a bulk load above all. So the addresses of 64 neighbours most often differ as their
//! ids do, and one word for all of them tells where each is. Such words fit the processor's caches where the page table doesn't, and a page
//! that is asked for by a guess comes while its entry is still on its way; both waits are about as long.
//!
//! A guess is nothing but a hint: who reads a page looks its entry up. So nothing here has to be kept true, whatever version it was
//! learnt from, and whatever lies at the address by now. It is learnt where a page is read for the first time since the opening, which is slow anyway, and only if the page
//! beside it agrees: a page that was written anew by itself tells nothing of its neighbours. Readers of pages that were read before
//! write nothing.

use std::sync::OnceLock;

use super::segment::{Segments, usize_of};
use crate::id::{Location, PageId};
use crate::storage::prefetch;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::table::node::Entry;

/// Neighbours that share a guess.
const NEIGHBOURS: u64 = 64;
/// Guesses of a store: 512 KiB, for the first 16 GiB of pages of 4 KiB.
const GUESSES: usize = 1 << 16;
/// The table of fewer pages stays in the processor's caches by itself.
const PAGES_MIN: u64 = 1 << 14;

/// The guesses of a store.
#[derive(Default)]
pub(crate) struct Guesses {
    /// The address of the first of the neighbours, if all lie in a row; 0 where nothing was learnt. Made when the first is.
    firsts: OnceLock<Box<[AtomicUsize]>>,
}

/// Where the first of the neighbours would lie if all lay in a row. The first location may be too few for that: then it wraps.
fn first_of(id: PageId, location: Location) -> u64 {
    location.0.wrapping_sub(id.0 % NEIGHBOURS)
}

impl Guesses {
    /// Where the page lies if it lies as its neighbours do.
    #[inline]
    fn guess(&self, id: PageId, page_bits: u32) -> Option<usize> {
        let first = self.firsts.get()?.get(usize_of(id.0 / NEIGHBOURS))?.load(Ordering::Relaxed);
        (first != 0).then(|| first.wrapping_add(usize_of(id.0 % NEIGHBOURS) << page_bits))
    }

    /// Takes note of where the page really lies.
    fn learn(&self, id: PageId, page_bits: u32, address: usize) {
        let firsts = self.firsts.get_or_init(|| (0..GUESSES).map(|_| AtomicUsize::new(0)).collect());
        if let Some(first) = firsts.get(usize_of(id.0 / NEIGHBOURS)) {
            let first_address = address.wrapping_sub(usize_of(id.0 % NEIGHBOURS) << page_bits);
            first.store(first_address, Ordering::Relaxed);
        }
    }
}

impl Segments {
    /// Asks the processor for the page of `id`, if it can be guessed where that lies.
    #[inline]
    pub(crate) fn prefetch(&self, id: PageId) {
        if let Some(address) = self.guesses.guess(id, self.geometry().page_bits()) {
            prefetch(address);
        }
    }

    /// Learns that the page of `id` is `page`, and its entry `entry`, if `of` tells that a neighbour lies as the page does. The version has
    /// `page_count` pages.
    #[cold]
    pub(crate) fn learn_place(
        &self,
        page_count: u64,
        id: PageId,
        (entry, page): (Entry, &[u8]),
        of: impl FnOnce(PageId) -> Option<Entry>,
    ) {
        let neighbour = PageId(id.0 ^ 1);
        if page_count < PAGES_MIN || neighbour.0 >= page_count {
            return;
        }
        if let Some(location) = entry.location()
            && let Some(other) = of(neighbour).and_then(Entry::location)
            && first_of(id, location) == first_of(neighbour, other)
        {
            self.guesses.learn(id, self.geometry().page_bits(), page.as_ptr().addr());
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::id::Version;
    use crate::log::geometry::Geometry;
    use crate::storage::MemoryStorage;

    const BITS: u32 = 9;

    #[test]
    fn neighbours_tell_where_a_page_lies_and_nothing_else_matters() {
        let guesses = Guesses::default();
        let guess = |id| guesses.guess(PageId(id), BITS);
        assert_eq!(guess(7), None, "nothing was learnt");
        guesses.learn(PageId(7), BITS, 1007 << BITS);
        assert_eq!(guess(63), Some(1063 << BITS));
        assert_eq!(guess(64), None, "other neighbours");
        guesses.learn(PageId(64), BITS, 5 << BITS);
        assert_eq!(guess(70), Some(11 << BITS));
        assert_eq!(guess(0), Some(1000 << BITS));
        // The first of them would lie before the first address: the guess for its neighbours is as good.
        guesses.learn(PageId(9), BITS, 2 << BITS);
        assert_eq!(guess(10), Some(3 << BITS));
        guesses.learn(PageId::MAX, BITS, 5 << BITS);
        assert_eq!(guess(u64::MAX), None, "so far nothing is guessed");
    }

    #[test]
    fn a_page_that_lies_by_itself_teaches_nothing() {
        let storage = std::sync::Arc::new(MemoryStorage::new());
        let id = crate::id::StoreId(7);
        let segments = Segments::new(storage, id, Geometry::new(1 << BITS, 4), false, None, None);
        let at = |location| Entry::page(Location(location), Version(1), 0);
        let page = vec![0; 1 << BITS];
        let learn = |count, id: u64, location, other| {
            segments.learn_place(count, PageId(id), (at(location), &page), |neighbour| {
                assert_eq!(neighbour.0, id ^ 1);
                other
            });
            segments.guesses.guess(PageId(id), BITS)
        };
        let address = page.as_ptr().addr();
        assert_eq!(learn(PAGES_MIN, 6, 106, Some(at(200))), None);
        assert_eq!(learn(PAGES_MIN, 6, 106, None), None);
        assert_eq!(learn(PAGES_MIN - 1, 6, 106, Some(at(107))), None, "a small store needs none");
        assert_eq!(learn(PAGES_MIN, 6, 106, Some(at(107))), Some(address));
        let beside = Some(address.wrapping_add(1 << BITS));
        assert_eq!(learn(PAGES_MIN, 7, 900, Some(at(106))), beside, "what was learnt stays");
        assert_eq!(learn(PAGES_MIN, PAGES_MIN - 1, 5, Some(at(4))), Some(address));
        assert_eq!(learn(PAGES_MIN + 1, PAGES_MIN, 5, Some(at(6))), None, "there is no page beside it");
    }

    #[test]
    fn a_guess_may_lead_anywhere() {
        let options = crate::Options::new().page_size(512).segment_size(1 << 20).background(false);
        let store = crate::Store::open_on(std::sync::Arc::new(MemoryStorage::new()), options).unwrap();
        let mut txn = store.begin().unwrap();
        txn.truncate(PAGES_MIN).unwrap();
        let page = |id: u64| [id.to_le_bytes()[0]; 512];
        (0..PAGES_MIN).for_each(|id| txn.write(PageId(id), &page(id)).unwrap());
        txn.commit().unwrap();
        let read = || {
            let view = store.view();
            (0..PAGES_MIN).for_each(|id| assert_eq!(view.page(PageId(id)).unwrap(), Some(&page(id)[..])));
        };
        read();
        let guesses = &store.core().segments.guesses;
        let view = store.view();
        let lies_at = view.page(PageId(100)).unwrap().unwrap().as_ptr().addr();
        assert_eq!(guesses.guess(PageId(100), BITS), Some(lies_at), "it was learnt by reading");
        for address in [1, 63, 1 << 12, 1 << 20, 1 << 46, usize::MAX] {
            (0..PAGES_MIN).step_by(7).for_each(|id| guesses.learn(PageId(id), BITS, address));
            read();
        }
    }
}
