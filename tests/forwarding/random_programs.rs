//! Random programs, compared with a naive model of the live set.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::block::{Block, Method};
use crate::common::one_at_a_time;
use crate::spy::{FAILS, failing};
use crate::{live_sizes, start};

/// One step of a random program. Its first number selects one of the live blocks.
#[derive(Clone, Debug)]
enum Step {
    /// The method, the size and the alignment.
    Allocate(Method, usize, usize),
    /// A block, and its new size.
    Resize(usize, usize),
    /// The same, while the inner allocator fails.
    FailToResize(usize, usize),
    /// A block.
    Free(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = || prop_oneof![8 => 1..300_usize, 4 => 1..40_000_usize, 1 => 30_000..400_000_usize];
    let align = prop_oneof![9 => 0..5_u32, 1 => 5..17_u32].prop_map(|shift| 1 << shift);
    let method = prop_oneof![Just(Method::Alloc), Just(Method::AllocZeroed)];
    let step = prop_oneof![
        5 => (method, size(), align)
            .prop_map(|(method, size, align)| Step::Allocate(method, size, align)),
        3 => (any::<usize>(), size()).prop_map(|(which, size)| Step::Resize(which, size)),
        1 => (any::<usize>(), size()).prop_map(|(which, size)| Step::FailToResize(which, size)),
        3 => any::<usize>().prop_map(Step::Free),
    ];
    prop::collection::vec(step, 1..120)
}

/// The naive model: the live blocks by address, under a lock.
#[derive(Default)]
struct Model(Mutex<HashMap<usize, Block>>);

impl Model {
    fn add(&self, block: Block) {
        let overlapped = self.0.lock().unwrap().insert(block.address(), block);
        assert!(overlapped.is_none(), "an address was handed out twice");
    }

    /// Removes a block. The order of blocks is that of their allocation, so the choice does not
    /// depend on addresses.
    fn take(&self, which: usize) -> Option<Block> {
        let mut blocks = self.0.lock().unwrap();
        let mut addresses: Vec<_> = blocks.iter().map(|(a, b)| (b.mark, *a)).collect();
        addresses.sort_unstable();
        let (_, address) = *addresses.get(which.checked_rem(addresses.len())?)?;
        blocks.remove(&address)
    }

    fn sizes(&self) -> Vec<u64> {
        let blocks = self.0.lock().unwrap();
        let mut sizes: Vec<_> = blocks.values().map(|b| b.layout.size() as u64).collect();
        sizes.sort_unstable();
        sizes
    }
}

/// Runs a program and compares it with the model. At interval 1 the live set equals the model's; at
/// any other interval it is a subset.
fn run(steps: &[Step], interval: u64) {
    let model = Model::default();
    let profiler = start(interval);
    let compare = |allocated: f64| {
        let snapshot = profiler.snapshot();
        let (found, truth) = (live_sizes(&snapshot), model.sizes());
        if interval == 1 {
            assert_eq!(found, truth);
            assert_eq!(snapshot.totals.alloc_count.value, allocated);
        } else {
            let mut rest = truth.iter();
            let is_subset = found.iter().all(|size| rest.any(|other| other == size));
            assert!(is_subset, "{found:?} is not a subset of {truth:?}");
        }
    };
    let mut allocated = 0.0;
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Allocate(method, size, align) => {
                model.add(Block::new(method, size, align, number as u8));
                allocated += 1.0;
            }
            Step::Resize(which, size) => {
                if let Some(mut block) = model.take(which) {
                    block.resize(size);
                    model.add(block);
                    allocated += 1.0;
                }
            }
            Step::FailToResize(which, size) => {
                if let Some(mut block) = model.take(which) {
                    // It may succeed nevertheless, because slots need no inner allocator.
                    allocated += f64::from(failing(|| block.try_resize(size)));
                    model.add(block);
                }
            }
            Step::Free(which) => {
                if let Some(block) = model.take(which) {
                    block.free();
                }
            }
        }
        if number % 16 == 0 {
            compare(allocated);
        }
    }
    compare(allocated);
    while let Some(block) = model.take(0) {
        block.free();
    }
    compare(allocated);
}

#[test]
fn random_programs_agree_with_a_naive_model() {
    let _one = one_at_a_time();
    let config = Config { cases: 250, failure_persistence: None, ..Config::default() };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    let result = runner.run(&(steps(), prop::sample::select(vec![1, 64, 4096])), |(steps, r)| {
        FAILS.store(false, Ordering::Relaxed);
        run(&steps, r);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
