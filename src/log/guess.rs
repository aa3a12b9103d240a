//! Where a page probably lies, told by its neighbours.
//!
//! Pages that were written together lie together, those of a bulk load above all. So the locations of 64 neighbours most often differ as their
//! ids do, and one word for all of them tells where each is. Such words fit the processor's caches where the page table doesn't, and a page
//! that is asked for by a guess comes while its entry is still on its way; both waits are about as long.
//!
//! A guess is nothing but a hint: who reads a page looks its entry up. So nothing here has to be kept true, whatever version it was
//! learnt from.

use super::segment::{SegmentTable, Segments, usize_of};
use crate::id::{Location, PageId};

/// Neighbours that share a guess.
const NEIGHBOURS: u64 = 64;
/// The most guesses: 512 KiB, enough for 16 GiB of pages of 4 KiB. Pages beyond share them with others.
const GUESSES_MAX: u64 = 1 << 16;

/// Guesses, as what was read lately teaches them.
#[derive(Default)]
pub(crate) struct Guesses {
    /// The location of the first of the neighbours, if all lie in a row; 0 where nothing was learnt. A power of two of them, or none.
    firsts: Box<[u64]>,
}

impl Guesses {
    /// As many as `page_count` pages need; those that were learnt are kept unless there are too few.
    pub(crate) fn make_room(&mut self, page_count: u64) {
        let wanted = page_count.div_ceil(NEIGHBOURS).min(GUESSES_MAX).next_power_of_two();
        if (self.firsts.len() as u64) < wanted {
            self.firsts = vec![0; usize_of(wanted)].into();
        }
    }

    fn index(&self, id: PageId) -> usize {
        usize_of(id.0 / NEIGHBOURS) & self.firsts.len().wrapping_sub(1)
    }

    /// Where the page lies if it lies as its neighbours do.
    #[inline]
    pub(crate) fn guess(&self, id: PageId) -> Option<Location> {
        let first = *self.firsts.get(self.index(id))?;
        (first != 0).then(|| Location(first.wrapping_add(id.0 % NEIGHBOURS)))
    }

    /// Takes note of where it really lies.
    #[inline]
    pub(crate) fn learn(&mut self, id: PageId, location: Location) {
        let index = self.index(id);
        if let Some(first) = self.firsts.get_mut(index) {
            *first = location.0.wrapping_sub(id.0 % NEIGHBOURS);
        }
    }
}

impl Segments {
    /// Asks the processor for the page at `location`, if such a place is mapped; see [`Mapping::prefetch`](crate::storage::Mapping).
    #[inline]
    pub(crate) fn prefetch(&self, table: &SegmentTable, location: Location) {
        let (number, slot) = self.geometry().split(location);
        if let Some(mapped) = table.entry(number).and_then(|loaded| loaded.mapping.get()) {
            mapped.mapping.prefetch(usize_of(self.geometry().offset(slot)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_tell_where_a_page_lies_and_nothing_else_matters() {
        let mut guesses = Guesses::default();
        assert_eq!(guesses.guess(PageId(7)), None, "nothing was learnt, and there is no room for it");
        guesses.learn(PageId(7), Location(1007));
        assert_eq!(guesses.guess(PageId(7)), None);
        guesses.make_room(1000);
        assert_eq!(guesses.guess(PageId(7)), None, "nothing was learnt yet");
        guesses.learn(PageId(7), Location(1007));
        assert_eq!(guesses.guess(PageId(63)), Some(Location(1063)));
        guesses.learn(PageId(64), Location(5));
        assert_eq!(guesses.guess(PageId(70)), Some(Location(11)));
        assert_eq!(guesses.guess(PageId(0)), Some(Location(1000)), "other neighbours, another guess");
        guesses.make_room(10);
        assert_eq!(guesses.guess(PageId(0)), Some(Location(1000)), "room is kept");
        // The first of them would lie before the first location: the guess for its neighbours is as good.
        guesses.learn(PageId(9), Location(2));
        assert_eq!(guesses.guess(PageId(10)), Some(Location(3)));
        // However many pages there are, and whichever is asked for.
        guesses.make_room(PageId::MAX.0);
        assert_eq!(guesses.firsts.len() as u64, GUESSES_MAX);
        guesses.learn(PageId::MAX, Location(Location::LIMIT));
        assert_eq!(guesses.guess(PageId::MAX), Some(Location(Location::LIMIT)));
    }
}
