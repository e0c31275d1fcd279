//! The cost by the number of threads, each of which frees its own blocks.

use std::hint::black_box;
use std::thread;

use crate::measure::{exact_session, ns_each};
use crate::stacks;

/// Pairs of all threads together.
const SAMPLED: usize = 128_000;
const UNSAMPLED: usize = 6_400_000;

pub(crate) fn row(threads: usize) -> Vec<String> {
    let pair = |number: usize| {
        drop(black_box(Vec::<u8>::with_capacity(16 + (number * 37) % 128)));
    };
    // All columns include the time to start and join the threads.
    let stopped = in_threads(threads, UNSAMPLED, pair);
    let profiler = exact_session();
    let sampled = in_threads(threads, SAMPLED, |number| {
        drop(black_box(stacks::allocate(number as u32 % 64, 20)));
    });
    profiler.set_sample_interval_bytes(512 << 10).expect("a valid interval");
    let unsampled = in_threads(threads, UNSAMPLED, pair);
    vec![format!("{stopped:.2}"), format!("{unsampled:.2}"), format!("{sampled:.0}")]
}

fn in_threads(threads: usize, pairs: usize, pair: impl Fn(usize) + Sync) -> f64 {
    ns_each(pairs, || {
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..pairs / threads).for_each(&pair));
            }
        });
    })
}
