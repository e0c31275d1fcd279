//! Lanes: shards of the state that each one thread at a time has for itself.
//!
//! An uncontended atomic addition takes two nanoseconds, one that threads fight for many times that, and a
//! sample would need thirty. So a thread that enters the hook takes the lane of its number, by one
//! exchange, and works there by plain loads and stores. Whoever finds its lane taken (by a thread
//! of the same number that is off the processor, or that a forked child does not have) works in the
//! shared lane, with atomic additions; so nobody waits.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Lanes, of which the last is shared.
pub(crate) const LANES: usize = 17;

/// Where a thread works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane(usize);

impl Lane {
    pub(crate) const SHARED: Self = Self(LANES - 1);

    /// The lane of a thread's number.
    pub(crate) const fn of(number: u32) -> Self {
        Self(number as usize % (LANES - 1))
    }

    /// All lanes but the shared one.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..LANES - 1).map(Self)
    }

    pub(crate) fn number(self) -> usize {
        self.0
    }

    /// This lane's part of something that has one for each, if no other thread works with it.
    #[inline]
    pub(crate) fn own<T>(self, parts: &[T]) -> Option<&T> {
        if self == Self::SHARED { None } else { parts.get(self.0) }
    }

    /// Adds to a counter of this lane, and returns the sum. Relaxed: it is read by whoever wants to
    /// know, at any time.
    #[inline]
    pub(crate) fn add(self, counter: &AtomicU64, value: u64) -> u64 {
        if self == Self::SHARED {
            return counter.fetch_add(value, Ordering::Relaxed).wrapping_add(value);
        }
        // Nobody else writes here.
        let sum = counter.load(Ordering::Relaxed).wrapping_add(value);
        counter.store(sum, Ordering::Relaxed);
        sum
    }
}

/// A sum that one lane adds to, and hands on when it is worth it.
#[derive(Debug, Default)]
pub(crate) struct Pending(AtomicI64);

/// What became of such a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It stays, and is this much.
    Kept(i64),
    /// This much is to be handed on, and it begins again.
    Due(i64),
}

impl Pending {
    /// Adds. The sum is due when it is not within `bounds` any more.
    #[inline]
    pub(crate) fn add(&self, value: i64, bounds: std::ops::RangeInclusive<i64>) -> Added {
        // Relaxed, and in two steps: nobody else is here.
        let sum = self.0.load(Ordering::Relaxed) + value;
        let within = bounds.contains(&sum);
        self.0.store(if within { sum } else { 0 }, Ordering::Relaxed);
        if within { Added::Kept(sum) } else { Added::Due(sum) }
    }
}
