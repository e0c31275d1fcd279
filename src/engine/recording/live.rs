//! The state of a session: its live samples, stacks, labels, unwinder and counters.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::control::Control;
use super::counters::{Counter, Counters};
use super::label_scope;
use super::local;
use super::thinner::{Sweep, Thinner};
use crate::Stats;
use crate::config::Config;
use crate::engine::recording::arena::Budget;
use crate::engine::recording::label_table::LabelTable;
use crate::engine::recording::live_set::{
    LargeIndex, NewSample, RecordId, Records, Sample, SampleLocation, SampledObject, Slots, Thinned,
};
use crate::engine::recording::sampler::Interval;
use crate::engine::recording::stack_table::{Addend, SiteId, SiteKey, StackTable};
use crate::engine::recording::sync::{LANES, Lane};
use crate::engine::recording::sys;
use crate::engine::recording::unwind::{Captured, Size, UnwindMethod, Unwinder};

/// The state that a session uses and that outlives it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Globals<'a> {
    pub(super) control: &'a Control,
    /// Lives as long as the process, because copies of unwind tables are charged to it.
    pub(super) budget: &'static Budget,
    pub(super) slots: &'a Slots,
    /// Draws from (0, 1], from the calling thread's generator.
    pub(super) uniform: fn() -> f64,
}

/// The state of one session.
#[derive(Debug)]
pub(super) struct Live<'a> {
    globals: Globals<'a>,
    pub(super) records: Records,
    large: LargeIndex,
    pub(super) stacks: StackTable,
    pub(super) labels: LabelTable,
    pub(super) unwinder: Unwinder,
    counters: Counters,
    last_sites: Box<[LastSite]>,
    thinner: Thinner,
    /// The time when recording started, by `sys::monotonic_ms`.
    pub(super) started_ms: u64,
}

/// The site of the last stack that was captured in a lane. Most often the next stack is the same.
/// The alignment avoids false sharing between lanes.
#[derive(Debug, Default)]
#[repr(align(128))]
struct LastSite {
    /// The number of the site; 0 if it is unknown.
    site: AtomicU32,
    labels: AtomicU32,
}

/// The division of the memory cap among the tables. The sizes are limits in address space: memory
/// is charged to the budget when it is used, except for the hash tables, which are charged at once.
struct TableSizes {
    unwinder: Size,
    large_buckets: usize,
    sites: usize,
    frames: usize,
    records: usize,
}

impl TableSizes {
    fn new(cap: u64, depth: usize) -> Self {
        let cap = cap as usize;
        let cores = thread::available_parallelism().map_or(4, usize::from);
        let power_of_two = |n: usize| 1 << n.max(1).ilog2();
        Self {
            unwinder: Size {
                engines: (2 * cores)
                    .clamp(4, 16)
                    .min(cap / 8 / Unwinder::ENGINE_BYTES.max(1) as usize),
                // A 512th of the cap: 16,384 rules for 64 MiB.
                rules: power_of_two(cap / 512 / 8).clamp(1024, 16_384),
                // A 384th of the cap: for 64 MiB and 128 frames, one for each lane.
                memos: (cap / 384 / Unwinder::memo_bytes(depth).max(1) as usize).min(LANES - 1),
                depth,
            },
            // A 32nd of the cap: 114,000 large objects for 64 MiB, which are at least 3.5 GiB.
            large_buckets: power_of_two(cap / 32 / LargeIndex::bytes(1) as usize).max(64),
            // 131,072 stacks for 64 MiB, whose index takes 2 MiB.
            sites: power_of_two(cap / 512).max(1024),
            frames: cap / 8,
            records: cap / 2 / size_of::<crate::engine::recording::live_set::Record>(),
        }
    }

    fn fixed_bytes(&self) -> u64 {
        LargeIndex::bytes(self.large_buckets)
            + StackTable::fixed_bytes(self.sites)
            + LabelTable::FIXED_BYTES
            + Unwinder::bytes(&self.unwinder)
            + size_of::<Live<'_>>() as u64
    }
}

impl<'a> Live<'a> {
    pub(super) fn new(config: &Config, globals: Globals<'a>) -> io::Result<Self> {
        let sizes = TableSizes::new(config.max_profiler_bytes, config.max_stack_depth);
        let live = Self {
            globals,
            records: Records::new(sizes.records)?,
            large: LargeIndex::new(sizes.large_buckets)?,
            stacks: StackTable::new(sizes.sites, sizes.frames)?,
            labels: LabelTable::new()?,
            unwinder: Unwinder::new(&sizes.unwinder, globals.budget)?,
            counters: Counters::default(),
            last_sites: (0..LANES).map(|_| LastSite::default()).collect(),
            thinner: Thinner::default(),
            started_ms: sys::monotonic_ms(),
        };
        globals.budget.adjust(sizes.fixed_bytes() as i64);
        Ok(live)
    }

