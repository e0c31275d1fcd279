//! Lanes: shards of the state, each of which one thread at a time has for itself.
//!
//! An uncontended atomic addition takes two nanoseconds and a contended one many times that, and a
//! sample would need thirty. So a thread that enters the hook takes the lane of its number by one
//! exchange, and then works there with plain loads and stores. A thread that finds its lane taken
//! (by a thread of the same number that is off the processor, or that a forked child does not have)
//! works in the shared lane with atomic additions, so nobody waits.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The number of lanes. The last one is shared.
pub(crate) const LANES: usize = 17;

/// The shard of the state that a thread works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane(usize);

impl Lane {
    pub(crate) const SHARED: Self = Self(LANES - 1);

    /// The lane of the thread with this number.
    pub(crate) const fn of(number: u32) -> Self {
        Self(number as usize % (LANES - 1))
    }

    /// All lanes except the shared one.
    pub(crate) fn exclusive() -> impl Iterator<Item = Self> {
        (0..LANES - 1).map(Self)
    }

    pub(crate) fn number(self) -> usize {
        self.0
    }

    /// This lane's shard, or `None` for the shared lane, which has no shard for itself.
    #[inline]
    pub(crate) fn shard<T>(self, shards: &[T]) -> Option<&T> {
        if self == Self::SHARED { None } else { shards.get(self.0) }
    }

    /// Adds `value` to a counter of this lane and returns the sum. Relaxed: nothing is published
    /// through a counter, and any thread may read it at any time.
    #[inline]
    pub(crate) fn add(self, counter: &AtomicU64, value: u64) -> u64 {
        if self == Self::SHARED {
            return counter.fetch_add(value, Ordering::Relaxed).wrapping_add(value);
        }
        // No other thread writes here.
        let sum = counter.load(Ordering::Relaxed).wrapping_add(value);
        counter.store(sum, Ordering::Relaxed);
        sum
    }
}

/// A sum that one lane adds to, and flushes to a shared sum once it is large enough.
#[derive(Debug, Default)]
pub(crate) struct UnflushedSum(AtomicI64);

/// The outcome of an addition to an [`UnflushedSum`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// The sum stays unflushed and has this value.
    Unflushed(i64),
    /// The caller must flush this value; the sum starts again at zero.
    Flush(i64),
}

impl UnflushedSum {
    /// Adds `value`. The sum is due to be flushed when it leaves `bounds`.
    #[inline]
    pub(crate) fn add(&self, value: i64, bounds: std::ops::RangeInclusive<i64>) -> Added {
        // Relaxed, in two steps: no other thread is in this lane.
        let sum = self.0.load(Ordering::Relaxed) + value;
        let within = bounds.contains(&sum);
        self.0.store(if within { sum } else { 0 }, Ordering::Relaxed);
        if within { Added::Unflushed(sum) } else { Added::Flush(sum) }
    }
}
