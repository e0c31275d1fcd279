//! A number that came from samples, with its uncertainty.

/// An unbiased estimate and its standard error.
///
/// Everything that heapdrift derives from samples has this type: a number without its uncertainty
/// is not printed anywhere. With a sampling interval of 1 every allocation is recorded, nothing is
/// estimated, and `std_error` is 0.
///
/// # Where the numbers come from
/// An allocation of `s` bytes is sampled with probability `p = 1 − exp(−s/R)`, `R` being the mean
/// number of bytes between two samples. Each sample then stands for `1/p` allocations and `s/p`
/// bytes (the Horvitz–Thompson estimator), and the sums over samples have the variances
/// `Σ (1−p)/p²` and `Σ s²(1−p)/p²`, themselves estimated without bias.
///
/// # Examples
/// ```
/// let live = heapdrift::Estimate::new(64.0, 2.0);
/// let (low, high) = live.ci95();
/// assert!(low < 61.0 && high > 67.0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "analysis", derive(serde::Deserialize))]
pub struct Estimate {
    /// The estimate itself, in the unit of the quantity (bytes or objects).
    pub value: f64,
    /// One standard error, in the same unit.
    pub std_error: f64,
}

impl Estimate {
    /// The 97.5th percentile of the standard normal distribution.
    const Z95: f64 = 1.959_963_984_540_054;

    /// An estimate of `value` with standard error `std_error`, in the same unit.
    pub const fn new(value: f64, std_error: f64) -> Self {
        Self { value, std_error }
    }

    /// The 95% confidence interval `(low, high)` by the normal approximation.
    ///
    /// The approximation is good from about thirty samples on; below that the interval is a
    /// statement about order of magnitude. `low` may be negative.
    pub fn ci95(self) -> (f64, f64) {
        let half = Self::Z95 * self.std_error;
        (self.value - half, self.value + half)
    }

    /// From sums over independent samples: of the weights, and of their variances.
    pub(crate) fn from_sums(value: f64, variance: f64) -> Self {
        // A running variance that was added to and taken from may end a rounding error below zero.
        Self::new(value, variance.max(0.0).sqrt())
    }
}

impl std::ops::Add for Estimate {
    type Output = Self;

    /// The sum of two independent estimates: values add, and so do variances.
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

/// The probability with which an object of `size` bytes is sampled at `interval`: `1 − exp(−size/R)`,
/// or 1 where the interval is 1. An object of no bytes counts as one of 1.
pub(crate) fn inclusion_probability(size: u64, interval: f32) -> f64 {
    if interval <= 1.0 { 1.0 } else { -(-(size.max(1) as f64) / f64::from(interval)).exp_m1() }
}

/// What one sample stands for: what it adds to sums, and to their variances.
///
/// Horvitz and Thompson: a sample included with probability `p` stands for `1/p` objects, and
/// `(1−p)/p²` is an unbiased estimate of the variance of that. See [`Estimate`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Weight {
    /// Objects.
    pub count: f64,
    /// Bytes.
    pub bytes: f64,
    /// Variance of `count`.
    pub count_variance: f64,
    /// Variance of `bytes`.
    pub bytes_variance: f64,
}

impl Weight {
    /// Of a sample of `size` bytes that was included with probability `p`.
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
