//! `Alloc<A>` forwards every call as it is: `calloc` stays `calloc`, a large `realloc` stays
//! `realloc`, and null stays null. Contents and records survive every sequence of calls on a block.
//!
//! The allocator under test is a separate static, not the global one. So the profiler records
//! exactly the calls of these tests, and the inner allocator can keep a log.
#![cfg(all(feature = "profiling", unix))]
#![allow(unsafe_code)]

mod block;
#[path = "../common/mod.rs"]
mod common;
mod random_programs;
mod spy;

use std::alloc::Layout;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use block::{Block, Method};
use common::one_at_a_time;
use heapdrift::{Alloc, Profiler, Snapshot};
use spy::{Call, ON_RELEASE, Spy, failing, log};

static ALLOC: Alloc<Spy> = Alloc::new(Spy);

fn start(interval_bytes: u64) -> Profiler {
    Profiler::builder().sample_interval_bytes(interval_bytes).seed(7).start().unwrap()
}

/// The sizes of all live samples, sorted.
fn live_sizes(snapshot: &Snapshot) -> Vec<u64> {
    snapshot.validate().unwrap();
    let mut sizes = snapshot.live.size.clone();
    sizes.sort_unstable();
    sizes
}

/// Calls each method. The log of the inner allocator must have the same calls and arguments.
fn assert_calls_are_forwarded(size: usize, align: usize) {
    log();
    let layout = Layout::from_size_align(size, align).unwrap();
    let new_layout = Layout::from_size_align(size + 17, align).unwrap();
    let mut block = Block::new(Method::Alloc, size, align, 3);
    let first = block.address();
    block.resize(size + 17);
    let second = block.address();
    block.free();
    let block = Block::new(Method::AllocZeroed, size, align, 4);
    let third = block.address();
    block.free();
    let expected = [
        Call::Alloc(layout),
        Call::Realloc(first, layout, size + 17),
        Call::Dealloc(second, new_layout),
        Call::AllocZeroed(layout),
        Call::Dealloc(third, layout),
    ];
    assert_eq!(log(), expected);
}

const SOME_LAYOUTS: [(usize, usize); 7] =
    [(1, 1), (24, 8), (100, 64), (5000, 4096), (40_000, 16), (300_000, 8), (64, 131_072)];

#[test]
fn without_a_session_each_method_calls_the_same_inner_method() {
    let _one = one_at_a_time();
    for (size, align) in SOME_LAYOUTS {
        assert_calls_are_forwarded(size, align);
    }
    // The same holds after a session.
    drop(start(1));
    for (size, align) in SOME_LAYOUTS {
        assert_calls_are_forwarded(size, align);
    }
}

#[test]
fn unsampled_calls_during_a_session_call_the_same_inner_method() {
    let _one = one_at_a_time();
    let profiler = start(512 << 10);
    let mut unsampled = 0;
    for round in 0..300 {
        for (size, align) in [(24, 8), (100, 64), (5000, 4096), (40_000, 16)] {
            let before = profiler.stats().samples_taken;
            // A sampled call may be served from a slot, and only afterwards is it known which were.
            let outcome =
                std::panic::catch_unwind(|| assert_calls_are_forwarded(size + round, align));
            if profiler.stats().samples_taken == before {
                outcome.unwrap();
                unsampled += 1;
            }
        }
    }
    // About 1,130 of the 1,200 groups of calls are without a sample: of those of 40,000 bytes one
    // in five has one, and of the others hardly any.
    assert!((900..1200).contains(&unsampled), "{unsampled} of 1200");
}

