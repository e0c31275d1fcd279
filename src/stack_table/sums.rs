//! What samples add up to at a site.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::sampler::{Interval, Weight};
use crate::sync::{AtomicF64, AtomicFixed, Fixed, Lane};

/// Bytes, to a 256th: one site can allocate 2⁵⁵, or a gigabyte a second for a year.
pub(super) type Bytes = Fixed<8>;
pub(super) type AtomicBytes = AtomicFixed<8>;
/// Objects, to a 65,536th: one site can allocate 2⁴⁷, or four million a second for a year.
type Count = Fixed<16>;
type AtomicCount = AtomicFixed<16>;

/// What a sample stands for, rounded once for all sums that it goes into.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addend {
    pub(super) bytes: Bytes,
    count: Count,
    bytes_variance: f64,
    count_variance: f64,
}

impl Addend {
    /// Of a sample of `size` bytes at `interval`.
    #[inline]
    pub(crate) fn of(size: u64, interval: Interval) -> Self {
        if interval == Interval::EXACT {
            // Rounds nothing, and takes a quarter of the instructions.
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
            // Sums of other roundings may differ by less than nothing.
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

    /// The sums as they stand; not all at one moment.
    fn load(&self) -> Addend {
        Addend {
            bytes: self.bytes.load(),
            count: self.count.load(),
            bytes_variance: self.bytes_variance.load(),
            count_variance: self.count_variance.load(),
        }
    }
}

/// What one lane, or all that share, add to a site.
#[derive(Debug, Default)]
pub(super) struct Part {
    allocated: Sums,
    /// Of what is not live any more; what is live is the rest. So a new sample is added once.
    gone: Sums,
    /// The live sums at the maximum that began the epoch in `peak_state`, if they have changed
    /// since.
    peak: Sums,
    /// The epoch that `peak` is of, or one more while it is being written: a sequence lock. Whoever
    /// writes holds it for four stores, and nobody waits for that.
    peak_state: AtomicU64,
}

/// Epochs are even.
const BEING_WRITTEN: u64 = 1;

/// How often a reader looks before it takes the live sums for those at the maximum. A thread that
/// is writing may be off the processor, or was lost in a fork.
const LOOKS: usize = 64;

/// What a part was at the maximum, by a thread that alone may write it down.
#[derive(Debug)]
struct AtPeak<'a> {
    part: &'a Part,
    sums: Addend,
    epoch: u64,
}

impl AtPeak<'_> {
    #[inline]
    fn write(self) {
        // Release: whoever sees one of the sums, and then fences, sees that they are being written;
        // and whoever sees this thread change the live sums does too. Pairs with the fence in
        // `Part::at_peak`.
        fence(Ordering::Release);
        self.part.peak.store(self.sums);
        // Release: pairs with the acquire in `Part::at_peak`.
        self.part.peak_state.store(self.epoch, Ordering::Release);
    }
}

impl Part {
    /// Adds to what was allocated, and so to what is live.
    #[inline]
    pub(super) fn allocate(&self, addend: Addend, lane: Lane) {
        self.allocated.add(addend, lane);
    }

    /// Takes out of what is live.
    #[inline]
    pub(super) fn free(&self, addend: Addend, lane: Lane) {
        self.gone.add(addend, lane);
    }

    /// Puts back what was taken out.
    pub(super) fn restore(&self, addend: Addend, lane: Lane) {
        self.gone.add(addend.negated(), lane);
    }

    /// Keeps the live sums as those of the maximum that began `epoch`, if they still stand.
    #[inline]
    pub(super) fn before_change(&self, epoch: u64, lane: Lane) {
        // Acquire: pairs with the release in `begin`. The sums that are being written were read
        // before the change that this thread is about to make.
        let state = self.peak_state.load(Ordering::Acquire);
        // A newer one, if another thread has seen the next maximum before this one did.
        if state >= epoch {
            return;
        }
        if let Some(at_peak) = self.begin(state, epoch, lane) {
            at_peak.write();
        }
    }

