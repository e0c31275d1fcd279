//! Estimates from samples, with their standard errors.

/// An unbiased estimate and its standard error.
///
/// Every number that heapdrift derives from samples has this type, and is never printed without its
/// uncertainty. With a sampling interval of 1 every allocation is recorded, the value is exact, and
/// `std_error` is 0.
///
/// # Where the numbers come from
/// An allocation of `s` bytes is sampled with probability `p = 1 − exp(−s/R)`, where `R` is the
/// mean number of bytes between two samples. Each sample stands for `1/p` allocations and `s/p`
/// bytes (the Horvitz–Thompson estimator). The variances of the sums over samples are estimated,
/// again without bias, by `Σ (1−p)/p²` and `Σ s²(1−p)/p²`.
///
/// # Examples
/// ```
/// let live = heapdrift::Estimate::new(64.0, 2.0);
/// let (low, high) = live.ci95();
/// assert!(low < 61.0 && high > 67.0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
pub struct Estimate {
    /// The estimate itself, in the unit of the quantity (bytes or objects).
    pub value: f64,
    /// The standard error, in the same unit.
    pub std_error: f64,
}

impl Estimate {
    /// The 97.5th percentile of the standard normal distribution.
    const Z95: f64 = 1.959_963_984_540_054;

    /// Creates an estimate. `std_error` has the unit of `value`.
    pub const fn new(value: f64, std_error: f64) -> Self {
        Self { value, std_error }
    }

    /// The 95% confidence interval `(low, high)` by the normal approximation.
    ///
    /// The approximation is good for thirty samples or more. For fewer, the interval only indicates
    /// the order of magnitude. `low` may be negative.
    pub fn ci95(self) -> (f64, f64) {
        let half = Self::Z95 * self.std_error;
        (self.value - half, self.value + half)
    }

    /// Creates an estimate from two sums over independent samples, that of their weights and that
    /// of their variances.
    pub(crate) fn from_sums(value: f64, variance: f64) -> Self {
        // A running sum of variances, which are added and subtracted, may end slightly below zero
        // because of rounding.
        Self::new(value, variance.max(0.0).sqrt())
    }
}

impl std::ops::Add for Estimate {
    type Output = Self;

    /// Adds two independent estimates: their values add up, and so do their variances.
    fn add(self, other: Self) -> Self {
        Self::new(self.value + other.value, self.std_error.hypot(other.std_error))
    }
}

impl std::iter::Sum for Estimate {
    fn sum<I: Iterator<Item = Self>>(estimates: I) -> Self {
        let (value, variance) = estimates.fold((0.0, 0.0), |(value, variance), e| {
            (value + e.value, variance + e.std_error * e.std_error)
        });
        Self::from_sums(value, variance)
    }
}

/// Returns the probability that an object of `size` bytes is sampled when the interval is `R`:
/// `1 − exp(−size/R)`, or 1 if `R` is 1. A zero-sized object counts as one byte.
pub(crate) fn inclusion_probability(size: u64, interval: f32) -> f64 {
    if interval <= 1.0 { 1.0 } else { -(-(size.max(1) as f64) / f64::from(interval)).exp_m1() }
}

/// The weight of one sample: what it adds to the sums of objects and bytes, and to the variances of
/// these sums.
///
/// A sample that was included with probability `p` stands for `1/p` objects, and `(1−p)/p²` is an
/// unbiased estimate of the variance (Horvitz and Thompson). See [`Estimate`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Weight {
    /// The objects that the sample stands for.
    pub count: f64,
    /// The bytes that it stands for.
    pub bytes: f64,
    /// The variance of `count`.
    pub count_variance: f64,
    /// The variance of `bytes`.
    pub bytes_variance: f64,
}

impl Weight {
    /// The weight of a sample of `size` bytes that was included with probability `p`.
    pub fn of(size: u64, p: f64) -> Self {
        let count = 1.0 / p;
        let count_variance = (1.0 - p) * count * count;
        let size = size as f64;
        Self {
            count,
            bytes: size * count,
            count_variance,
            bytes_variance: size * size * count_variance,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_stands_for_the_inverse_of_its_probability() {
        let weight = |size, interval| Weight::of(size, inclusion_probability(size, interval));
        let p = 1.0 - (-1.0_f64).exp();
        assert_eq!((weight(1000, 1.0).count, weight(1000, 1.0).count_variance), (1.0, 0.0));
        assert!((weight(1000, 1000.0).count - 1.0 / p).abs() < 1e-12);
        assert!((weight(1000, 1000.0).count_variance - (1.0 - p) / (p * p)).abs() < 1e-12);
        assert!(weight(0, 1e9).count.is_finite());
    }

    #[test]
    fn independent_estimates_add_their_variances() {
        let sum: Estimate = [Estimate::new(10.0, 3.0), Estimate::new(20.0, 4.0)].into_iter().sum();
        assert_eq!(sum, Estimate::new(30.0, 5.0));
        assert_eq!(sum, Estimate::new(10.0, 3.0) + Estimate::new(20.0, 4.0));
    }
}
