//! W3: two threads churn a table of 10,000 blocks each and swap their tables, like connections that
//! are handed from one worker to another (after Larson and Krishnan, 1998).

use std::mem;
use std::sync::{Barrier, Mutex};
use std::thread;

use crate::churn;
use crate::random::{Random, block};
use crate::stopwatch::Stopwatch;

const THREADS: usize = 2;
const SLOTS: usize = 10_000;
/// Replacements between two swaps.
const REPLACEMENTS: u64 = 50_000;

type Table = Vec<Vec<u8>>;

pub(crate) fn run(replacements: u64, stopwatch: &mut Stopwatch) {
    let swaps = replacements / (THREADS as u64 * REPLACEMENTS);
    let table = || Mutex::new((0..SLOTS).map(|i| block(16 + i % 512)).collect());
    let tables: [Mutex<Table>; THREADS] = [table(), table()];
    let barrier = Barrier::new(THREADS);
    stopwatch.time(|| {
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (tables, barrier) = (&tables, &barrier);
                scope.spawn(move || work(number, swaps.max(1), tables, barrier));
            }
        });
    });
}

#[inline(never)]
fn work(number: usize, swaps: u64, tables: &[Mutex<Table>; THREADS], barrier: &Barrier) {
    let mut random = Random::new(number as u64 + 1);
    for swap in 0..swaps as usize {
        let shared = &tables[(number + swap) % THREADS];
        let mut table = mem::take(&mut *shared.lock().expect("no thread panics"));
        churn::work(&mut table, &mut random, REPLACEMENTS);
        *shared.lock().expect("no thread panics") = table;
        barrier.wait();
    }
}
