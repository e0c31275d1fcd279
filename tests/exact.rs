//! Interval 1 records every allocation: live bytes and counts per site equal the truth.
#![cfg(all(feature = "profiling", unix))]

use std::sync::mpsc;
use std::thread;

use heapdrift::{Alloc, Estimate, Profiler, Snapshot, with_labels};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

const SIZES: [usize; 6] = [1, 24, 100, 4096, 32 << 10, 300_000];
const ROUNDS: usize = 200;

/// Live bytes and count of all stacks that carry the label `size`.
fn live(snapshot: &Snapshot, size: usize) -> (Estimate, Estimate) {
    let size = size.to_string();
    let of_site = || {
        snapshot.stacks.iter().filter(|stack| {
            snapshot.label_sets[stack.labels as usize].get("size").is_some_and(|s| *s == size)
        })
    };
    (
        of_site().map(|stack| stack.metrics.live_bytes).sum(),
        of_site().map(|stack| stack.metrics.live_count).sum(),
    )
}

/// A block of exactly `size` bytes, with a pattern that shows stray writes.
fn block(size: usize) -> Vec<u8> {
    vec![0xAB; size]
}

fn check_and_free(block: Vec<u8>) {
    assert!(block.iter().all(|byte| *byte == 0xAB), "something else wrote to this block");
}

/// In each round, keeps one block of each size and passes another to the next thread, which frees
/// it.
fn work(next: &mpsc::SyncSender<Vec<u8>>, from: &mpsc::Receiver<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut kept = Vec::with_capacity(ROUNDS * SIZES.len());
    for _ in 0..ROUNDS {
        for size in SIZES {
            let label = size.to_string();
            let pair = with_labels(&[("size", &label)], || (block(size), block(size)));
            kept.push(pair.0);
            let mut passed = Some(pair.1);
            while let Some(block) = passed.take() {
                if let Err(mpsc::TrySendError::Full(block)) = next.try_send(block) {
                    from.try_iter().for_each(check_and_free);
                    thread::yield_now();
                    passed = Some(block);
                }
            }
        }
    }
    kept
}

#[test]
fn eight_threads_freeing_each_others_blocks_leave_exactly_what_is_kept() {
    let profiler = Profiler::builder().sample_interval_bytes(1).start().unwrap();
    let (mut senders, receivers): (Vec<_>, Vec<_>) =
        (0..8).map(|_| mpsc::sync_channel::<Vec<u8>>(64)).unzip();
    senders.rotate_left(1);
    let kept: Vec<Vec<Vec<u8>>> = thread::scope(|scope| {
        let workers: Vec<_> = senders
            .into_iter()
            .zip(receivers)
            .map(|(next, from)| {
                scope.spawn(move || {
                    let kept = work(&next, &from);
                    drop(next);
                    from.into_iter().for_each(check_and_free);
                    kept
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let snapshot = profiler.snapshot();
    snapshot.validate().unwrap();
    assert_eq!(snapshot.stats.samples_dropped(), 0, "{:?}", snapshot.stats);
    assert_eq!(snapshot.sampling.interval_bytes, 1.0);
    for size in SIZES {
        let count = (8 * ROUNDS) as f64;
        let expected = (Estimate::new(count * size as f64, 0.0), Estimate::new(count, 0.0));
        assert_eq!(live(&snapshot, size), expected, "blocks of {size} bytes");
    }
    kept.into_iter().flatten().for_each(check_and_free);
    let snapshot = profiler.snapshot();
    for size in SIZES {
        assert_eq!(live(&snapshot, size), Default::default(), "blocks of {size} bytes");
    }
}
