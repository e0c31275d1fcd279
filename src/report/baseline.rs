//! How a candidate compares with the report of an earlier release.

use super::candidate::{BaselineStatus, LeakCandidate};
use super::verdict::Verdict;
use crate::estimate::Estimate;

/// The part of a candidate of the baseline that others are compared with.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "analysis", derive(serde::Deserialize))]
pub(crate) struct BaselineCandidate {
    verdict: Verdict,
    function: String,
    #[cfg_attr(feature = "analysis", serde(rename = "crate"))]
    crate_name: Option<String>,
    leaked_bytes_per_hour: Estimate,
}

impl From<&LeakCandidate> for BaselineCandidate {
    fn from(candidate: &LeakCandidate) -> Self {
        Self {
            verdict: candidate.verdict,
            function: candidate.function.clone(),
            crate_name: candidate.crate_name.clone(),
            leaked_bytes_per_hour: candidate.leaked_bytes_per_hour,
        }
    }
}

impl BaselineCandidate {
    /// How `candidate` compares with those of the baseline.
    pub(super) fn status(baseline: &[Self], candidate: &LeakCandidate) -> BaselineStatus {
        let same = baseline.iter().find(|other| {
            other.verdict != Verdict::Retracted
                && (&other.function, &other.crate_name)
                    == (&candidate.function, &candidate.crate_name)
        });
        let Some(same) = same else { return BaselineStatus::New };
        let (now, then) = (candidate.leaked_bytes_per_hour, same.leaked_bytes_per_hour);
        // One-sided at 1%, and more than a matter of load.
        let worse = now.value - then.value > 2.326 * now.std_error.hypot(then.std_error)
            && now.value > 1.5 * then.value;
        if worse { BaselineStatus::Worse } else { BaselineStatus::Known }
    }
}