#[test]
fn large_sampled_blocks_stay_with_the_inner_allocator() {
    let _one = one_at_a_time();
    let profiler = start(1);
    for (size, align) in [(40_000, 16), (300_000, 4096), (100_000, 131_072)] {
        assert_calls_are_forwarded(size, align);
    }
    const SIZE: usize = 64 << 20;
    let taken = profiler.stats().samples_taken;
    let mut block = Block::new(Method::AllocZeroed, SIZE, 8, 5);
    let layout = block.layout;
    let address = block.address();
    let id = profiler.snapshot().live.id;
    log();
    block.resize(2 * SIZE);
    assert_eq!(log(), [Call::Realloc(address, layout, 2 * SIZE)], "not copied by the profiler");
    assert_eq!(profiler.stats().samples_taken, taken + 2);
    let snapshot = profiler.snapshot();
    assert_eq!(live_sizes(&snapshot), [2 * SIZE as u64]);
    assert_eq!(snapshot.live.id, id, "one object, before and after");
    assert_eq!(snapshot.live.reallocs, [1]);
    block.free();
    assert!(profiler.snapshot().live.is_empty());
}

#[test]
fn null_stays_null_and_failed_allocations_do_not_count() {
    let _one = one_at_a_time();
    let fails = |size, align| {
        for method in [Method::Alloc, Method::AllocZeroed] {
            assert!(failing(|| Block::try_new(method, size, align, 0)).is_none(), "{size} {align}");
        }
    };
    fails(100, 8);
    fails(1 << 20, 8);
    let profiler = start(1 << 40);
    fails(100, 8);
    fails(1 << 20, 8);
    drop(profiler);
    let profiler = start(1);
    fails(40_000, 8);
    fails(1 << 20, 8);
    fails(64, 131_072);
    let snapshot = profiler.snapshot();
    assert_eq!(snapshot.totals.alloc_count.value, 0.0);
    assert_eq!(snapshot.totals.alloc_bytes.value, 0.0);
    assert!(snapshot.live.is_empty());
    // Small sampled blocks come from slots, so they do not need the inner allocator.
    failing(|| Block::small(100)).free();
    assert_eq!(profiler.snapshot().totals.alloc_count.value, 1.0);
}

#[test]
fn after_a_failed_realloc_the_old_block_is_intact_and_still_recorded() {
    let _one = one_at_a_time();
    let unrecorded = Block::small(100);
    let profiler = start(1);
    let blocks = [
        Block::small(100),
        Block::new(Method::Alloc, 40_000, 8, 1),
        Block::new(Method::AllocZeroed, 3 << 20, 8, 2),
    ];
    let before = profiler.snapshot();
    assert_eq!(live_sizes(&before), [100, 40_000, 3 << 20]);
    let mut all: Vec<Block> = blocks.into_iter().chain([unrecorded]).collect();
    for block in &mut all {
        for size in [1 << 20, 5 << 20] {
            assert!(!failing(|| block.try_resize(size)));
            block.check(block.layout.size());
        }
    }
    let after = profiler.snapshot();
    assert_eq!(after.live, before.live);
    assert_eq!(after.totals.live_bytes, before.totals.live_bytes);
    assert_eq!(after.totals.alloc_count, before.totals.alloc_count);
    // The blocks can still be resized and freed.
    all.iter_mut().for_each(|block| block.resize(2 << 20));
    assert_eq!(live_sizes(&profiler.snapshot()), [2 << 20; 4]);
    all.into_iter().for_each(Block::free);
    assert!(profiler.snapshot().live.is_empty());
}

#[test]
fn alloc_zeroed_zeroes_reused_slots() {
    let _one = one_at_a_time();
    let profiler = start(1);
    for size in [1, 16, 100, 1000, 5000, 20_000] {
        let used: Vec<Block> = (0..50).map(|_| Block::small(size)).collect();
        let addresses: Vec<usize> = used.iter().map(Block::address).collect();
        used.into_iter().for_each(Block::free);
        // `Block::new` checks that every byte is zero.
        let zeroed: Vec<Block> =
            (0..50).map(|_| Block::new(Method::AllocZeroed, size, 8, 0xFF)).collect();
        let reused = zeroed.iter().filter(|block| addresses.contains(&block.address())).count();
        assert!(reused >= 25, "{reused} of 50 slots of {size} bytes were reused");
        zeroed.into_iter().for_each(Block::free);
    }
    drop(profiler);
}