    fn sweep(&self) -> Sweep<'_> {
        let Globals { control, uniform, .. } = self.globals;
        Sweep { records: &self.records, control, uniform }
    }

    pub(super) fn control(&self) -> &'a Control {
        self.globals.control
    }

    pub(super) fn count(&self, lane: Lane, counter: Counter) {
        self.counters.add(lane, counter);
    }

    /// Decides whether a sample that was drawn at `interval` is kept, and returns its interval.
    /// After the interval was raised, threads draw at the old one for a while, and their samples
    /// are thinned at once.
    pub(super) fn accept(&self, size: usize, interval: Interval) -> Option<Interval> {
        let current = self.globals.control.interval();
        if interval >= current {
            return Some(interval);
        }
        let share = current.probability(size as u64) / interval.probability(size as u64);
        ((self.globals.uniform)() <= share).then_some(current)
    }

    /// Captures the stack and the labels of the calling thread and returns their site.
    #[inline(never)]
    pub(super) fn capture(&self, lane: Lane) -> SiteId {
        let budget = self.globals.budget;
        let labels = label_scope::gather_labels(|labels| {
            self.labels.intern(labels, budget).unwrap_or_else(|| {
                self.count(lane, Counter::DroppedLabels);
                0
            })
        });
        let labels = labels.unwrap_or(0);
        let last = self.last_site(lane, labels);
        let mut stack = Captured::new(last.is_some());
        self.unwinder.capture(&mut stack, local::stack(), lane.number());
        match stack.method {
            UnwindMethod::Framehop => self.count(lane, Counter::Framehop),
            UnwindMethod::Backtrace => self.count(lane, Counter::Backtrace),
            UnwindMethod::None => self.count(lane, Counter::DroppedUnwinds),
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
        if let Some(last) = lane.shard(&self.last_sites) {
            // Relaxed: no other thread is in the lane. The site is not stored for the fallback,
            // which does not report whether a stack is the last one, nor for a stack that was lost,
            // which must be looked up again.
            let is_from_tables = stack.method == UnwindMethod::Framehop;
            let site = site.filter(|_| is_from_tables).map_or(0, |site| site.0);
            last.site.store(site, Ordering::Relaxed);
            last.labels.store(labels, Ordering::Relaxed);
        }
        site.unwrap_or_else(|| {
            self.count(lane, Counter::DroppedStacks);
            SiteId::LOST
        })
    }

    /// The site of the last capture in a lane, if it had these labels.
    fn last_site(&self, lane: Lane, labels: u32) -> Option<SiteId> {
        let last = lane.shard(&self.last_sites)?;
        // Relaxed: no other thread is in the lane.
        let site = last.site.load(Ordering::Relaxed);
        (site != 0 && last.labels.load(Ordering::Relaxed) == labels).then_some(SiteId(site))
    }

    /// Adds an allocation to the sums of its site and, if its free will be recognised, to the live
    /// samples. `location` is `None` if the free will not be recognised.
    pub(super) fn record_allocation(
        &self,
        lane: Lane,
        sample: NewSample,
        location: Option<SampleLocation<'_>>,
    ) {
        let (site, addend) = site_and_addend(sample.object);
        self.stacks.record_allocation(site, addend, lane);
        if !location.is_some_and(|location| self.insert(lane, sample, location)) {
            self.stacks.remove_live(site, addend, lane);
        }
    }

    /// Adds a live sample again that was removed.
    pub(super) fn reinsert(&self, lane: Lane, sample: NewSample, location: SampleLocation<'_>) {
        let (site, addend) = site_and_addend(sample.object);
        self.stacks.add_live(site, addend, lane);
        if !self.insert(lane, sample, location) {
            self.stacks.remove_live(site, addend, lane);
        }
    }

    /// Adds a record and, while thinning is going on, does a share of it. Returns `false` if there
    /// is no room. The sample is then counted as dropped.
    fn insert(&self, lane: Lane, sample: NewSample, location: SampleLocation<'_>) -> bool {
        let budget = self.globals.budget;
        let record = self.records.take(lane, budget).or_else(|| {
            self.begin_thinning(lane);
            self.thinner.finish(self.sweep(), |thinned| self.apply_thinning(thinned, lane));
            self.records.take(lane, budget)
        });
        let Some(record) = record else {
            self.count(lane, Counter::DroppedRecords);
            return false;
        };
        let is_placed = match location {
            SampleLocation::SlotCell(cell) => {
                // Relaxed: whoever frees the object got its address from this thread by the
                // program's own synchronization.
                cell.store(record.to_cell(), Ordering::Relaxed);
                true
            }
            SampleLocation::LargeIndex => self.large.insert(sample.address, record),
        };
        if !is_placed {
            // The hash table has no room.
            self.count(lane, Counter::DroppedRecords);
            self.records.release(record, lane);
            self.begin_thinning(lane);
            return false;
        }
        // The record is published last: from here on the thinner may remove it and clear its cell.
        self.records.publish(record, sample);
        if self.records.are_running_out(budget) {
            self.begin_thinning(lane);
        }
        self.thinner.advance(self.sweep(), |thinned| self.apply_thinning(thinned, lane));
        true
    }

    /// Removes the sample of an address. Only the owner of the address may call this.
    // Inlined so that unused fields of `Sample` are never loaded; out of line it is returned
    // through memory.
    #[inline(always)]
    pub(super) fn remove(
        &self,
        address: usize,
        location: SampleLocation<'_>,
        lane: Lane,
    ) -> Option<Sample> {
        let claim = |record: Option<RecordId>| {
            let record = record?;
            Some((record, self.records.claim(record, address)?))
        };
        let claimed = match location {
            SampleLocation::SlotCell(cell) => {
                // Relaxed: the caller owns the address. The thinner may clear the cell at the same
                // time, but `claim` decides which of the two removes the record.
                let claimed = claim(RecordId::from_cell(cell.load(Ordering::Relaxed)));
                cell.store(0, Ordering::Relaxed);
                claimed
            }
            SampleLocation::LargeIndex => self.large.remove(address, claim).flatten(),
        };
        let (record, sample) = claimed?;
        self.retire(record, sample, lane);
        Some(sample)
    }

    /// Releases a claimed record and subtracts the sample from the sums of its site.
    fn retire(&self, record: RecordId, sample: Sample, lane: Lane) {
        let (site, addend) = site_and_addend(sample.object);
        self.stacks.remove_live(site, addend, lane);
        self.records.release(record, lane);
    }

    /// Updates the sums and locations after the thinner has processed a record.
    fn apply_thinning(&self, thinned: Thinned, lane: Lane) {
        match thinned {
            Thinned::Untouched => {}
            Thinned::Kept(before, interval) => self.reweigh(before, interval, lane),
            Thinned::Dropped(record, sample) => self.drop_thinned(record, sample, lane),
        }
    }

    /// Removes a sample that the thinner has dropped.
    fn drop_thinned(&self, record: RecordId, sample: Sample, lane: Lane) {
        match self.globals.slots.slot_at(sample.address) {
            Some(slot) => {
                let cell = slot.cell();
                // Relaxed: nothing is published through the cell. The exchange fails if the owner
                // has freed the object in the meantime and cleared the cell.
                let _ = cell.compare_exchange(
                    record.to_cell(),
                    0,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
            }
            None => self.large.clear_record(sample.address, record),
        }
        self.retire(record, sample, lane);
        self.count(lane, Counter::Thinned);
    }

    /// Changes the weight of a sample that the thinner has kept.
    fn reweigh(&self, sample: Sample, interval: Interval, lane: Lane) {
        let (site, before) = site_and_addend(sample.object);
        self.stacks.remove_live(site, before, lane);
        self.stacks.add_live(site, Addend::of(sample.object.size, interval), lane);
    }

    /// Raises the interval, so that about half of the live samples will be dropped, unless thinning
    /// is already going on.
    pub(super) fn begin_thinning(&self, lane: Lane) {
        if self.thinner.begin(self.sweep()) {
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
            skipped_dumps: 0,
            stacks: u64::from(self.stacks.len()) - 1,
            unwound_framehop: sum(Counter::Framehop),
            unwound_backtrace: sum(Counter::Backtrace),
            truncated_stacks: sum(Counter::Truncated),
            profiler_bytes: self.globals.budget.held(),
            max_profiler_bytes: self.globals.budget.cap(),
        }
    }
}

/// Returns the site of an object and what the object adds to its sums.
#[inline]
fn site_and_addend(object: SampledObject) -> (SiteId, Addend) {
    (SiteId(object.site), Addend::of(object.size, object.interval))
}
