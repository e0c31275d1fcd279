//! One candidate of a leak report, and the evidence for its verdict.

use std::collections::BTreeMap;

use super::frame::{Blame, Frame};
use super::verdict::Verdict;
use crate::estimate::Estimate;

/// A call site, or a group of call sites, that leaks, may leak, or was suspected of it.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LeakCandidate {
    /// How sure the detector is.
    pub verdict: Verdict,
    /// The function that allocates what leaks: the innermost one that does not belong to the
    /// allocator, a container or the profiler.
    pub function: String,
    /// The crate of the function.
    #[cfg_attr(feature = "read", serde(rename = "crate"))]
    pub crate_name: Option<String>,
    /// Whether that crate is the service's own.
    pub own: bool,
    /// The bytes that leak per hour at the present load. The standard error includes the randomness
    /// of the births.
    pub leaked_bytes_per_hour: Estimate,
    /// The live bytes at its call sites, leaked or not.
    pub live_bytes: Estimate,
    /// The live objects at its call sites, leaked or not.
    pub live_count: Estimate,
    /// The tick at which it was first suspected.
    pub first_seen_tick: u64,
    /// The labels that all of its call sites have in common.
    pub labels: BTreeMap<String, String>,
    /// The crate that is responsible.
    pub blame: Blame,
    /// How it compares with the baseline, if there is one.
    #[cfg_attr(feature = "read", serde(default, skip_serializing_if = "Option::is_none"))]
    pub baseline: Option<BaselineStatus>,
    /// The stack of the call site that holds the most, innermost frame first, without the frames of
    /// the allocator.
    #[cfg_attr(feature = "read", serde(rename = "frames"))]
    pub stack: Vec<Frame>,
    /// How many frames of `stack`, counted from the innermost, all of its call sites share.
    pub shared_frames: usize,
    /// The evidence for the verdict.
    pub evidence: Evidence,
}

/// How a candidate compares with the baseline, the report of an earlier release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "read", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum BaselineStatus {
    /// The baseline does not contain it.
    New,
    /// The baseline contains it, and it leaks significantly more now.
    Worse,
    /// The baseline contains it, and it does not leak significantly more now.
    Known,
}

/// The evidence for a verdict.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Evidence {
    /// The rule that was applied.
    pub kind: EvidenceKind,
    /// The number of call sites of the candidate.
    pub sites: u64,
    /// The decimal logarithm of the e-value, the likelihood ratio of the observations: their
    /// likelihood if old objects never die over that if they die as healthy ones do. See
    /// [`crate::leak`].
    pub log10_e: f64,
    /// The value that `log10_e` must exceed for a confirmation, corrected for the number of sites.
    pub log10_threshold: f64,
    /// The age in ticks from which objects count as mature.
    pub mature_age: u64,
    /// The live sampled objects that are mature and were born after the warm-up.
    pub mature_alive: u64,
    /// The sampled objects that were mature when they died.
    pub mature_deaths: u64,
    /// The observed births of sampled objects. Objects that live less than a tick are mostly not
    /// observed.
    pub births: u64,
    /// The first and the last tick of birth among the live mature objects.
    pub ticks: (u64, u64),
    /// How many of these objects were born in each quarter of the time between these two ticks. The
    /// births of a leak go on; those of a warm-up dry up.
    pub quarters: [f64; 4],
    /// The live sampled objects by time of birth, in sixteen equal parts of the uptime.
    pub cohorts: Vec<u64>,
    /// The live and dead sampled objects by age.
    pub ages: Vec<AgeGroup>,
    /// The live bytes over time: pairs of a tick and the live bytes then, from the tick at which
    /// the candidate was first suspected. Long curves are thinned out.
    pub curve: Vec<(u64, f64)>,
    /// The growth of a container: pairs of a tick at which it had grown by two fifths or more, and
    /// its exact size then, in bytes.
    pub steps: Vec<(u64, u64)>,
}

/// The rule behind a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "read", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum EvidenceKind {
    /// The objects of the call site outlive what is usual there, and more of them accumulate.
    #[default]
    Survival,
    /// A few large blocks, a container, only grow.
    Container,
}

/// Sampled objects between an age and twice that age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct AgeGroup {
    /// The age in ticks at which the group begins.
    pub from: u64,
    /// The objects that have such an age now.
    pub alive: u64,
    /// The objects that have died at such an age since the start.
    pub died: u64,
}