#[test]
fn alignments_are_honoured_for_small_and_large_blocks() {
    let _one = one_at_a_time();
    for interval in [1, 64] {
        let profiler = start(interval);
        let mut kept = Vec::new();
        for align in (0..=21).map(|shift| 1 << shift) {
            for size in [1, 17, 100, 5000, 40_000, 200_000] {
                for method in [Method::Alloc, Method::AllocZeroed] {
                    kept.push(Block::new(method, size, align, size as u8));
                    let mut resized = Block::new(method, size, align, size as u8);
                    [2 * size, size.div_ceil(2), 50_000, 9].iter().for_each(|s| resized.resize(*s));
                    kept.push(resized);
                }
            }
        }
        kept.into_iter().for_each(Block::free);
        let snapshot = profiler.snapshot();
        assert!(snapshot.live.is_empty());
        assert_eq!(snapshot.sampling.interval_bytes, interval as f64, "{:?}", snapshot.stats);
    }
}

/// A slot cannot be aligned to more than 64 KiB. Such a sample is dropped and counted. It is not
/// memory pressure, so nothing is thinned.
#[test]
fn samples_of_unsupported_alignment_are_counted_and_do_not_raise_the_interval() {
    let _one = one_at_a_time();
    let profiler = start(1);
    let witness = Block::small(100);
    let blocks: Vec<Block> = (0..100).map(|_| Block::new(Method::Alloc, 64, 131_072, 1)).collect();
    let snapshot = profiler.snapshot();
    assert_eq!(snapshot.stats.dropped_slots, 100);
    assert_eq!(snapshot.stats.thinnings, 0);
    assert_eq!(snapshot.sampling.interval_bytes, 1.0);
    assert_eq!(live_sizes(&snapshot), [100]);
    blocks.into_iter().for_each(Block::free);
    witness.free();
}

/// Sizes on both sides of every boundary between size classes, slots and large blocks.
const WAYPOINTS: [usize; 12] =
    [1, 16, 17, 100, 1024, 1025, 5000, 32_767, 32_768, 32_769, 300_000, 3 << 20];

#[test]
fn realloc_keeps_contents_and_records_across_every_boundary() {
    let _one = one_at_a_time();
    // Blocks of every size, allocated before the session, move into slots and large records.
    let old: Vec<Block> = WAYPOINTS.iter().map(|size| Block::small(*size)).collect();
    let profiler = start(1);
    for (mut block, size) in old.into_iter().zip(WAYPOINTS.iter().rev()) {
        block.resize(*size);
        assert_eq!(live_sizes(&profiler.snapshot()), [*size as u64]);
        block.free();
    }
    for from in WAYPOINTS {
        for to in WAYPOINTS {
            let mut block = Block::new(Method::Alloc, from, 8, 0x5A);
            let id = profiler.snapshot().live.id;
            block.resize(to);
            let snapshot = profiler.snapshot();
            assert_eq!(live_sizes(&snapshot), [to as u64], "{from} to {to}");
            assert_eq!(snapshot.live.id, id, "{from} to {to} is one object");
            assert_eq!(snapshot.live.reallocs, [1]);
            block.free();
            assert!(profiler.snapshot().live.is_empty(), "{from} to {to}");
        }
    }
    // Sampled blocks move out of slots and large records into blocks that are not sampled.
    let sampled: Vec<Block> = WAYPOINTS.iter().map(|size| Block::small(*size)).collect();
    profiler.pause();
    for (mut block, size) in sampled.into_iter().zip(WAYPOINTS.iter().rev()) {
        block.resize(*size);
        block.free();
    }
    assert!(profiler.snapshot().live.is_empty());
}

