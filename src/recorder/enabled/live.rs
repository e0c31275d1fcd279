//! What a session holds: live samples, stacks, labels, the unwinder, counters.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::counters::{Counter, Counters};
use super::thinner::Thinner;
use super::{RECORDER, label_scope, local, slots};
use crate::Stats;
use crate::label_table::LabelTable;
use crate::live_set::{LargeIndex, NewSample, Place, RecordId, Records, Sample, Thinned};
use crate::profiler::Config;
use crate::sampler::Interval;
use crate::stack_table::{Addend, SiteId, SiteKey, StackTable};
use crate::sync::{LANES, Lane};
use crate::sys;
use crate::unwind::{By, Captured, Size, Unwinder};

/// The state of one session.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) records: Records,
    large: LargeIndex,
    pub(super) stacks: StackTable,
    pub(super) labels: LabelTable,
    pub(super) unwinder: Unwinder,
    counters: Counters,
    lasts: Box<[LastSite]>,
    thinner: Thinner,
    /// When recording started, by `sys::monotonic_ms`.
    pub(super) started_ms: u64,
}

/// The site of the last stack that was captured in a lane: most often the next is there too.
#[derive(Debug, Default)]
#[repr(align(128))]
struct LastSite {
    /// 0: none.
    site: AtomicU32,
    labels: AtomicU32,
}

/// How a cap is divided into tables. Sizes are limits in address space: memory is charged to the
/// budget when it is used, but for the hash tables, which are charged at once.
struct Plan {
    unwinder: Size,
    large_buckets: usize,
    sites: usize,
    frames: usize,
    records: usize,
}

impl Plan {
    fn new(cap: u64, depth: usize) -> Self {
        let cap = cap as usize;
        let cores = thread::available_parallelism().map_or(4, usize::from);
        let power_of_two = |n: usize| 1 << n.max(1).ilog2();
        Self {
            unwinder: Size {
                engines: (2 * cores).clamp(4, 16).min(cap / 8 / Size::ENGINE_BYTES.max(1) as usize),
                // A 512th of the cap: at 64 MiB 16,384 call sites.
                rules: power_of_two(cap / 512 / 8).clamp(1024, 16_384),
                // A 384th of the cap: at 64 MiB as many as there are lanes, for 128 frames.
                memos: (cap / 384 / Size::memo_bytes(depth).max(1) as usize).min(LANES - 1),
                depth,
            },
            // A 32nd of the cap: at 64 MiB 114,000 large objects, which is 3.5 GiB and more.
            large_buckets: power_of_two(cap / 32 / LargeIndex::bytes(1) as usize).max(64),
            // At 64 MiB 131,072 stacks, with 2 MiB of index.
            sites: power_of_two(cap / 512).max(1024),
            frames: cap / 8,
            records: cap / 2 / size_of::<crate::live_set::Record>(),
        }
    }

    fn fixed_bytes(&self) -> u64 {
        LargeIndex::bytes(self.large_buckets)
            + StackTable::fixed_bytes(self.sites)
            + LabelTable::FIXED_BYTES
            + self.unwinder.bytes()
            + size_of::<Live>() as u64
    }
}

impl Live {
    pub(super) fn new(config: &Config) -> io::Result<Self> {
        let plan = Plan::new(config.max_profiler_bytes, config.max_stack_depth);
        let live = Self {
            records: Records::new(plan.records)?,
            large: LargeIndex::new(plan.large_buckets)?,
            stacks: StackTable::new(plan.sites, plan.frames)?,
            labels: LabelTable::new()?,
            unwinder: Unwinder::new(&plan.unwinder, &RECORDER.budget)?,
            counters: Counters::default(),
            lasts: (0..LANES).map(|_| LastSite::default()).collect(),
            thinner: Thinner::default(),
            started_ms: sys::monotonic_ms(),
        };
        RECORDER.budget.adjust(plan.fixed_bytes() as i64);
        Ok(live)
    }

    pub(super) fn count(&self, lane: Lane, counter: Counter) {
        self.counters.add(lane, counter);
    }

