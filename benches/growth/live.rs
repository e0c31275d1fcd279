//! The cost by the number of live samples, and by the number of stacks.

use std::hint::black_box;

use crate::measure::{exact_session, losses, ms, ns_each, unsampled_pair};
use crate::stacks::{self, Object};

const STACKS: usize = 1_000;

/// This many live samples on at most a thousand stacks.
pub(crate) fn by_samples(samples: usize) -> Vec<String> {
    row(samples, samples.min(STACKS), samples)
}

/// One live sample on each of this many stacks.
pub(crate) fn by_stacks(stacks: usize) -> Vec<String> {
    row(stacks, stacks, stacks)
}

/// The last column is the profiler's memory divided by `per`.
fn row(objects: usize, stacks: usize, per: usize) -> Vec<String> {
    let profiler = exact_session();
    let before = profiler.stats().profiler_bytes;
    let live: Vec<Object> = (0..objects).map(|i| allocate(i % stacks)).collect();
    let held = profiler.stats().profiler_bytes - before;
    let columns = vec![
        sampled_pair(stacks),
        unsampled_pair(&profiler),
        ms(|| drop(black_box(profiler.snapshot()))),
        ms(|| drop(black_box(profiler.diff_now()))),
        format!("{:.0}{}", held as f64 / per as f64, losses(&profiler)),
    ];
    drop(live);
    columns
}

#[inline(never)]
fn allocate(path: usize) -> Object {
    stacks::allocate(path as u32, 20)
}

/// Nanoseconds of a sampled pair, under stacks that are known already, in random order.
fn sampled_pair(stacks: usize) -> String {
    const PAIRS: usize = 20_000;
    let mut path = 1;
    let ns = ns_each(PAIRS, || {
        for _ in 0..PAIRS {
            // A linear congruential generator, so that no cache can predict the order.
            path = (path * 1_664_525 + 1_013_904_223) % (1 << 32);
            drop(black_box(allocate((path >> 8) % stacks)));
        }
    });
    format!("{ns:.0}")
}
