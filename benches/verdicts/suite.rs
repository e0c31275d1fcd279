//! All scenarios, and which of them are for tuning.

use crate::scenario::Scenario;
use crate::{healthy, leaks};

/// All scenarios. Those at even positions are for tuning and the others for judgement, so that
/// similar scenarios, which are neighbours, are in different halves.
pub(crate) fn all() -> impl Iterator<Item = &'static Scenario> {
    leaks::ALL.iter().chain(healthy::ALL)
}

/// Whether a scenario is one that the detector may be tuned with.
pub(crate) fn is_for_tuning(scenario: &Scenario) -> bool {
    let position = all().position(|other| other.name == scenario.name);
    position.is_some_and(|position| position % 2 == 0)
}
