//! What is found at a tick, before it is put into words.

use std::collections::BTreeMap;

use super::verdict::Verdict;
use crate::Estimate;

/// The most candidates of a report; what comes after them is counted.
pub const MAX_CANDIDATES: usize = 20;

/// Something that leaks, or was believed to.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) verdict: Verdict,
    pub(crate) first_seen_tick: u32,
    /// All of its sites.
    pub(crate) sites: Vec<u32>,
    /// Code addresses of the site with most of it, innermost first; where the finding is all that happens below a
    /// function, from that function outward.
    pub(crate) frames: Vec<u64>,
    /// How many of them all of its sites share.
    pub(crate) shared_frames: usize,
    /// Of a finding below a function: the addresses that some of its sites have just inside of it,
    /// that of the main site first.
    pub(crate) callees: Vec<u64>,
    /// The labels that all of its sites have.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) live_bytes: Estimate,
    pub(crate) live_count: Estimate,
    pub(crate) bytes_per_tick: Estimate,
    pub(crate) facts: Facts,
}

/// What a finding rests on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// A container: the ticks at which it had grown by a step, and its bytes then.
    pub(crate) steps: Vec<(u32, u64)>,
    /// Logarithm of the e-value, and what it had to exceed.
    pub(crate) log_e: f64,
    pub(crate) threshold: f64,
    pub(crate) mature_age: u32,
    pub(crate) mature_alive: u32,
    pub(crate) mature_deaths: f64,
    pub(crate) born: f64,
    pub(crate) ticks: (u32, u32),
    pub(crate) quarters: [f64; 4],
    /// Alive objects by time of birth, in equal parts of the uptime.
    pub(crate) births: Vec<u32>,
    /// Of each octave, by the age in ticks at which it begins: objects alive, and ever died.
    pub(crate) ages: Vec<(u32, u32, f64)>,
    /// Live bytes at ticks since the finding was first seen.
    pub(crate) curve: Vec<(u32, f64)>,
}

/// All findings of a tick, and what they were chosen from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    pub(crate) tick: u32,
    pub(crate) uptime_ms: u64,
    pub(crate) tested_sites: usize,
    pub(crate) findings: Vec<Finding>,
}

/// Estimates of one finding.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FindingEstimates {
    pub(super) live_bytes: Estimate,
    pub(super) live_count: Estimate,
    pub(super) leaked_bytes: Estimate,
}
