//! Counters of what happened to samples, a set a lane.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::recording::sync::{LANES, Lane};

/// What is counted.
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
struct Part([AtomicU64; COUNTERS]);

/// All counters. Relaxed throughout: nothing is read on the strength of a count.
#[derive(Debug, Default)]
pub(super) struct Counters([Part; LANES]);

impl Counters {
    #[inline]
    pub(super) fn add(&self, lane: Lane, counter: Counter) {
        lane.add(&self.0[lane.number()].0[counter as usize], 1);
    }

    pub(super) fn sum(&self, counter: Counter) -> u64 {
        self.0.iter().map(|part| part.0[counter as usize].load(Ordering::Relaxed)).sum()
    }
}
