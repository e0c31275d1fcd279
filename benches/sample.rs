//! The time of one sample: of its allocation (capture, intern, insert) and of its free, by the
//! depth of the stack and by how similar a stack is to the one before.
//!
//! An interval of 1 samples every allocation. Each is timed separately, because the 99th percentile
//! matters and criterion reports means only. All figures are differences to the same allocation
//! without a session, which removes the time of the clock and of the calls.

use std::hint::black_box;
use std::time::Instant;

use heapdrift::{Alloc, Profiler};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

type Block = Box<[u8; 64]>;

const ROUNDS: usize = 400;
const BATCH: usize = 256;

/// How the stacks of one round differ.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stacks {
    /// All allocations are made in one loop in the innermost call.
    Loop,
    /// All allocations have one call site, and all calls are made again for each.
    Calls,
    /// 1,024 call sites take turns; their ten innermost calls differ.
    Sites,
    /// 1,024 call sites take turns; their ten outermost calls differ, so that no frame stays.
    Roots,
}

impl Stacks {
    /// Which of the two functions to call when `depth` of `all` calls remain.
    fn branch(self, site: usize, depth: usize, all: usize) -> bool {
        match self {
            Self::Loop | Self::Calls => false,
            Self::Sites => depth <= 10 && site >> (depth - 1) & 1 != 0,
            Self::Roots => all - depth < 10 && site >> (all - depth) & 1 != 0,
        }
    }
}

struct Calls<'a> {
    stacks: Stacks,
    all: usize,
    site: usize,
    work: &'a mut dyn FnMut(),
}

/// Does the work under `depth` more calls.
fn call(calls: &mut Calls<'_>, depth: usize) {
    if depth == 0 {
        (calls.work)();
    } else if calls.stacks.branch(calls.site, depth, calls.all) {
        left(calls, depth);
    } else {
        right(calls, depth);
    }
}

/// One of two functions that are on the stack.
#[inline(never)]
fn left(calls: &mut Calls<'_>, depth: usize) {
    call(calls, depth - 1);
    // Prevents a tail call, which would leave no frame.
    black_box(depth);
}

/// The other, with a frame of another size.
#[inline(never)]
fn right(calls: &mut Calls<'_>, depth: usize) {
    black_box([depth; 3]);
    call(calls, depth - 1);
    black_box(depth);
}

/// Times in nanoseconds.
#[derive(Default)]
struct Times(Vec<u64>);

impl Times {
    fn add(&mut self, work: impl FnOnce()) {
        let start = Instant::now();
        work();
        self.0.push(start.elapsed().as_nanos() as u64);
    }

    /// The quantile below which `share` of the times lie.
    fn quantile(&mut self, share: f64) -> i64 {
        self.0.sort_unstable();
        self.0[(self.0.len() as f64 * share) as usize] as i64
    }
}

/// The times of allocations and of frees.
fn measure(stacks: Stacks, depth: usize) -> [Times; 2] {
    // Filled before anything is timed, so that the memory is mapped already.
    let times = || Times((0..(ROUNDS * BATCH) as u64).collect());
    let [mut allocations, mut frees] = [times(), times()];
    allocations.0.clear();
    frees.0.clear();
    let mut held: Vec<Block> = Vec::with_capacity(BATCH);
    for round in 0..ROUNDS {
        let mut site = round * BATCH;
        if stacks == Stacks::Loop {
            let work = &mut || {
                for _ in 0..BATCH {
                    allocations.add(|| held.push(black_box(Box::new([0; 64]))));
                }
            };
            call(&mut Calls { stacks, all: depth, site: 0, work }, depth);
        } else {
            for _ in 0..BATCH {
                site += 1;
                let work = &mut || held.push(black_box(Box::new([0; 64])));
                let mut calls = Calls { stacks, all: depth, site, work };
                allocations.add(|| call(&mut calls, depth));
            }
        }
        for block in held.drain(..) {
            frees.add(|| drop(block));
        }
    }
    [allocations, frees]
}

fn main() {
    println!("ns                 allocation          free");
    println!("stacks  depth    median     99%   median     99%");
    for stacks in [Stacks::Loop, Stacks::Calls, Stacks::Sites, Stacks::Roots] {
        for depth in [10, 20, 40, 80] {
            let [mut allocations, mut frees] = measure(stacks, depth);
            let bare = [allocations.quantile(0.5), frees.quantile(0.5)];
            let profiler =
                Profiler::builder().sample_interval_bytes(1).start().expect("the profiler starts");
            // The first run interns the stacks; only the second one is reported.
            measure(stacks, depth);
            let [mut allocations, mut frees] = measure(stacks, depth);
            drop(profiler);
            println!(
                "{:6} {depth:6} {:9} {:7} {:8} {:7}",
                format!("{stacks:?}"),
                allocations.quantile(0.5) - bare[0],
                allocations.quantile(0.99) - bare[0],
                frees.quantile(0.5) - bare[1],
                frees.quantile(0.99) - bare[1],
            );
        }
    }
}
