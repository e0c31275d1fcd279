//! W2: replace a random one of 262,144 blocks with another of 16 to 527 bytes.

use crate::random::{Random, block};
use crate::stopwatch::Stopwatch;

const SLOTS: usize = 1 << 18;

pub(crate) fn run(replacements: u64, stopwatch: &mut Stopwatch) {
    let mut random = Random::new(1);
    let mut slots: Vec<_> = (0..SLOTS).map(|_| block(16 + (random.next() & 511))).collect();
    stopwatch.time(|| work(&mut slots, &mut random, replacements));
}

/// Also used for the tables of W3.
#[inline(never)]
pub(crate) fn work(slots: &mut [Vec<u8>], random: &mut Random, replacements: u64) {
    for _ in 0..replacements {
        let (slot, size) = random.slot_and_size(slots.len());
        slots[slot] = block(size);
    }
}
