//! `LeakReport`: all candidates at the end of a tick.

use super::baseline::BaselineCandidate;
use super::candidate::LeakCandidate;
use super::verdict::Verdict;

/// The most candidates of a report; what comes after them is counted.
pub const MAX_CANDIDATES: usize = 20;

/// The leak candidates at the end of a tick, the best first: confirmed before suspected before
/// retracted, then by the lower bound of the 95% interval of what leaks in an hour.
///
/// [`to_json`](Self::to_json) writes the fields under their names here, as version
/// [`VERSION`](Self::VERSION) of the format; the [`Display`](std::fmt::Display) form is a text that
/// fits on a screen, with three candidates in full, or with as many as its precision: `{report:.10}`.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct LeakReport {
    /// Version of this format; goes up when a field changes its meaning or goes away.
    pub version: u32,
    /// The tick that ended, 1 for the first of the session; 0 if there was none.
    pub tick: u64,
    /// Milliseconds since recording started.
    pub uptime_ms: u64,
    /// Call sites that were tested at this tick, for which the candidates' thresholds are
    /// corrected.
    pub tested_sites: u64,
    /// The candidates, at most [`MAX_CANDIDATES`].
    pub candidates: Vec<LeakCandidate>,
    /// Candidates beyond those.
    #[cfg_attr(feature = "analysis", serde(default))]
    pub omitted: u64,
    /// Why candidates cannot be compared with the baseline, if so.
    #[cfg_attr(feature = "analysis", serde(default, skip_serializing_if = "Option::is_none"))]
    pub baseline_problem: Option<String>,
}

impl LeakReport {
    /// The version of the format that this crate writes.
    pub const VERSION: u32 = 1;

    /// The candidates with this verdict, the best first.
    pub fn with_verdict(&self, verdict: Verdict) -> impl Iterator<Item = &LeakCandidate> {
        self.candidates.iter().filter(move |candidate| candidate.verdict == verdict)
    }

    /// Sets the [`baseline`](LeakCandidate::baseline) of each candidate, by function and crate.
    pub fn compare_with_baseline(&mut self, baseline: &Self) {
        let candidates: Vec<_> = baseline.candidates.iter().map(BaselineCandidate::from).collect();
        self.compare_with(&candidates);
    }

    pub(crate) fn compare_with(&mut self, baseline: &[BaselineCandidate]) {
        for candidate in &mut self.candidates {
            candidate.baseline = Some(BaselineCandidate::status(baseline, candidate));
        }
    }
}
