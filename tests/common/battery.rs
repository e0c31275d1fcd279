//! The workload that every inner allocator has to survive: threads that churn blocks of all sizes
//! and free each other's, `Vec`s that grow, zeroed blocks and aligned blocks. It checks the
//! contents of the blocks, and the estimates against the true counts.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;

use heapdrift::{Profiler, with_labels};

use crate::common::{assert_within, labelled};

/// The true counts of one site, each as (bytes, objects).
#[derive(Clone, Copy, Debug, Default)]
struct Truth {
    live: (usize, usize),
    allocated: (usize, usize),
}

impl Truth {
    fn allocate(&mut self, size: usize) {
        self.allocated.0 += size;
        self.allocated.1 += 1;
    }

    fn keep(&mut self, size: usize) {
        self.live.0 += size;
        self.live.1 += 1;
    }
}

type Truths = BTreeMap<&'static str, Truth>;

/// A block of exactly `size` bytes, filled with a pattern that depends on `mark`.
struct Block {
    bytes: Vec<u8>,
    mark: u8,
}

impl Block {
    fn new(size: usize, mark: u8) -> Self {
        let mut bytes = Vec::with_capacity(size);
        bytes.extend((0..size).map(|i| Self::byte(i, mark)));
        Self { bytes, mark }
    }

    fn byte(index: usize, mark: u8) -> u8 {
        (index as u8).wrapping_mul(31) ^ mark
    }

    /// Checks every byte of a small block; of a large one, every 61st byte and the last.
    fn check(&self) {
        let len = self.bytes.len();
        let step = if len > 4096 { 61 } else { 1 };
        for i in (0..len).step_by(step).chain(len.checked_sub(1)) {
            assert_eq!(self.bytes[i], Self::byte(i, self.mark), "byte {i} of {len}");
        }
    }
}

#[repr(align(4096))]
struct Page([u8; 4096]);

#[repr(align(131_072))]
struct HugelyAligned([u8; 131_072]);

/// Xorshift with a fixed seed, so that the workload is the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    /// Most sizes are small, some are a few KiB, and a few are large.
    fn size(&mut self) -> usize {
        match self.below(100) {
            0..70 => 1 + self.below(256),
            70..95 => 1 + self.below(8192),
            95..99 => 1 + self.below(64 << 10),
            _ => 1 + self.below(300 << 10),
        }
    }
}

/// Replaces random blocks of a table; the next thread frees every third victim.
fn churn(
    random: &mut Random,
    next: &mpsc::Sender<Block>,
    from: &mpsc::Receiver<Block>,
    truths: &mut Truths,
) -> Vec<Block> {
    const TABLE: usize = 300;
    const STEPS: usize = 2500;
    let truth = truths.entry("churn").or_default();
    let mut table: Vec<Block> = Vec::with_capacity(TABLE);
    for step in 0..STEPS {
        let (size, mark) = (random.size(), random.below(256) as u8);
        truth.allocate(size);
        let block = with_labels(&[("site", "churn")], || Block::new(size, mark));
        if table.len() < TABLE {
            table.push(block);
            continue;
        }
        let victim = std::mem::replace(&mut table[random.below(TABLE)], block);
        victim.check();
        if step % 3 == 0 {
            next.send(victim).unwrap();
        }
        from.try_iter().for_each(|block| block.check());
    }
    table.iter().for_each(|block| truth.keep(block.bytes.len()));
    table
}

/// Grows `Vec`s by `realloc`, up to 256 KiB, and shrinks some.
fn grow(random: &mut Random, truths: &mut Truths) -> Vec<Vec<u32>> {
    let truth = truths.entry("grow").or_default();
    let mut kept = Vec::with_capacity(40);
    for _ in 0..40 {
        let most = 1 << (6 + random.below(11));
        let len = 1 + random.below(most);
        let mut grown: Vec<u32> = Vec::new();
        with_labels(&[("site", "grow")], || {
            let mut capacity = 0;
            for i in 0..len {
                grown.push(i as u32);
                if grown.capacity() != capacity {
                    capacity = grown.capacity();
                    truth.allocate(capacity * 4);
                }
            }
            if random.below(2) == 0 && grown.capacity() > grown.len() {
                grown.shrink_to_fit();
                truth.allocate(grown.capacity() * 4);
            }
        });
        assert!(grown.iter().enumerate().all(|(i, value)| *value == i as u32));
        truth.keep(grown.capacity() * 4);
        kept.push(grown);
    }
    kept
}

