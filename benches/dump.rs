//! Snapshots and dumps of a large live set: 100,000 samples over 10,000 stacks.

#[path = "common/stacks.rs"]
mod stacks;

use criterion::{Criterion, criterion_group, criterion_main};
use heapdrift::{Alloc, Profiler};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

fn dump(criterion: &mut Criterion) {
    let profiler =
        Profiler::builder().sample_interval_bytes(1).start().expect("the profiler starts");
    let live: Vec<_> = (0..100_000).map(|i| stacks::allocate(i % 10_000, 14)).collect();
    let path = std::env::temp_dir().join(format!("dump-bench-{}.heap.json.gz", std::process::id()));
    let mut group = criterion.benchmark_group("100,000 samples, 10,000 stacks");
    group.sample_size(10);
    group.bench_function("snapshot", |bencher| bencher.iter(|| profiler.snapshot()));
    group.bench_function("dump", |bencher| {
        bencher.iter(|| profiler.dump(&path).expect("the folder is writable"));
    });
    group.finish();
    let stats = profiler.stats();
    let size = std::fs::metadata(&path).map_or(0, |file| file.len());
    println!("{} samples over {} stacks: {size} bytes", stats.samples_live, stats.stacks);
    // The dump was written only to be measured.
    let _ = std::fs::remove_file(&path);
    drop(live);
}

criterion_group!(benches, dump);
criterion_main!(benches);
