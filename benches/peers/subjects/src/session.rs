//! Starts a session of heapdrift, in the same way over every allocator.

use std::hint::black_box;

use heapdrift::{Builder, Profiler};
use workloads::{Recording, Session};

/// About the number of stacks of the live samples of [`Recording::AmongLive`].
const PATHS: usize = 1 << 14;

pub(crate) fn start(recording: Recording) -> Session {
    let begin = |builder: Builder| builder.start().expect("the profiler starts");
    let session = Profiler::builder();
    match recording {
        Recording::Off => Session::none(),
        Recording::Interval { bytes } => {
            let profiler = begin(session.sample_interval_bytes(bytes));
            Session::holding(profiler, losses)
        }
        Recording::Ticking { bytes } => {
            let tick = std::time::Duration::from_secs(1);
            // Without a callback there is no reporting thread.
            let ticking = session.diff_every(tick).on_report(|_| {});
            let profiler = begin(ticking.sample_interval_bytes(bytes));
            Session::holding(profiler, losses)
        }
        Recording::AmongLive { bytes, samples } => {
            let profiler = begin(session.sample_interval_bytes(1));
            let live: Vec<_> = (0..samples).map(|i| allocate(i % PATHS, 14)).collect();
            profiler.set_sample_interval_bytes(bytes).expect("a valid interval");
            // Uses up the gap that this thread has drawn at interval 1.
            drop(black_box(vec![0_u8; 1 << 16]));
            let stats = profiler.stats();
            assert!(stats.samples_live >= samples as u64, "expected {samples} live: {stats:?}");
            Session::holding((profiler, live), |(profiler, _)| losses(profiler))
        }
        Recording::IdleThread => panic!("heapdrift does not support {recording:?}"),
    }
}

/// A remark about lost samples, if there are any.
fn losses(profiler: &Profiler) -> Option<String> {
    let stats = profiler.stats();
    let losses = [
        ("thinned", stats.samples_thinned),
        ("without a record", stats.dropped_records),
        ("without a slot", stats.dropped_slots),
        ("kept without their stacks, table full", stats.dropped_stacks),
        ("kept without their stacks, no unwinder", stats.dropped_unwinds),
    ];
    let remarks: Vec<String> = losses
        .iter()
        .filter(|(_, samples)| *samples > 0)
        .map(|(how, samples)| format!("{samples} {how}"))
        .collect();
    let is_lossy = !remarks.is_empty();
    is_lossy.then(|| format!("of {} samples {}", stats.samples_taken, remarks.join(", ")))
}

/// Allocates under a stack that the bits of `path` select.
fn allocate(path: usize, depth: u32) -> Box<[u8; 48]> {
    #[inline(never)]
    fn left(path: usize, depth: u32) -> Box<[u8; 48]> {
        // The code of the two functions must differ, or the linker merges them.
        black_box("left");
        black_box(allocate(path, depth))
    }
    #[inline(never)]
    fn right(path: usize, depth: u32) -> Box<[u8; 48]> {
        black_box("right");
        black_box(allocate(path, depth))
    }
    match (depth, path & 1) {
        (0, _) => Box::new([0; 48]),
        (_, 0) => left(path >> 1, depth - 1),
        _ => right(path >> 1, depth - 1),
    }
}
