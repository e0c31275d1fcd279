//! W1: allocate 16 to 143 bytes and free them at once.

use std::hint::black_box;

use crate::random::block;
use crate::stopwatch::Stopwatch;

const SMALLEST: usize = 16;
const SIZES: usize = 128;

pub(crate) fn run(pairs: u64, stopwatch: &mut Stopwatch) {
    // One block of each size stays live. Otherwise an allocator that frees a page with its last
    // block would spend most of its time on that.
    let kept: Vec<_> = (SMALLEST..SMALLEST + SIZES).map(block).collect();
    stopwatch.time(|| work(pairs));
    drop(black_box(kept));
}

#[inline(never)]
fn work(pairs: u64) {
    for number in 0..pairs as usize {
        // An odd multiplier visits all sizes.
        drop(black_box(block(SMALLEST + (number * 37) % SIZES)));
    }
}
