//! Many short-lived threads are sampled like one thread that allocates as much.
//!
//! jemalloc seeds the generator of each thread with an address that the next thread reuses, and
//! took 1 to 7 samples where 280 were expected. mimalloc-pprof draws uniform instead of exponential
//! gaps, and counts half.
#![cfg(all(feature = "profiling", unix))]

mod common;

use std::hint::black_box;
use std::thread;

use common::{labelled, one_at_a_time};
use heapdrift::{Alloc, Profiler, with_labels};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

const THREADS: usize = 6000;
const AT_ONCE: usize = 64;
const BLOCKS: usize = 23;
const SIZE: usize = 1024;
const INTERVAL: u64 = 512 << 10;

/// Allocates 23 KiB, far less than an interval.
fn short_life() {
    with_labels(&[("site", "short")], || {
        for _ in 0..BLOCKS {
            drop(black_box(Vec::<u8>::with_capacity(SIZE)));
        }
    });
}

fn crowd() {
    for _ in 0..THREADS / AT_ONCE {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| thread::spawn(short_life)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    let rest: Vec<_> = (0..THREADS % AT_ONCE).map(|_| thread::spawn(short_life)).collect();
    rest.into_iter().for_each(|thread| thread.join().unwrap());
}

/// The threads allocate 141 MB in 138,000 blocks: 269 samples are expected, with a standard
/// deviation of 16.4. Each of four seeds has to lie within 3 standard deviations, and their mean
/// within 3 standard errors of the mean.
#[test]
fn six_thousand_threads_give_the_expected_number_of_samples() {
    let _one = one_at_a_time();
    let blocks = (THREADS * BLOCKS) as f64;
    let p = -(-(SIZE as f64) / INTERVAL as f64).exp_m1();
    let (expected, deviation) = (blocks * p, (blocks * p * (1.0 - p)).sqrt());
    let seeds = [1, 2, 3, 4];
    let mut sum = 0.0;
    for seed in seeds {
        let profiler =
            Profiler::builder().sample_interval_bytes(INTERVAL).seed(seed).start().unwrap();
        crowd();
        let found = labelled(&profiler.snapshot(), "site", "short");
        // All blocks have one size, so every sample has the same weight.
        let samples = found.alloc_count.value * p;
        println!("seed {seed}: {samples:.0} samples, expected {expected:.0} ± {deviation:.1}");
        assert!((samples - expected).abs() < 3.0 * deviation, "{samples} of {expected}");
        sum += samples;
    }
    let mean = sum / seeds.len() as f64;
    let error = deviation / (seeds.len() as f64).sqrt();
    assert!((mean - expected).abs() < 3.0 * error, "{mean} of {expected} ± {error}");
}

#[test]
fn every_thread_draws_its_own_random_numbers() {
    let _one = one_at_a_time();
    // Each thread allocates nearly three intervals. Threads that draw the same numbers would all
    // take the same number of samples.
    let profiler = Profiler::builder().sample_interval_bytes(8192).seed(5).start().unwrap();
    let samples = || profiler.stats().samples_taken;
    let mut counts: Vec<u64> = (0..200)
        .map(|_| {
            let before = samples();
            // The threads run one after another, so that each gets the addresses of the last.
            thread::spawn(short_life).join().unwrap();
            samples() - before
        })
        .collect();
    counts.sort_unstable();
    counts.dedup();
    assert!(counts.len() >= 5, "200 threads gave only these numbers of samples: {counts:?}");
}
