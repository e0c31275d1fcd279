//! Recording can be paused, reconfigured, ended and restarted while threads allocate, without bias.
#![cfg(all(feature = "profiling", unix))]

mod common;

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{RwLock, mpsc};
use std::thread;
use std::time::Duration;

use common::{assert_within, labelled, live_labelled, one_at_a_time};
use heapdrift::{Alloc, Profiler, StartError, with_labels};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

/// Timing decides which thread sees which interval, so no two runs are the same. A limit of 3
/// standard errors would be exceeded once in 400 runs, one of 4.5 once in 150,000. The tests stay
/// sensitive because there are many samples: standard errors are below 1%.
const SIGMAS: f64 = 4.5;

/// What one thread allocated in a state, and what it kept.
#[derive(Clone, Copy, Debug, Default)]
struct Truth {
    allocated_bytes: usize,
    allocated_count: usize,
    live_bytes: usize,
    live_count: usize,
}

/// Allocates a hundred blocks under a label and keeps every third.
fn batch(label: &str, round: usize, kept: &mut Vec<Vec<u8>>, truth: &mut Truth) {
    for i in 0..100 {
        let size = [24, 100, 3000, 40_000, 7][(i + round) % 5];
        let block = with_labels(&[("state", label)], || Vec::<u8>::with_capacity(size));
        truth.allocated_bytes += size;
        truth.allocated_count += 1;
        if i % 3 == 0 {
            truth.live_bytes += size;
            truth.live_count += 1;
            kept.push(block);
        }
    }
}

/// Runs three threads that each call `work` for `batches` batches, while another thread calls
/// `controller` again and again. Returns the truths for both states and the blocks that were kept.
fn three_threads(
    batches: usize,
    work: impl Fn(usize, &mut Vec<Vec<u8>>, &mut [Truth; 2]) + Sync,
    mut controller: impl FnMut(usize) + Send,
) -> ([Truth; 2], Vec<Vec<u8>>) {
    let working = AtomicBool::new(true);
    let mut sums = [Truth::default(); 2];
    let mut all = Vec::new();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut kept = Vec::with_capacity(batches * 34);
                    let mut truths = [Truth::default(); 2];
                    (0..batches).for_each(|round| work(round, &mut kept, &mut truths));
                    (truths, kept)
                })
            })
            .collect();
        let working = &working;
        let control = scope.spawn(move || {
            let mut turn = 0;
            while working.load(Ordering::Relaxed) {
                controller(turn);
                turn += 1;
                thread::sleep(Duration::from_micros(300));
            }
            turn
        });
        for worker in workers {
            let (truths, kept) = worker.join().unwrap();
            for (sum, truth) in sums.iter_mut().zip(truths) {
                sum.allocated_bytes += truth.allocated_bytes;
                sum.allocated_count += truth.allocated_count;
                sum.live_bytes += truth.live_bytes;
                sum.live_count += truth.live_count;
            }
            all.extend(kept);
        }
        working.store(false, Ordering::Relaxed);
        let turns = control.join().unwrap();
        assert!(turns > 10, "only {turns} changes while the threads worked");
    });
    (sums, all)
}

fn assert_estimates(profiler: &Profiler, state: &str, truth: &Truth) {
    let found = labelled(&profiler.snapshot(), "state", state);
    for (what, estimate, truth) in [
        ("allocated bytes", found.alloc_bytes, truth.allocated_bytes),
        ("allocated objects", found.alloc_count, truth.allocated_count),
        ("live bytes", found.live_bytes, truth.live_bytes),
        ("live objects", found.live_count, truth.live_count),
    ] {
        println!("{what}, {state}: {} ± {} for {truth}", estimate.value, estimate.std_error);
        assert_within(what, estimate, truth as f64, SIGMAS);
    }
}

#[test]
fn allocations_while_active_are_estimated_and_those_while_paused_are_not_recorded() {
    let _one = one_at_a_time();
    let profiler = Profiler::builder().sample_interval_bytes(2048).start().unwrap();
    // The lock keeps a batch from beginning in one state and ending in the other.
    let active = RwLock::new(true);
    let (truths, kept) = three_threads(
        600,
        |round, kept, truths| {
            let active = active.read().unwrap();
            let state = usize::from(!*active);
            batch(["active", "paused"][state], round, kept, &mut truths[state]);
        },
        |turn| {
            let mut active = active.write().unwrap();
            *active = turn % 2 == 1;
            if *active {
                profiler.resume()
            } else {
                profiler.pause()
            }
            assert_eq!(profiler.is_active(), *active);
        },
    );
    let [while_active, while_paused] = &truths;
    assert!(while_active.allocated_count > 5000 && while_paused.allocated_count > 5000);
    assert_estimates(&profiler, "active", while_active);
    let paused = labelled(&profiler.snapshot(), "state", "paused");
    assert_eq!(paused.alloc_count.value, 0.0);
    // Frees are recorded while paused.
    profiler.pause();
    drop(kept);
    assert_eq!(labelled(&profiler.snapshot(), "state", "active").live_count.value, 0.0);
}

