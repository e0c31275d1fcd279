//! All evidence of a site, or of several together.

use super::births::Births;
use super::survival::Survival;

/// Evidence that adds up over sites.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) survival: Survival,
    pub(super) births: Births,
    /// Births that were seen at a tick; objects that came and went within one are not.
    pub(super) born: f32,
    /// Estimated live bytes.
    pub(super) live_bytes: f64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.survival.add(&other.survival);
        self.births.add_all(&other.births);
        self.born += other.born;
        self.live_bytes += other.live_bytes;
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.survival.subtract(&other.survival);
        self.births.subtract(&other.births);
        self.born -= other.born;
        self.live_bytes -= other.live_bytes;
    }
}
