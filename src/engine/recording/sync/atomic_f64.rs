//! A floating-point sum that threads add to.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Lane;

/// An `f64` in an atomic word; zero when its bytes are zero.
///
/// All orderings are Relaxed: it is a statistic, and nothing is published through it.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct AtomicF64(AtomicU64);

impl AtomicF64 {
    #[inline]
    pub(crate) fn load(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn store(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds `value`, for a thread in `lane`. The sum must belong to that lane.
    #[inline]
    pub(crate) fn add(&self, value: f64, lane: Lane) {
        if lane != Lane::SHARED {
            // No other thread writes here.
            return self.store(self.load() + value);
        }
        let sum = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // The update cannot fail, because `sum` always returns a value.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    }
}
