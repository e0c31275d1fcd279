//! W1: allocate 16 to 143 bytes and free them at once.

use std::hint::black_box;

use crate::random::block;
use crate::stopwatch::Stopwatch;

const SMALLEST: usize = 16;
const SIZES: usize = 128;

pub(crate) fn run(pairs: u64, stopwatch: &mut Stopwatch) {
    // One of each size lives: an allocator that gives a page back with its last block would be measured at
    // that, and nothing else.
    let kept: Vec<_> = (SMALLEST..SMALLEST + SIZES).map(block).collect();
    stopwatch.time(|| work(pairs));
    drop(black_box(kept));
}

#[inline(never)]
fn work(pairs: u64) {
    for number in 0..pairs as usize {
        // A multiplier that is odd visits all sizes.
        drop(black_box(block(SMALLEST + (number * 37) % SIZES)));
    }
}
