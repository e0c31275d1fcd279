//! W4: one thread allocates blocks of 64 to 4096 bytes, another frees them.

use std::hint::black_box;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::random::{Random, block};
use crate::stopwatch::Stopwatch;

/// Blocks that are handed over together.
const BATCH: usize = 256;
/// Batches in circulation.
const BATCHES: usize = 16;

type Batch = Vec<Vec<u8>>;

pub(crate) fn run(blocks: u64, stopwatch: &mut Stopwatch) {
    let (full, arriving) = sync_channel::<Batch>(BATCHES);
    let (empty, returning) = sync_channel::<Batch>(BATCHES);
    for _ in 0..BATCHES {
        empty.send(Vec::with_capacity(BATCH)).expect("the channel has room for all batches");
    }
    stopwatch.time(|| {
        let other = thread::spawn(move || free(&arriving, &empty));
        allocate(blocks, &returning, full);
        other.join().expect("no thread panics");
    });
}

#[inline(never)]
fn allocate(blocks: u64, returning: &Receiver<Batch>, full: SyncSender<Batch>) {
    let mut random = Random::new(1);
    for _ in 0..blocks / BATCH as u64 {
        let mut batch = returning.recv().expect("the other thread waits");
        for _ in 0..BATCH {
            batch.push(block(64 + random.next() % 4033));
        }
        full.send(batch).expect("the other thread waits");
    }
}

#[inline(never)]
fn free(arriving: &Receiver<Batch>, empty: &SyncSender<Batch>) {
    while let Ok(mut batch) = arriving.recv() {
        black_box(&mut batch).clear();
        // The other thread ends before it gets the last batches back.
        let _ = empty.send(batch);
    }
}
