//! Sums of independent estimates: values add up, and so do variances.

use std::iter;
use std::ops::{Add, AddAssign};

use heapdrift::Estimate;
use heapdrift::snapshot::Metrics;

/// A sum under construction. It keeps the variance, so that adding needs no square root.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sum {
    pub(crate) value: f64,
    pub(crate) variance: f64,
}

impl Sum {
    /// The sum with its standard error.
    pub(crate) fn estimate(self) -> Estimate {
        // Differences of variances may be below 0 by rounding.
        Estimate::new(self.value, self.variance.max(0.0).sqrt())
    }
}

impl From<Estimate> for Sum {
    fn from(estimate: Estimate) -> Self {
        Self { value: estimate.value, variance: estimate.std_error * estimate.std_error }
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.value += other.value;
        self.variance += other.variance;
    }
}

impl Add for Sum {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl iter::Sum for Sum {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        sums.fold(Self::default(), Add::add)
    }
}

/// The sum of the estimates of two stacks, or of two processes.
pub(crate) fn metrics(a: &Metrics, b: &Metrics) -> Metrics {
    let mut sum = Metrics::default();
    sum.live_bytes = a.live_bytes + b.live_bytes;
    sum.live_count = a.live_count + b.live_count;
    sum.alloc_bytes = a.alloc_bytes + b.alloc_bytes;
    sum.alloc_count = a.alloc_count + b.alloc_count;
    sum.peak_bytes = a.peak_bytes + b.peak_bytes;
    sum.peak_count = a.peak_count + b.peak_count;
    sum
}
