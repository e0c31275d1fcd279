//! Records: what is known of each live sample.
//!
//! The state word decides everything:
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
//! Readers copy the fields between two loads of the state word and discard the copy when it moved
//! (a sequence lock); writers never wait for them.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::arena::{Budget, Table, UpTo, Zeroed};
use crate::sampler::Interval;
use crate::sync::{FreeList, LANES, Lane, OwnList};

/// Index of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordId(u32);

impl RecordId {
    /// As kept in a cell, where 0 is no record.
    pub(crate) fn to_cell(self) -> u32 {
        self.0 + 1
    }

    pub(crate) fn from_cell(cell: u32) -> Option<Self> {
        cell.checked_sub(1).map(Self)
    }
}

/// What a sample is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewSample {
    pub(crate) address: usize,
    pub(crate) size: u64,
    pub(crate) site: u32,
    pub(crate) interval: Interval,
    pub(crate) birth_ms: u64,
    pub(crate) birth_tick: u32,
    pub(crate) reallocs: u32,
    /// The identity to go on with, for an object that `realloc` moved or resized.
    pub(crate) id: Option<u64>,
}

/// A consistent copy of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) id: u64,
    pub(crate) address: usize,
    pub(crate) size: u64,
    pub(crate) site: u32,
    pub(crate) interval: Interval,
    pub(crate) birth_ms: u64,
    pub(crate) birth_tick: u32,
    pub(crate) reallocs: u32,
}

impl Sample {
    /// The same sample, to be published again.
    pub(crate) fn again(self) -> NewSample {
        NewSample {
            address: self.address,
            size: self.size,
            site: self.site,
            interval: self.interval,
            birth_ms: self.birth_ms,
            birth_tick: self.birth_tick,
            reallocs: self.reallocs,
            id: Some(self.id),
        }
    }
}

/// One entry of the table. Public to this module's users only for its size.
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
    /// Link of the free list.
    link: AtomicU32,
}

// SAFETY: all fields are atomic integers; zero is a free record of generation 0.
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
    /// Nothing: it is free, or at the interval already, or changed meanwhile.
    Untouched,
    /// It stays, at the new interval; the copy has the old one.
    Kept(Sample, Interval),
    /// It is out. Its cell is the caller's to clear, then the record to be released.
    Dropped(RecordId, Sample),
}

/// The records of a session, handed out from free lists, a short one in each lane.
#[derive(Debug)]
pub(crate) struct Records {
    table: Table<Record>,
    /// Records ever made; all below are or were in use.
    made: AtomicU32,
    free: FreeList,
    parts: Box<[Part]>,
}

/// What a lane has, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Part {
    free: OwnList,
    /// Records in use that were taken by this lane less those returned to it; wraps.
    taken: AtomicU64,
}

/// The most free records that a lane keeps to itself.
const MOST_OWN: u32 = 16;

