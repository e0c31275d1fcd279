//! On the platforms that framehop supports it walks every stack that the thread owns, to the
//! thread's first function.
#![cfg(all(
    feature = "profiling",
    any(target_os = "linux", target_os = "freebsd", target_vendor = "apple"),
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::hint::black_box;
use std::thread;

use common::{exact, live_labelled, one_at_a_time};
use heapdrift::{Alloc, Profiler, with_labels};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

const DEPTH: usize = 40;

/// Allocates a block below `depth` nested calls of this function.
#[inline(never)]
fn nested(depth: usize) -> Vec<u8> {
    let block = if depth == 0 { Vec::with_capacity(3000) } else { nested(depth - 1) };
    black_box(block)
}

fn assert_full_stack(profiler: &Profiler, site: &str) {
    let block = with_labels(&[("site", site)], || nested(DEPTH));
    let snapshot = profiler.snapshot();
    let live = live_labelled(&snapshot, "site", site);
    let block_size = |sample: &heapdrift::snapshot::LiveSample| sample.size == 3000;
    let sample = live.into_iter().find(block_size).expect("an exact session has every block");
    let stack = &snapshot.stacks[sample.stack as usize];
    assert!(!stack.truncated, "{site}: {stack:?}");
    assert!(stack.frames.len() > DEPTH, "{site}: {stack:?}");
    drop(block);
}

#[test]
fn framehop_walks_every_stack_to_the_first_function_of_its_thread() {
    let _one = one_at_a_time();
    let profiler = exact().start().unwrap();
    assert_full_stack(&profiler, "this thread");
    thread::scope(|scope| {
        scope.spawn(|| assert_full_stack(&profiler, "another thread"));
    });
    let stats = profiler.stats();
    assert!(stats.unwound_framehop > 0, "{stats:?}");
    assert_eq!(stats.unwound_backtrace, 0, "{stats:?}");
    assert_eq!(stats.truncated_stacks, 0, "{stats:?}");
    assert_eq!(profiler.snapshot().unwinder, "framehop");
}
