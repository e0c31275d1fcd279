//! `LeakReport`: all candidates at the end of a tick.

use super::candidate::{BaselineStatus, LeakCandidate};
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
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
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
    #[cfg_attr(feature = "read", serde(default))]
    pub omitted: u64,
    /// Why candidates cannot be compared with the baseline, if so.
    #[cfg_attr(feature = "read", serde(default, skip_serializing_if = "Option::is_none"))]
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
        for candidate in &mut self.candidates {
            let same = baseline.candidates.iter().find(|other| {
                other.verdict != Verdict::Retracted
                    && (&other.function, &other.crate_name)
                        == (&candidate.function, &candidate.crate_name)
            });
            candidate.baseline = Some(match same {
                None => BaselineStatus::New,
                Some(other) => {
                    let (now, then) =
                        (candidate.leaked_bytes_per_hour, other.leaked_bytes_per_hour);
                    // One-sided at 1%, and more than a matter of load.
                    let worse = now.value - then.value
                        > 2.326 * now.std_error.hypot(then.std_error)
                        && now.value > 1.5 * then.value;
                    if worse { BaselineStatus::Worse } else { BaselineStatus::Known }
                }
            });
        }
    }
}
