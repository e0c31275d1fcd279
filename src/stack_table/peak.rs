//! The highest estimate of all live bytes.
//!
//! The live profile at that maximum is kept without ever copying it as a whole. Each new maximum
//! begins an *epoch*. A part of a site whose live sums are about to change first copies them to its
//! peak sums, if it has not done so in this epoch: until then they have not changed since the maximum.
//! So a sample pays for four stores, and the peak profile is that of the highest estimate itself, with
//! no gate and no pause. Samples that other threads add or remove in the few nanoseconds between the
//! maximum and its epoch may be on either side.
//!
//! A sum that all threads add to with each sample is a cache line that they fight for. So a lane keeps
//! to itself what is less than a thousandth of the maximum: with one thread the maximum is exact, with
//! several each of the others may hide so much of it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::sums::{AtomicBytes, Bytes};
use crate::sync::{Added, LANES, Lane, Pending};

/// A lane keeps less than `2^-UNTOLD` of the maximum to itself.
const UNTOLD: u32 = 10;

const ONE_EPOCH: u64 = 2;

/// All live bytes and their maximum so far. On a cache line of its own: all threads read it.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Peak {
    /// What lanes have told of the live bytes.
    told: AtomicBytes,
    highest: AtomicBytes,
    /// Twice the number of maxima so far, the start included; odd numbers are for `Part`.
    epoch: AtomicU64,
    parts: Box<[Untold]>,
}

/// What a lane has not told.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Untold(Pending);

impl Peak {
    pub(super) fn new() -> Self {
        Self {
            told: AtomicBytes::default(),
            highest: AtomicBytes::default(),
            epoch: AtomicU64::new(ONE_EPOCH),
            parts: (0..LANES).map(|_| Untold::default()).collect(),
        }
    }

    /// The maximum that stands, by its number.
    #[inline]
    pub(super) fn epoch(&self) -> u64 {
        // Acquire: pairs with `grow`; the live sums that are seen are not older than the maximum.
        self.epoch.load(Ordering::Acquire)
    }

    /// Adds to the live bytes. A new maximum begins an epoch.
    #[inline]
    pub(super) fn grow(&self, bytes: Bytes, lane: Lane) {
        let live = self.add(bytes, lane);
        // Whoever raises it begins an epoch. What is not higher than what another thread has found
        // meanwhile is no maximum.
        if self.highest.raise(live) {
            // Release: pairs with `epoch`.
            self.epoch.fetch_add(ONE_EPOCH, Ordering::Release);
        }
    }

    /// Takes from the live bytes.
    #[inline]
    pub(super) fn shrink(&self, bytes: Bytes, lane: Lane) {
        self.add(-bytes, lane);
    }

    /// The live bytes after an addition, but for what other lanes have not told.
    #[inline]
    fn add(&self, bytes: Bytes, lane: Lane) -> Bytes {
        let Some(Untold(part)) = lane.own(&self.parts) else {
            return self.told.add(bytes, Lane::SHARED);
        };
        let less_than = self.highest.load().units() >> UNTOLD;
        match part.add(bytes.units(), 1 - less_than..=less_than - 1) {
            Added::Kept(untold) => self.told.load() + Bytes::from_units(untold),
            Added::Due(untold) => self.told.add(Bytes::from_units(untold), Lane::SHARED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_begins_with_each_maximum_and_with_nothing_else() {
        let peak = Peak::new();
        let start = peak.epoch();
        peak.grow(Bytes::whole(100), Lane::SHARED);
        peak.shrink(Bytes::whole(50), Lane::SHARED);
        peak.grow(Bytes::whole(50), Lane::SHARED);
        assert_eq!(peak.epoch(), start + ONE_EPOCH, "as high is no new maximum");
        peak.grow(Bytes::whole(1), Lane::SHARED);
        assert_eq!(peak.epoch(), start + 2 * ONE_EPOCH);
    }
}
