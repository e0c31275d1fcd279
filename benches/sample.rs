//! One sample, from allocation to free: capture, intern, insert, remove, by depth of the stack.
//!
//! Interval 1 makes every allocation a sample. `bare` is the same allocation without a session, to
//! be subtracted.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use heapdrift::{Alloc, Profiler};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

/// Calls `work` under `depth` more frames.
#[inline(never)]
fn under(depth: usize, work: &mut dyn FnMut()) {
    if depth == 0 {
        work();
    } else {
        under(depth - 1, work);
        // Not a tail call: the frame stays.
        black_box(depth);
    }
}

fn pairs(criterion: &mut Criterion, name: &str) {
    let mut group = criterion.benchmark_group(name);
    for depth in [10, 24, 40, 80] {
        group.bench_function(BenchmarkId::from_parameter(depth), |bencher| {
            // The frames of the harness come on top; the walk ends at the limit of `depth`.
            under(depth, &mut || bencher.iter(|| black_box(Box::new(black_box([0_u8; 64])))));
        });
    }
    group.finish();
}

fn bare(criterion: &mut Criterion) {
    pairs(criterion, "bare pair");
}

fn exact(criterion: &mut Criterion) {
    let profiler = Profiler::builder().sample_interval_bytes(1).start().expect("a session");
    pairs(criterion, "sampled pair");
    drop(profiler);
}

criterion_group!(benches, bare, exact);
criterion_main!(benches);
