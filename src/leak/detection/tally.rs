//! The evidence on a site, or on several sites together.

use super::births::BirthHistogram;
use super::survival::{Deaths, SurvivalEvidence};

/// Counts that add up over sites.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) deaths: Deaths,
    pub(super) births: BirthHistogram,
    /// Number of births seen at the end of a tick. Objects that are born and die within one tick
    /// are never seen.
    pub(super) born: f32,
    /// Estimated live bytes.
    pub(super) live_bytes: f64,
}

impl Tally {
    /// The survival test: whether old objects still die.
    pub(super) fn evidence(&self, uptime: u32) -> SurvivalEvidence {
        self.deaths.evidence(&self.births, uptime)
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.deaths.merge(&other.deaths);
        self.births.merge(&other.births);
        self.born += other.born;
        self.live_bytes += other.live_bytes;
    }
}
