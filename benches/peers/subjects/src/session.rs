//! heapdrift's sessions: the same over every allocator.

use std::hint::black_box;

use heapdrift::{Builder, Profiler};
use workloads::{Recording, Session};

/// Stacks under which the live samples of [`Recording::AmongLive`] are allocated: about as many.
const PATHS: usize = 1 << 14;

pub(crate) fn start(recording: Recording) -> Session {
    let begin = |builder: Builder| builder.start().expect("a session");
    let session = Profiler::builder();
    match recording {
        Recording::Off => Session::none(),
        Recording::Interval { bytes } => {
            let profiler = begin(session.sample_interval_bytes(bytes));
            Session::holding(profiler, losses)
        }
        Recording::Ticking { bytes } => {
            let tick = std::time::Duration::from_secs(1);
            // Without anybody to report to there is no thread.
            let ticking = session.diff_every(tick).on_report(|_| {});
            let profiler = begin(ticking.sample_interval_bytes(bytes));
            Session::holding(profiler, losses)
        }
        Recording::AmongLive { bytes, samples } => {
            let profiler = begin(session.sample_interval_bytes(1));
            let live: Vec<_> = (0..samples).map(|i| allocate(i % PATHS, 14)).collect();
            profiler.set_sample_interval_bytes(bytes).expect("an interval");
            // A thread goes on at the interval at which its gap was drawn: its last exact one.
            drop(black_box(vec![0_u8; 1 << 16]));
            let stats = profiler.stats();
            assert!(stats.samples_live >= samples as u64, "expected {samples} live: {stats:?}");
            Session::holding((profiler, live), |(profiler, _)| losses(profiler))
        }
        Recording::IdleThread => panic!("heapdrift knows no {recording:?}"),
    }
}

/// What was recorded, and what was lost.
fn losses(profiler: &Profiler) -> Option<String> {
    let stats = profiler.stats();
    let losses = [
        ("thinned", stats.samples_thinned),
        ("without a record", stats.dropped_records),
        ("without a slot", stats.dropped_slots),
        ("kept without their stacks, table full", stats.dropped_stacks),
        ("kept without their stacks, no unwinder", stats.dropped_unwinds),
    ];
    let told: Vec<String> = losses
        .iter()
        .filter(|(_, samples)| *samples > 0)
        .map(|(how, samples)| format!("{samples} {how}"))
        .collect();
    (!told.is_empty()).then(|| format!("of {} samples {}", stats.samples_taken, told.join(", ")))
}

/// Allocates under a stack that the bits of `path` choose.
fn allocate(path: usize, depth: u32) -> Box<[u8; 48]> {
    #[inline(never)]
    fn left(path: usize, depth: u32) -> Box<[u8; 48]> {
        // Different code, or the linker makes one function of the two.
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
