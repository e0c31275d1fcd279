//! A tick of the leak detector over 200,000 live samples on 20,000 stacks: its time, its memory,
//! and the latency that it causes in an allocating thread.
//!
//! *churning*: at each tick every object is freed with the same probability. *leaking*: half of the
//! stacks, all below one function, keep what they allocate. *half leaking*: every stack keeps a
//! tenth of what it allocates.

#[path = "common/delays.rs"]
mod delays;
#[path = "common/stacks.rs"]
mod stacks;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use heapdrift::{Alloc, Profiler, Verdict};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use delays::Delays;
use stacks::{Object, allocate};

#[global_allocator]
static ALLOC: Alloc<Counting> = Alloc::new(Counting);

const SAMPLES: usize = 200_000;
const STACKS: u32 = 20_000;

/// Ticks before criterion measures, after which the detector has reached its steady state.
const TICKS: usize = 40;

/// Counts the bytes of the inner allocator. At an interval of 1 all small blocks of the program
/// come from the profiler's slots, so what remains is the memory of the tick, and a few tables made
/// here.
struct Counting;

static HELD: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

impl Counting {
    fn add(bytes: i64) {
        let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
        PEAK.fetch_max(held, Ordering::Relaxed);
    }
}

// SAFETY: every call is forwarded as it is.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size() as i64);
        // SAFETY: the caller upholds the contract of this method, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        Self::add(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        Self::add(new_size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, new_size) }
    }
}

/// The function below which everything leaks.
#[inline(never)]
fn remembered(path: u32) -> Object {
    black_box("remembered");
    black_box(allocate(path, 15))
}

#[derive(Clone, Copy, PartialEq)]
enum Service {
    Churning,
    Leaking,
    HalfLeaking,
}

/// The objects of a service, on a thread of their own, so that their stacks do not depend on who
/// takes a tick.
struct Heap {
    begin: mpsc::SyncSender<()>,
    done: mpsc::Receiver<()>,
}

impl Heap {
    fn new(service: Service) -> Self {
        let (begin, ticks) = mpsc::sync_channel(0);
        let (finish, done) = mpsc::sync_channel(0);
        thread::spawn(move || {
            let mut objects = Objects::new(service);
            while ticks.recv().is_ok() {
                objects.run();
                finish.send(()).expect("the heap is waiting");
            }
        });
        Self { begin, done }
    }

    fn run(&self) {
        self.begin.send(()).expect("the service thread is running");
        self.done.recv().expect("the service thread is running");
    }
}

/// The live objects.
struct Objects {
    service: Service,
    rng: StdRng,
    kept: Vec<Object>,
    passing: Vec<Object>,
}

impl Objects {
    fn new(service: Service) -> Self {
        let rng = StdRng::seed_from_u64(1);
        let vec = || Vec::with_capacity(2 * SAMPLES);
        Self { service, rng, kept: vec(), passing: vec() }
    }

    #[inline(never)]
    fn allocate(&mut self, stacks: Range<u32>, remember: bool) -> Object {
        let path = self.rng.random_range(stacks);
        if remember { remembered(path) } else { allocate(path, 15) }
    }

    /// Runs the service for one tick. After [`TICKS`] of them, [`SAMPLES`] samples are live.
    fn run(&mut self) {
        let (keep, keepers) = match self.service {
            Service::Churning => (0, 0..STACKS),
            Service::Leaking => (SAMPLES / 2 / TICKS, 0..STACKS / 2),
            Service::HalfLeaking => (SAMPLES / 2 / TICKS, 0..STACKS),
        };
        // At each tick a quarter of the passing objects is freed, and as many are allocated.
        let wanted = if keep == 0 { SAMPLES } else { SAMPLES / 2 };
        let passing = if self.service == Service::Leaking { STACKS / 2..STACKS } else { 0..STACKS };
        for number in 0..keep + wanted / 4 {
            // Opaque, or the compiler makes two call sites, and there are twice as many stacks.
            let is_kept = black_box(number < keep);
            let stacks = if is_kept { keepers.clone() } else { passing.clone() };
            let block = self.allocate(stacks, is_kept && self.service == Service::Leaking);
            if black_box(number) < keep {
                self.kept.push(block);
            } else if self.passing.len() < wanted {
                self.passing.push(block);
            } else {
                let at = self.rng.random_range(0..wanted);
                self.passing[at] = block;
            }
        }
    }
}

