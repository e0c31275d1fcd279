//! A floating-point number that threads add to.

use std::sync::atomic::{AtomicU64, Ordering};

/// An `f64` in an atomic word; zero when its bytes are zero.
///
/// All accesses are relaxed: it is a statistic, and nothing is read on the strength of its value.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct AtomicF64(AtomicU64);

impl AtomicF64 {
    pub(crate) fn load(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn store(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds, and returns the sum.
    pub(crate) fn add(&self, value: f64) -> f64 {
        let mut current = self.0.load(Ordering::Relaxed);
        loop {
            let sum = f64::from_bits(current) + value;
            match self.0.compare_exchange_weak(
                current,
                sum.to_bits(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return sum,
                Err(now) => current = now,
            }
        }
    }
}
