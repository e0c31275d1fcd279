//! The detector's findings with names: what is shown, stored and sent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::finding::{Finding, Findings, MAX_CANDIDATES};
use super::naming::{Names, ResolvedFrames};
use super::observation::Observation;
use super::verdict::Verdict;
use crate::Estimate;
use crate::blame::{self, Blame, Frame, Packages};
use crate::names::machinery::{self, Role};

/// The leak candidates at the end of a tick, the best first: confirmed before suspected before
/// retracted, then by the lower bound of the 95% interval of what leaks in an hour.
///
/// [`to_json`](Self::to_json) writes the fields under their names here, as version
/// [`VERSION`](Self::VERSION) of the format; the [`Display`](std::fmt::Display) form is a text that
/// fits on a screen, with three candidates in full, or with as many as its precision: `{report:.10}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    #[serde(default)]
    pub omitted: u64,
    /// Why candidates cannot be compared with the baseline, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_problem: Option<String>,
}

/// Something that leaks, or may, or was believed to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LeakCandidate {
    /// How sure the detector is.
    pub verdict: Verdict,
    /// The function that allocates what leaks: the innermost that is not the allocator's, a
    /// container's or the profiler's.
    pub function: String,
    /// Its crate.
    #[serde(rename = "crate")]
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
    /// What the release before had to say of it, where a baseline was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Standing>,
    /// The stack of the call site with most of it, innermost first, without the frames of the
    /// allocator.
    #[serde(rename = "frames")]
    pub stack: Vec<Frame>,
    /// How many of these frames, from the innermost, all of its call sites share.
    pub shared_frames: usize,
    /// What the verdict rests on.
    pub evidence: Evidence,
}

/// A candidate beside the release before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It was not there.
    New,
    /// It was there, and leaks significantly more now.
    Worse,
    /// It was there.
    Known,
}

/// What a verdict rests on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

/// What a verdict rests on, in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvidenceKind {
    /// Objects that outlive all that is usual at their call site, and more of them all the time.
    #[default]
    Survival,
    /// A few large blocks that only grow: a container.
    Container,
}

/// Sampled objects between an age and twice that age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AgeGroup {
    /// The age in ticks at which the group begins.
    pub from: u64,
    /// Objects of that age now.
    pub alive: u64,
    /// Objects that ever died at that age.
    pub died: u64,
}

impl LeakReport {
    /// The version of the format that this crate writes.
    pub const VERSION: u32 = 1;

    pub(crate) fn new(findings: Findings, live: &dyn Observation, names: &mut dyn Names) -> Self {
        let named = ResolvedFrames::new(&findings.findings, live, names);
        let ticks_per_hour = 3.6e6 * f64::from(findings.tick) / findings.uptime_ms.max(1) as f64;
        let omitted = findings.findings.len().saturating_sub(MAX_CANDIDATES) as u64;
        let candidates = findings
            .findings
            .into_iter()
            .take(MAX_CANDIDATES)
            .map(|finding| LeakCandidate::new(finding, ticks_per_hour, &named))
            .collect();
        Self {
            version: Self::VERSION,
            tick: findings.tick.into(),
            uptime_ms: findings.uptime_ms,
            tested_sites: findings.tested_sites as u64,
            candidates,
            omitted,
            baseline_problem: None,
        }
    }

    /// The report as a JSON document, indented.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has nothing that JSON cannot hold")
    }

    /// Candidates of one verdict.
    pub fn with(&self, verdict: Verdict) -> impl Iterator<Item = &LeakCandidate> {
        self.candidates.iter().filter(move |candidate| candidate.verdict == verdict)
    }

    /// Says of each candidate whether the release before had it too.
    pub fn compare(&mut self, baseline: &Self) {
        for candidate in &mut self.candidates {
            let same = baseline.candidates.iter().find(|other| {
                other.verdict != Verdict::Retracted
                    && (&other.function, &other.crate_name)
                        == (&candidate.function, &candidate.crate_name)
            });
            candidate.baseline = Some(match same {
                None => Standing::New,
                Some(other) => {
                    let (now, then) =
                        (candidate.leaked_bytes_per_hour, other.leaked_bytes_per_hour);
                    // One-sided at 1%, and more than a matter of load.
                    let worse = now.value - then.value
                        > 2.326 * now.std_error.hypot(then.std_error)
                        && now.value > 1.5 * then.value;
                    if worse { Standing::Worse } else { Standing::Known }
                }
            });
        }
    }
}