    /// Whether a sample drawn at `interval` is taken, and at which interval. After the interval was
    /// raised, threads still draw at the old one for a while: their samples are thinned at once.
    pub(super) fn accept(&self, size: usize, interval: Interval) -> Option<Interval> {
        let current = RECORDER.interval();
        if interval >= current {
            return Some(interval);
        }
        let share = current.probability(size as u64) / interval.probability(size as u64);
        (local::uniform() <= share).then_some(current)
    }

    /// The site of the calling thread: its stack and its labels.
    #[inline(never)]
    pub(super) fn capture(&self, lane: Lane) -> SiteId {
        let budget = &RECORDER.budget;
        let labels = label_scope::in_force(|labels| {
            self.labels.intern(labels, budget).unwrap_or_else(|| {
                self.count(lane, Counter::DroppedLabels);
                0
            })
        });
        let labels = labels.unwrap_or(0);
        let last = self.last_site(lane, labels);
        let mut stack = Captured::new(last.is_some());
        self.unwinder.capture(&mut stack, local::stack(), lane.number());
        match stack.by {
            By::Framehop => self.count(lane, Counter::Framehop),
            By::Backtrace => self.count(lane, Counter::Backtrace),
            By::Nobody => self.count(lane, Counter::DroppedUnwinds),
        }
        if let Some(site) = last.filter(|_| stack.is_last) {
            return site;
        }
        if stack.truncated {
            self.count(lane, Counter::Truncated);
        }
        let key = SiteKey {
            frames: stack.frames(),
            frames_hash: stack.hash(),
            module_mark: stack.module_mark,
            labels,
            truncated: stack.truncated,
        };
        let site = self.stacks.intern(&key, lane, budget);
        if let Some(last) = lane.own(&self.lasts) {
            // Relaxed, in steps: nobody else is in the lane. Other unwinders do not tell whether a stack
            // is the last one, and one that was lost is looked for again.
            let site = site.filter(|_| stack.by == By::Framehop).map_or(0, |site| site.0);
            last.site.store(site, Ordering::Relaxed);
            last.labels.store(labels, Ordering::Relaxed);
        }
        site.unwrap_or_else(|| {
            self.count(lane, Counter::DroppedStacks);
            SiteId::LOST
        })
    }

    /// Where the last capture of a lane was, if it had these labels.
    fn last_site(&self, lane: Lane, labels: u32) -> Option<SiteId> {
        let last = lane.own(&self.lasts)?;
        // Relaxed: nobody else is in the lane.
        let site = last.site.load(Ordering::Relaxed);
        (site != 0 && last.labels.load(Ordering::Relaxed) == labels).then_some(SiteId(site))
    }

    /// Counts an allocation toward what its site has allocated since the start and, where it will be
    /// known again, adds it to the live samples.
    pub(super) fn allocated(&self, lane: Lane, sample: NewSample, place: Option<Place<'_>>) {
        let (site, addend) = (SiteId(sample.site), Addend::of(sample.size, sample.interval));
        self.stacks.allocated(site, addend, lane);
        if !place.is_some_and(|place| self.insert(lane, sample, place)) {
            self.stacks.remove_live(site, addend, lane);
        }
    }

    /// Adds a live sample again.
    pub(super) fn put_back(&self, lane: Lane, sample: NewSample, place: Place<'_>) {
        let (site, addend) = (SiteId(sample.site), Addend::of(sample.size, sample.interval));
        self.stacks.add_live(site, addend, lane);
        if !self.insert(lane, sample, place) {
            self.stacks.remove_live(site, addend, lane);
        }
    }

    /// Adds a record, and does a share of the thinning if that is going on. `false` where there is no
    /// room: as if it had not been sampled, but counted.
    fn insert(&self, lane: Lane, sample: NewSample, place: Place<'_>) -> bool {
        let budget = &RECORDER.budget;
        let record = self.records.take(lane, budget).or_else(|| {
            self.begin_thinning(lane);
            self.thinner.finish(&self.records, |thinned| self.follow(thinned, lane));
            self.records.take(lane, budget)
        });
        let Some(record) = record else {
            self.count(lane, Counter::DroppedRecords);
            return false;
        };
        let is_placed = match place {
            Place::Cell(cell) => {
                // Relaxed: the owner hands the address on by its own synchronization.
                cell.store(record.to_cell(), Ordering::Relaxed);
                true
            }
            Place::Address => self.large.insert(sample.address, record),
        };
        if !is_placed {
            // No room in the hash table.
            self.count(lane, Counter::DroppedRecords);
            self.records.release(record, lane);
            self.begin_thinning(lane);
            return false;
        }
        // Last: from here on the thinner may take it out again, cell and all.
        self.records.publish(record, sample);
        if self.records.are_running_out(budget) {
            self.begin_thinning(lane);
        }
        self.thinner.step(&self.records, |thinned| self.follow(thinned, lane));
        true
    }

