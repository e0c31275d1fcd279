//! Thinning: making room by raising the interval, a few records at a time.
//!
//! The interval is raised first, so that new samples come at the lower rate; then every later
//! sample that is inserted brings a batch of old records down to it. No thread ever sweeps the whole
//! table, and since each record carries its own interval, estimates are unbiased at every moment in
//! between.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{RECORDER, local};
use crate::live_set::{Records, Thinned};
use crate::sampler::Interval;

/// Records that one insertion looks at. A thinning begins with an eighth of the records left; it is
/// done after a 32nd of them has been inserted, at the latest.
const BATCH: u32 = 32;

/// The share of live samples that should survive.
const SURVIVORS: f64 = 0.5;

/// How far the sweep is: in the low half the next record, in the high half the end, which is 0 when
/// no sweep is going on. One word, so that a thread that vanishes (in a forked child) at worst
/// leaves its batch as it was, which is no bias, and never a sweep that does not end.
#[derive(Debug, Default)]
pub(super) struct Thinner {
    progress: AtomicU64,
}

impl Thinner {
    /// Begins a sweep and raises the interval, unless one is going on. Returns whether it did.
    pub(super) fn begin(&self, records: &Records) -> bool {
        // Relaxed: the exchange of the interval decides.
        if self.progress.load(Ordering::Relaxed) != 0 {
            return false;
        }
        // Whoever raises the interval begins: it is what a sweep thins to.
        let before = RECORDER.interval();
        if !RECORDER.raise_interval(before, raised(records, before)) {
            return false;
        }
        // Release: pairs with `sweep`; the interval is seen with the end.
        self.progress.store(u64::from(records.made()) << 32, Ordering::Release);
        true
    }

    /// Sweeps one batch, if a sweep is going on.
    pub(super) fn step(&self, records: &Records, follow: impl FnMut(Thinned)) {
        // Relaxed: `sweep` looks again.
        if self.progress.load(Ordering::Relaxed) != 0 {
            self.sweep(records, follow);
        }
    }

    /// Sweeps all that is left.
    pub(super) fn finish(&self, records: &Records, mut follow: impl FnMut(Thinned)) {
        while self.sweep(records, &mut follow) {}
    }

    /// Sweeps one batch, and has what became of each record followed; `false` when there was nothing left
    /// for this thread.
    fn sweep(&self, records: &Records, mut follow: impl FnMut(Thinned)) -> bool {
        // Acquire: pairs with the release in `begin`.
        let batch = self.progress.try_update(Ordering::Acquire, Ordering::Acquire, |progress| {
            let (end, next) = (progress >> 32, progress & u64::from(u32::MAX));
            let after = next + u64::from(BATCH);
            (end > 0).then_some(if after < end { end << 32 | after } else { 0 })
        });
        let Ok(progress) = batch else { return false };
        let (end, first) = ((progress >> 32) as u32, progress as u32);
        let target = RECORDER.interval();
        for record in first..end.min(first + BATCH) {
            follow(records.thin(record, target, local::uniform));
        }
        true
    }
}

/// The interval at which about half of the live samples survive, by a look at some of them.
fn raised(records: &Records, before: Interval) -> Interval {
    const LOOK_AT: u32 = 256;
    /// A sample a TiB, as by `sample_interval_bytes`.
    const LARGEST: Interval = Interval::from_power_of_two(40);
    let made = records.made().max(1);
    let survivors = |target: Interval| {
        let step = (made / LOOK_AT).max(1) as usize;
        let (seen, kept) = (0..made).step_by(step).filter_map(|record| records.read(record)).fold(
            (0.0, 0.0),
            |(seen, kept), sample| {
                let now = sample.interval.probability(sample.size);
                (seen + 1.0, kept + (target.probability(sample.size) / now).min(1.0))
            },
        );
        if seen == 0.0 { 0.0 } else { kept / seen }
    };
    let mut target = before.doubled();
    while survivors(target) > SURVIVORS && target < LARGEST {
        target = target.doubled();
    }
    target
}