impl Records {
    /// At most `capacity` records.
    pub(crate) fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self {
            table: Table::new(capacity.min(u32::MAX as usize - 1))?,
            made: AtomicU32::new(0),
            free: FreeList::default(),
            parts: (0..LANES).map(|_| Part::default()).collect(),
        })
    }

    /// Records in use.
    pub(crate) fn live(&self) -> u64 {
        // Relaxed: a count, of no moment in particular.
        self.parts.iter().map(|part| part.taken.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }

    /// Records that exist, in use or free.
    pub(crate) fn made(&self) -> u32 {
        // Acquire is not needed: a record's own state word says whether it can be read.
        self.made.load(Ordering::Relaxed).min(self.table.len() as u32)
    }

    /// Whether hardly any record is free and none can be made: time to thin, while the last eighth
    /// of the records serves the samples that come meanwhile.
    pub(crate) fn are_running_out(&self, budget: &Budget) -> bool {
        let made = self.made();
        let cannot_make = made as usize >= self.table.len() / 8 * 7
            || budget.refuses(made as u64 / 8 * Table::<Record>::entry_bytes(), UpTo::Soft);
        cannot_make && self.live() >= u64::from(made) / 8 * 7
    }

    /// A free record, or a new one. `None` when there is none and the budget has no room.
    pub(crate) fn take(&self, lane: Lane, budget: &Budget) -> Option<RecordId> {
        let link = |index| &self.table.get(index as usize).link;
        let own = lane.own(&self.parts).and_then(|part| part.free.pop(link));
        let index = own.or_else(|| self.free.pop(link)).or_else(|| self.make(budget))?;
        lane.add(&self.parts[lane.number()].taken, 1);
        Some(RecordId(index))
    }

    fn make(&self, budget: &Budget) -> Option<u32> {
        if self.made() as usize >= self.table.len()
            || !budget.try_charge(Table::<Record>::entry_bytes(), UpTo::Soft)
        {
            return None;
        }
        // Relaxed: only uniqueness matters.
        let index = self.made.fetch_add(1, Ordering::Relaxed);
        if (index as usize) < self.table.len() {
            return Some(index);
        }
        // Lost a race for the last one. The overshoot is bounded by the number of threads.
        self.made.fetch_sub(1, Ordering::Relaxed);
        budget.adjust(-(Table::<Record>::entry_bytes() as i64));
        None
    }

    /// Fills a record that was taken, and makes it live.
    pub(crate) fn publish(&self, record: RecordId, sample: NewSample) {
        let entry = self.table.get(record.0 as usize);
        // Relaxed: this thread took the record, and `FreeList` handed over what was done before.
        let state = entry.state.load(Ordering::Relaxed);
        let id = sample.id.unwrap_or((state >> 33) << 32 | u64::from(record.0));
        // A reader that sees any of the stores below, then fences, sees the state word that was
        // stored before them and discards its copy. Pairs with the fence in `read`.
        fence(Ordering::Release);
        entry.id.store(id, Ordering::Relaxed);
        entry.address.store(sample.address as u64, Ordering::Relaxed);
        entry.size.store(sample.size, Ordering::Relaxed);
        entry.birth_ms.store(sample.birth_ms, Ordering::Relaxed);
        entry.birth_tick.store(sample.birth_tick, Ordering::Relaxed);
        entry.site.store(sample.site, Ordering::Relaxed);
        entry.reallocs.store(sample.reallocs, Ordering::Relaxed);
        // Release: whoever acquires this state sees the fields. Pairs with `read` and `claim`.
        entry.state.store(with_interval(state, sample.interval) | LIVE, Ordering::Release);
    }

    /// Takes the record of `address` out of the live set, for its owner. `None` where it is not
    /// that address's record any more: the thinner was here first.
    ///
    /// The caller clears the cell, then calls [`release`](Self::release).
    pub(crate) fn claim(&self, record: RecordId, address: usize) -> Option<Sample> {
        // A cell left over from an earlier session may point beyond this one's table.
        if record.0 >= self.made() {
            return None;
        }
        let entry = self.table.get(record.0 as usize);
        // Acquire: pairs with `publish`.
        let mut state = entry.state.load(Ordering::Acquire);
        loop {
            // The address tells whose record it is; that it still is when the exchange succeeds
            // follows from the generation in the state word.
            if state & LIVE == 0 || entry.address.load(Ordering::Relaxed) != address as u64 {
                return None;
            }
            // Acquire: pairs with `publish`. Release: keeps the loads of readers' copies before
            // what the next user of the record stores.
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

    /// Gives a claimed or dropped record back.
    pub(crate) fn release(&self, record: RecordId, lane: Lane) {
        let link = &self.table.get(record.0 as usize).link;
        let own = lane.own(&self.parts);
        if !own.is_some_and(|part| part.free.push(record.0, link, MOST_OWN)) {
            self.free.push(record.0, link);
        }
        lane.add(&self.parts[lane.number()].taken, u64::MAX);
    }

    fn fields(&self, entry: &Record, state: u64) -> Sample {
        // Relaxed: whoever calls has acquired the state, and owns the record or looks at the state
        // again.
        Sample {
            id: entry.id.load(Ordering::Relaxed),
            address: entry.address.load(Ordering::Relaxed) as usize,
            size: entry.size.load(Ordering::Relaxed),
            site: entry.site.load(Ordering::Relaxed),
            interval: interval_of(state),
            birth_ms: entry.birth_ms.load(Ordering::Relaxed),
            birth_tick: entry.birth_tick.load(Ordering::Relaxed),
            reallocs: entry.reallocs.load(Ordering::Relaxed),
        }
    }

    /// A consistent copy of record number `index`, if it is live.
    pub(crate) fn read(&self, index: u32) -> Option<Sample> {
        self.read_with_state(index).map(|(sample, _)| sample)
    }

    fn read_with_state(&self, index: u32) -> Option<(Sample, u64)> {
        let entry = self.table.get(index as usize);
        // Acquire: pairs with `publish`.
        let mut state = entry.state.load(Ordering::Acquire);
        loop {
            if state & LIVE == 0 {
                return None;
            }
            let sample = self.fields(entry, state);
            // Pairs with the fence in `publish`.
            fence(Ordering::Acquire);
            let now = entry.state.load(Ordering::Relaxed);
            if now == state {
                return Some((sample, state));
            }
            state = now;
        }
    }

    /// Thins one record to `target`: keeps it with probability p(target)/p(its interval). `uniform` draws
    /// from (0, 1].
    pub(crate) fn thin(
        &self,
        index: u32,
        target: Interval,
        uniform: impl FnOnce() -> f64,
    ) -> Thinned {
        let Some((sample, state)) = self.read_with_state(index) else { return Thinned::Untouched };
        if sample.interval >= target {
            return Thinned::Untouched;
        }
        let kept_share = target.probability(sample.size) / sample.interval.probability(sample.size);
        let keep = uniform() <= kept_share;
        let new = if keep { with_interval(state, target) } else { freed(state) };
        let entry = self.table.get(index as usize);
        // AcqRel: as in `claim`. The exchange fails when the owner freed the object meanwhile.
        let changed =
            entry.state.compare_exchange(state, new, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        match (changed, keep) {
            (false, _) => Thinned::Untouched,
            (true, true) => Thinned::Kept(sample, target),
            (true, false) => Thinned::Dropped(RecordId(index), sample),
        }
    }
}
