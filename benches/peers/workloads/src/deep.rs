//! W7: allocate 64 to 1087 bytes under 60 frames of recursion; the last 4096 blocks live.

use std::hint::black_box;

use crate::random::{Random, block};
use crate::stopwatch::Stopwatch;

const DEPTH: usize = 60;
const RING: usize = 4096;

pub(crate) fn run(allocations: u64, stopwatch: &mut Stopwatch) {
    let mut ring: Vec<_> = (0..RING).map(|_| Vec::new()).collect();
    stopwatch.time(|| work(&mut ring, allocations));
}

#[inline(never)]
fn work(ring: &mut [Vec<u8>], allocations: u64) {
    let mut random = Random::new(1);
    for number in 0..allocations as usize {
        ring[number % RING] = under(DEPTH, 64 + (random.next() & 1023));
    }
}

#[inline(never)]
fn under(depth: usize, size: usize) -> Vec<u8> {
    if depth == 0 {
        return block(size);
    }
    let block = under(depth - 1, size);
    // Prevents a tail call, which would leave no frame.
    black_box(depth);
    block
}
