//! Allocations and frees that are not sampled: bare, stopped, sampling, and sampling with 200,000
//! live samples, over the system allocator and mimalloc. (jemalloc is measured in `benches/peers`,
//! because building it takes make.)
//!
//! *pair* allocates and frees one block of 16 to 143 bytes; *churn* replaces a random one of
//! 262,144 blocks. Criterion prints absolute times. Compare the lines that begin with `ratios`
//! instead: in them, *once more* is the bare allocator again, which shows the noise, and *idle* is
//! the bare allocator with as many instructions as the hook has, which do nothing.

#[path = "common/clock.rs"]
mod clock;
#[macro_use]
#[path = "common/entry_points.rs"]
mod entry_points;
#[path = "peers/subjects/src/idle.rs"]
mod idle;
#[path = "common/pin.rs"]
mod pin;
#[path = "common/ratio.rs"]
mod ratio;
#[path = "common/stacks.rs"]
mod stacks;

use std::alloc::System;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use heapdrift::{Alloc, Profiler};

use entry_points::{
    BareMimalloc, BareSystem, Block, EntryPoints, OverMimalloc, OverSystem, Random, churn, table,
};
use idle::Idle;
use mimalloc::MiMalloc;
use ratio::Comparison;

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

entry_points!(IdleSystem, Idle<System>, Idle(System));
entry_points!(IdleMimalloc, Idle<MiMalloc>, Idle(MiMalloc));

const SLOTS: usize = 1 << 18;
const LIVE: u32 = 200_000;
const PATHS: u32 = 20_000;

const PAIRS: usize = 100_000;
const REPLACEMENTS: usize = 10_000;
const ROUNDS: usize = 300;

/// Allocates and frees `count` blocks of 16 to 143 bytes, one at a time.
#[inline(never)]
fn pairs<A: EntryPoints>(count: usize) {
    for number in 0..count {
        // An odd multiplier visits all sizes.
        drop(Block::<A>::new(16 + (number * 37) % 128));
    }
}

fn compare<Bare: EntryPoints, Idle: EntryPoints, Hooked: EntryPoints>(
    criterion: &mut Criterion,
    inner: &str,
    state: &str,
) {
    let mut group = criterion.benchmark_group(format!("over {inner}, {state}"));
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    // Blocks of each size stay live, because mimalloc frees a page with its last block.
    let kept = (table::<Bare>(2000), table::<Hooked>(2000));
    group.bench_function("pair", |bencher| bencher.iter(|| pairs::<Hooked>(1)));
    let (mut bare, mut hooked) = (table::<Bare>(SLOTS), table::<Hooked>(SLOTS));
    let mut randoms = [Random(2), Random(2), Random(3)];
    group.bench_function("churn", |bencher| {
        bencher.iter(|| churn(&mut hooked, &mut randoms[2], 1));
    });
    group.finish();

    Comparison::new()
        .with("bare", || pairs::<Bare>(PAIRS))
        .with("once more", || pairs::<Bare>(PAIRS))
        .with("idle", || pairs::<Idle>(PAIRS))
        .with(state, || pairs::<Hooked>(PAIRS))
        .run(&format!("pair over {inner}"), ROUNDS, PAIRS);
    let [first, second, _] = &mut randoms;
    // Both replace the same slots with the same sizes. There is no *once more*, because the caches
    // would hold the table already.
    Comparison::new()
        .with("bare", || churn(&mut bare, first, REPLACEMENTS))
        .with(state, || churn(&mut hooked, second, REPLACEMENTS))
        .run(&format!("churn over {inner}"), ROUNDS, REPLACEMENTS);
    drop(kept);
}

fn compare_all(criterion: &mut Criterion, state: &str) {
    compare::<BareSystem, IdleSystem, OverSystem>(criterion, "System", state);
    compare::<BareMimalloc, IdleMimalloc, OverMimalloc>(criterion, "mimalloc", state);
}

fn hook(criterion: &mut Criterion) {
    pin::pin_to_last();
    compare_all(criterion, "stopped");
    let profiler =
        Profiler::builder().sample_interval_bytes(512 << 10).start().expect("the profiler starts");
    compare_all(criterion, "512 KiB");
    profiler.set_sample_interval_bytes(1).expect("a valid interval");
    // Uses up the gap that was drawn at 512 KiB.
    drop(std::hint::black_box(vec![0_u8; 64 << 20]));
    let live: Vec<_> = (0..LIVE).map(|i| stacks::allocate(i % PATHS, 20)).collect();
    profiler.set_sample_interval_bytes(512 << 10).expect("a valid interval");
    compare_all(criterion, "512 KiB, 200,000 live samples");
    let stats = profiler.stats();
    println!("{} samples live, {} dropped", stats.samples_live, stats.samples_dropped());
    assert!(stats.samples_live >= u64::from(LIVE), "{stats:?}");
    drop(live);
}

criterion_group!(benches, hook);
criterion_main!(benches);