/// Otherwise another thread could get the same address meanwhile, and lose its record.
#[test]
fn the_record_is_removed_before_the_memory_is_freed() {
    let _one = one_at_a_time();
    let profiler = Arc::new(start(1));
    let mut block = Block::new(Method::Alloc, 100_000, 8, 1);
    let mut small = Block::small(100);
    let live = Arc::new(Mutex::new(Vec::new()));
    let look = {
        let (profiler, live) = (Arc::clone(&profiler), Arc::clone(&live));
        move || live.lock().unwrap().push(live_sizes(&profiler.snapshot()))
    };
    *ON_RELEASE.lock().unwrap() = Some(Box::new(look));
    block.resize(200_000);
    block.resize(99);
    small.resize(300_000);
    small.free();
    block.free();
    *ON_RELEASE.lock().unwrap() = None;
    // Memory was released by `realloc`, by `dealloc` when the block moved into a slot, and by the
    // `dealloc` of `small`, which had moved out of its slot. The move itself released nothing.
    assert_eq!(*live.lock().unwrap(), [vec![100], vec![100], vec![99]]);
}

/// The same for slots: one thread only allocates, and gets slots that another has just freed.
#[test]
fn a_free_never_takes_the_record_of_the_next_owner() {
    const BLOCKS: usize = 60_000;
    let _one = one_at_a_time();
    let profiler = start(1);
    let (sender, freed) = mpsc::sync_channel::<Block>(64);
    let freeing = thread::spawn(move || freed.into_iter().for_each(Block::free));
    let mut kept = Vec::new();
    for i in 0..BLOCKS {
        let block = Block::small(64);
        if i % 8 == 0 {
            kept.push(block);
        } else {
            sender.send(block).unwrap();
        }
    }
    drop(sender);
    freeing.join().unwrap();
    assert_eq!(profiler.snapshot().live.len(), kept.len());
    kept.into_iter().for_each(Block::free);
    assert!(profiler.snapshot().live.is_empty());
}

#[test]
fn a_realloc_within_its_slot_keeps_the_address() {
    let _one = one_at_a_time();
    let profiler = start(1);
    let mut block = Block::small(97);
    let address = block.address();
    log();
    for size in [112, 98, 105] {
        block.resize(size);
        assert_eq!(block.address(), address);
        assert_eq!(live_sizes(&profiler.snapshot()), [size as u64]);
    }
    assert_eq!(log(), []);
    block.free();
}

#[test]
fn objects_outlive_their_session_and_can_be_freed_or_resized_in_the_next() {
    let _one = one_at_a_time();
    let make = || -> Vec<Block> {
        (0..3).flat_map(|_| WAYPOINTS).map(|size| Block::new(Method::Alloc, size, 8, 9)).collect()
    };
    let profiler = start(1);
    let mut blocks = make();
    assert_eq!(profiler.snapshot().live.len(), blocks.len());
    drop(profiler);
    // Without a session, a third is freed and a third is resized.
    let rest = blocks.split_off(12);
    blocks.into_iter().for_each(Block::free);
    let mut blocks = rest;
    for (block, size) in blocks.iter_mut().zip(WAYPOINTS.iter().rev()) {
        block.resize(*size);
    }
    // The next session does not know the blocks of the first, and freeing them changes nothing.
    let profiler = start(1);
    let witnesses = make();
    let expected = live_sizes(&profiler.snapshot());
    assert_eq!(expected.len(), witnesses.len());
    let mut rest = blocks.split_off(12);
    blocks.into_iter().for_each(Block::free);
    assert_eq!(live_sizes(&profiler.snapshot()), expected);
    let mut resized: Vec<u64> = expected.clone();
    for (block, size) in rest.iter_mut().zip(WAYPOINTS.iter().rev()) {
        block.resize(*size);
        resized.push(*size as u64);
    }
    resized.sort_unstable();
    assert_eq!(live_sizes(&profiler.snapshot()), resized);
    rest.into_iter().for_each(Block::free);
    assert_eq!(live_sizes(&profiler.snapshot()), expected);
    witnesses.into_iter().for_each(Block::free);
    assert!(profiler.snapshot().live.is_empty());
}
