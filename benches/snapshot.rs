//! A snapshot of 200,000 live samples over 20,000 stacks: its time, and the latency that it causes
//! in an allocating thread.

#[path = "common/clock.rs"]
mod clock;
#[path = "common/delays.rs"]
mod delays;
#[path = "common/stacks.rs"]
mod stacks;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use heapdrift::{Alloc, Profiler};

use delays::Delays;

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

const LIVE: u32 = 200_000;
const PATHS: u32 = 20_000;
const SNAPSHOTS: usize = 20;

fn snapshot(criterion: &mut Criterion) {
    let profiler =
        Profiler::builder().sample_interval_bytes(1).start().expect("the profiler starts");
    let live: Vec<_> = (0..LIVE).map(|i| stacks::allocate(i % PATHS, 20)).collect();
    let stats = profiler.stats();
    assert!(stats.samples_live >= u64::from(LIVE) && stats.samples_dropped() == 0, "{stats:?}");
    println!("{} samples over {} stacks", stats.samples_live, stats.stacks);

    let mut group = criterion.benchmark_group("200,000 samples, 20,000 stacks");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    group.bench_function("snapshot", |bencher| bencher.iter(|| profiler.snapshot()));
    group.finish();

    let mut times: Vec<u64> = (0..SNAPSHOTS)
        .map(|_| {
            let begin = clock::process_ns();
            drop(black_box(profiler.snapshot()));
            clock::process_ns() - begin
        })
        .collect();
    times.sort_unstable();
    let ms = |index: usize| times[index] as f64 / 1e6;
    println!(
        "processor time of a snapshot: {:.1} ms median, {:.1} ms at most, of {SNAPSHOTS}",
        ms(SNAPSHOTS / 2),
        ms(SNAPSHOTS - 1)
    );

    let period = Duration::from_nanos(times[SNAPSHOTS / 2]);
    Delays::while_computing(5 * SNAPSHOTS, period).print("while another thread computes");
    Delays::during(5 * SNAPSHOTS, || drop(profiler.snapshot()))
        .print("while another thread takes snapshots");
    drop(live);
}

criterion_group!(benches, snapshot);
criterion_main!(benches);
