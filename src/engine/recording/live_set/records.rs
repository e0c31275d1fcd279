//! Records: what is known of each live sample.
//!
//! The state word decides every race:
//!
//! ```text
//!   bits 63..33  generation, one up each time the record is freed
//!   bit  32      live
//!   bits 31..0   interval (f32) at which the sample is kept
//!
//!            publish                 claim (owner) or drop (thinner)
//!    free ─────────────► live(R) ─────────────────────────────────────► free, generation + 1
//!                        live(R) ─── keep (thinner) ──► live(2R)
//! ```
//! Readers copy the fields between two loads of the state word and discard the copy when the word
//! has changed (a seqlock), so writers never wait for them.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::engine::recording::arena::{Budget, Table, UpTo, Zeroed};
use crate::engine::recording::sampler::Interval;
use crate::engine::recording::sync::{FreeList, LANES, Lane, LaneFreeList};
use crate::snapshot::LiveSample;

/// The index of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordId(u32);

impl RecordId {
    /// The value that a cell holds, where 0 means no record.
    pub(crate) fn to_cell(self) -> u32 {
        self.0 + 1
    }

    pub(crate) fn from_cell(cell: u32) -> Option<Self> {
        cell.checked_sub(1).map(Self)
    }
}

/// What is known of a sampled object, for every reader.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SampledObject {
    pub(crate) size: u64,
    pub(crate) site: u32,
    /// The interval at which the sample is kept.
    pub(crate) interval: Interval,
    pub(crate) birth_ms: u64,
    pub(crate) birth_tick: u32,
    pub(crate) reallocs: u32,
}

/// The contents of a new record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewSample {
    pub(crate) address: usize,
    pub(crate) object: SampledObject,
    /// The identity to keep, if `realloc` moved or resized the object.
    pub(crate) id: Option<u64>,
}

/// A consistent copy of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) id: u64,
    pub(crate) address: usize,
    pub(crate) object: SampledObject,
}

impl Sample {
    /// The same sample, to be published again.
    pub(crate) fn to_new_sample(self) -> NewSample {
        NewSample { address: self.address, object: self.object, id: Some(self.id) }
    }

    /// The sample as snapshots and the leak detector see it. `stack` holds the site until the
    /// stacks are numbered, and the birth is relative to the start of the session.
    pub(crate) fn to_live(self, started_ms: u64) -> LiveSample {
        let SampledObject { size, site, interval, birth_ms, birth_tick, reallocs } = self.object;
        LiveSample {
            id: self.id,
            stack: site,
            size,
            interval: interval.bytes(),
            birth_ms: birth_ms.saturating_sub(started_ms),
            birth_tick,
            reallocs,
        }
    }
}

/// One entry of the table. It is public only for its size.
#[derive(Debug)]
pub(crate) struct Record {
    state: AtomicU64,
    id: AtomicU64,
    address: AtomicU64,
    size: AtomicU64,
    birth_ms: AtomicU64,
    birth_tick: AtomicU32,
    site: AtomicU32,
    reallocs: AtomicU32,
    /// The link of the free list.
    link: AtomicU32,
}

// SAFETY: all fields are atomic integers, and zero is a free record of generation 0.
unsafe impl Zeroed for Record {}

const LIVE: u64 = 1 << 32;
const GENERATION: u64 = 1 << 33;

fn interval_of(state: u64) -> Interval {
    Interval::from_bits(state as u32)
}

fn freed(state: u64) -> u64 {
    (state & !(GENERATION - 1)).wrapping_add(GENERATION)
}

fn with_interval(state: u64, interval: Interval) -> u64 {
    (state & !u64::from(u32::MAX)) | u64::from(interval.to_bits())
}

/// What the thinner did to one record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Thinned {
    /// The record was left alone: it is free, is at the interval already, or changed meanwhile.
    Untouched,
    /// The sample is kept at the new interval. The copy still has the old interval.
    Kept(Sample, Interval),
    /// The sample was dropped. The caller clears its cell and then releases the record.
    Dropped(RecordId, Sample),
}

/// The records of a session, which are handed out from free lists: one shared list, and a short one
/// for each lane.
#[derive(Debug)]
pub(crate) struct Records {
    table: Table<Record>,
    /// The number of records that were ever created; the table is untouched above it.
    created: AtomicU32,
    free: FreeList,
    lanes: Box<[LaneRecords]>,
}

