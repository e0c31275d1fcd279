//! The claims that are judged. Anything that names leaks at ticks can make them.

use std::collections::BTreeMap;

use heapdrift::{LeakReport, Profiler, Verdict};

/// What a detector says about a call site or function at a tick.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) verdict: Verdict,
    /// The function that is named as leaking.
    pub(crate) function: String,
    /// The functions of the stack, leaf first.
    pub(crate) stack: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// One tick of heapdrift's own detector.
pub(crate) fn tick(profiler: &Profiler) -> Vec<Claim> {
    let report: LeakReport = profiler.diff_now();
    let shown = std::env::var("VERDICTS_SHOW").unwrap_or_default();
    if shown.split(',').any(|tick| tick == report.tick.to_string()) {
        eprintln!("{report}");
    }
    report
        .candidates
        .into_iter()
        .map(|candidate| Claim {
            verdict: candidate.verdict,
            function: candidate.function,
            stack: candidate.stack.into_iter().map(|frame| frame.function).collect(),
            labels: candidate.labels,
        })
        .collect()
}
