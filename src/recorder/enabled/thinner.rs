//! Thinning: making room by raising the interval, a few records at a time.
//!
//! The interval is raised first, so that new samples come at the lower rate; then every later
//! sample that is inserted brings a batch of old records down to it. No thread ever sweeps the whole
//! table, and since each record carries its own interval, estimates are unbiased at every moment in
//! between.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::live::Live;
use super::{RECORDER, local};
use crate::live_set::{Records, Thinned};
use crate::sampler::Interval;
use crate::sync::Lane;

/// Records that one insertion looks at. A thinning begins with an eighth of the records left; it is
/// done after a 32nd of them has been inserted, at the latest.
const BATCH: u32 = 32;

/// The share of live samples that should survive.
const SURVIVORS: f64 = 0.5;

/// The state of the sweep.
#[derive(Debug, Default)]
pub(super) struct Thinner {
    sweeping: AtomicBool,
    next: AtomicU32,
    end: AtomicU32,
}

impl Thinner {
    /// Begins a sweep and raises the interval, unless one is going on. Returns whether it did.
    pub(super) fn begin(&self, records: &Records) -> bool {
        // Acquire: pairs with the release at the end of a sweep.
        if self.sweeping.load(Ordering::Relaxed) || self.sweeping.swap(true, Ordering::Acquire) {
            return false;
        }
        RECORDER.set_interval(raised(records));
        self.next.store(0, Ordering::Relaxed);
        // Release: pairs with `step`; the interval and the beginning are seen with the end.
        self.end.store(records.made(), Ordering::Release);
        true
    }

    /// Sweeps one batch, if a sweep is going on.
    pub(super) fn step(&self, live: &Live, lane: Lane) {
        if self.sweeping.load(Ordering::Relaxed) {
            self.sweep(live, lane);
        }
    }

    /// Sweeps all that is left.
    pub(super) fn finish(&self, live: &Live, lane: Lane) {
        let going_on = || self.sweeping.load(Ordering::Relaxed);
        while going_on() {
            if !self.sweep(live, lane) {
                return;
            }
        }
    }

    /// Sweeps one batch; `false` when there was nothing left for this thread.
    fn sweep(&self, live: &Live, lane: Lane) -> bool {
        let end = self.end.load(Ordering::Acquire);
        let first = self.next.fetch_add(BATCH, Ordering::Relaxed);
        if first >= end {
            // `end` is 0 between sweeps, so a thread that comes late changes nothing.
            if end > 0
                && self.end.compare_exchange(end, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            {
                // Release: pairs with `begin`.
                self.sweeping.store(false, Ordering::Release);
            }
            return false;
        }
        let target = RECORDER.interval();
        for record in first..end.min(first + BATCH) {
            match local::with_random(|random| live.records.thin(record, target, random)) {
                Thinned::Untouched => {}
                Thinned::Kept(before) => live.thinned_down(before, target),
                Thinned::Dropped(record, sample) => live.thinned_out(record, sample, lane),
            }
        }
        true
    }
}

/// The interval at which about half of the live samples survive, by a look at some of them.
fn raised(records: &Records) -> Interval {
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
    let mut target = RECORDER.interval().doubled();
    while survivors(target) > SURVIVORS && target < LARGEST {
        target = target.doubled();
    }
    target
}
