//! A scenario: a planted site, or a group of sites, and what it does in each tick.

use crate::world::World;

/// An entry of the list of scenarios.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// The name of the function of each leak; empty in a healthy scenario.
    pub(crate) leaks: &'static [&'static str],
    /// The label under which it leaks, if only one value of it leaks.
    pub(crate) label: Option<(&'static str, &'static str)>,
    /// The length of a run, as a multiple of the usual one.
    pub(crate) length: u32,
    pub(crate) begin: fn(&mut World<'_>) -> Behaviour,
}

/// A scenario that has begun, with its random parameters.
pub(crate) struct Behaviour {
    /// Does the work of one tick.
    pub(crate) act: Box<dyn FnMut(&mut World<'_>)>,
    /// Whether this is a bounded structure, which cannot be told from a leak until it is full. The
    /// scenario itself reports when it is ([`World::full`]).
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
    /// A scenario with a leak in each of the functions with these names.
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
