//! Checksums and fingerprints (XXH3, Yann Collet, <https://xxhash.com>): what tells damage from data.
//!
//! A page's checksum is XXH3-64 seeded with the page's id, so that a page in the wrong place is as wrong as a
//! damaged one. Leaf entries, and hence fingerprints, keep its low 48 bits ([`PageChecksum::short`]); records and
//! streams keep all 64. None of this is proof against an adversary.

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

use crate::id::{Fingerprint, PageId};

/// The checksum of one page's bytes under its id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PageChecksum(pub(crate) u64);

impl PageChecksum {
    pub(crate) const SHORT_BITS: u32 = 48;

    /// Checksums `bytes` as the contents of page `id`. Some 130 ns for 4 KiB.
    pub(crate) fn of(id: PageId, bytes: &[u8]) -> PageChecksum {
        PageChecksum(xxh3_64_with_seed(bytes, id.0))
    }

    /// The low 48 bits, as a leaf entry keeps them.
    pub(crate) fn short(self) -> u64 {
        self.0 & ((1 << Self::SHORT_BITS) - 1)
    }
}

/// XXH3-64 of `bytes`, seeded: for nodes, headers and other structures. The seed tells where they belong.
pub(crate) fn checksum64(seed: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

/// XXH3-128 of `bytes`: for chains and whole streams.
pub(crate) fn digest128(bytes: &[u8]) -> u128 {
    xxh3_128(bytes)
}

/// Makes decoders take every checksum for right, so that a fuzzer gets to what is behind it. Pages are still checked.
#[cfg(fuzzing)]
pub(crate) static IGNORED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Whether a structure's checksum is the one that its bytes have.
pub(crate) fn holds<T: PartialEq + Copy>(found: T, computed: T) -> bool {
    #[cfg(fuzzing)]
    if IGNORED.load(std::sync::atomic::Ordering::Relaxed) {
        return true;
    }
    found == computed
}

impl Fingerprint {
    /// The fingerprint of a store without pages.
    pub(crate) const EMPTY: Fingerprint = Fingerprint(0);

    /// The term of one page: XXH3-128 over (id, short checksum), both as 8 little-endian bytes.
    fn term(id: PageId, short: u64) -> u128 {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&id.0.to_le_bytes());
        bytes[8..].copy_from_slice(&short.to_le_bytes());
        xxh3_128(&bytes)
    }

    /// With page `id` of the short checksum `short` added.
    #[must_use]
    pub(crate) fn plus(self, id: PageId, short: u64) -> Fingerprint {
        Fingerprint(self.0.wrapping_add(Self::term(id, short)))
    }

    /// With page `id` of the short checksum `short` taken away.
    #[must_use]
    pub(crate) fn minus(self, id: PageId, short: u64) -> Fingerprint {
        Fingerprint(self.0.wrapping_sub(Self::term(id, short)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_forgets_order_and_history() {
        let (a, b) = ((PageId(1), 11), (PageId(2), 22));
        let ab = Fingerprint::EMPTY.plus(a.0, a.1).plus(b.0, b.1);
        let ba = Fingerprint::EMPTY.plus(b.0, b.1).plus(PageId(9), 5).plus(a.0, a.1).minus(PageId(9), 5);
        assert_eq!(ab, ba);
        assert_ne!(ab, Fingerprint::EMPTY.plus(a.0, b.1).plus(b.0, a.1), "swapped contents must show");
    }

    #[test]
    fn a_page_in_the_wrong_place_has_another_checksum() {
        assert_ne!(PageChecksum::of(PageId(1), &[7; 512]), PageChecksum::of(PageId(2), &[7; 512]));
    }
}
