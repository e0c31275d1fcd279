//! Decides which allocations are sampled, and what a sample stands for.
//!
//! Samples are the points of a Poisson process over allocated bytes, with a mean of `R` bytes
//! between points. The gap before the next point is drawn from the exponential distribution and
//! rounded down, which gives the geometric distribution over whole bytes: an allocation of `s`
//! bytes contains a point, and is sampled, with probability `p = 1 − exp(−s/R)` exactly, wherever
//! it begins.
//!
//! ```text
//!   allocations   |--- 60 ---|- 24 -|------- 200 -------|-- 40 --| …
//!   gap                 · · · · · · · · ·●                          sampled: the third
//!                                        next gap starts at the end of that allocation
//! ```
//!
//! The process is memoryless: at any moment that does not depend on the future, the rest of a gap
//! may be replaced by a newly drawn one. Therefore pausing, changing `R` and crowds of short-lived
//! threads cause no bias. A sample carries the `R` with which its thread drew the gap, so a change
//! of `R` reaches threads late but never biases an estimate.

use std::cell::Cell;

pub(crate) use crate::estimate::Weight;
use crate::estimate::inclusion_probability;
use crate::hash::mix;

/// The mean number of bytes between samples, at least 1. It is stored as an `f32`: the relative
/// error of 6·10⁻⁸ is far below any standard error, and gaps and probabilities both use the rounded
/// value.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Interval(f32);

impl Interval {
    /// Every allocation is recorded.
    pub(crate) const EXACT: Self = Self(1.0);

    pub(crate) fn from_bytes(bytes: u64) -> Self {
        Self((bytes as f32).max(1.0))
    }

    /// An interval of 2 to the power of `exponent` bytes.
    pub(crate) const fn from_power_of_two(exponent: u32) -> Self {
        Self((1_u64 << exponent) as f32)
    }

    pub(crate) fn from_bits(bits: u32) -> Self {
        Self(f32::from_bits(bits))
    }

    pub(crate) fn to_bits(self) -> u32 {
        self.0.to_bits()
    }

    pub(crate) fn bytes(self) -> f32 {
        self.0
    }

    /// The next larger interval to try when there is no room at this one.
    pub(crate) fn doubled(self) -> Self {
        Self(self.0 * 2.0)
    }

    /// The probability that an allocation of `size` bytes is sampled.
    pub(crate) fn probability(self, size: u64) -> f64 {
        inclusion_probability(size, self.0)
    }

    /// The number of bytes to skip before the next point, computed from `uniform` in (0, 1].
    fn gap(self, uniform: f64) -> i64 {
        // At most 45·R, since the smallest `uniform` is 2⁻⁶⁴, so it always fits.
        (-uniform.ln() * f64::from(self.0)) as i64
    }
}

impl Weight {
    /// The weight of a sample of `size` bytes that was taken at `interval`.
    #[inline]
    pub(crate) fn new(size: u64, interval: Interval) -> Self {
        if interval == Interval::EXACT {
            return Self { count: 1.0, bytes: size as f64, ..Self::default() };
        }
        Self::of(size, interval.probability(size))
    }
}

/// A small random number generator (SplitMix64: Steele, Lea and Flood 2014) for gaps and for
/// thinning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Creates a generator. Different `stream`s of one seed are independent.
    pub(crate) const fn new(seed: u64, stream: u64) -> Self {
        Self(mix(seed ^ mix(stream.wrapping_mul(GOLDEN).wrapping_add(GOLDEN))))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number in (0, 1] with all 64 bits, so that the tail of the gaps is not cut off.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() as f64 + 1.0) * 2.0_f64.powi(-64)
    }
}

/// 2⁶⁴ divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A thread checks at least this often, in bytes of its own allocations, whether recording has
/// started and whether the interval has changed. 64 KiB is one slow call in about a thousand
/// allocations.
pub(crate) const RECHECK_BYTES: i64 = 64 << 10;

/// What to do with the allocation that ended the countdown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Decision {
    /// It contains no point.
    Skip,
    /// It is sampled, with the probability that belongs to this interval.
    Sample(Interval),
}

/// The sampling state of one thread, except for the countdown, which the fast path owns.
///
/// The gap to the next point is `countdown + deferred`: the countdown never exceeds
/// [`RECHECK_BYTES`], and the rest of the gap is kept here.
///
/// The fields are cells to avoid store-forwarding stalls: a copy of the whole struct would be read
/// in wider loads than the stores just before it, and the processor would stall for some 20 cycles
/// a sample.
#[derive(Debug)]
pub(crate) struct Sampler {
    deferred: Cell<i64>,
    /// The interval with which the current gap was drawn; `None` while nothing is recorded.
    gap_interval: Cell<Option<Interval>>,
    random: Cell<Random>,
}

impl Sampler {
    /// The state of a thread that has not taken part in a session yet.
    pub(crate) const fn idle() -> Self {
        Self {
            deferred: Cell::new(0),
            gap_interval: Cell::new(None),
            random: Cell::new(Random::new(0, 0)),
        }
    }

    /// Makes the thread take part in a session.
    pub(crate) fn join(&self, random: Random) {
        self.random.set(random);
        self.rearm();
    }

    /// Discards the current gap. The next one is drawn with the interval that is in force by then.
    pub(crate) fn rearm(&self) {
        self.deferred.set(0);
        self.gap_interval.set(None);
    }

