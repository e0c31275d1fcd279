//! A scenario: a planted site, or a group of sites, and what it does in each tick.

use crate::world::World;
use crate::{healthy, leaks};

/// A scenario as it is listed.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// For each leak, what the function is called in which it is. None in a healthy scenario.
    pub(crate) leaks: &'static [&'static str],
    /// The label of which the leak is, where it is of one value only.
    pub(crate) label: Option<(&'static str, &'static str)>,
    /// How many times the usual length a run takes.
    pub(crate) length: u32,
    pub(crate) begin: fn(&mut World<'_>) -> Behaviour,
}

/// A scenario that has begun, its parameters drawn.
pub(crate) struct Behaviour {
    /// What happens in a tick.
    pub(crate) act: Box<dyn FnMut(&mut World<'_>)>,
    /// Whether this is a structure with a bound: until it is full nobody can tell it from a leak. It
    /// says itself when it is ([`World::full`]).
    pub(crate) is_bounded: bool,
}

impl Behaviour {
    pub(crate) fn new(act: impl FnMut(&mut World<'_>) + 'static) -> Self {
        Self { act: Box::new(act), is_bounded: false }
    }

    pub(crate) fn bounded(mut self) -> Self {
        self.is_bounded = true;
        self
    }
}

impl Scenario {
    /// One leak, in the function of this name.
    pub(crate) const fn leak(
        name: &'static str,
        leaks: &'static [&'static str],
        begin: fn(&mut World<'_>) -> Behaviour,
    ) -> Self {
        Self { name, leaks, label: None, length: 1, begin }
    }

    pub(crate) const fn healthy(
        name: &'static str,
        begin: fn(&mut World<'_>) -> Behaviour,
    ) -> Self {
        Self { name, leaks: &[], label: None, length: 1, begin }
    }

    pub(crate) const fn label(mut self, key: &'static str, value: &'static str) -> Self {
        self.label = Some((key, value));
        self
    }

    pub(crate) const fn long(mut self) -> Self {
        self.length = 2;
        self
    }
}

/// All scenarios. Those at even places are for tuning and the others for judgement, so neighbours are
/// relatives.
pub(crate) fn all() -> impl Iterator<Item = &'static Scenario> {
    leaks::ALL.iter().chain(healthy::ALL)
}

/// Whether a scenario is one that the detector may be tuned with.
pub(crate) fn is_for_tuning(scenario: &Scenario) -> bool {
    all().position(|other| other.name == scenario.name).is_some_and(|place| place % 2 == 0)
}