#[test]
fn a_changing_interval_leaves_estimates_unbiased() {
    let _one = one_at_a_time();
    let profiler = Profiler::builder().sample_interval_bytes(512).start().unwrap();
    let (truths, kept) = three_threads(
        600,
        |round, kept, truths| batch("all", round, kept, &mut truths[0]),
        |turn| {
            // No interval is above 8,000. At 300,000 a sampled block of 7 bytes stands for 43,000,
            // and a run that samples few of them estimates too little with too small an error: 3 of
            // 40 runs failed, although the mean of 80 runs was 1.02 ± 0.02 of the truth.
            let interval = [64, 4000, 1, 500, 8000, 1000][turn % 6];
            profiler.set_sample_interval_bytes(interval).unwrap();
        },
    );
    assert_estimates(&profiler, "all", &truths[0]);
    drop(kept);
    assert_eq!(labelled(&profiler.snapshot(), "state", "all").live_count.value, 0.0);
}

#[test]
fn at_interval_one_the_calling_thread_is_exact_from_the_next_allocation_on() {
    let _one = one_at_a_time();
    let profiler = Profiler::builder().sample_interval_bytes(1 << 30).start().unwrap();
    profiler.set_sample_interval_bytes(1).unwrap();
    let kept: Vec<Vec<u8>> =
        with_labels(&[("site", "exact")], || (0..100).map(Vec::with_capacity).collect());
    let found = labelled(&profiler.snapshot(), "site", "exact");
    // The buffer of the vector, and 99 blocks: the first one is empty.
    assert_eq!((found.live_count.value, found.live_count.std_error), (100.0, 0.0));
    drop(kept);
}

#[test]
fn intervals_out_of_range_are_refused_and_change_nothing() {
    let _one = one_at_a_time();
    let profiler = Profiler::builder().sample_interval_bytes(777).start().unwrap();
    for bad in [0, (1 << 40) + 1, u64::MAX] {
        let error = profiler.set_sample_interval_bytes(bad).unwrap_err();
        assert_eq!((error.name(), error.found()), ("sample_interval_bytes", &*bad.to_string()));
    }
    assert_eq!(profiler.snapshot().sampling.interval_bytes, 777.0);
}

/// jemalloc 5.2.0 stopped sampling for good when it was switched off and on again.
#[test]
fn a_second_session_works_and_starts_from_zero() {
    let _one = one_at_a_time();
    // A thread that lives through all sessions.
    let (sender, orders) = mpsc::channel::<mpsc::Sender<Vec<Vec<u8>>>>();
    let worker = thread::spawn(move || {
        for done in orders {
            // A thread checks every 64 KiB of allocations whether a session is running.
            drop(black_box(Vec::<u8>::with_capacity(128 << 10)));
            drop(black_box(Vec::<u8>::with_capacity(1)));
            let blocks = with_labels(&[("site", "worker")], || {
                (0..100).map(|_| Vec::with_capacity(50)).collect()
            });
            done.send(blocks).unwrap();
        }
    });
    let mut kept = Vec::new();
    for session in 1..=3 {
        let profiler = Profiler::builder().sample_interval_bytes(1).start().unwrap();
        let first = profiler.snapshot();
        assert!(first.totals.alloc_count.value < 20.0, "session {session}");
        assert_eq!(labelled(&first, "site", "worker"), Default::default());
        let (done, blocks) = mpsc::channel();
        sender.send(done).unwrap();
        kept.push(blocks.recv().unwrap());
        let snapshot = profiler.snapshot();
        let found = labelled(&snapshot, "site", "worker");
        assert_eq!(found.live_count.value, 101.0, "session {session}");
        assert_eq!(found.alloc_count.value, 101.0, "session {session}");
        assert_ne!(snapshot.process.session, 0);
        drop(profiler);
        // Between sessions nothing is recorded.
        let (done, blocks) = mpsc::channel();
        sender.send(done).unwrap();
        kept.push(blocks.recv().unwrap());
    }
    drop(sender);
    worker.join().unwrap();
}

