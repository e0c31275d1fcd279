//! The latency of allocations in one thread while another thread is at work.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Latencies of allocate-free pairs in nanoseconds, sorted.
pub(crate) struct Delays(Vec<u32>);

impl Delays {
    /// Measures while another thread does `work`, `times` times.
    pub(crate) fn during(times: usize, work: impl Fn() + Sync) -> Self {
        let working = AtomicBool::new(true);
        let mut delays = Vec::with_capacity(20_000_000);
        thread::scope(|scope| {
            let (working, work) = (&working, &work);
            scope.spawn(move || {
                (0..times).for_each(|_| work());
                working.store(false, Ordering::Relaxed);
            });
            while working.load(Ordering::Relaxed) && delays.len() < delays.capacity() {
                let begin = Instant::now();
                black_box(Box::new(black_box([0_u8; 48])));
                delays.push(begin.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32);
            }
        });
        delays.sort_unstable();
        Self(delays)
    }

    /// Measures while another thread only computes, which shows the share of the scheduler.
    pub(crate) fn while_computing(times: usize, period: Duration) -> Self {
        Self::during(times, || {
            let begin = Instant::now();
            while begin.elapsed() < period {
                black_box((0..1000_u64).sum::<u64>());
            }
        })
    }

    pub(crate) fn print(&self, what: &str) {
        let Self(delays) = self;
        let us = |index: usize| f64::from(delays[index.min(delays.len() - 1)]) / 1e3;
        let at = |share: f64| us((delays.len() as f64 * share) as usize);
        println!(
            "allocation and free, both sampled, {what}: {:.2} µs median, {:.1} µs at 99.9%, {:.1} µs at 99.99%, \
             {:.1} µs at 99.999%, {:.1} µs at most, of {}",
            at(0.5),
            at(0.999),
            at(0.9999),
            at(0.99999),
            us(delays.len() - 1),
            delays.len()
        );
    }
}
