//! Random numbers for tests, which depend on the seed alone, so that a seed replays for ever.

/// A linear congruential generator (Knuth's MMIX), of whose numbers the upper halves are taken.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `limit`, which isn't 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
