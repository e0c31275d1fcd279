//! What several test programs share. Each includes this file and uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use heapdrift::snapshot::{LiveSample, Metrics};
use heapdrift::{Estimate, Snapshot};

/// Sessions are one at a time in a process, and so are the tests of one program.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sums over all stacks labelled `key=value`.
pub fn labelled(snapshot: &Snapshot, key: &str, value: &str) -> Metrics {
    let sum = |of: fn(&Metrics) -> Estimate| {
        let stacks = snapshot.stacks.iter().filter(|stack| {
            snapshot.label_sets[stack.labels as usize].get(key).is_some_and(|v| v == value)
        });
        stacks.map(|stack| of(&stack.metrics)).sum()
    };
    let mut sums = Metrics::default();
    sums.live_bytes = sum(|m| m.live_bytes);
    sums.live_count = sum(|m| m.live_count);
    sums.alloc_bytes = sum(|m| m.alloc_bytes);
    sums.alloc_count = sum(|m| m.alloc_count);
    sums.peak_bytes = sum(|m| m.peak_bytes);
    sums.peak_count = sum(|m| m.peak_count);
    sums
}

/// The live samples whose stack is labelled `key=value`.
pub fn live_labelled(snapshot: &Snapshot, key: &str, value: &str) -> Vec<LiveSample> {
    let of_site = |sample: &LiveSample| {
        let labels = snapshot.stacks[sample.stack as usize].labels;
        snapshot.label_sets[labels as usize].get(key).is_some_and(|v| v == value)
    };
    snapshot.live.iter().filter(of_site).collect()
}

/// Asserts that an estimate is within `sigmas` of its standard errors of the truth.
#[track_caller]
pub fn assert_within(what: &str, estimate: Estimate, truth: f64, sigmas: f64) {
    assert!(
        (estimate.value - truth).abs() <= sigmas * estimate.std_error,
        "{what}: {} ± {} is more than {sigmas} standard errors from {truth}",
        estimate.value,
        estimate.std_error
    );
}