    /// Begins to keep the live sums, which `state` says are not kept for `epoch`. `None` if another
    /// thread does.
    #[inline]
    fn begin(&self, state: u64, epoch: u64, lane: Lane) -> Option<AtPeak<'_>> {
        if lane != Lane::SHARED {
            // Relaxed: only this thread writes here, and readers look at it behind a fence.
            self.peak_state.store(epoch | BEING_WRITTEN, Ordering::Relaxed);
            return Some(AtPeak { part: self, sums: self.live(), epoch });
        }
        if state & BEING_WRITTEN != 0 {
            // For an earlier maximum. The next to change the part keeps it for this one.
            return None;
        }
        // Before the exchange, so that they are without what others add once they see it.
        let sums = self.live();
        // Release: pairs with the acquire in `before_change` and with that of the failure here, for
        // those who come second.
        self.peak_state
            .compare_exchange(state, epoch | BEING_WRITTEN, Ordering::Release, Ordering::Acquire)
            .is_ok()
            .then_some(AtPeak { part: self, sums, epoch })
    }

    pub(super) fn all(&self) -> Addend {
        self.allocated.load()
    }

    /// The live sums: differences, which are exact but for the variances.
    pub(super) fn live(&self) -> Addend {
        self.allocated.load().plus(self.gone.load().negated())
    }

    /// The live sums at the maximum that began `epoch`, or a newer one. A sample that another
    /// thread adds or removes just now may be on either side.
    pub(super) fn at_peak(&self, epoch: u64) -> Addend {
        for _ in 0..LOOKS {
            // Acquire: pairs with the release in `AtPeak::write`.
            let state = self.peak_state.load(Ordering::Acquire);
            let sums = match state >= epoch {
                true if state & BEING_WRITTEN != 0 => {
                    std::hint::spin_loop();
                    continue;
                }
                true => self.peak.load(),
                false => self.live(),
            };
            // Acquire: pairs with the fence in `AtPeak::write`.
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

    fn bytes(part: &Part, epoch: u64) -> f64 {
        part.at_peak(epoch).to_weight().bytes
    }

    fn objects(count: u64) -> Part {
        let part = Part::default();
        (0..count).for_each(|_| part.allocate(Addend::of(1, Interval::EXACT), Lane::SHARED));
        part
    }

    fn add(part: &Part) {
        part.allocate(Addend::of(1, Interval::EXACT), Lane::SHARED);
    }

    /// A thread stands still while it keeps the sums, and another changes them meanwhile.
    #[test]
    fn what_is_added_while_the_sums_are_being_written_is_not_in_them() {
        let part = objects(7);
        let first = part.begin(0, EPOCH, Lane::SHARED).unwrap();
        part.before_change(EPOCH, Lane::SHARED);
        add(&part);
        first.write();
        assert_eq!(bytes(&part, EPOCH), 7.0);
        assert_eq!(part.live().to_weight().bytes, 8.0);
    }

    #[test]
    fn sums_that_are_being_written_are_not_read() {
        let part = objects(7);
        part.before_change(EPOCH, Lane::SHARED);
        assert_eq!(bytes(&part, EPOCH), 7.0);
        (0..3).for_each(|_| add(&part));
        let writing = part.begin(EPOCH, 2 * EPOCH, Lane::SHARED).unwrap();
        // Neither the 7 that are still there nor nothing: what is about to be written.
        assert_eq!(bytes(&part, 2 * EPOCH), 10.0);
        writing.write();
        assert_eq!(bytes(&part, 2 * EPOCH), 10.0);
    }

    /// Of two threads the one that knows of the next maximum comes first.
    #[test]
    fn a_thread_that_knows_only_an_earlier_maximum_changes_nothing() {
        let part = objects(7);
        part.before_change(2 * EPOCH, Lane::SHARED);
        add(&part);
        part.before_change(EPOCH, Lane::SHARED);
        add(&part);
        assert_eq!(bytes(&part, 2 * EPOCH), 7.0);
    }

    #[test]
    fn a_maximum_during_a_write_is_kept_with_the_next_change() {
        let part = objects(7);
        let writing = part.begin(0, EPOCH, Lane::SHARED).unwrap();
        part.before_change(2 * EPOCH, Lane::SHARED);
        add(&part);
        writing.write();
        part.before_change(2 * EPOCH, Lane::SHARED);
        add(&part);
        assert_eq!(bytes(&part, 2 * EPOCH), 8.0, "one sample late");
    }

    /// In a lane of its own a part is read by others while it is written.
    #[test]
    fn the_owner_of_a_part_hides_what_it_is_writing() {
        let part = objects(7);
        let lane = Lane::of(0);
        part.before_change(EPOCH, lane);
        (0..3).for_each(|_| add(&part));
        let writing = part.begin(EPOCH, 2 * EPOCH, lane).unwrap();
        assert_eq!(bytes(&part, EPOCH), 10.0, "of the newer maximum");
        writing.write();
        assert_eq!(bytes(&part, 2 * EPOCH), 10.0);
    }
}
