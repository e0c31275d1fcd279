//! The sums over the samples of a site.

use std::sync::atomic::{AtomicU64, Ordering, fence};

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
    /// The live sums at the maximum that began the epoch in `peak_state`, if they have changed
    /// since.
    peak: Sums,
    /// The epoch that `peak` belongs to, plus [`BEING_WRITTEN`] while it is written: a seqlock. The
    /// writer holds it for four stores, and no other writer waits for it.
    peak_state: AtomicU64,
}

/// Set in `peak_state` while the peak sums are written; epochs are even.
const BEING_WRITTEN: u64 = 1;

/// Attempts of a reader before it takes the live sums for those at the maximum. A writer may be off
/// the processor, or have vanished in a fork.
const READ_ATTEMPTS: usize = 64;

/// The live sums of a shard at the maximum, in the hands of the only thread that may write them.
#[derive(Debug)]
struct PeakWrite<'a> {
    shard: &'a SumsShard,
    sums: Addend,
    epoch: u64,
}

impl PeakWrite<'_> {
    #[inline]
    fn commit(self) {
        // Release: a reader that sees one of the sums stored below, and then fences, sees that they
        // are being written; so does one that sees this thread change the live sums afterwards.
        // Pairs with the fence in `SumsShard::at_peak`.
        fence(Ordering::Release);
        self.shard.peak.store(self.sums);
        // Release: pairs with the Acquire load in `SumsShard::at_peak`.
        self.shard.peak_state.store(self.epoch, Ordering::Release);
    }
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
        // Acquire: pairs with the Release in `begin_write`. The sums that another thread writes
        // were read before the change that this thread is about to make.
        let state = self.peak_state.load(Ordering::Acquire);
        // The state is of a newer epoch if another thread saw the next maximum before this one did.
        if state >= epoch {
            return;
        }
        if let Some(write) = self.begin_write(state, epoch, lane) {
            write.commit();
        }
    }

    /// Begins to preserve the live sums, which are not yet preserved for `epoch` according to
    /// `state`. `None` if another thread does it.
    #[inline]
    fn begin_write(&self, state: u64, epoch: u64, lane: Lane) -> Option<PeakWrite<'_>> {
        if lane != Lane::SHARED {
            // Relaxed: only this thread writes here, and the fence in `commit` orders it for
            // readers.
            self.peak_state.store(epoch | BEING_WRITTEN, Ordering::Relaxed);
            return Some(PeakWrite { shard: self, sums: self.live(), epoch });
        }
        if state & BEING_WRITTEN != 0 {
            // A write for an earlier maximum. The next change of the shard preserves this one.
            return None;
        }
        // The sums are read before the exchange, so that they lack what other threads add once they
        // see it.
        let sums = self.live();
        // Release: pairs with the Acquire in `preserve_peak`, and with that of a failed exchange
        // here, for the threads that come second.
        self.peak_state
            .compare_exchange(state, epoch | BEING_WRITTEN, Ordering::Release, Ordering::Acquire)
            .is_ok()
            .then_some(PeakWrite { shard: self, sums, epoch })
    }

    pub(super) fn allocated(&self) -> Addend {
        self.allocated.load()
    }

    /// The live sums. They are differences, which are exact except for the variances.
    pub(super) fn live(&self) -> Addend {
        self.allocated.load().plus(self.freed.load().negated())
    }

    /// The live sums at the maximum that began `epoch`, or a newer one. A sample that another
    /// thread adds or removes at this moment may be on either side.
    pub(super) fn at_peak(&self, epoch: u64) -> Addend {
        for _ in 0..READ_ATTEMPTS {
            // Acquire: pairs with the Release store in `PeakWrite::commit`.
            let state = self.peak_state.load(Ordering::Acquire);
            if state >= epoch && state & BEING_WRITTEN != 0 {
                std::hint::spin_loop();
                continue;
            }
            let sums = if state >= epoch { self.peak.load() } else { self.live() };
            // Acquire: pairs with the fence in `PeakWrite::commit`.
            fence(Ordering::Acquire);
            if self.peak_state.load(Ordering::Relaxed) == state {
                return sums;
            }
        }
        self.live()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: u64 = 2;

    fn bytes(shard: &SumsShard, epoch: u64) -> f64 {
        shard.at_peak(epoch).to_weight().bytes
    }

    fn objects(count: u64) -> SumsShard {
        let shard = SumsShard::default();
        (0..count).for_each(|_| shard.add_allocated(Addend::of(1, Interval::EXACT), Lane::SHARED));
        shard
    }

    fn add(shard: &SumsShard) {
        shard.add_allocated(Addend::of(1, Interval::EXACT), Lane::SHARED);
    }

    /// One thread is suspended while it preserves the sums, and another changes them meanwhile.
    #[test]
    fn what_is_added_while_the_sums_are_being_written_is_not_in_them() {
        let shard = objects(7);
        let first = shard.begin_write(0, EPOCH, Lane::SHARED).unwrap();
        shard.preserve_peak(EPOCH, Lane::SHARED);
        add(&shard);
        first.commit();
        assert_eq!(bytes(&shard, EPOCH), 7.0);
        assert_eq!(shard.live().to_weight().bytes, 8.0);
    }

    #[test]
    fn sums_that_are_being_written_are_not_read() {
        let shard = objects(7);
        shard.preserve_peak(EPOCH, Lane::SHARED);
        assert_eq!(bytes(&shard, EPOCH), 7.0);
        (0..3).for_each(|_| add(&shard));
        let writing = shard.begin_write(EPOCH, 2 * EPOCH, Lane::SHARED).unwrap();
        // Neither the 7 that are still stored nor nothing, but what is about to be written.
        assert_eq!(bytes(&shard, 2 * EPOCH), 10.0);
        writing.commit();
        assert_eq!(bytes(&shard, 2 * EPOCH), 10.0);
    }

    /// The thread that knows of the next maximum comes before the one that does not.
    #[test]
    fn a_thread_that_knows_only_an_earlier_maximum_changes_nothing() {
        let shard = objects(7);
        shard.preserve_peak(2 * EPOCH, Lane::SHARED);
        add(&shard);
        shard.preserve_peak(EPOCH, Lane::SHARED);
        add(&shard);
        assert_eq!(bytes(&shard, 2 * EPOCH), 7.0);
    }

    #[test]
    fn a_maximum_during_a_write_is_preserved_with_the_next_change() {
        let shard = objects(7);
        let writing = shard.begin_write(0, EPOCH, Lane::SHARED).unwrap();
        shard.preserve_peak(2 * EPOCH, Lane::SHARED);
        add(&shard);
        writing.commit();
        shard.preserve_peak(2 * EPOCH, Lane::SHARED);
        add(&shard);
        assert_eq!(bytes(&shard, 2 * EPOCH), 8.0, "one sample late");
    }

    /// Other threads read a shard while the lane that owns it writes.
    #[test]
    fn readers_never_see_a_half_written_shard_of_an_owner() {
        let shard = objects(7);
        let lane = Lane::of(0);
        shard.preserve_peak(EPOCH, lane);
        (0..3).for_each(|_| add(&shard));
        let writing = shard.begin_write(EPOCH, 2 * EPOCH, lane).unwrap();
        assert_eq!(bytes(&shard, EPOCH), 10.0, "of the newer maximum");
        writing.commit();
        assert_eq!(bytes(&shard, 2 * EPOCH), 10.0);
    }
}
