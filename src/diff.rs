//! The diff of two live sets: which samples were born and which died in between.
//!
//! A live set is reduced to its *cohorts*: how many samples of one site were born in one tick and
//! are alive. Samples of a cohort are interchangeable, so nothing more is needed to know how many of
//! them died, and no copy of the live set is kept. Both reducing and comparing are linear but for
//! one sort.

/// The live samples of a moment by site and tick of birth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cohorts {
    /// One word a sample, sorted: site, birth, and a code of the interval at which it is kept.
    keys: Vec<u64>,
}

const BIRTH_BITS: u32 = 24;
const INTERVAL_BITS: u32 = 8;

/// The last tick that fits: 31 years of minutes. Births after it count as in it.
pub(crate) const MAX_BIRTH_TICK: u32 = (1 << BIRTH_BITS) - 1;

/// Quarter powers of two, enough for every interval up to 2⁶⁴: two intervals of one code are the
/// same within a fifth.
fn interval_code(interval: f32) -> u64 {
    ((interval.max(1.0).log2() * 4.0).round() as u64).min((1 << INTERVAL_BITS) - 1)
}

/// The samples of one site that were born in one tick and are alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cohort {
    pub(crate) site: u32,
    pub(crate) birth: u32,
    pub(crate) alive: u32,
}

/// What became of a cohort between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CohortChange {
    pub(crate) site: u32,
    pub(crate) birth: u32,
    pub(crate) before: u32,
    pub(crate) after: u32,
    /// The interval was raised or lowered in between, and samples may be gone because of that:
    /// what died cannot be told.
    pub(crate) resampled: bool,
}

impl Cohorts {
    /// With room for so many samples.
    pub(crate) fn with_capacity(samples: usize) -> Self {
        Self { keys: Vec::with_capacity(samples) }
    }

    /// How many samples there are.
    pub(crate) fn samples(&self) -> usize {
        self.keys.len()
    }

    /// Adds a sample. [`sort`](Self::sort) comes before all questions.
    pub(crate) fn push(&mut self, site: u32, birth: u32, interval: f32) {
        let birth = u64::from(birth.min(MAX_BIRTH_TICK));
        let key = u64::from(site) << BIRTH_BITS | birth;
        self.keys.push(key << INTERVAL_BITS | interval_code(interval));
    }

    pub(crate) fn sort(&mut self) {
        self.keys.sort_unstable();
    }

    /// The cohorts, by site and then by birth.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Cohort> + '_ {
        runs(&self.keys).map(|run| run.cohort())
    }

    /// The cohorts of one site, by birth. Logarithmic, then linear in what it gives.
    pub(crate) fn of_site(&self, site: u32) -> impl Iterator<Item = Cohort> + '_ {
        let first =
            |site: u64| self.keys.partition_point(|key| key >> (BIRTH_BITS + INTERVAL_BITS) < site);
        runs(&self.keys[first(u64::from(site))..first(u64::from(site) + 1)]).map(|run| run.cohort())
    }
}

/// The samples of one cohort.
#[derive(Clone, Copy)]
struct CohortRun<'a>(&'a [u64]);

impl CohortRun<'_> {
    fn key(self) -> u64 {
        self.0[0] >> INTERVAL_BITS
    }

    fn cohort(self) -> Cohort {
        let (site, birth) = ((self.key() >> BIRTH_BITS) as u32, self.key() as u32 & MAX_BIRTH_TICK);
        Cohort { site, birth, alive: self.0.len() as u32 }
    }

    /// The lowest and highest interval in it.
    fn intervals(self) -> (u64, u64) {
        (self.0[0], self.0[self.0.len() - 1])
    }
}

fn runs(keys: &[u64]) -> impl Iterator<Item = CohortRun<'_>> {
    keys.chunk_by(|a, b| a >> INTERVAL_BITS == b >> INTERVAL_BITS).map(CohortRun)
}

/// All cohorts that are in one of two live sets, with what became of them.
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
        fn a_diff_is_that_of_a_naive_twin(
            before in prop::collection::vec((0_u32..5, 0_u32..6), 0..60),
            after in prop::collection::vec((0_u32..5, 0_u32..6), 0..60),
        ) {
            let mut twin: BTreeMap<(u32, u32), (u32, u32)> = BTreeMap::new();
            before.iter().for_each(|key| twin.entry(*key).or_default().0 += 1);
            after.iter().for_each(|key| twin.entry(*key).or_default().1 += 1);
            let twin: Vec<CohortChange> = twin
                .into_iter()
                .map(|((site, birth), (before, after))| CohortChange {
                    site, birth, before, after, resampled: false,
                })
                .collect();
            let (before, after) = (cohorts(&before), cohorts(&after));
            prop_assert_eq!(diff(&before, &after).collect::<Vec<_>>(), twin);
            let by_site: Vec<Cohort> = (0..5).flat_map(|site| after.of_site(site)).collect();
            prop_assert_eq!(after.iter().collect::<Vec<_>>(), by_site);
        }
    }

    #[test]
    fn a_cohort_whose_interval_changed_is_marked() {
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
