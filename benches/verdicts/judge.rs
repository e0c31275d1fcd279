//! Truth against verdicts.
//!
//! A claim is *right* if the function that it is named by, or the innermost of the suite's own
//! functions in its stack that is not shared with healthy code, is a planted leak; anything else is
//! false. A bounded structure that is confirmed before it has let go of anything for the first time
//! cannot be told from a leak by anybody: that counts as early, and as false if it is not withdrawn
//! within one more fill time.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::detector::Claim;
use crate::scenario::Scenario;
use crate::world::Truth;
use heapdrift::Verdict;

/// What the functions of the suite begin with.
const OWN: &str = "verdicts::";

/// Follows the claims of one detector through one run.
pub(crate) struct Judge {
    scenario: &'static Scenario,
    places: BTreeMap<(String, BTreeMap<String, String>), Place>,
}

/// A place that was claimed to leak.
struct Place {
    is: Is,
    suspected_at: u32,
    /// When it was confirmed, and when that was withdrawn.
    spells: Vec<(u32, Option<u32>)>,
}

/// What a place is in truth.
#[derive(Clone, Debug, PartialEq)]
enum Is {
    Leak(usize),
    /// Healthy; `misplaced` if the leak is elsewhere in the stack.
    Healthy {
        who: Who,
        misplaced: bool,
    },
}

/// Whose a healthy place is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Planted,
    Innocent(usize),
    Other,
}

/// When what has a bound was full for the first time, in ticks from 1: the end of the run, if it never
/// was. `None` for what has no bound.
#[derive(Clone, Debug, Default)]
pub(crate) struct Full {
    pub(crate) planted: Option<u32>,
    pub(crate) innocent: Vec<Option<u32>>,
}

impl Full {
    fn of(&self, who: Who) -> Option<u32> {
        match who {
            Who::Planted => self.planted,
            Who::Innocent(number) => self.innocent.get(number).copied().flatten(),
            Who::Other => None,
        }
    }
}

/// What came of one detector in one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Judgement {
    /// One for each leak of the scenario.
    pub(crate) leaks: Vec<Found>,
    pub(crate) alarms: Vec<Alarm>,
    pub(crate) suspected_wrongly: usize,
}

/// How a leak fared.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Found {
    pub(crate) leaked_samples: f64,
    pub(crate) share: f64,
    pub(crate) suspected_at: Option<u32>,
    pub(crate) confirmed_at: Option<u32>,
    /// Leaked samples when it was first confirmed.
    pub(crate) confirmed_after_samples: Option<f64>,
    pub(crate) is_confirmed_at_end: bool,
    /// Further places that were confirmed for the same leak.
    pub(crate) duplicates: usize,
    /// Whether the label was named, where the leak is of one value only.
    pub(crate) label_named: Option<bool>,
}

/// A confirmation of a place that does not leak.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Alarm {
    pub(crate) function: String,
    pub(crate) stack: Vec<String>,
    pub(crate) confirmed_at: u32,
    pub(crate) withdrawn_at: Option<u32>,
    pub(crate) full_at: Option<u32>,
    /// Confirmed before the structure was full, and not too long.
    pub(crate) early: bool,
    /// The leak is in the stack, but the place is not its own.
    pub(crate) misplaced: bool,
}

impl Alarm {
    /// From full to withdrawn, in fill times; for an alarm that was early.
    pub(crate) fn fill_times(&self) -> Option<f64> {
        let full_at = self.full_at.filter(|_| self.early)?;
        Some(f64::from(self.withdrawn_at?.saturating_sub(full_at)) / f64::from(full_at))
    }
}

impl Judge {
    pub(crate) fn new(scenario: &'static Scenario) -> Self {
        Self { scenario, places: BTreeMap::new() }
    }

    /// Takes what a detector says at a tick, from 1. What it does not mention any more is withdrawn.
    pub(crate) fn observe(&mut self, tick: u32, claims: &[Claim]) {
        let mut confirmed = Vec::new();
        for claim in claims.iter().filter(|claim| claim.verdict != Verdict::Retracted) {
            let key = (claim.function.clone(), claim.labels.clone());
            if !self.places.contains_key(&key) {
                let is = self.truth_of(claim);
                let place = Place { is, suspected_at: tick, spells: Vec::new() };
                self.places.insert(key.clone(), place);
            }
            if claim.verdict == Verdict::Confirmed {
                confirmed.push(key);
            }
        }
        for (key, place) in &mut self.places {
            let was = place.spells.last_mut().filter(|spell| spell.1.is_none());
            match (was, confirmed.contains(key)) {
                (None, true) => place.spells.push((tick, None)),
                (Some(spell), false) => spell.1 = Some(tick),
                _ => {}
            }
        }
    }

    fn truth_of(&self, claim: &Claim) -> Is {
        let leak_in =
            |function: &str| self.scenario.leaks.iter().position(|leak| is_in(function, leak));
        let own = claim.stack.iter().find(|f| f.starts_with(OWN) && !is_shared(f));
        let names = || std::iter::once(&claim.function).chain(own);
        if let Some(leak) = names().find_map(|function| leak_in(function)) {
            return Is::Leak(leak);
        }
        let who = match names().find_map(|function| innocent_number(function)) {
            Some(number) => Who::Innocent(number),
            None if names().any(|function| function.contains("healthy_")) => Who::Planted,
            None => Who::Other,
        };
        Is::Healthy { who, misplaced: claim.stack.iter().any(|f| leak_in(f).is_some()) }
    }

    /// The outcome, after the last tick.
    pub(crate) fn finish(self, truths: &[Truth], full: &Full) -> Judgement {
        let ticks = truths.iter().map(|truth| truth.leaked_samples.len()).max().unwrap_or(0);
        let leaks = truths
            .iter()
            .enumerate()
            .take(self.scenario.leaks.len())
            .map(|(number, truth)| self.found(number, truth))
            .collect();
        let mut alarms = Vec::new();
        let mut suspected_wrongly = 0;
        for ((function, _), place) in &self.places {
            let Is::Healthy { who, misplaced } = place.is else { continue };
            let full_at = full.of(who);
            suspected_wrongly += 1;
            alarms.extend(place.spells.iter().map(|&(confirmed_at, withdrawn_at)| {
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

    fn found(&self, number: usize, truth: &Truth) -> Found {
        let places: Vec<_> =
            self.places.iter().filter(|(_, place)| place.is == Is::Leak(number)).collect();
        let spells = || places.iter().flat_map(|(_, place)| &place.spells);
        let confirmed_at = spells().map(|spell| spell.0).min();
        let confirmed: Vec<_> =
            places.iter().filter(|(_, place)| !place.spells.is_empty()).collect();
        Found {
            leaked_samples: truth.leaked_samples.last().copied().unwrap_or_default(),
            share: truth.share,
            suspected_at: places.iter().map(|(_, place)| place.suspected_at).min(),
            confirmed_at,
            confirmed_after_samples: confirmed_at
                .map(|tick| truth.leaked_samples[tick as usize - 1]),
            is_confirmed_at_end: spells().any(|spell| spell.1.is_none()),
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

/// Whether a function has this name, or is an instance or a part of one that has.
fn is_in(function: &str, name: &str) -> bool {
    function.split("::").any(|part| part.split('<').next() == Some(name))
}

/// Whether a function is called by leaking and by healthy code.
fn is_shared(function: &str) -> bool {
    function.contains("::shared_")
}

fn innocent_number(function: &str) -> Option<usize> {
    let digits = function.split("::innocent_").nth(1)?;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
