//! Several threads that allocate and free blocks, their own or each other's, at 512 KiB and at 64
//! KiB.
//!
//! Contention on glibc's locks makes its ratios vary, so small differences show over mimalloc only.
//! The ratios are of the processor time of all threads, because there are more threads than
//! processors.

#[path = "common/clock.rs"]
mod clock;
#[path = "common/entry_points.rs"]
mod entry_points;
#[path = "common/ratio.rs"]
mod ratio;

use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use heapdrift::{Alloc, Profiler};

use entry_points::{
    BareMimalloc, BareSystem, Block, EntryPoints, OverMimalloc, OverSystem, Random, churn, table,
};
use ratio::Comparison;

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

const SLOTS: usize = 10_000;
/// Blocks of one thread in one round.
const BLOCKS: usize = 200_000;
const BATCH: usize = 200;
const ROUNDS: usize = 30;

/// Each thread churns a table of its own.
fn own<A: EntryPoints>(threads: usize) {
    thread::scope(|scope| {
        for number in 0..threads {
            scope.spawn(move || {
                let mut blocks = table::<A>(SLOTS);
                churn(&mut blocks, &mut Random(number + 1), BLOCKS);
            });
        }
    });
}

/// The threads form a ring: each frees what the one before it allocates, or its own if it is alone.
fn foreign<A: EntryPoints>(threads: usize) {
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for _ in 0..threads {
        let (sender, receiver) = sync_channel::<Vec<Block<A>>>(4);
        senders.push(sender);
        receivers.push(receiver);
    }
    senders.rotate_left(1);
    thread::scope(|scope| {
        for (number, (sender, receiver)) in senders.into_iter().zip(receivers).enumerate() {
            scope.spawn(move || {
                let mut random = Random(number + 1);
                for _ in 0..BLOCKS / BATCH {
                    let batch = (0..BATCH).map(|_| Block::new(16 + (random.next() & 511)));
                    sender.send(batch.collect()).expect("the neighbour is running");
                    drop(receiver.recv().expect("the neighbour is running"));
                }
            });
        }
    });
}

fn compare(
    criterion: &mut Criterion,
    name: &str,
    interval: &str,
    bare: fn(usize),
    hooked: fn(usize),
) {
    let mut group = criterion.benchmark_group(format!("{name}, {interval}"));
    group.sample_size(10).warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_millis(500));
    for threads in [1, 2, 4, 8] {
        group.bench_function(BenchmarkId::from_parameter(threads), |bencher| {
            bencher.iter_custom(|times| {
                let begin = Instant::now();
                (0..times).for_each(|_| hooked(threads));
                begin.elapsed()
            });
        });
        Comparison::new()
            .with("bare", || bare(threads))
            .with("once more", || bare(threads))
            .with(interval, || hooked(threads))
            .run(&format!("{name}, {threads} threads"), ROUNDS, threads * BLOCKS);
    }
    group.finish();
}

fn threads(criterion: &mut Criterion) {
    let profiler = Profiler::builder().start().expect("the profiler starts");
    for (interval, bytes) in [("512 KiB", 512 << 10), ("64 KiB", 64 << 10)] {
        profiler.set_sample_interval_bytes(bytes).expect("a valid interval");
        let mut compare = |name, bare, hooked| compare(criterion, name, interval, bare, hooked);
        compare("own frees over mimalloc", own::<BareMimalloc>, own::<OverMimalloc>);
        compare("foreign frees over mimalloc", foreign::<BareMimalloc>, foreign::<OverMimalloc>);
        compare("own frees over System", own::<BareSystem>, own::<OverSystem>);
        compare("foreign frees over System", foreign::<BareSystem>, foreign::<OverSystem>);
    }
    let stats = profiler.stats();
    println!("{} samples taken, {} dropped", stats.samples_taken, stats.samples_dropped());
}

criterion_group!(benches, threads);
criterion_main!(benches);
