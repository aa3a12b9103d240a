//! Zipfian numbers, and what many measurements come to.

pub(crate) use crate::numbers::{Random, percentile};

/// YCSB's zipfian numbers (Gray and others, "Quickly generating billion-record synthetic databases"), with its
/// constant of 0.99: small numbers are frequent.
pub(crate) struct Zipf {
    count: u64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

const THETA: f64 = 0.99;

impl Zipf {
    pub(crate) fn new(count: u64) -> Zipf {
        let zeta = |count: u64| (1..=count).map(|rank| (rank as f64).powf(-THETA)).sum::<f64>();
        let (whole, two) = (zeta(count), zeta(2));
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - THETA)) / (1.0 - two / whole);
        Zipf { count, alpha: 1.0 / (1.0 - THETA), zeta: whole, eta }
    }

    /// A rank: 0 is the most frequent.
    pub(crate) fn rank(&self, random: &mut Random) -> u64 {
        let unit = random.unit();
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(THETA) {
            return 1.min(self.count - 1);
        }
        let rank = self.count as f64 * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count - 1)
    }

    /// A page: ranks are strewn over all ids, so that frequent ones aren't neighbours.
    pub(crate) fn page(&self, random: &mut Random) -> u64 {
        let mixed = (self.rank(random) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((u128::from(mixed) * u128::from(self.count)) >> 64) as u64
    }
}

/// What several samples came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    pub(crate) fn of(samples: &[f64]) -> Option<Summary> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        Some(Summary { median: percentile(&sorted, 0.5), min, max })
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the numbers that everything else rests on. Method: known values, and counts.

    use super::*;

    #[test]
    fn a_median_lies_in_the_middle() {
        let some = Summary::of(&[3.0, 1.0, 2.0, 10.0]);
        assert_eq!(some, Some(Summary { median: 2.5, min: 1.0, max: 10.0 }));
        assert_eq!(Summary::of(&[]), None);
        assert!((percentile(&[1.0, 2.0, 3.0], 1.0) - 3.0).abs() < 1e-12);
    }

    #[test]
    fn zipfian_ranks_fall_off_and_stay_in_range() {
        let (zipf, mut random, mut counts) = (Zipf::new(1000), Random::new(3), vec![0_u32; 1000]);
        for _ in 0..200_000 {
            counts[usize::try_from(zipf.rank(&mut random)).unwrap()] += 1;
            assert!(zipf.page(&mut random) < 1000);
        }
        // The first of 1,000 has about 1 / zeta(1000) = 0.13 of all; the tenth a tenth of that.
        assert!((20_000..33_000).contains(&counts[0]), "{}", counts[0]);
        assert!((1_800..3_600).contains(&counts[9]), "{}", counts[9]);
    }
}
