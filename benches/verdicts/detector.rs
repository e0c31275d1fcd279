//! What is judged: anything that names leaks at ticks.

use std::collections::BTreeMap;

use heapdrift::{LeakReport, Profiler, Verdict};

/// What a detector says about a place in the program at a tick.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) verdict: Verdict,
    /// The function that the place is called by.
    pub(crate) function: String,
    /// The functions of its stack, leaf first.
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