/// The costs of ticks.
#[derive(Default)]
struct Costs {
    /// Processor times.
    times_ns: Vec<u64>,
    /// Processor time of the tick with the first candidate, which reads names from the executable.
    first_named_ns: Option<u64>,
    /// The most bytes that a tick held beyond those held before it.
    peak: i64,
    /// The bytes held after the last tick beyond those held before the first.
    state: i64,
}

impl Costs {
    /// Takes a tick, and returns its wall-clock time.
    fn tick(&mut self, profiler: &Profiler) -> Duration {
        let (before, cpu) = (HELD.load(Ordering::Relaxed), cpu_ns());
        PEAK.store(before, Ordering::Relaxed);
        let begin = Instant::now();
        let has_candidates = !black_box(profiler.diff_now()).candidates.is_empty();
        let elapsed = begin.elapsed();
        self.peak = self.peak.max(PEAK.load(Ordering::Relaxed) - before);
        self.state += HELD.load(Ordering::Relaxed) - before;
        let cpu = cpu_ns() - cpu;
        match self.first_named_ns {
            None if has_candidates => self.first_named_ns = Some(cpu),
            _ => self.times_ns.push(cpu),
        }
        elapsed
    }

    fn median_and_longest(&mut self) -> (Duration, Duration) {
        self.times_ns.sort_unstable();
        let at = |index: usize| Duration::from_nanos(self.times_ns[index]);
        (at(self.times_ns.len() / 2), at(self.times_ns.len() - 1))
    }
}

/// The processor time of this thread, to within a few milliseconds.
fn cpu_ns() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

const MIB: f64 = (1 << 20) as f64;

fn tick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tick over 200,000 samples, 20,000 stacks");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(1));
    for (name, service) in [
        ("churning", Service::Churning),
        ("leaking", Service::Leaking),
        ("half leaking", Service::HalfLeaking),
    ] {
        let profiler =
            Profiler::builder().sample_interval_bytes(1).start().expect("the profiler starts");
        let heap = Heap::new(service);
        // The first tick has nothing to compare with.
        heap.run();
        drop(profiler.diff_now());
        let mut costs = Costs::default();
        for _ in 1..TICKS {
            heap.run();
            costs.tick(&profiler);
        }
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|ticks| {
                let tick = |_| {
                    heap.run();
                    costs.tick(&profiler)
                };
                (0..ticks).map(tick).sum()
            });
        });
        let report = profiler.diff_now();
        let stats = profiler.stats();
        let (median, longest) = costs.median_and_longest();
        println!(
            "{name}: {} samples over {} stacks; processor time of a tick: {median:.1?} median, \
             {longest:.1?} longest, {:.1} ms with the first candidate; \
             memory: {:.1} MiB at most in a tick, {:.1} MiB more kept since tick 1; \
             at tick {}: {} confirmed, {} suspect",
            stats.samples_live,
            stats.stacks,
            costs.first_named_ns.unwrap_or(0) as f64 / 1e6,
            costs.peak as f64 / MIB,
            costs.state as f64 / MIB,
            report.tick,
            report.with_verdict(Verdict::Confirmed).count(),
            report.with_verdict(Verdict::Suspect).count(),
        );
        assert_eq!((stats.samples_thinned, stats.samples_dropped()), (0, 0), "no sample is lost");
    }
    group.finish();
}

/// The latency of allocations in one thread while another takes ticks. To compare with, the same
/// while the other thread only computes, which shows the share of the scheduler.
fn wait(_: &mut Criterion) {
    let profiler =
        Profiler::builder().sample_interval_bytes(1).start().expect("the profiler starts");
    let heap = Heap::new(Service::Leaking);
    for _ in 0..TICKS {
        heap.run();
        drop(profiler.diff_now());
    }
    Delays::while_computing(20, Duration::from_millis(40)).print("while another thread computes");
    Delays::during(20, || drop(profiler.diff_now())).print("while another thread ticks");
}

criterion_group!(benches, tick, wait);
criterion_main!(benches);
