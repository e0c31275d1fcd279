//! The hard cap on the profiler's memory: estimates stay unbiased under it.
#![cfg(all(feature = "profiling", unix))]

use heapdrift::{Alloc, Profiler};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

const CAP: u64 = 4 << 20;

#[test]
fn ten_million_kept_allocations_stay_under_the_cap_and_are_estimated_without_bias() {
    const COUNT: usize = 10_000_000;
    const SIZE: usize = 48;
    let mut kept: Vec<Box<[u8; SIZE]>> = Vec::with_capacity(COUNT);
    let profiler = Profiler::builder()
        .sample_interval_bytes(64)
        .seed(1)
        .max_profiler_bytes(CAP)
        .start()
        .unwrap();
    let mut largest = 0;
    for i in 0..COUNT {
        kept.push(Box::new([0; SIZE]));
        if i % 10_000 == 0 {
            largest = largest.max(profiler.stats().profiler_bytes);
        }
    }
    let snapshot = profiler.snapshot();
    let stats = snapshot.stats;
    println!(
        "largest {largest} of {CAP} bytes, interval now {}, {stats:?}",
        snapshot.sampling.interval_bytes
    );
    assert!(largest <= CAP, "{largest}");
    assert!(stats.thinnings > 0);
    assert_eq!(stats.dropped_records + stats.dropped_slots, 0, "{stats:?}");
    for (estimate, truth) in [
        (snapshot.totals.live_bytes, (COUNT * SIZE) as f64),
        (snapshot.totals.live_count, COUNT as f64),
        (snapshot.totals.alloc_bytes, (COUNT * SIZE) as f64),
    ] {
        let sigmas = (estimate.value - truth) / estimate.std_error;
        println!(
            "{} ± {} for {truth}: {sigmas:.2} standard errors",
            estimate.value, estimate.std_error
        );
        assert!(sigmas.abs() < 3.0);
    }
}