    /// Takes the sample of an address out, for the owner of the address.
    // What a free does not ask for of the sample is not read then: by a call it would pass through memory.
    #[inline(always)]
    pub(super) fn remove(&self, address: usize, place: Place<'_>, lane: Lane) -> Option<Sample> {
        let claim = |record: Option<RecordId>| {
            let record = record?;
            Some((record, self.records.claim(record, address)?))
        };
        let claimed = match place {
            Place::Cell(cell) => {
                // Relaxed: as in `insert`; `claim` finds out whether the thinner was here first.
                let claimed = claim(RecordId::from_cell(cell.load(Ordering::Relaxed)));
                cell.store(0, Ordering::Relaxed);
                claimed
            }
            Place::Address => self.large.remove(address, claim).flatten(),
        };
        let (record, sample) = claimed?;
        self.retire(record, sample, lane);
        Some(sample)
    }

    /// Gives a claimed record back and takes the sample out of the sums.
    fn retire(&self, record: RecordId, sample: Sample, lane: Lane) {
        self.stacks.remove_live(
            SiteId(sample.site),
            Addend::of(sample.size, sample.interval),
            lane,
        );
        self.records.release(record, lane);
    }

    /// Follows what the thinner did to a record.
    fn follow(&self, thinned: Thinned, lane: Lane) {
        match thinned {
            Thinned::Untouched => {}
            Thinned::Kept(before, interval) => self.thinned_down(before, interval, lane),
            Thinned::Dropped(record, sample) => self.thinned_out(record, sample, lane),
        }
    }

    fn thinned_out(&self, record: RecordId, sample: Sample, lane: Lane) {
        match slots().and_then(|slots| slots.slot_at(sample.address)) {
            Some(slot) => {
                let cell = slot.cell();
                // Relaxed: fails if the owner freed the object meanwhile, and cleared the cell.
                let _ = cell.compare_exchange(
                    record.to_cell(),
                    0,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
            }
            None => self.large.forget(sample.address, record),
        }
        self.retire(record, sample, lane);
        self.count(lane, Counter::Thinned);
    }

    fn thinned_down(&self, sample: Sample, interval: Interval, lane: Lane) {
        let site = SiteId(sample.site);
        self.stacks.remove_live(site, Addend::of(sample.size, sample.interval), lane);
        self.stacks.add_live(site, Addend::of(sample.size, interval), lane);
    }

    /// Raises the interval so that about half of the live samples go, unless that is going on.
    pub(super) fn begin_thinning(&self, lane: Lane) {
        if self.thinner.begin(&self.records) {
            self.count(lane, Counter::Thinnings);
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let sum = |counter| self.counters.sum(counter);
        Stats {
            samples_taken: sum(Counter::Framehop)
                + sum(Counter::Backtrace)
                + sum(Counter::DroppedUnwinds),
            samples_live: self.records.live(),
            samples_thinned: sum(Counter::Thinned),
            thinnings: sum(Counter::Thinnings),
            dropped_records: sum(Counter::DroppedRecords),
            dropped_slots: sum(Counter::DroppedSlots),
            dropped_stacks: sum(Counter::DroppedStacks),
            dropped_unwinds: sum(Counter::DroppedUnwinds),
            dropped_labels: sum(Counter::DroppedLabels),
            dropped_dumps: sum(Counter::DroppedDumps),
            skipped_ticks: 0,
            stacks: u64::from(self.stacks.len()) - 1,
            unwound_framehop: sum(Counter::Framehop),
            unwound_backtrace: sum(Counter::Backtrace),
            truncated_stacks: sum(Counter::Truncated),
            profiler_bytes: RECORDER.budget.held(),
            max_profiler_bytes: RECORDER.budget.cap(),
        }
    }
}
