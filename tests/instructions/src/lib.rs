//! The operations whose instructions are counted. They are the same machine code over every
//! allocator, because code is inlined across crates only where an attribute asks for it.

use std::hint::black_box;

use heapdrift::Profiler;

/// Live samples in the recording `512KiB+live`.
const LIVE: usize = 20_000;

/// The whole program, whose arguments are a recording, an operation and a count:
/// `bare|stopped|512KiB|512KiB+live pair|zeroed|grown COUNT`.
pub fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [recording, operation, count] = arguments.as_slice() else {
        panic!("expected a recording, an operation and a count, found {arguments:?}");
    };
    let count: usize = count.parse().expect("a count is a number");
    let profiler = match recording.as_str() {
        "bare" | "stopped" => None,
        "512KiB" => Some(start(512 << 10)),
        "512KiB+live" => Some(start(1)),
        other => panic!("expected a recording, found {other}"),
    };
    let live: Vec<_> = match &profiler {
        Some(profiler) if recording == "512KiB+live" => {
            let live = (0..LIVE).map(|_| Box::new([1_u8; 48])).collect();
            profiler.set_sample_interval_bytes(512 << 10).expect("a valid interval");
            live
        }
        _ => Vec::new(),
    };
    // One block of each size stays live, because mimalloc frees a page with its last block.
    let kept: Vec<_> = (0..SIZES).map(|number| block(size(number))).collect();
    match operation.as_str() {
        "pair" => pairs(count),
        "zeroed" => zeroed(count),
        "grown" => grown(count),
        other => panic!("expected an operation, found {other}"),
    }
    drop(black_box((kept, live)));
    if let Some(profiler) = profiler {
        let stats = profiler.stats();
        assert!(stats.samples_taken > 0 && stats.samples_dropped() == 0, "{stats:?}");
    }
}

fn start(interval_bytes: u64) -> Profiler {
    let session = Profiler::builder().sample_interval_bytes(interval_bytes).seed(7);
    session.start().expect("the profiler starts")
}

const SIZES: usize = 128;

/// A size from 16 to 143 bytes, 80 on average.
fn size(number: usize) -> usize {
    // An odd multiplier visits all sizes.
    16 + (number * 37) % SIZES
}

fn block(size: usize) -> Vec<u8> {
    Vec::with_capacity(size)
}

#[inline(never)]
fn pairs(count: usize) {
    for number in 0..count {
        drop(black_box(block(size(number))));
    }
}

#[inline(never)]
fn zeroed(count: usize) {
    for number in 0..count {
        drop(black_box(vec![0_u8; size(number)]));
    }
}

/// Allocate-free pairs with a `realloc` in between.
#[inline(never)]
fn grown(count: usize) {
    for number in 0..count {
        let mut block = black_box(block(size(number)));
        block.reserve_exact(black_box(256));
        drop(black_box(block));
    }
}
