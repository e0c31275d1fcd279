//! The highest estimate of all live bytes.
//!
//! The live profile at that maximum is kept without ever copying it as a whole. Each new maximum
//! begins an *epoch*. A shard of a site whose live sums are about to change first copies them to
//! its peak sums, unless it has done so in this epoch; until then they have not changed since the
//! maximum. So a sample pays for four stores, and the peak profile is that of the highest estimate
//! itself, without a gate and without a pause. Samples that other threads add or remove in the few
//! nanoseconds between the maximum and its epoch may be on either side.
//!
//! A single sum that all threads add to with each sample would be a contended cache line. So a lane
//! keeps up to a thousandth of the maximum unflushed: with one thread the maximum is exact; with
//! several, each other lane may hide that much.

use std::sync::atomic::{AtomicU64, Ordering};

use super::sums::{AtomicBytes, Bytes};
use crate::engine::recording::sync::{Added, LANES, Lane, UnflushedSum};

/// A lane keeps less than `2^-UNFLUSHED_SHIFT` of the maximum unflushed.
const UNFLUSHED_SHIFT: u32 = 10;

/// Distance between two epochs. Odd numbers mark a write in `SumsShard`.
const EPOCH_STEP: u64 = 2;

/// All live bytes and their maximum so far, on a cache line of their own because all threads read
/// it.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Peak {
    /// The live bytes that lanes have flushed.
    flushed: AtomicBytes,
    highest: AtomicBytes,
    /// Twice the number of maxima so far, the start included.
    epoch: AtomicU64,
    unflushed: Box<[LaneUnflushed]>,
}

/// The live bytes that one lane has not flushed.
#[derive(Debug, Default)]
#[repr(align(128))]
struct LaneUnflushed(UnflushedSum);

impl Peak {
    pub(super) fn new() -> Self {
        Self {
            flushed: AtomicBytes::default(),
            highest: AtomicBytes::default(),
            epoch: AtomicU64::new(EPOCH_STEP),
            unflushed: (0..LANES).map(|_| LaneUnflushed::default()).collect(),
        }
    }

    /// The number of the current maximum.
    #[inline]
    pub(super) fn epoch(&self) -> u64 {
        // Acquire: pairs with `grow`; the live sums that are seen are not older than the maximum.
        self.epoch.load(Ordering::Acquire)
    }

    /// Adds to the live bytes. A new maximum begins an epoch.
    #[inline]
    pub(super) fn grow(&self, bytes: Bytes, lane: Lane) {
        let live = self.add(bytes, lane);
        // Only the thread that raises the maximum begins an epoch. A sum that is not above what
        // another thread has found meanwhile is no maximum.
        if self.highest.raise(live) {
            // Release: pairs with the Acquire in `epoch`.
            self.epoch.fetch_add(EPOCH_STEP, Ordering::Release);
        }
    }

    /// Subtracts from the live bytes.
    #[inline]
    pub(super) fn shrink(&self, bytes: Bytes, lane: Lane) {
        self.add(-bytes, lane);
    }

    /// Adds to the live bytes and returns them, except for what other lanes have not flushed.
    #[inline]
    fn add(&self, bytes: Bytes, lane: Lane) -> Bytes {
        let Some(LaneUnflushed(lane_sum)) = lane.shard(&self.unflushed) else {
            return self.flushed.add(bytes, Lane::SHARED);
        };
        let bound = self.highest.load().units() >> UNFLUSHED_SHIFT;
        match lane_sum.add(bytes.units(), 1 - bound..=bound - 1) {
            Added::Unflushed(sum) => self.flushed.load() + Bytes::from_units(sum),
            Added::Flush(sum) => self.flushed.add(Bytes::from_units(sum), Lane::SHARED),
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
        assert_eq!(peak.epoch(), start + EPOCH_STEP, "an equal sum is no new maximum");
        peak.grow(Bytes::whole(1), Lane::SHARED);
        assert_eq!(peak.epoch(), start + 2 * EPOCH_STEP);
    }
}
