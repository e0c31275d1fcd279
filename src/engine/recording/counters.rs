//! Counters of what happened to samples, one set for each lane.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::recording::sync::{LANES, Lane};

/// The events that are counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counter {
    Thinned,
    Thinnings,
    DroppedRecords,
    DroppedSlots,
    DroppedStacks,
    DroppedUnwinds,
    DroppedLabels,
    DroppedDumps,
    Framehop,
    Backtrace,
    Truncated,
}

const COUNTERS: usize = Counter::Truncated as usize + 1;

#[derive(Debug, Default)]
#[repr(align(128))]
struct LaneCounters([AtomicU64; COUNTERS]);

/// All counters. All orderings are Relaxed: nothing is published through a count.
#[derive(Debug, Default)]
pub(super) struct Counters([LaneCounters; LANES]);

impl Counters {
    #[inline]
    pub(super) fn add(&self, lane: Lane, counter: Counter) {
        lane.add(&self.0[lane.number()].0[counter as usize], 1);
    }

    pub(super) fn sum(&self, counter: Counter) -> u64 {
        self.0.iter().map(|lane| lane.0[counter as usize].load(Ordering::Relaxed)).sum()
    }
}