impl LeakCandidate {
    fn new(finding: Finding, ticks_per_hour: f64, named: &ResolvedFrames<'_>) -> Self {
        let mut stack = Vec::new();
        let mut shared = 0;
        // Instances of one generic function are different functions, of one name.
        if let [main, others @ ..] = &finding.callees[..] {
            let frames = named.at(*main);
            let name = |address: &u64| generic_name(named.at(*address).last());
            let own = name(main);
            if !others.is_empty() && own.is_some() && others.iter().all(|other| name(other) == own)
            {
                stack.extend_from_slice(frames);
            }
        }
        for (at, address) in finding.frames.iter().enumerate() {
            stack.extend_from_slice(named.at(*address));
            if at < finding.shared_frames {
                shared = stack.len();
            }
        }
        let rate = finding.bytes_per_tick;
        let facts = finding.facts;
        let is_container = !facts.steps.is_empty();
        let mut candidate = Self {
            verdict: finding.verdict,
            function: String::new(),
            crate_name: None,
            own: false,
            leaked_bytes_per_hour: Estimate::new(
                rate.value * ticks_per_hour,
                rate.std_error * ticks_per_hour,
            ),
            live_bytes: finding.live_bytes,
            live_count: finding.live_count,
            first_seen_tick: finding.first_seen_tick.into(),
            labels: finding.labels,
            blame: Blame::default(),
            baseline: None,
            stack: Vec::new(),
            shared_frames: 0,
            evidence: Evidence {
                kind: if is_container { EvidenceKind::Container } else { EvidenceKind::Survival },
                sites: finding.sites.len() as u64,
                log10_e: decimal(facts.log_e),
                log10_threshold: decimal(facts.threshold),
                mature_age: facts.mature_age.into(),
                mature_alive: facts.mature_alive.into(),
                mature_deaths: facts.mature_deaths.round() as u64,
                births: facts.born.round() as u64,
                ticks: (facts.ticks.0.into(), facts.ticks.1.into()),
                quarters: facts.quarters.map(|quarter| (quarter * 100.0).round() / 100.0),
                cohorts: facts.births.iter().map(|alive| u64::from(*alive)).collect(),
                ages: facts
                    .ages
                    .iter()
                    .map(|(from, alive, died)| AgeGroup {
                        from: (*from).into(),
                        alive: (*alive).into(),
                        died: *died as u64,
                    })
                    .collect(),
                curve: facts.curve.iter().map(|(tick, b)| (u64::from(*tick), b.round())).collect(),
                steps: facts.steps.iter().map(|(tick, b)| (u64::from(*tick), *b)).collect(),
            },
        };
        candidate.set_stack(stack, shared, named.packages);
        candidate
    }

    /// Takes over a stack, of which all call sites share so many frames from the innermost, and names
    /// and blames the candidate by it. The allocator's frames are cut off, but not all that are
    /// shared. For who finds names that the service did not have.
    pub fn set_stack(&mut self, mut stack: Vec<Frame>, shared: usize, packages: &Packages) {
        let roles: Vec<Role> = stack.iter().map(|frame| machinery::role(&frame.function)).collect();
        // Not beyond what all call sites have in common: it is named by something they share.
        let depth = machinery::depth(roles.iter().copied()).min(shared.saturating_sub(1));
        let is_kept = |at: usize| at == depth || (at > depth && roles[at] != Role::Profiler);
        self.shared_frames = (0..shared.min(stack.len())).filter(|at| is_kept(*at)).count();
        let mut at = 0;
        stack.retain(|_| {
            at += 1;
            is_kept(at - 1)
        });
        let first = stack.first().cloned().unwrap_or_default();
        (self.function, self.crate_name, self.own) = (first.function, first.crate_name, first.own);
        self.blame = blame::blame(&stack, packages);
        self.stack = stack;
    }
}

/// A function's name without generic arguments.
fn generic_name(frame: Option<&Frame>) -> Option<String> {
    let mut depth = 0_u32;
    let mut name = String::new();
    for c in frame?.function.chars() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ if depth == 0 => name.push(c),
            _ => {}
        }
    }
    Some(name)
}

/// A natural logarithm as a decimal one, with two digits.
fn decimal(log: f64) -> f64 {
    let log = if log.is_finite() { log } else { 0.0 };
    (log / std::f64::consts::LN_10 * 100.0).round() / 100.0
}
