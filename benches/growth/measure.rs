//! Medians of repeated measurements.

use std::hint::black_box;

use heapdrift::Profiler;

use crate::clock::process_ns;

const REPETITIONS: usize = 15;

/// Far more than is needed, so that no sample is thinned.
const CAP: u64 = 4 << 30;

/// A session that samples every allocation.
pub(crate) fn exact_session() -> Profiler {
    let session = Profiler::builder().sample_interval_bytes(1).max_profiler_bytes(CAP);
    session.max_stack_depth(512).start().expect("the profiler starts")
}

/// The median processor time of `work` in nanoseconds per operation.
pub(crate) fn ns_each(operations: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<u64> = (0..=REPETITIONS)
        .map(|_| {
            let begin = process_ns();
            work();
            process_ns() - begin
        })
        .skip(1) // the first warms up
        .collect();
    times.sort_unstable();
    times[REPETITIONS / 2] as f64 / operations as f64
}

/// The median processor time of `work` in milliseconds.
pub(crate) fn ms(work: impl FnMut()) -> String {
    format!("{:.2}", ns_each(1, work) / 1e6)
}

/// Nanoseconds of a pair at 512 KiB, whatever was recorded before.
pub(crate) fn unsampled_pair(profiler: &Profiler) -> String {
    const PAIRS: usize = 1_000_000;
    profiler.set_sample_interval_bytes(512 << 10).expect("a valid interval");
    let ns = ns_each(PAIRS, || {
        for number in 0..PAIRS {
            drop(black_box(Vec::<u8>::with_capacity(16 + (number * 37) % 128)));
        }
    });
    profiler.set_sample_interval_bytes(1).expect("a valid interval");
    // Uses up the gap that this thread has drawn at 512 KiB.
    drop(black_box(Vec::<u8>::with_capacity(64 << 20)));
    format!("{ns:.2}")
}

/// A remark about lost samples, or nothing if there are none.
pub(crate) fn losses(profiler: &Profiler) -> String {
    let stats = profiler.stats();
    match stats.samples_dropped() + stats.samples_thinned {
        0 => String::new(),
        lost => format!(" ({lost} of {} samples dropped or thinned)", stats.samples_taken),
    }
}
