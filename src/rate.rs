//! How fast something that is counted grows.

use std::time::{Duration, Instant};

/// A count that is looked at now and then.
pub(crate) struct Rate {
    looked_at: Instant,
    count: u64,
}

impl Rate {
    /// Begins where the count stands now.
    pub(crate) fn new(count: u64) -> Rate {
        Rate { looked_at: Instant::now(), count }
    }

    /// The count at the last look.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The time since the last look.
    pub(crate) fn age(&self) -> Duration {
        self.looked_at.elapsed()
    }

    /// Lets the last look lie `ago` before now.
    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) fn looked_before(&mut self, ago: Duration) {
        self.looked_at = Instant::now().checked_sub(ago).unwrap_or(self.looked_at);
    }

    /// By how much a second the count has grown since the last look. What took less than a millisecond counts as one.
    pub(crate) fn look(&mut self, count: u64) -> u64 {
        let millis = self.age().as_millis().max(1);
        let grown = count.saturating_sub(std::mem::replace(&mut self.count, count));
        self.looked_at = Instant::now();
        u64::try_from(u128::from(grown) * 1000 / millis).unwrap_or(u64::MAX)
    }
}
