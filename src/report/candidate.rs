//! One candidate of a leak report, and what its verdict rests on.

use std::collections::BTreeMap;

use super::frame::{Blame, Frame};
use super::verdict::Verdict;
use crate::estimate::Estimate;

/// Something that leaks, or may, or was believed to.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct LeakCandidate {
    /// How sure the detector is.
    pub verdict: Verdict,
    /// The function that allocates what leaks: the innermost that is not the allocator's, a
    /// container's or the profiler's.
    pub function: String,
    /// Its crate.
    #[cfg_attr(feature = "analysis", serde(rename = "crate"))]
    pub crate_name: Option<String>,
    /// Whether that crate is the service's own.
    pub own: bool,
    /// What leaks in an hour of the present load. The standard error includes the randomness of the
    /// leak's own births.
    pub leaked_bytes_per_hour: Estimate,
    /// Live bytes at these call sites, leaked or not.
    pub live_bytes: Estimate,
    /// Live objects there.
    pub live_count: Estimate,
    /// The tick at which it was first suspected.
    pub first_seen_tick: u64,
    /// The labels that all of its call sites have.
    pub labels: BTreeMap<String, String>,
    /// Whose code it is.
    pub blame: Blame,
    /// How it compares with the baseline, where one was given.
    #[cfg_attr(feature = "analysis", serde(default, skip_serializing_if = "Option::is_none"))]
    pub baseline: Option<BaselineStatus>,
    /// The stack of the call site with most of it, innermost first, without the frames of the
    /// allocator.
    #[cfg_attr(feature = "analysis", serde(rename = "frames"))]
    pub stack: Vec<Frame>,
    /// How many of these frames, from the innermost, all of its call sites share.
    pub shared_frames: usize,
    /// What the verdict rests on.
    pub evidence: Evidence,
}

/// How a candidate compares with the report of an earlier release, the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[cfg_attr(feature = "analysis", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum BaselineStatus {
    /// The baseline does not have it.
    New,
    /// The baseline has it, and it leaks significantly more now.
    Worse,
    /// The baseline has it, and it does not leak significantly more now.
    Known,
}

/// What a verdict rests on.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct Evidence {
    /// What was tested.
    pub kind: EvidenceKind,
    /// Call sites that it is spread over.
    pub sites: u64,
    /// Decimal logarithm of the e-value: how much likelier what was seen is if old objects never
    /// die than if they die as healthy ones do. See [`crate::leak`].
    pub log10_e: f64,
    /// What it must exceed for a confirmation, corrected for the number of sites.
    pub log10_threshold: f64,
    /// The age in ticks from which on objects count as mature.
    pub mature_age: u64,
    /// Sampled objects alive that are mature and were born after the warm-up.
    pub mature_alive: u64,
    /// Sampled objects that were mature when they died.
    pub mature_deaths: u64,
    /// Sampled births that were seen. Objects that live less than a tick mostly are not.
    pub births: u64,
    /// First and last tick of birth of the mature ones that are alive.
    pub ticks: (u64, u64),
    /// Of those, how many were born in each quarter of that time: a leak goes on, what warms up
    /// does not.
    pub quarters: [f64; 4],
    /// Sampled objects that are alive by time of birth, in sixteen equal parts of the uptime.
    pub cohorts: Vec<u64>,
    /// Who is alive and who died, by age.
    pub ages: Vec<AgeGroup>,
    /// Ticks since the candidate was first seen, and live bytes at each.
    pub curve: Vec<(u64, f64)>,
    /// Of a container: ticks at which it was seen to have grown by two fifths or more, and its
    /// bytes then, exactly.
    pub steps: Vec<(u64, u64)>,
}

/// Which rule a verdict rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[cfg_attr(feature = "analysis", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum EvidenceKind {
    /// Objects that outlive all that is usual at their call site, and more of them all the time.
    #[default]
    Survival,
    /// A few large blocks that only grow: a container.
    Container,
}

/// Sampled objects between an age and twice that age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct AgeGroup {
    /// The age in ticks at which the group begins.
    pub from: u64,
    /// Objects of that age now.
    pub alive: u64,
    /// Objects that ever died at that age.
    pub died: u64,
}
