//! Snapshots and dumps of a large live set: 100,000 samples over 10,000 stacks.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use heapdrift::{Alloc, Profiler};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

/// Allocates under a stack that the bits of `path` choose: one of 2¹⁴.
fn allocate(path: u32, depth: u32) -> Box<[u8; 48]> {
    #[inline(never)]
    fn left(path: u32, depth: u32) -> Box<[u8; 48]> {
        // Different code, or the linker makes one function of the two.
        black_box("left");
        black_box(allocate(path, depth))
    }
    #[inline(never)]
    fn right(path: u32, depth: u32) -> Box<[u8; 48]> {
        black_box("right");
        black_box(allocate(path, depth))
    }
    match (depth, path & 1) {
        (0, _) => Box::new([0; 48]),
        (_, 0) => left(path >> 1, depth - 1),
        _ => right(path >> 1, depth - 1),
    }
}

fn dump(criterion: &mut Criterion) {
    let profiler = Profiler::builder().sample_interval_bytes(1).start().expect("a session");
    let live: Vec<_> = (0..100_000).map(|i| allocate(i % 10_000, 14)).collect();
    let path = std::env::temp_dir().join(format!("dump-bench-{}.heap.json.gz", std::process::id()));
    let mut group = criterion.benchmark_group("100,000 samples, 10,000 stacks");
    group.sample_size(10);
    group.bench_function("snapshot", |bencher| bencher.iter(|| profiler.snapshot()));
    group.bench_function("dump", |bencher| {
        bencher.iter(|| profiler.dump(&path).expect("a writable folder"));
    });
    group.finish();
    let stats = profiler.stats();
    let size = std::fs::metadata(&path).map_or(0, |file| file.len());
    println!("{} samples over {} stacks: {size} bytes", stats.samples_live, stats.stacks);
    // What was measured is of no further use.
    let _ = std::fs::remove_file(&path);
    drop(live);
}

criterion_group!(benches, dump);
criterion_main!(benches);
