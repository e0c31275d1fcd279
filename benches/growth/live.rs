//! Live samples, and stacks.

use std::hint::black_box;

use crate::measure::{exact_session, losses, ms, ns_each, unsampled_pair};
use crate::stacks::{self, Object};

const STACKS: usize = 1_000;

/// Many objects of a thousand stacks.
pub(crate) fn by_samples(samples: usize) -> Vec<String> {
    row(samples, samples.min(STACKS), samples)
}

/// An object a stack.
pub(crate) fn by_stacks(stacks: usize) -> Vec<String> {
    row(stacks, stacks, stacks)
}

/// The last column is the profiler's memory for each of `per`.
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

/// Under stacks that are known, one after another in no order.
fn sampled_pair(stacks: usize) -> String {
    const PAIRS: usize = 20_000;
    let mut path = 1;
    let ns = ns_each(PAIRS, || {
        for _ in 0..PAIRS {
            // A linear congruence: no order that a cache could follow.
            path = (path * 1_664_525 + 1_013_904_223) % (1 << 32);
            drop(black_box(allocate((path >> 8) % stacks)));
        }
    });
    format!("{ns:.0}")
}
