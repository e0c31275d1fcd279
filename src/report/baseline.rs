//! What candidates are compared with: some fields of the candidates of an earlier release.

use super::candidate::{BaselineStatus, LeakCandidate};
use super::leak_report::LeakReport;
use super::verdict::Verdict;
use crate::estimate::Estimate;

/// The fields of a report that a comparison with it needs.
///
/// It has a form of its own because every service compiles its parser, to read a dump. The parser
/// of whole reports was 5% of the LLVM IR of this library.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
pub(crate) struct Baseline {
    candidates: Vec<Candidate>,
}

#[derive(Clone, Debug)]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
struct Candidate {
    verdict: Verdict,
    function: String,
    #[cfg_attr(feature = "read", serde(rename = "crate"))]
    crate_name: Option<String>,
    leaked_bytes_per_hour: Estimate,
}

impl From<&LeakReport> for Baseline {
    fn from(report: &LeakReport) -> Self {
        let candidates = report.candidates.iter().map(|candidate| Candidate {
            verdict: candidate.verdict,
            function: candidate.function.clone(),
            crate_name: candidate.crate_name.clone(),
            leaked_bytes_per_hour: candidate.leaked_bytes_per_hour,
        });
        Self { candidates: candidates.collect() }
    }
}

impl Baseline {
    /// How `candidate` compares with the one here that has the same function and crate.
    fn status(&self, candidate: &LeakCandidate) -> BaselineStatus {
        let same = self.candidates.iter().find(|other| {
            other.verdict != Verdict::Retracted
                && (&other.function, &other.crate_name)
                    == (&candidate.function, &candidate.crate_name)
        });
        let Some(same) = same else { return BaselineStatus::New };
        let (now, then) = (candidate.leaked_bytes_per_hour, same.leaked_bytes_per_hour);
        // A one-sided test at the 1% level. The factor excludes changes that a higher load can
        // explain.
        let worse = now.value - then.value > 2.326 * now.std_error.hypot(then.std_error)
            && now.value > 1.5 * then.value;
        if worse { BaselineStatus::Worse } else { BaselineStatus::Known }
    }
}

impl LeakReport {
    /// Compares each candidate with the one in `baseline` that has the same function and crate, and
    /// sets its [`baseline`](LeakCandidate::baseline).
    pub fn compare_with_baseline(&mut self, baseline: &Self) {
        self.compare_with(&Baseline::from(baseline));
    }

    /// Sets how each candidate compares with the baseline.
    pub(crate) fn compare_with(&mut self, baseline: &Baseline) {
        for candidate in &mut self.candidates {
            candidate.baseline = Some(baseline.status(candidate));
        }
    }
}
