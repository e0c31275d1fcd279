//! Counters of what happened to samples, a set a shard.

use std::sync::atomic::{AtomicU64, Ordering};

use super::SHARDS;

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counter {
    Taken,
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
struct Shard([AtomicU64; COUNTERS]);

/// All counters. Relaxed throughout: nothing is read on the strength of a count.
#[derive(Debug, Default)]
pub(super) struct Counters([Shard; SHARDS]);

impl Counters {
    pub(super) fn add(&self, shard: usize, counter: Counter) {
        self.0[shard].0[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sum(&self, counter: Counter) -> u64 {
        self.0.iter().map(|shard| shard.0[counter as usize].load(Ordering::Relaxed)).sum()
    }
}