#[test]
fn a_second_start_while_running_is_refused() {
    let _one = one_at_a_time();
    let profiler = Profiler::builder().sample_interval_bytes(1).start().unwrap();
    let kept = with_labels(&[("site", "kept")], || Vec::<u8>::with_capacity(99));
    for _ in 0..3 {
        let error = Profiler::builder().sample_interval_bytes(512).start().unwrap_err();
        assert!(matches!(error, StartError::AlreadyRunning), "{error}");
    }
    // The first session is not affected.
    let snapshot = profiler.snapshot();
    assert_eq!(snapshot.sampling.interval_bytes, 1.0);
    assert_eq!(live_labelled(&snapshot, "site", "kept").len(), 1);
    drop(kept);
    drop(profiler);
    // A start that fails for another reason does not prevent a later one.
    assert!(Profiler::builder().sample_interval_bytes(0).start().is_err());
    assert!(Profiler::builder().start().is_ok());
}

/// The sizes that a new session samples of 3,000 blocks, each of a different size.
fn sampled(seed: Option<u64>) -> Vec<u64> {
    let builder = Profiler::builder().sample_interval_bytes(20_000);
    let profiler = seed.into_iter().fold(builder, |builder, seed| builder.seed(seed));
    let profiler = profiler.start().unwrap();
    let mut kept = Vec::with_capacity(3000);
    with_labels(&[("site", "seeds")], || kept.extend((1..=3000).map(Vec::<u8>::with_capacity)));
    let snapshot = profiler.snapshot();
    let mut sizes: Vec<u64> =
        live_labelled(&snapshot, "site", "seeds").iter().map(|sample| sample.size).collect();
    sizes.sort_unstable();
    assert!((150..300).contains(&sizes.len()), "{} samples, 225 are expected", sizes.len());
    assert_eq!(snapshot.sampling.seed, seed);
    sizes
}

/// heapscope has the same seed in every run, so that repeating a run does not average its error
/// out.
#[test]
fn runs_without_a_seed_differ() {
    let _one = one_at_a_time();
    let runs: HashSet<Vec<u64>> = (0..5).map(|_| sampled(None)).collect();
    assert_eq!(runs.len(), 5);
}

#[test]
fn runs_with_the_same_seed_take_the_same_samples() {
    let _one = one_at_a_time();
    assert_eq!(sampled(Some(3)), sampled(Some(3)));
    assert_ne!(sampled(Some(3)), sampled(Some(4)));
}

/// Blocks of 64 bytes, all of them sampled by a session with a large cap.
fn sampled_by_a_large_session() -> Vec<Option<Box<[u8; 64]>>> {
    let profiler = Profiler::builder().sample_interval_bytes(1).start().unwrap();
    let blocks = (0..40_000).map(|_| Some(Box::new([0; 64]))).collect();
    assert_eq!(profiler.stats().dropped_slots, 0);
    blocks
}

fn small_session() -> Result<Profiler, StartError> {
    Profiler::builder().sample_interval_bytes(64).seed(3).max_profiler_bytes(1 << 20).start()
}

#[test]
fn a_later_session_with_a_smaller_cap_has_all_of_it() {
    let _one = one_at_a_time();
    // The blocks are freed after their session, so their slots are empty when the next one begins.
    drop(sampled_by_a_large_session());
    let profiler = small_session().unwrap();
    let blocks: Vec<Box<[u8; 64]>> = (0..2_000).map(|_| Box::new([0; 64])).collect();
    let stats = profiler.stats();
    assert_eq!(stats.dropped_slots + stats.dropped_records, 0, "{stats:?}");
    assert!(stats.samples_live > 1_000, "{stats:?}");
    assert!(stats.profiler_bytes <= 1 << 20, "{stats:?}");
    drop(blocks);
}

#[test]
fn a_session_whose_memory_is_held_by_earlier_samples_does_not_start() {
    let _one = one_at_a_time();
    let mut blocks = sampled_by_a_large_session();
    // One block on each page stays.
    blocks.iter_mut().enumerate().filter(|(i, _)| i % 64 != 0).for_each(|(_, block)| *block = None);
    let error = small_session().unwrap_err().to_string();
    assert!(error.contains("max_profiler_bytes") && error.contains("1048576"), "{error}");
    assert!(error.contains("an earlier session sampled"), "{error}");
    drop(blocks);
    drop(small_session().unwrap());
}
