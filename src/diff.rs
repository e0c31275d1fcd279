//! The diff of two live sets: how many samples were born and how many died in between.
//!
//! A live set is reduced to its *cohorts*: the number of live samples that were born at one site in
//! one tick. The samples of a cohort are interchangeable, so these numbers suffice to tell how many
//! died, and no copy of the live set is kept. Reducing and comparing take linear time, apart from
//! one sort.

/// The live samples at one moment, by site and tick of birth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cohorts {
    /// One word per sample, sorted: site, tick of birth, and a code of the sampling interval at
    /// which the sample is kept.
    keys: Vec<u64>,
}

const BIRTH_BITS: u32 = 24;
const INTERVAL_BITS: u32 = 8;

/// The largest tick of birth that a key can hold: 31 years of one-minute ticks. Later births count
/// as births in this tick.
pub(crate) const MAX_BIRTH_TICK: u32 = (1 << BIRTH_BITS) - 1;

/// The interval's logarithm to base 2 in quarters, which covers every interval up to 2⁶⁴. Two
/// intervals with the same code differ by less than a fifth.
fn interval_code(interval: f32) -> u64 {
    ((interval.max(1.0).log2() * 4.0).round() as u64).min((1 << INTERVAL_BITS) - 1)
}

/// The live samples of one site that were born in one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cohort {
    pub(crate) site: u32,
    /// The tick of birth.
    pub(crate) birth: u32,
    /// Number of live samples.
    pub(crate) alive: u32,
}

/// The change of a cohort between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CohortChange {
    pub(crate) site: u32,
    pub(crate) birth: u32,
    /// Number of live samples at the first moment.
    pub(crate) before: u32,
    /// Number of live samples at the second moment.
    pub(crate) after: u32,
    /// The sampling interval was raised or lowered in between. Samples may be gone because they
    /// were thinned, so the number of deaths is unknown.
    pub(crate) resampled: bool,
}

impl Cohorts {
    /// No samples, with room for this many.
    pub(crate) fn with_capacity(samples: usize) -> Self {
        Self { keys: Vec::with_capacity(samples) }
    }

    /// The number of samples.
    pub(crate) fn samples(&self) -> usize {
        self.keys.len()
    }

    /// Adds a sample. Call [`sort`](Self::sort) after the last one, before anything is read.
    pub(crate) fn push(&mut self, site: u32, birth: u32, interval: f32) {
        let birth = u64::from(birth.min(MAX_BIRTH_TICK));
        let key = u64::from(site) << BIRTH_BITS | birth;
        self.keys.push(key << INTERVAL_BITS | interval_code(interval));
    }

    /// Sorts the samples into cohorts.
    pub(crate) fn sort(&mut self) {
        self.keys.sort_unstable();
    }

    /// The cohorts, ordered by site and then by tick of birth.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Cohort> + '_ {
        runs(&self.keys).map(|run| run.cohort())
    }

    /// The cohorts of one site, ordered by tick of birth. Takes a binary search, and then linear
    /// time in the number of samples returned.
    pub(crate) fn of_site(&self, site: u32) -> impl Iterator<Item = Cohort> + '_ {
        let first =
            |site: u64| self.keys.partition_point(|key| key >> (BIRTH_BITS + INTERVAL_BITS) < site);
        runs(&self.keys[first(u64::from(site))..first(u64::from(site) + 1)]).map(|run| run.cohort())
    }
}

/// The keys of the samples of one cohort.
#[derive(Clone, Copy)]
struct CohortRun<'a>(&'a [u64]);

impl CohortRun<'_> {
    /// Site and tick of birth.
    fn key(self) -> u64 {
        self.0[0] >> INTERVAL_BITS
    }

    fn cohort(self) -> Cohort {
        let (site, birth) = ((self.key() >> BIRTH_BITS) as u32, self.key() as u32 & MAX_BIRTH_TICK);
        Cohort { site, birth, alive: self.0.len() as u32 }
    }

    /// The keys with the lowest and the highest interval.
    fn intervals(self) -> (u64, u64) {
        (self.0[0], self.0[self.0.len() - 1])
    }
}

/// Divides sorted keys into cohorts.
fn runs(keys: &[u64]) -> impl Iterator<Item = CohortRun<'_>> {
    keys.chunk_by(|a, b| a >> INTERVAL_BITS == b >> INTERVAL_BITS).map(CohortRun)
}

/// The changes of all cohorts that are in at least one of two live sets.
pub(crate) fn diff<'a>(
    before: &'a Cohorts,
    after: &'a Cohorts,
) -> impl Iterator<Item = CohortChange> {
    let mut before = runs(&before.keys).peekable();
    let mut after = runs(&after.keys).peekable();
    std::iter::from_fn(move || {
        let key = match (before.peek(), after.peek()) {
            (Some(a), Some(b)) => a.key().min(b.key()),
            (Some(run), None) | (None, Some(run)) => run.key(),
            (None, None) => return None,
        };
        let a = before.next_if(|run| run.key() == key);
        let b = after.next_if(|run| run.key() == key);
        let alive = |run: Option<CohortRun<'_>>| run.map_or(0, |run| run.0.len() as u32);
        let cohort = a.or(b)?.cohort();
        Some(CohortChange {
            site: cohort.site,
            birth: cohort.birth,
            before: alive(a),
            after: alive(b),
            resampled: matches!((a, b), (Some(a), Some(b)) if a.intervals() != b.intervals()),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn cohorts(samples: &[(u32, u32)]) -> Cohorts {
        let mut cohorts = Cohorts::default();
        samples.iter().for_each(|(site, birth)| cohorts.push(*site, *birth, 512.0));
        cohorts.sort();
        cohorts
    }

    proptest! {
        #[test]
        fn a_diff_equals_that_of_a_naive_model(
            before in prop::collection::vec((0_u32..5, 0_u32..6), 0..60),
            after in prop::collection::vec((0_u32..5, 0_u32..6), 0..60),
        ) {
            let mut model: BTreeMap<(u32, u32), (u32, u32)> = BTreeMap::new();
            before.iter().for_each(|key| model.entry(*key).or_default().0 += 1);
            after.iter().for_each(|key| model.entry(*key).or_default().1 += 1);
            let model: Vec<CohortChange> = model
                .into_iter()
                .map(|((site, birth), (before, after))| CohortChange {
                    site, birth, before, after, resampled: false,
                })
                .collect();
            let (before, after) = (cohorts(&before), cohorts(&after));
            prop_assert_eq!(diff(&before, &after).collect::<Vec<_>>(), model);
            let by_site: Vec<Cohort> = (0..5).flat_map(|site| after.of_site(site)).collect();
            prop_assert_eq!(after.iter().collect::<Vec<_>>(), by_site);
        }
    }

    #[test]
    fn a_cohort_whose_interval_changed_is_marked_as_resampled() {
        let mut before = Cohorts::default();
        let mut after = Cohorts::default();
        (0..4).for_each(|_| before.push(1, 1, 512.0));
        (0..2).for_each(|_| before.push(2, 1, 512.0));
        (0..2).for_each(|_| after.push(1, 1, 1024.0));
        (0..2).for_each(|_| after.push(2, 1, 513.0));
        before.sort();
        after.sort();
        let changes: Vec<CohortChange> = diff(&before, &after).collect();
        assert_eq!(
            changes[0],
            CohortChange { site: 1, birth: 1, before: 4, after: 2, resampled: true }
        );
        assert_eq!(
            changes[1],
            CohortChange { site: 2, birth: 1, before: 2, after: 2, resampled: false }
        );
    }
}
