//! `LeakReport`: the candidates at the end of a tick.

use super::candidate::LeakCandidate;
use super::verdict::Verdict;

/// The maximum number of candidates in a report. Further ones are only counted.
pub const MAX_CANDIDATES: usize = 20;

/// The leak candidates at the end of a tick, best first.
///
/// Confirmed candidates come before suspects, and these before retracted ones. Within a verdict,
/// the order is by the lower bound of the 95% interval of the bytes that leak per hour.
///
/// [`to_json`](Self::to_json) returns a JSON document with the field names below, in version
/// [`VERSION`](Self::VERSION) of the format. The [`Display`](std::fmt::Display) form is a text that
/// fits on a screen. It shows three candidates in full, or as many as the precision says:
/// `{report:.10}`.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LeakReport {
    /// The version of the format. It increases when a field changes its meaning or is removed.
    pub version: u32,
    /// The number of the tick that ended, from 1; 0 if no tick has ended.
    pub tick: u64,
    /// Milliseconds since recording started.
    pub uptime_ms: u64,
    /// The number of call sites that were tested at this tick. The candidates' thresholds are
    /// corrected for it.
    pub tested_sites: u64,
    /// The candidates, at most [`MAX_CANDIDATES`].
    pub candidates: Vec<LeakCandidate>,
    /// The number of further candidates, which are left out.
    #[cfg_attr(feature = "read", serde(default))]
    pub omitted: u64,
    /// The reason why the candidates could not be compared with the baseline, if there is one.
    #[cfg_attr(feature = "read", serde(default, skip_serializing_if = "Option::is_none"))]
    pub baseline_problem: Option<String>,
}

impl LeakReport {
    /// The version of the format that this crate writes.
    pub const VERSION: u32 = 1;

    /// The candidates with this verdict, best first.
    pub fn with_verdict(&self, verdict: Verdict) -> impl Iterator<Item = &LeakCandidate> {
        self.candidates.iter().filter(move |candidate| candidate.verdict == verdict)
    }
}
