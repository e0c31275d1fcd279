//! Compares verdicts with the truth.
//!
//! A claim is *right* if a planted leak is the function that it names, or the innermost function of
//! the suite in its stack that is not shared with healthy code. Any other claim is false. A bounded
//! structure cannot be told from a leak before it is full for the first time. If it is confirmed
//! before that, the claim is *early*; it is false if it is not withdrawn within one more fill time.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::detector::Claim;
use crate::scenario::Scenario;
use crate::world::Truth;
use heapdrift::Verdict;

/// The prefix of the suite's own functions.
const OWN: &str = "verdicts::";

/// Follows the claims of one detector through one run.
pub(crate) struct Judge {
    scenario: &'static Scenario,
    /// The claimed sites, by the function and the labels that were named.
    claimed: BTreeMap<(String, BTreeMap<String, String>), ClaimedSite>,
}

/// A site that a detector claimed to leak.
struct ClaimedSite {
    actual: Actual,
    suspected_at: u32,
    /// The ticks of each confirmation and of its withdrawal.
    confirmations: Vec<(u32, Option<u32>)>,
}

/// What a claimed site is in truth.
#[derive(Clone, Debug, PartialEq)]
enum Actual {
    /// One of the planted leaks.
    Leak(usize),
    /// A healthy site; `misplaced` if the leak is elsewhere in the stack.
    Healthy { owner: Owner, misplaced: bool },
}

/// What a healthy site belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Owner {
    Planted,
    Innocent(usize),
    Other,
}

/// The tick, from 1, in which each bounded structure was first full, or the last tick if it never
/// was. `None` for a site without a bound.
#[derive(Clone, Debug, Default)]
pub(crate) struct FirstFull {
    pub(crate) planted: Option<u32>,
    pub(crate) innocent: Vec<Option<u32>>,
}

impl FirstFull {
    fn of(&self, owner: Owner) -> Option<u32> {
        match owner {
            Owner::Planted => self.planted,
            Owner::Innocent(number) => self.innocent.get(number).copied().flatten(),
            Owner::Other => None,
        }
    }
}

/// The result of one detector in one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Judgement {
    /// One for each leak of the scenario.
    pub(crate) leaks: Vec<LeakOutcome>,
    pub(crate) alarms: Vec<Alarm>,
    pub(crate) suspected_wrongly: usize,
}

/// When and how one leak was detected.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LeakOutcome {
    pub(crate) leaked_samples: f64,
    pub(crate) share: f64,
    pub(crate) suspected_at: Option<u32>,
    pub(crate) confirmed_at: Option<u32>,
    /// Leaked samples when it was first confirmed.
    pub(crate) confirmed_after_samples: Option<f64>,
    pub(crate) is_confirmed_at_end: bool,
    /// Further sites that were confirmed for the same leak.
    pub(crate) duplicates: usize,
    /// Whether the label was named, if only one value of it leaks.
    pub(crate) label_named: Option<bool>,
}

/// A confirmation of a site that does not leak.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Alarm {
    pub(crate) function: String,
    pub(crate) stack: Vec<String>,
    pub(crate) confirmed_at: u32,
    pub(crate) withdrawn_at: Option<u32>,
    pub(crate) full_at: Option<u32>,
    /// Confirmed before the structure was full, and withdrawn in time.
    pub(crate) early: bool,
    /// The leaking function is in the stack, but the claim names another.
    pub(crate) misplaced: bool,
}

impl Alarm {
    /// The time from full to withdrawn in fill times, for an early alarm.
    pub(crate) fn fill_times(&self) -> Option<f64> {
        let full_at = self.full_at.filter(|_| self.early)?;
        Some(f64::from(self.withdrawn_at?.saturating_sub(full_at)) / f64::from(full_at))
    }
}

impl Judge {
    pub(crate) fn new(scenario: &'static Scenario) -> Self {
        Self { scenario, claimed: BTreeMap::new() }
    }