/// The state of one lane, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct LaneRecords {
    free: LaneFreeList,
    /// Records that were taken in this lane minus those that were released in it. It wraps around;
    /// only the sum over all lanes counts.
    in_use: AtomicU64,
}

/// The most free records that a lane keeps for itself.
const MAX_LANE_FREE: u32 = 16;

impl Records {
    /// Creates a table of at most `capacity` records.
    pub(crate) fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self {
            table: Table::new(capacity.min(u32::MAX as usize - 1))?,
            created: AtomicU32::new(0),
            free: FreeList::default(),
            lanes: (0..LANES).map(|_| LaneRecords::default()).collect(),
        })
    }

    /// The number of records in use.
    pub(crate) fn live(&self) -> u64 {
        // Relaxed: a statistic, through which nothing is published.
        self.lanes
            .iter()
            .map(|shard| shard.in_use.load(Ordering::Relaxed))
            .fold(0, u64::wrapping_add)
    }

    /// The number of records that exist, whether in use or free.
    pub(crate) fn created(&self) -> u32 {
        // Relaxed: a record's own state word says whether it can be read.
        self.created.load(Ordering::Relaxed).min(self.table.len() as u32)
    }

    /// Whether hardly any record is free and no more can be created. That is the time to thin,
    /// while the last eighth of the records serves the samples that arrive meanwhile.
    pub(crate) fn are_running_out(&self, budget: &Budget) -> bool {
        let created = self.created();
        let cannot_create = created as usize >= self.table.len() / 8 * 7
            || budget.refuses(created as u64 / 8 * Table::<Record>::entry_bytes(), UpTo::Soft);
        cannot_create && self.live() >= u64::from(created) / 8 * 7
    }

    /// Takes a free record, or creates one. `None` when none is free and the budget has no room.
    pub(crate) fn take(&self, lane: Lane, budget: &Budget) -> Option<RecordId> {
        let link = |index| &self.table.get(index as usize).link;
        let cached = lane.shard(&self.lanes).and_then(|shard| shard.free.pop(link));
        let index = cached.or_else(|| self.free.pop(link)).or_else(|| self.create(budget))?;
        lane.add(&self.lanes[lane.number()].in_use, 1);
        Some(RecordId(index))
    }

    fn create(&self, budget: &Budget) -> Option<u32> {
        if self.created() as usize >= self.table.len()
            || !budget.try_charge(Table::<Record>::entry_bytes(), UpTo::Soft)
        {
            return None;
        }
        // Relaxed: the indices only need to be unique.
        let index = self.created.fetch_add(1, Ordering::Relaxed);
        if (index as usize) < self.table.len() {
            return Some(index);
        }
        // Another thread created the last record. The overshoot is bounded by the number of
        // threads.
        self.created.fetch_sub(1, Ordering::Relaxed);
        budget.adjust(-(Table::<Record>::entry_bytes() as i64));
        None
    }

    /// Fills a record that this thread has taken, and makes it live.
    pub(crate) fn publish(&self, record: RecordId, sample: NewSample) {
        let entry = self.table.get(record.0 as usize);
        // Relaxed: this thread took the record, and the free list published what was done to it
        // before.
        let state = entry.state.load(Ordering::Relaxed);
        let id = sample.id.unwrap_or((state >> 33) << 32 | u64::from(record.0));
        // Release: pairs with the Acquire fence in `read_with_state`. A reader that sees any of the
        // stores below sees, after its fence, the state word that was stored before them, and
        // discards its copy.
        fence(Ordering::Release);
        entry.id.store(id, Ordering::Relaxed);
        entry.address.store(sample.address as u64, Ordering::Relaxed);
        let object = sample.object;
        entry.size.store(object.size, Ordering::Relaxed);
        entry.birth_ms.store(object.birth_ms, Ordering::Relaxed);
        entry.birth_tick.store(object.birth_tick, Ordering::Relaxed);
        entry.site.store(object.site, Ordering::Relaxed);
        entry.reallocs.store(object.reallocs, Ordering::Relaxed);
        // Release: pairs with the Acquire loads in `read_with_state` and `claim`, whose threads
        // then see the fields.
        entry.state.store(with_interval(state, object.interval) | LIVE, Ordering::Release);
    }

    /// Removes the record of `address` from the live set, for the owner of the address. `None` if
    /// the record no longer belongs to that address, because the thinner was faster.
    ///
    /// The caller clears the cell and then calls [`release`](Self::release).
    pub(crate) fn claim(&self, record: RecordId, address: usize) -> Option<Sample> {
        // A cell that is left over from an earlier session may point beyond this session's table.
        if record.0 >= self.created() {
            return None;
        }
        let entry = self.table.get(record.0 as usize);
        // Acquire: pairs with the Release store in `publish`.
        let mut state = entry.state.load(Ordering::Acquire);
        loop {
            // The address says whether the record is still that of the caller's object. The
            // generation in the state word guarantees that this still holds when the exchange
            // succeeds.
            if state & LIVE == 0 || entry.address.load(Ordering::Relaxed) != address as u64 {
                return None;
            }
            // Acquire: pairs with the Release store in `publish`. Release: keeps loads of the
            // fields before the exchange ahead of the stores of the record's next user, who
            // acquires it from a free list.
            match entry.state.compare_exchange(
                state,
                freed(state),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(self.fields(entry, state)),
                Err(now) => state = now,
            }
        }
    }

    /// Returns a claimed or dropped record to the free lists.
    pub(crate) fn release(&self, record: RecordId, lane: Lane) {
        let link = &self.table.get(record.0 as usize).link;
        let cached = lane.shard(&self.lanes);
        if !cached.is_some_and(|shard| shard.free.push(record.0, link, MAX_LANE_FREE)) {
            self.free.push(record.0, link);
        }
        lane.add(&self.lanes[lane.number()].in_use, u64::MAX);
    }

    fn fields(&self, entry: &Record, state: u64) -> Sample {
        Sample {
            id: entry.id.load(Ordering::Relaxed),
            address: entry.address.load(Ordering::Relaxed) as usize,
            object: SampledObject {
                size: entry.size.load(Ordering::Relaxed),
                site: entry.site.load(Ordering::Relaxed),
                interval: interval_of(state),
                birth_ms: entry.birth_ms.load(Ordering::Relaxed),
                birth_tick: entry.birth_tick.load(Ordering::Relaxed),
                reallocs: entry.reallocs.load(Ordering::Relaxed),
            },
        }
    }

    /// A consistent copy of the record number `index`, if it is live.
    pub(crate) fn read(&self, index: u32) -> Option<Sample> {
        self.read_with_state(index).map(|(sample, _)| sample)
    }

    fn read_with_state(&self, index: u32) -> Option<(Sample, u64)> {
        let entry = self.table.get(index as usize);
        // Acquire: pairs with the Release store in `publish`.
        let mut state = entry.state.load(Ordering::Acquire);
        loop {
            if state & LIVE == 0 {
                return None;
            }
            let sample = self.fields(entry, state);
            // Acquire: pairs with the Release fence in `publish`.
            fence(Ordering::Acquire);
            let now = entry.state.load(Ordering::Relaxed);
            if now == state {
                return Some((sample, state));
            }
            state = now;
        }
    }

    /// Thins one record to `target`: keeps it with the probability p(target) / p(its interval).
    /// `uniform` draws from (0, 1].
    pub(crate) fn thin(
        &self,
        index: u32,
        target: Interval,
        uniform: impl FnOnce() -> f64,
    ) -> Thinned {
        let Some((sample, state)) = self.read_with_state(index) else { return Thinned::Untouched };
        let SampledObject { size, interval, .. } = sample.object;
        if interval >= target {
            return Thinned::Untouched;
        }
        let kept_share = target.probability(size) / interval.probability(size);
        let keep = uniform() <= kept_share;
        let new = if keep { with_interval(state, target) } else { freed(state) };
        let entry = self.table.get(index as usize);
        // AcqRel: as in `claim`. The exchange fails if the owner freed the object meanwhile.
        let changed =
            entry.state.compare_exchange(state, new, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        match (changed, keep) {
            (false, _) => Thinned::Untouched,
            (true, true) => Thinned::Kept(sample, target),
            (true, false) => Thinned::Dropped(RecordId(index), sample),
        }
    }
}
