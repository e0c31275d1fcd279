//! A fixed-point number that threads add to.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number with `FRACTION` binary places in an atomic word; zero when its bytes are zero.
///
/// One instruction adds, where a floating-point number takes a loop that other threads make fail; and
/// what was added and is subtracted again leaves nothing behind.
///
/// All accesses are relaxed: it is a statistic, and nothing is read on the strength of its value.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct AtomicFixed<const FRACTION: u32>(AtomicU64);

impl<const FRACTION: u32> AtomicFixed<FRACTION> {
    const ONE: f64 = (1_u64 << FRACTION) as f64;

    /// The nearest fixed-point number.
    #[inline]
    fn round(value: f64) -> u64 {
        (value * Self::ONE + 0.5) as i64 as u64
    }

    #[inline]
    fn from_raw(raw: u64) -> f64 {
        // As a signed number: what other threads add and subtract may arrive in another order.
        raw as i64 as f64 / Self::ONE
    }

    pub(crate) fn load(&self) -> f64 {
        Self::from_raw(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn store(&self, value: f64) {
        self.0.store(Self::round(value), Ordering::Relaxed);
    }

    /// Adds what is not negative, and returns the sum.
    #[inline]
    pub(crate) fn add(&self, value: f64) -> f64 {
        let value = Self::round(value);
        Self::from_raw(self.0.fetch_add(value, Ordering::Relaxed).wrapping_add(value))
    }

    /// Subtracts what was added.
    #[inline]
    pub(crate) fn subtract(&self, value: f64) {
        self.0.fetch_sub(Self::round(value), Ordering::Relaxed);
    }

    /// How much this is more than another.
    pub(crate) fn minus(&self, other: &Self) -> f64 {
        let other = other.0.load(Ordering::Relaxed);
        Self::from_raw(self.0.load(Ordering::Relaxed).wrapping_sub(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_and_subtracted_leaves_nothing() {
        let sum = AtomicFixed::<8>::default();
        let values = [1.0, 0.3, 1e12, 3.53, 524_288.123_4];
        for value in values {
            sum.add(value);
        }
        assert!((sum.load() - values.iter().sum::<f64>()).abs() < 0.02);
        values.iter().for_each(|value| sum.subtract(*value));
        assert_eq!(sum.load(), 0.0);
        sum.subtract(1.0);
        assert_eq!(sum.load(), -1.0);
    }
}
