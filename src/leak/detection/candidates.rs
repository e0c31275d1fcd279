//! From findings to a report: names, hours instead of ticks, blame.

use super::finding::{Finding, Findings};
use super::naming::{Names, ResolvedFrames};
use super::observation::Observation;
use crate::Estimate;
use crate::blame::{self, Blame, Frame, Packages};
use crate::names::machinery::{self, Role};
use crate::report::{AgeGroup, Evidence, EvidenceKind, LeakCandidate, LeakReport, MAX_CANDIDATES};

impl LeakReport {
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

    /// Replaces the stack, of which all call sites share the innermost `shared` frames, and derives
    /// function, crate and blame from it. Frames of the allocator are cut off, but at least one of
    /// the shared ones stays.
    ///
    /// Not part of the public API: `heapdrift-tools` of the same version uses it where it finds
    /// names that the service did not have.
    #[doc(hidden)]
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
