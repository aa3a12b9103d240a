//! Ages of pages, in versions, in few enough groups for a legend.

/// Groups, at most.
pub(super) const GROUPS_MAX: usize = 8;

/// Groups of ages: 0, then from each bound up to below the next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ages {
    /// The least age of each group, in ascending order; the first is 0.
    bounds: Vec<u64>,
    oldest: u64,
}

impl Ages {
    /// Groups that cover ages up to `oldest`: as fine as can be, with round bounds.
    pub(super) fn up_to(oldest: u64) -> Ages {
        let by_ones: Vec<u64> = (0..GROUPS_MAX as u64).collect();
        let powers = |factor: u64| {
            let next = move |bound: &u64| bound.checked_mul(factor);
            [0].into_iter().chain(std::iter::successors(Some(1), next)).take(GROUPS_MAX).collect::<Vec<_>>()
        };
        let candidates = [(by_ones, 1), (powers(2), 2), (powers(10), 10), (powers(100), 100)];
        // The last group reaches from its bound to the next, were there one.
        let fits = |(bounds, factor): &(Vec<u64>, u64)| {
            let last = bounds.last().copied().unwrap_or(0);
            oldest < last.saturating_mul(*factor).max(last.saturating_add(1))
        };
        let mut bounds = candidates.into_iter().find(fits).map_or_else(|| powers(1000), |(bounds, _)| bounds);
        bounds.retain(|bound| *bound <= oldest);
        Ages { bounds, oldest }
    }

    pub(super) fn len(&self) -> usize {
        self.bounds.len()
    }

    pub(super) fn group_of(&self, age: u64) -> usize {
        self.bounds.partition_point(|bound| *bound <= age).saturating_sub(1)
    }

    /// The ages of a group, in words.
    pub(super) fn name(&self, group: usize) -> String {
        let first = self.bounds.get(group).copied().unwrap_or(0);
        let last = self.bounds.get(group + 1).map_or(self.oldest, |next| next - 1);
        match (first, last) {
            (0, 0) => "current version".to_owned(),
            (1, 1) => "1 version ago".to_owned(),
            (first, last) if first == last => format!("{first} versions ago"),
            (first, last) => format!("{first} to {last} versions ago"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_age_is_in_the_one_group_that_names_it() {
        for oldest in [0, 1, 6, 7, 8, 100, 127, 128, 999_999, 9_999_999, 10_000_000, 1 << 40, u64::MAX] {
            let ages = Ages::up_to(oldest);
            assert!((1..=GROUPS_MAX).contains(&ages.len()), "{oldest}: {ages:?}");
            assert!(ages.group_of(oldest) == ages.len() - 1 && ages.group_of(0) == 0, "{oldest}: {ages:?}");
            for group in 0..ages.len() {
                let first = ages.bounds[group];
                assert_eq!(ages.group_of(first), group);
                assert_eq!(first.checked_sub(1).map(|age| ages.group_of(age)), group.checked_sub(1));
            }
        }
        assert_eq!(Ages::up_to(0).name(0), "current version");
        assert_eq!(Ages::up_to(3).name(1), "1 version ago");
        assert_eq!(Ages::up_to(3).name(3), "3 versions ago");
        assert_eq!(Ages::up_to(100).name(7), "64 to 100 versions ago");
        assert_eq!(Ages::up_to(5000).name(4), "1000 to 5000 versions ago");
    }
}
