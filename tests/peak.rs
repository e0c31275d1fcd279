//! The peak profile is the live profile at the moment of most live bytes, exact to the byte, and it
//! stays when everything is freed.
//!
//! As in `forwarding` the allocator is not the global one, because the test's own bookkeeping would
//! move the peak.
#![cfg(all(feature = "profiling", unix))]
#![allow(unsafe_code)]

mod common;

use std::alloc::{GlobalAlloc, Layout};

use common::{labelled, one_at_a_time};
use heapdrift::{Alloc, Profiler, Snapshot, with_labels};

static ALLOC: Alloc = Alloc::system();

const SITES: [&str; 5] = ["parse", "index", "cache", "render", "log"];

struct Block {
    start: *mut u8,
    layout: Layout,
    site: usize,
}

/// The live blocks, and a naive model of the peak that copies all sums at each new maximum.
#[derive(Default)]
struct Model {
    blocks: Vec<Block>,
    live: [(u64, u64); 5],
    peak: [(u64, u64); 5],
    highest: u64,
}

impl Model {
    fn add(&mut self, block: Block) {
        let live = &mut self.live[block.site];
        *live = (live.0 + block.layout.size() as u64, live.1 + 1);
        self.blocks.push(block);
        let sum = self.live.iter().map(|(bytes, _)| bytes).sum();
        if sum > self.highest {
            (self.highest, self.peak) = (sum, self.live);
        }
    }

    fn take(&mut self, which: usize) -> Block {
        let block = self.blocks.swap_remove(which);
        let live = &mut self.live[block.site];
        *live = (live.0 - block.layout.size() as u64, live.1 - 1);
        block
    }

    fn allocate(&mut self, site: usize, size: usize) {
        let layout = Layout::from_size_align(size, 8).unwrap();
        let start = with_labels(&[("site", SITES[site])], || {
            // SAFETY: the size is not zero.
            unsafe { ALLOC.alloc(layout) }
        });
        assert!(!start.is_null());
        self.add(Block { start, layout, site });
    }

    /// A `realloc` counts as a free and as an allocation by its caller.
    fn resize(&mut self, which: usize, site: usize, size: usize) {
        let block = self.take(which);
        let start = with_labels(&[("site", SITES[site])], || {
            // SAFETY: a live block of that layout; the size is not zero.
            unsafe { ALLOC.realloc(block.start, block.layout, size) }
        });
        assert!(!start.is_null());
        let layout = Layout::from_size_align(size, 8).unwrap();
        self.add(Block { start, layout, site });
    }

    fn free(&mut self, which: usize) {
        let block = self.take(which);
        // SAFETY: a live block of that layout, which is not used any more.
        unsafe { ALLOC.dealloc(block.start, block.layout) };
    }

    fn compare(&self, snapshot: &Snapshot) {
        for (site, name) in SITES.iter().enumerate() {
            let found = labelled(snapshot, "site", name);
            let live = (found.live_bytes.value as u64, found.live_count.value as u64);
            assert_eq!(live, self.live[site], "live of {name}");
            let peak = (found.peak_bytes.value as u64, found.peak_count.value as u64);
            assert_eq!(peak, self.peak[site], "peak of {name}");
            assert_eq!(found.peak_bytes.std_error, 0.0);
        }
        assert_eq!(snapshot.totals.peak_bytes.value, self.highest as f64);
    }
}

#[test]
fn the_peak_of_each_site_is_its_live_profile_at_the_true_maximum() {
    let _one = one_at_a_time();
    let profiler = Profiler::builder().sample_interval_bytes(1).start().unwrap();
    let mut model = Model::default();
    let mut state = 0x1234_5678_9ABC_DEF1_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % bound
    };
    // In each phase some sites grow while others shrink: a peak, a valley, and a higher peak of
    // other sites. The numbers are the percentages of steps that allocate.
    for (phase, allocating) in [75, 25, 85, 50, 10, 60].into_iter().enumerate() {
        for step in 0..1500 {
            let size = [1 + below(200), 1 + below(5000), 1 + below(100_000)][below(3)];
            let site = (phase + below(2)) % SITES.len();
            let choice = below(100);
            match model.blocks.len() {
                0 => model.allocate(site, size),
                _ if choice < allocating => model.allocate(site, size),
                live if choice < allocating + 10 => model.resize(below(live), site, size),
                live => model.free(below(live)),
            }
            if step % 100 == 0 {
                model.compare(&profiler.snapshot());
            }
        }
    }
    model.compare(&profiler.snapshot());
    while !model.blocks.is_empty() {
        model.free(model.blocks.len() - 1);
    }
    let snapshot = profiler.snapshot();
    model.compare(&snapshot);
    assert!(snapshot.live.is_empty());
    assert_eq!(snapshot.totals.live_bytes.value, 0.0);
    assert!(model.highest > 0 && model.peak.iter().filter(|(bytes, _)| *bytes > 0).count() >= 3);
}

#[test]
fn a_lower_second_maximum_keeps_the_peak_and_a_higher_one_replaces_it() {
    let _one = one_at_a_time();
    let profiler = Profiler::builder().sample_interval_bytes(1).start().unwrap();
    let mut model = Model::default();
    for (site, blocks) in [(0, 100), (1, 99), (2, 101)] {
        (0..blocks).for_each(|_| model.allocate(site, 1000));
        (0..blocks).rev().for_each(|which| model.free(which));
        model.compare(&profiler.snapshot());
    }
    assert_eq!(model.peak, [(0, 0), (0, 0), (101_000, 101), (0, 0), (0, 0)]);
}
