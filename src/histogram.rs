//! Counts by powers of two: cheap enough to be kept always, exact enough to see what a typical and a bad case cost.

use serde::Serialize;

use crate::sync::atomic::{AtomicU64, Ordering};

/// Classes of a histogram: class 0 for 0 and 1, class k for values from 2^k on, below 2^(k + 1); the last for all beyond.
const CLASSES: usize = 40;

/// Counts that any thread may raise at any time. Relaxed: for people, not for decisions.
#[derive(Debug)]
pub(crate) struct Recorder {
    classes: [AtomicU64; CLASSES],
    sum: AtomicU64,
}

impl Recorder {
    pub(crate) fn new() -> Recorder {
        Recorder { classes: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }

    pub(crate) fn record(&self, value: u64) {
        let class = (value.max(1).ilog2() as usize).min(CLASSES - 1);
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Histogram {
        let mut classes: Vec<u64> = self.classes.iter().map(|class| class.load(Ordering::Relaxed)).collect();
        classes.truncate(classes.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1));
        Histogram { classes, sum: self.sum.load(Ordering::Relaxed) }
    }
}

/// How often values of each size were seen.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// use vellum::{Options, Store};
/// let store = Store::in_memory(Options::new())?;
/// for _ in 0..3 {
///     let mut txn = store.begin()?;
///     txn.allocate()?;
///     txn.commit()?;
/// }
/// let groups = store.stats().group_sizes;
/// assert_eq!((groups.count(), groups.percentile(50)), (3, 1));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Histogram {
    /// Class 0 counts the values 0 and 1, class k those from 2^k on that are below 2^(k + 1). Classes beyond the last that
    /// counts anything are left out.
    pub classes: Vec<u64>,
    /// The sum of all values.
    pub sum: u64,
}

impl Histogram {
    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// The greatest value of the class that the value at `percent` of all lies in: at most twice that value. 0 if nothing
    /// was counted; a `percent` above 100 counts as 100.
    #[must_use]
    pub fn percentile(&self, percent: u32) -> u64 {
        let wanted = (u128::from(self.count()) * u128::from(percent.min(100))).div_ceil(100);
        let mut below = 0;
        for (class, count) in (0u32..).zip(&self.classes) {
            below += u128::from(*count);
            if *count > 0 && below >= wanted {
                return (2u64 << class) - 1;
            }
        }
        0
    }

    /// The mean of all values; 0 if nothing was counted.
    #[must_use]
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.count()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_agree_with_sorting() {
        let mut values: Vec<u64> = Vec::new();
        let recorder = Recorder::new();
        let mut random = 1u64;
        for _ in 0..5000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let value = (random >> 33) >> (random >> 59);
            recorder.record(value);
            values.push(value);
        }
        values.sort_unstable();
        let histogram = recorder.read();
        assert_eq!((histogram.count(), histogram.sum), (5000, values.iter().sum()));
        assert_eq!(histogram.mean(), histogram.sum / 5000);
        for percent in [1, 10, 50, 90, 99, 100] {
            let exact = values[5000 * percent as usize / 100 - 1];
            let told = histogram.percentile(percent);
            assert!((exact..=2 * exact.max(1)).contains(&told), "{percent}%: {told} for {exact}");
        }
        assert_eq!(histogram.percentile(1000), histogram.percentile(100));
    }

    #[test]
    fn the_ends_are_counted_too() {
        let recorder = Recorder::new();
        assert_eq!((recorder.read().percentile(50), recorder.read().mean()), (0, 0));
        for value in [0, 1, u64::MAX] {
            recorder.record(value);
        }
        let histogram = recorder.read();
        assert_eq!((histogram.count(), histogram.classes.len(), histogram.percentile(50)), (3, CLASSES, 1));
    }
}
