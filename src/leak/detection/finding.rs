//! The findings of a tick: plain data, before functions have names.

use std::collections::BTreeMap;

use crate::Estimate;
use crate::report::Verdict;

/// A suspected, confirmed or retracted leak.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) verdict: Verdict,
    pub(crate) first_seen_tick: u32,
    /// All call sites that it comprises.
    pub(crate) sites: Vec<u32>,
    /// Code addresses of the stack of its main site, the one with most old objects, innermost
    /// first. If the finding is everything that is allocated below a function, they begin at that
    /// function.
    pub(crate) frames: Vec<u64>,
    /// How many of these frames, from the innermost on, all of its sites share.
    pub(crate) shared_frames: usize,
    /// If the finding is everything that is allocated below a function: the code addresses in the
    /// callees of that function at some of its sites, the main site's first.
    pub(crate) callees: Vec<u64>,
    /// The labels that all of its sites have in common.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) live_bytes: Estimate,
    pub(crate) live_count: Estimate,
    pub(crate) bytes_per_tick: Estimate,
    pub(crate) facts: Facts,
}

/// The figures that a finding rests on. The report's [`Evidence`](super::Evidence) is made of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// For a container: the tick at which each step of growth was seen, and its bytes at that tick.
    /// Empty for any other finding.
    pub(crate) steps: Vec<(u32, u64)>,
    /// Natural logarithm of the e-value.
    pub(crate) log_e: f64,
    /// What `log_e` must exceed for a confirmation.
    pub(crate) threshold: f64,
    /// The age in ticks from which on objects are mature.
    pub(crate) mature_age: u32,
    /// Number of live mature objects that were born after the warm-up.
    pub(crate) mature_alive: u32,
    /// Number of deaths of mature objects.
    pub(crate) mature_deaths: f64,
    /// Number of births seen.
    pub(crate) born: f64,
    /// The first tick of birth of the live mature objects, and the tick after the last one.
    pub(crate) ticks: (u32, u32),
    /// Number of objects born in each quarter of `ticks`.
    pub(crate) quarters: [f64; 4],
    /// Number of live objects by time of birth, in equal parts of the uptime.
    pub(crate) births: Vec<u32>,
    /// For each octave of age: the age in ticks at which it begins, the number of live objects, and
    /// the number that ever died at such an age.
    pub(crate) ages: Vec<(u32, u32, f64)>,
    /// Ticks since the finding was first seen, and the live bytes at each.
    pub(crate) curve: Vec<(u32, f64)>,
}

/// All findings of a tick.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    pub(crate) tick: u32,
    pub(crate) uptime_ms: u64,
    /// Number of sites that were tested.
    pub(crate) tested_sites: usize,
    /// The findings, best first.
    pub(crate) findings: Vec<Finding>,
}

/// Estimates for one finding, from its live samples.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FindingEstimates {
    pub(super) live_bytes: Estimate,
    pub(super) live_count: Estimate,
    /// Bytes born in the ticks in which the leaked objects were. The standard error includes the
    /// randomness of births.
    pub(super) leaked_bytes: Estimate,
}
