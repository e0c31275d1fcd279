//! Thinning makes room by raising the interval, a few records at a time.
//!
//! The interval is raised first, so that new samples arrive at the lower rate. Then every insertion
//! of a later sample brings a batch of old records down to that rate. No thread ever sweeps the
//! whole table, and since each record carries its own interval, estimates are unbiased at every
//! moment in between.

use std::sync::atomic::{AtomicU64, Ordering};

use super::control::Control;
use crate::engine::recording::live_set::{Records, SampledObject, Thinned};
use crate::engine::recording::sampler::Interval;

/// The number of records that one insertion inspects. Thinning begins when an eighth of the records
/// is left; it ends at the latest when a 32nd of them has been inserted.
const BATCH: u32 = 32;

/// The share of live samples that should survive.
const SURVIVORS: f64 = 0.5;

/// The progress of the sweep: the next record in the low half, and the end in the high half, which
/// is 0 when no sweep is running. It is one word, so that a thread that vanishes (in a forked
/// child) at worst leaves its batch unthinned, which causes no bias, and never leaves a sweep that
/// does not end.
#[derive(Debug, Default)]
pub(super) struct Thinner {
    progress: AtomicU64,
}

/// What a thinner works on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep<'a> {
    pub(super) records: &'a Records,
    /// Holds the interval that is raised and to which records are thinned.
    pub(super) control: &'a Control,
    /// Draws a number in (0, 1].
    pub(super) uniform: fn() -> f64,
}

impl Thinner {
    /// Begins a sweep and raises the interval, unless a sweep is running. Returns whether it did.
    pub(super) fn begin(&self, Sweep { records, control, .. }: Sweep<'_>) -> bool {
        // Relaxed: only a hint; the exchange in `raise_interval` decides which thread begins the
        // sweep.
        if self.progress.load(Ordering::Relaxed) != 0 {
            return false;
        }
        // The thread that raises the interval also begins the sweep, because a sweep thins to that
        // interval.
        let before = control.interval();
        if !control.raise_interval(before, raised_interval(records, before)) {
            return false;
        }
        // Release: pairs with the Acquire in `sweep_batch`, so that whoever sees the end also sees
        // the interval.
        self.progress.store(u64::from(records.created()) << 32, Ordering::Release);
        true
    }

    /// Sweeps one batch, if a sweep is running.
    pub(super) fn advance(&self, sweep: Sweep<'_>, on_outcome: impl FnMut(Thinned)) {
        // Relaxed: only a hint; `sweep_batch` looks again with Acquire.
        if self.progress.load(Ordering::Relaxed) != 0 {
            self.sweep_batch(sweep, on_outcome);
        }
    }

    /// Sweeps everything that is left.
    pub(super) fn finish(&self, sweep: Sweep<'_>, mut on_outcome: impl FnMut(Thinned)) {
        while self.sweep_batch(sweep, &mut on_outcome) {}
    }

    /// Sweeps one batch and reports the outcome for each record; `false` when no batch was left for
    /// this thread.
    fn sweep_batch(&self, sweep: Sweep<'_>, mut on_outcome: impl FnMut(Thinned)) -> bool {
        // Acquire: pairs with the Release in `begin`.
        let batch = self.progress.fetch_update(Ordering::Acquire, Ordering::Acquire, |progress| {
            let (end, next) = (progress >> 32, progress & u64::from(u32::MAX));
            let after = next + u64::from(BATCH);
            (end > 0).then_some(if after < end { end << 32 | after } else { 0 })
        });
        let Ok(progress) = batch else { return false };
        let (end, first) = ((progress >> 32) as u32, progress as u32);
        let target = sweep.control.interval();
        for record in first..end.min(first + BATCH) {
            on_outcome(sweep.records.thin(record, target, sweep.uniform));
        }
        true
    }
}

/// The interval at which about half of the live samples survive, estimated from some of them.
fn raised_interval(records: &Records, before: Interval) -> Interval {
    const INSPECTED: u32 = 256;
    /// One sample a TiB, which is also the limit of `sample_interval_bytes`.
    const LARGEST: Interval = Interval::from_power_of_two(40);
    let created = records.created().max(1);
    let survivors = |target: Interval| {
        let step = (created / INSPECTED).max(1) as usize;
        let (inspected, kept) = (0..created)
            .step_by(step)
            .filter_map(|record| records.read(record))
            .fold((0.0, 0.0), |(inspected, kept), sample| {
                let SampledObject { size, interval, .. } = sample.object;
                let share = target.probability(size) / interval.probability(size);
                (inspected + 1.0, kept + share.min(1.0))
            });
        if inspected == 0.0 { 0.0 } else { kept / inspected }
    };
    let mut target = before.doubled();
    while survivors(target) > SURVIVORS && target < LARGEST {
        target = target.doubled();
    }
    target
}