    /// Draws a number in (0, 1] from the thread's generator.
    pub(crate) fn uniform(&self) -> f64 {
        let mut random = self.random.get();
        let drawn = random.uniform();
        self.random.set(random);
        drawn
    }

    /// Decides whether to sample an allocation of `size` bytes that took the countdown below zero,
    /// and sets the countdown for the next one. `countdown` holds the negative value.
    #[inline]
    pub(crate) fn decide(&self, size: usize, countdown: &Cell<i64>, current: Interval) -> Decision {
        let size = size as i64;
        let Some(gap_interval) = self.gap_interval.get() else {
            // Recording starts for this thread with this allocation, so the gap begins where the
            // allocation does.
            let gap = self.draw(current);
            return self.conclude(gap - size, countdown, current, current);
        };
        let gap_left = countdown.get().saturating_add(self.deferred.get());
        self.conclude(gap_left, countdown, gap_interval, current)
    }

    /// Sets the countdown, given what is left of the gap at the end of the allocation. If
    /// `gap_left` is below zero, the point lies inside the allocation.
    #[inline]
    fn conclude(
        &self,
        gap_left: i64,
        countdown: &Cell<i64>,
        gap_interval: Interval,
        current: Interval,
    ) -> Decision {
        let sampled = gap_left < 0;
        let gap = if sampled || gap_interval != current { self.draw(current) } else { gap_left };
        countdown.set(gap.min(RECHECK_BYTES));
        self.deferred.set(gap - countdown.get());
        if sampled { Decision::Sample(gap_interval) } else { Decision::Skip }
    }

    #[inline]
    fn draw(&self, current: Interval) -> i64 {
        self.gap_interval.set(Some(current));
        if current == Interval::EXACT {
            return 0;
        }
        current.gap(self.uniform())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs allocations of `sizes` through a sampler, as the hook does.
    fn run(
        sampler: &Sampler,
        sizes: impl Iterator<Item = usize>,
        interval: impl Fn(usize) -> Interval,
    ) -> Vec<(usize, Interval)> {
        let countdown = Cell::new(0_i64);
        let mut sampled = Vec::new();
        for (index, size) in sizes.enumerate() {
            countdown.set(countdown.get() - size as i64);
            if countdown.get() < 0
                && let Decision::Sample(r) = sampler.decide(size, &countdown, interval(index))
            {
                sampled.push((size, r));
            }
            assert!((0..=RECHECK_BYTES).contains(&countdown.get()));
        }
        sampled
    }

    fn sampler(seed: u64, stream: u64) -> Sampler {
        let sampler = Sampler::idle();
        sampler.join(Random::new(seed, stream));
        sampler
    }

    /// Asserts that `found` is within 4 standard errors of `expected`.
    fn assert_close(found: f64, expected: f64, std_error: f64) {
        assert!(
            (found - expected).abs() < 4.0 * std_error,
            "{found} is not {expected} ± {std_error}"
        );
    }

    #[test]
    fn an_allocation_is_sampled_with_the_stated_probability() {
        for (size, bytes) in [(64, 1 << 16), (4096, 1 << 16), (1 << 20, 1 << 16), (100, 64), (1, 3)]
        {
            let r = Interval::from_bytes(bytes);
            let n = 200_000;
            let sampler = sampler(1, size as u64);
            let samples = run(&sampler, std::iter::repeat_n(size, n), |_| r).len() as f64;
            let p = r.probability(size as u64);
            assert_close(samples, n as f64 * p, (n as f64 * p * (1.0 - p)).sqrt().max(1e-9) + 0.5);
        }
    }

    #[test]
    fn interval_one_samples_everything() {
        let sampler = sampler(1, 1);
        assert_eq!(run(&sampler, 1..=1000, |_| Interval::EXACT).len(), 1000);
        assert_eq!(
            Weight::new(77, Interval::EXACT),
            Weight { count: 1.0, bytes: 77.0, count_variance: 0.0, bytes_variance: 0.0 }
        );
    }

    #[test]
    fn a_changing_interval_adds_no_bias() {
        // The interval goes up and down all the time; the estimate of all bytes must not be
        // affected.
        let sizes = || (0..400_000).map(|i| [24, 100, 3000, 70_000][i % 4]);
        let interval = |i: usize| Interval::from_bytes([4096, 512 << 10, 64, 65_536][i / 1000 % 4]);
        let sampler = sampler(5, 5);
        let (mut bytes, mut variance) = (0.0, 0.0);
        for (size, r) in run(&sampler, sizes(), interval) {
            let weight = Weight::new(size as u64, r);
            bytes += weight.bytes;
            variance += weight.bytes_variance;
        }
        assert_close(bytes, sizes().sum::<usize>() as f64, f64::sqrt(variance));
    }

    #[test]
    fn first_gaps_of_threads_are_drawn_like_any_other() {
        // There are 60,000 threads of one allocation each.
        let r = Interval::from_bytes(1000);
        let sampled = (0..60_000)
            .filter(|stream| !run(&sampler(9, *stream), [500].into_iter(), |_| r).is_empty())
            .count() as f64;
        let p = r.probability(500);
        assert_close(sampled, 60_000.0 * p, (60_000.0 * p * (1.0 - p)).sqrt());
    }

    #[test]
    fn huge_sizes_do_not_overflow() {
        let sampler = sampler(2, 2);
        let sizes = [usize::MAX / 2, 1, usize::MAX / 2, 64];
        let sampled = run(&sampler, sizes.into_iter(), |_| Interval::from_bytes(1 << 40));
        assert_eq!(sampled.len(), 2);
    }
}
