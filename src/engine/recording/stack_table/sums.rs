//! The sums over the samples of a site.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::recording::sampler::{Interval, Weight};
use crate::engine::recording::sync::{AtomicF64, AtomicFixed, Fixed, Lane};

/// Bytes in units of 1/256: one site can allocate 2⁵⁵ bytes, or a gigabyte a second for a year.
pub(super) type Bytes = Fixed<8>;
pub(super) type AtomicBytes = AtomicFixed<8>;
/// Objects in units of 1/65,536: one site can allocate 2⁴⁷ objects, or four million a second for a
/// year.
type Count = Fixed<16>;
type AtomicCount = AtomicFixed<16>;

/// What a sample stands for, rounded once for all sums that it is added to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addend {
    pub(super) bytes: Bytes,
    count: Count,
    bytes_variance: f64,
    count_variance: f64,
}

impl Addend {
    /// The addend of a sample of `size` bytes at `interval`.
    #[inline]
    pub(crate) fn of(size: u64, interval: Interval) -> Self {
        if interval == Interval::EXACT {
            // This case needs no rounding and takes a quarter of the instructions.
            return Self { bytes: Bytes::whole(size), count: Count::whole(1), ..Self::default() };
        }
        let weight = Weight::new(size, interval);
        Self {
            bytes: Bytes::nearest(weight.bytes),
            count: Count::nearest(weight.count),
            bytes_variance: weight.bytes_variance,
            count_variance: weight.count_variance,
        }
    }

    pub(super) fn to_weight(self) -> Weight {
        Weight {
            bytes: self.bytes.to_f64(),
            count: self.count.to_f64(),
            // Differences of sums that were rounded differently may be slightly negative.
            bytes_variance: self.bytes_variance.max(0.0),
            count_variance: self.count_variance.max(0.0),
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            count: self.count + other.count,
            bytes_variance: self.bytes_variance + other.bytes_variance,
            count_variance: self.count_variance + other.count_variance,
        }
    }

    #[inline]
    fn negated(self) -> Self {
        Self {
            bytes: -self.bytes,
            count: -self.count,
            bytes_variance: -self.bytes_variance,
            count_variance: -self.count_variance,
        }
    }
}

/// Sums over samples: estimates and their variances.
#[derive(Debug, Default)]
struct Sums {
    bytes: AtomicBytes,
    count: AtomicCount,
    bytes_variance: AtomicF64,
    count_variance: AtomicF64,
}

impl Sums {
    #[inline]
    fn add(&self, addend: Addend, lane: Lane) {
        self.bytes.add(addend.bytes, lane);
        self.count.add(addend.count, lane);
        if addend.count_variance != 0.0 {
            self.bytes_variance.add(addend.bytes_variance, lane);
            self.count_variance.add(addend.count_variance, lane);
        }
    }

    fn store(&self, sums: Addend) {
        self.bytes.store(sums.bytes);
        self.count.store(sums.count);
        self.bytes_variance.store(sums.bytes_variance);
        self.count_variance.store(sums.count_variance);
    }

    /// The current sums, which are not all read at one moment.
    fn load(&self) -> Addend {
        Addend {
            bytes: self.bytes.load(),
            count: self.count.load(),
            bytes_variance: self.bytes_variance.load(),
            count_variance: self.count_variance.load(),
        }
    }
}

/// What one lane, or all lanes that share a shard, added to a site.
#[derive(Debug, Default)]
pub(super) struct SumsShard {
    allocated: Sums,
    /// The sums of samples that are no longer live. The live sums are the difference, so that a new
    /// sample is added only once.
    freed: Sums,
    /// The live sums at the maximum that began `peak_epoch`, if they have changed since.
    peak: Sums,
    peak_epoch: AtomicU64,
}

impl SumsShard {
    /// Adds a sample to the allocated sums, and thereby to the live ones.
    #[inline]
    pub(super) fn add_allocated(&self, addend: Addend, lane: Lane) {
        self.allocated.add(addend, lane);
    }

    /// Removes a sample from the live sums.
    #[inline]
    pub(super) fn add_freed(&self, addend: Addend, lane: Lane) {
        self.freed.add(addend, lane);
    }

    /// Adds a sample to the live sums again, after it was removed from them.
    pub(super) fn subtract_freed(&self, addend: Addend, lane: Lane) {
        self.freed.add(addend.negated(), lane);
    }

    /// Preserves the live sums as those of the maximum that began `epoch`, unless that was done
    /// already.
    #[inline]
    pub(super) fn preserve_peak(&self, epoch: u64, lane: Lane) {
        let kept = self.peak_epoch.load(Ordering::Relaxed);
        if kept == epoch {
            return;
        }
        if lane == Lane::SHARED {
            // The first thread that changes the shard in this epoch preserves the sums. AcqRel: as
            // below.
            let is_first = self
                .peak_epoch
                .compare_exchange(kept, epoch, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
            if is_first {
                self.peak.store(self.live());
            }
        } else {
            self.peak.store(self.live());
            // Release: pairs with `at_peak`.
            self.peak_epoch.store(epoch, Ordering::Release);
        }
    }

    pub(super) fn allocated(&self) -> Addend {
        self.allocated.load()
    }

    /// The live sums. They are differences, which are exact except for the variances.
    pub(super) fn live(&self) -> Addend {
        self.allocated.load().plus(self.freed.load().negated())
    }

    /// The live sums at the maximum that began `epoch`.
    pub(super) fn at_peak(&self, epoch: u64) -> Addend {
        // The sums were preserved for this epoch or, if a sample came between the two loads, for a
        // newer one.
        let is_kept = self.peak_epoch.load(Ordering::Acquire) >= epoch;
        if is_kept { self.peak.load() } else { self.live() }
    }
}
