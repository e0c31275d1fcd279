//! Fixed-point numbers, and sums of them that threads add to.

use std::ops::{Add, Neg};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Lane;

/// A number with `FRACTION` binary places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fixed<const FRACTION: u32>(i64);

impl<const FRACTION: u32> Fixed<FRACTION> {
    const ONE: f64 = (1_u64 << FRACTION) as f64;

    pub(crate) fn whole(value: u64) -> Self {
        Self((value << FRACTION) as i64)
    }

    /// The nearest to what is not negative.
    #[inline]
    pub(crate) fn nearest(value: f64) -> Self {
        Self((value * Self::ONE + 0.5) as i64)
    }

    pub(crate) fn to_f64(self) -> f64 {
        self.0 as f64 / Self::ONE
    }

    /// In units of its last place.
    #[inline]
    pub(crate) fn units(self) -> i64 {
        self.0
    }

    #[inline]
    pub(crate) fn from_units(units: i64) -> Self {
        Self(units)
    }
}

impl<const FRACTION: u32> Add for Fixed<FRACTION> {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

impl<const FRACTION: u32> Neg for Fixed<FRACTION> {
    type Output = Self;

    #[inline]
    fn neg(self) -> Self {
        Self(self.0.wrapping_neg())
    }
}

/// A sum of such numbers in an atomic word; zero when its bytes are zero.
///
/// One instruction adds, where a floating-point number takes a loop that other threads make fail; and
/// what was added and is subtracted again leaves nothing behind.
///
/// All accesses are relaxed: it is a statistic, and nothing is read on the strength of its value.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct AtomicFixed<const FRACTION: u32>(AtomicU64);

impl<const FRACTION: u32> AtomicFixed<FRACTION> {
    #[inline]
    pub(crate) fn load(&self) -> Fixed<FRACTION> {
        // As a signed number: what other threads add and subtract may arrive in another order.
        Fixed(self.0.load(Ordering::Relaxed) as i64)
    }

    #[inline]
    pub(crate) fn store(&self, value: Fixed<FRACTION>) {
        self.0.store(value.0 as u64, Ordering::Relaxed);
    }

    /// Makes it at least as high as `value`; whether that raised it.
    #[inline]
    pub(crate) fn raise(&self, value: Fixed<FRACTION>) -> bool {
        self.raise_with(value, || ())
    }

    /// With what other threads do between a look and a change.
    #[inline]
    fn raise_with(&self, value: Fixed<FRACTION>, mut meanwhile: impl FnMut()) -> bool {
        let mut now = self.0.load(Ordering::Relaxed);
        while value.0 > now as i64 {
            meanwhile();
            let new = value.0 as u64;
            match self.0.compare_exchange(now, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => now = other,
            }
        }
        false
    }

    /// Adds in a lane that this belongs to, and returns the sum.
    #[inline]
    pub(crate) fn add(&self, value: Fixed<FRACTION>, lane: Lane) -> Fixed<FRACTION> {
        Fixed(lane.add(&self.0, value.0 as u64) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two threads that have found different sums: the lower one is no maximum, whoever comes
    /// first.
    #[test]
    fn a_maximum_is_not_lowered_by_a_thread_that_has_looked_before() {
        let highest = AtomicFixed::<8>::default();
        let (lower, higher) = (Fixed::whole(100), Fixed::whole(110));
        assert!(!highest.raise_with(lower, || assert!(highest.raise(higher))));
        assert_eq!(highest.load(), higher);
        assert!(!highest.raise(lower));
        let raised = std::cell::Cell::new(false);
        assert!(highest.raise_with(Fixed::whole(120), || {
            if !raised.replace(true) {
                assert!(highest.raise(Fixed::whole(115)));
            }
        }));
        assert_eq!(highest.load(), Fixed::whole(120));
        assert!(AtomicFixed::<8>::default().raise(Fixed::whole(1)));
        let below = AtomicFixed::<8>::default();
        below.store(-Fixed::<8>::whole(5));
        assert!(below.raise(-Fixed::<8>::whole(1)), "as signed numbers");
    }

    #[test]
    fn what_was_added_and_subtracted_leaves_nothing() {
        for lane in [Lane::of(0), Lane::SHARED] {
            let sum = AtomicFixed::<8>::default();
            let values = [1.0, 0.3, 1e12, 3.53, 524_288.123_4];
            for value in values {
                sum.add(Fixed::nearest(value), lane);
            }
            assert!((sum.load().to_f64() - values.iter().sum::<f64>()).abs() < 0.02);
            for value in values {
                sum.add(-Fixed::nearest(value), lane);
            }
            assert_eq!(sum.load(), Fixed::default());
            assert_eq!(sum.add(-Fixed::nearest(1.0), lane).to_f64(), -1.0);
        }
    }
}
