//! All evidence of a site, or of several together.

use super::births::BirthHistogram;
use super::survival::{Deaths, SurvivalEvidence};

/// Evidence that adds up over sites.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) deaths: Deaths,
    pub(super) births: BirthHistogram,
    /// Births that were seen at a tick; objects that came and went within one are not.
    pub(super) born: f32,
    /// Estimated live bytes.
    pub(super) live_bytes: f64,
}

impl Tally {
    /// Whether old objects still die.
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