    /// Adds the claims of a detector at a tick, from 1. A claim that is not repeated is withdrawn.
    pub(crate) fn observe(&mut self, tick: u32, claims: &[Claim]) {
        let mut confirmed = Vec::new();
        for claim in claims.iter().filter(|claim| claim.verdict != Verdict::Retracted) {
            let key = (claim.function.clone(), claim.labels.clone());
            if !self.claimed.contains_key(&key) {
                let actual = self.truth_of(claim);
                let site = ClaimedSite { actual, suspected_at: tick, confirmations: Vec::new() };
                self.claimed.insert(key.clone(), site);
            }
            if claim.verdict == Verdict::Confirmed {
                confirmed.push(key);
            }
        }
        for (key, site) in &mut self.claimed {
            let standing = site.confirmations.last_mut().filter(|(_, end)| end.is_none());
            match (standing, confirmed.contains(key)) {
                (None, true) => site.confirmations.push((tick, None)),
                (Some((_, end)), false) => *end = Some(tick),
                _ => {}
            }
        }
    }

    fn truth_of(&self, claim: &Claim) -> Actual {
        let leak_in =
            |function: &str| self.scenario.leaks.iter().position(|leak| is_in(function, leak));
        let own = claim.stack.iter().find(|f| f.starts_with(OWN) && !is_shared(f));
        let names = || std::iter::once(&claim.function).chain(own);
        if let Some(leak) = names().find_map(|function| leak_in(function)) {
            return Actual::Leak(leak);
        }
        let owner = match names().find_map(|function| innocent_number(function)) {
            Some(number) => Owner::Innocent(number),
            None if names().any(|function| function.contains("healthy_")) => Owner::Planted,
            None => Owner::Other,
        };
        Actual::Healthy { owner, misplaced: claim.stack.iter().any(|f| leak_in(f).is_some()) }
    }

    /// The result, after the last tick.
    pub(crate) fn finish(self, truths: &[Truth], first_full: &FirstFull) -> Judgement {
        let ticks = truths.iter().map(|truth| truth.leaked_samples.len()).max().unwrap_or(0);
        let leaks = truths
            .iter()
            .enumerate()
            .take(self.scenario.leaks.len())
            .map(|(number, truth)| self.outcome_of(number, truth))
            .collect();
        let mut alarms = Vec::new();
        let mut suspected_wrongly = 0;
        for ((function, _), site) in &self.claimed {
            let Actual::Healthy { owner, misplaced } = site.actual else { continue };
            let full_at = first_full.of(owner);
            suspected_wrongly += 1;
            alarms.extend(site.confirmations.iter().map(|&(confirmed_at, withdrawn_at)| {
                let early = full_at.is_some_and(|full| {
                    confirmed_at <= full && withdrawn_at.unwrap_or(ticks as u32) <= 2 * full
                });
                Alarm {
                    function: function.clone(),
                    stack: Vec::new(),
                    confirmed_at,
                    withdrawn_at,
                    full_at,
                    early,
                    misplaced,
                }
            }));
        }
        Judgement { leaks, alarms, suspected_wrongly }
    }

    fn outcome_of(&self, number: usize, truth: &Truth) -> LeakOutcome {
        let sites: Vec<_> =
            self.claimed.iter().filter(|(_, site)| site.actual == Actual::Leak(number)).collect();
        let confirmations = || sites.iter().flat_map(|(_, site)| &site.confirmations);
        let confirmed_at = confirmations().map(|(begin, _)| *begin).min();
        let confirmed: Vec<_> =
            sites.iter().filter(|(_, site)| !site.confirmations.is_empty()).collect();
        LeakOutcome {
            leaked_samples: truth.leaked_samples.last().copied().unwrap_or_default(),
            share: truth.share,
            suspected_at: sites.iter().map(|(_, site)| site.suspected_at).min(),
            confirmed_at,
            confirmed_after_samples: confirmed_at
                .map(|tick| truth.leaked_samples[tick as usize - 1]),
            is_confirmed_at_end: confirmations().any(|(_, end)| end.is_none()),
            duplicates: confirmed.len().saturating_sub(1),
            label_named: self.scenario.label.map(|(key, value)| {
                let is_named = |labels: &BTreeMap<String, String>| {
                    labels.get(key).is_some_and(|named| named == value)
                };
                confirmed.iter().any(|((_, labels), _)| is_named(labels))
            }),
        }
    }
}

/// Whether a function has this name, or is an instance of such a function or nested in one.
fn is_in(function: &str, name: &str) -> bool {
    function.split("::").any(|part| part.split('<').next() == Some(name))
}

/// Whether a function is called both by leaking and by healthy code.
fn is_shared(function: &str) -> bool {
    function.contains("::shared_")
}

fn innocent_number(function: &str) -> Option<usize> {
    let digits = function.split("::innocent_").nth(1)?;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