/// Allocates zeroed blocks, many of them in memory that other blocks have written to.
fn zeroed(random: &mut Random, truths: &mut Truths) -> Vec<Vec<u8>> {
    let truth = truths.entry("zeroed").or_default();
    let mut kept = Vec::with_capacity(100);
    for i in 0..600 {
        let size = random.size();
        truth.allocate(size);
        let mut block = with_labels(&[("site", "zeroed")], || vec![0_u8; size]);
        assert!(block.iter().all(|byte| *byte == 0), "{size} bytes are not zero");
        block.fill(0xCD);
        if i % 6 == 0 {
            truth.keep(size);
            kept.push(block);
        }
    }
    kept
}

/// Allocates blocks aligned to a page, and blocks aligned to more than a slot supports.
fn aligned(truths: &mut Truths) -> (Vec<Box<Page>>, Vec<Box<HugelyAligned>>) {
    let truth = truths.entry("aligned").or_default();
    let mut kept = (Vec::with_capacity(300), Vec::with_capacity(4));
    with_labels(&[("site", "aligned")], || {
        for i in 0..300_u32 {
            let page = Box::new(Page([i as u8; 4096]));
            assert_eq!((&raw const *page).addr() % 4096, 0);
            truth.allocate(4096);
            truth.keep(4096);
            kept.0.push(page);
        }
        for i in 0..4 {
            let block = Box::new(HugelyAligned([i; 131_072]));
            assert_eq!((&raw const *block).addr() % 131_072, 0);
            truth.allocate(131_072);
            truth.keep(131_072);
            kept.1.push(block);
        }
    });
    kept
}

fn check_aligned((pages, blocks): &(Vec<Box<Page>>, Vec<Box<HugelyAligned>>)) {
    for (i, page) in pages.iter().enumerate() {
        assert!(page.0.iter().all(|byte| *byte == i as u8), "page {i}");
    }
    for (i, block) in blocks.iter().enumerate() {
        assert!(block.0.iter().all(|byte| *byte == i as u8), "aligned block {i}");
    }
}

/// Runs the battery on four threads at an interval of 4 KiB. Each estimate has to lie within 4
/// standard errors of the truth. With 4 sites, 4 estimates each and 3 allocators, a correct
/// profiler fails that for one seed in 300; the seed here is fixed.
pub(crate) fn run() {
    const THREADS: usize = 4;
    let profiler = Profiler::builder().sample_interval_bytes(4096).seed(11).start().unwrap();
    let (mut senders, receivers): (Vec<_>, Vec<_>) =
        (0..THREADS).map(|_| mpsc::channel::<Block>()).unzip();
    senders.rotate_left(1);
    let workers: Vec<_> = senders
        .into_iter()
        .zip(receivers)
        .enumerate()
        .map(|(number, (next, from))| {
            thread::spawn(move || {
                let mut truths = Truths::new();
                let mut random = Random(0x9E37_79B9 + number as u64);
                let table = churn(&mut random, &next, &from, &mut truths);
                drop(next);
                from.into_iter().for_each(|block| block.check());
                let grown = grow(&mut random, &mut truths);
                let zeroed = zeroed(&mut random, &mut truths);
                let aligned = aligned(&mut truths);
                (truths, table, grown, zeroed, aligned)
            })
        })
        .collect();
    let kept: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();

    let snapshot = profiler.snapshot();
    snapshot.validate().unwrap();
    assert_eq!(snapshot.stats.samples_dropped(), 0, "{:?}", snapshot.stats);
    for site in ["churn", "grow", "zeroed", "aligned"] {
        let sum = |of: fn(&Truth) -> usize| {
            kept.iter().map(|(truths, ..)| of(&truths[site])).sum::<usize>() as f64
        };
        let found = labelled(&snapshot, "site", site);
        for (what, estimate, truth) in [
            ("live bytes", found.live_bytes, sum(|t| t.live.0)),
            ("live objects", found.live_count, sum(|t| t.live.1)),
            ("allocated bytes", found.alloc_bytes, sum(|t| t.allocated.0)),
            ("allocated objects", found.alloc_count, sum(|t| t.allocated.1)),
        ] {
            assert_within(&format!("{what} of {site}"), estimate, truth, 4.0);
        }
    }

    for (_, table, _, _, aligned) in &kept {
        table.iter().for_each(Block::check);
        check_aligned(aligned);
    }
    drop(kept);
    let snapshot = profiler.snapshot();
    for site in ["churn", "grow", "zeroed", "aligned"] {
        assert_eq!(labelled(&snapshot, "site", site).live_count.value, 0.0, "{site}");
    }
}
