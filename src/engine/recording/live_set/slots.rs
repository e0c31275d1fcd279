//! Slots: where small sampled objects live, so that a free recognises them by their address.
//!
//! One range of address space is reserved and handed out in spans of 64 KiB, each divided into
//! slots of one size class. The address and the size of a block then say whether it may be sampled
//! (`window.rs`): there is no lookup, however many samples are live. The metadata of slots is
//! stored outside the range, so that a program that overruns its blocks damages only its own data.
//!
//! ```text
//!   range    | 16 B | 16 B | not yet used | 48 B slots | 32 B | 48 B | … not yet used
//!   metas    | cell, link | cell, link | …                     one for each slot
//!   pages    | live slots, committed? | …                      one for each page, see `pages.rs`
//! ```
//! Slots of 16 bytes come first, because smaller objects are recognised at small offsets only.
//!
//! The range outlives sessions: objects stay in their slots when recording stops. Pages without a
//! live slot are decommitted when there are more of them than the budget can spare.

use std::alloc::Layout;
use std::io;
use std::iter;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::classes::{CLASSES, SIZES, SMALLEST, SPAN, class_for, slot_in_span};
use super::pages::{Acquisition, Pages};
use super::window::{self, may_be_sampled};
use crate::engine::recording::arena::{Budget, Table, UpTo, Zeroed};
use crate::engine::recording::sync::{Added, FreeList, LANES, Lane, LaneFreeList, UnflushedSum};
use crate::engine::recording::sys::{Access, PAGE, Reservation};

/// The range that is tried first, and the smallest one that is of use. Slot numbers have 32 bits:
/// 20 for the span and 12 for the slot in it.
const MAX_RANGE: usize = 64 << 30;
const MIN_RANGE: usize = 16 << 20;

const SLOT_BITS: u32 = 12;

/// The number of a slot: the number of its span, and its index in the span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SlotId(u32);

impl SlotId {
    fn new(span: u32, slot: u32) -> Self {
        Self(span << SLOT_BITS | slot)
    }

    fn span(self) -> usize {
        (self.0 >> SLOT_BITS) as usize
    }

    fn in_span(self) -> usize {
        (self.0 & ((1 << SLOT_BITS) - 1)) as usize
    }
}

#[derive(Debug)]
struct Span {
    /// The class + 1, or 0 for a span without a class.
    class: AtomicU32,
    /// The index of the metadata of the first slot.
    first_meta: AtomicU32,
}

// SAFETY: all fields are atomic integers, and zero is a span without a class.
unsafe impl Zeroed for Span {}

#[derive(Debug)]
struct Meta {
    cell: AtomicU32,
    /// The link of the free list.
    link: AtomicU32,
}

// SAFETY: all fields are atomic integers, and zero is a slot without a record.
unsafe impl Zeroed for Meta {}

/// A slot and its metadata. It has two words, so it is passed in registers; passed through memory
/// it would be written word by word and read two words at a time, which is a store-forwarding
/// stall.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot<'a> {
    meta: &'a Meta,
    /// The class in the upper half, the number in the lower.
    code: u64,
}

impl<'a> Slot<'a> {
    /// The cell of the object in the slot, see `RecordId::to_cell`.
    pub(crate) fn cell(self) -> &'a AtomicU32 {
        &self.meta.cell
    }

    fn new(id: SlotId, class: usize, meta: &'a Meta) -> Self {
        Self { meta, code: (class as u64) << 32 | u64::from(id.0) }
    }

    fn id(self) -> SlotId {
        SlotId(self.code as u32)
    }

    fn class(self) -> usize {
        (self.code >> 32) as usize
    }

    /// The offset of the slot in the range.
    fn offset(self) -> usize {
        self.id().span() * SPAN + self.id().in_span() * SIZES[self.class()] as usize
    }

    fn pages(self) -> std::ops::RangeInclusive<usize> {
        let offset = self.offset();
        offset / PAGE..=(offset + SIZES[self.class()] as usize - 1) / PAGE
    }
}

const META_BYTES: i64 = size_of::<Meta>() as i64;

/// The state of one lane, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct LaneSlots {
    /// Free slots whose pages stay acquired, so that they are handed out again without touching the
    /// pages.
    free: [LaneFreeList; CLASSES],
    slack: UnflushedSum,
}

/// The most free slots of each class that a lane keeps for itself: as many as fit in a page, but at
/// least one and at most eight, since each may keep a page from being decommitted.
const MAX_LANE_FREE: [u32; CLASSES] = {
    let mut max = [1; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        max[class] = match PAGE as u32 / SIZES[class] {
            0 => 1,
            page @ 1..8 => page,
            _ => 8,
        };
        class += 1;
    }
    max
};

/// The bounds of the slack that a lane keeps unflushed. The budget may count at most 1 KiB a lane
/// too little, but up to a page too much.
const UNFLUSHED_SLACK: std::ops::RangeInclusive<i64> = -(PAGE as i64)..=1024;

/// All slots of the process.
#[derive(Debug)]
pub(crate) struct Slots {
    pages: Pages,
    spans: Table<Span>,
    metas: Table<Meta>,
    free: [FreeList; CLASSES],
    lanes: Box<[LaneSlots]>,
    /// For each class, the span that is being carved into slots: its number + 1 in the high half,
    /// the next slot in the low half.
    open_span: [AtomicU64; CLASSES],
    /// The next span of the smallest class. Its spans end where those of the other classes begin.
    next_smallest_span: AtomicU32,
    first_other_span: u32,
    next_other_span: AtomicU32,
    next_meta: AtomicU32,
}

impl Slots {
    /// Reserves the range: 64 GiB, or less if that is refused (`RLIMIT_AS`).
    pub(crate) fn reserve() -> io::Result<Self> {
        Self::reserve_at(window::START)
    }

    fn reserve_at(start: usize) -> io::Result<Self> {
        let range = Self::reserve_range(start)?;
        // There is metadata for an eighth of the slots that would fit if all were of the smallest
        // class, and for at most 2²⁵.
        let metas = (range.len() / SIZES[SMALLEST] as usize / 8).min(1 << 25);
        let first_other_span = (metas * SIZES[SMALLEST] as usize / SPAN) as u32;
        Ok(Self {
            spans: Table::new(range.len() / SPAN)?,
            pages: Pages::new(range)?,
            metas: Table::new(metas)?,
            free: std::array::from_fn(|_| FreeList::default()),
            lanes: (0..LANES)
                .map(|_| LaneSlots {
                    free: std::array::from_fn(|_| LaneFreeList::default()),
                    slack: UnflushedSum::default(),
                })
                .collect(),
            open_span: std::array::from_fn(|_| AtomicU64::new(0)),
            next_smallest_span: AtomicU32::new(0),
            first_other_span,
            next_other_span: AtomicU32::new(first_other_span),
            next_meta: AtomicU32::new(0),
        })
    }

    fn reserve_range(start: usize) -> io::Result<Reservation> {
        let mut len = MAX_RANGE;
        loop {
            match Reservation::new(len, Access::None, Some(start)) {
                Err(_) if len / 4 >= MIN_RANGE => len /= 4,
                outcome => return outcome,
            }
        }
    }

    /// The slot in which the block at `address` lies, if it lies in one.
    #[inline]
    pub(crate) fn slot_at(&self, address: usize) -> Option<Slot<'_>> {
        let offset = self.pages.offset(address)?;
        let span = offset / SPAN;
        // Relaxed: the class was stored before any slot of the span was handed out, and whoever has
        // the address of a block got it through the program's own synchronization.
        let class = self.spans.get(span).class.load(Ordering::Relaxed) as usize - 1;
        let id = SlotId::new(span as u32, slot_in_span(offset % SPAN, class));
        Some(self.slot(id, class))
    }

    fn slot(&self, id: SlotId, class: usize) -> Slot<'_> {
        Slot::new(id, class, self.meta(id))
    }

    fn meta(&self, slot: SlotId) -> &Meta {
        let first = self.spans.get(slot.span()).first_meta.load(Ordering::Relaxed) as usize;
        self.metas.get(first + slot.in_span())
    }

    /// Whether there is a class for such objects: they are at most 64 KiB in size and alignment.
    pub(crate) fn can_hold(layout: Layout) -> bool {
        class_for(layout).is_some()
    }

    /// Whether an object can change its layout to `new` and stay in `slot`.
    pub(crate) fn fits_in_place(&self, slot: Slot<'_>, new: Layout) -> bool {
        class_for(new) == Some(slot.class())
            && may_be_sampled(self.block(slot) as usize, new.size())
    }

    /// The address of a slot.
    #[inline]
    pub(crate) fn block(&self, slot: Slot<'_>) -> *mut u8 {
        self.pages.block(slot.offset())
    }

    /// The bytes of slots that hold no object, and of the metadata of slots.
    pub(crate) fn overhead(&self) -> i64 {
        self.pages.slack()
    }

    /// Allocates an uninitialised slot for `layout`. `None` if the alignment is above 64 KiB, the
    /// range is used up, or the budget has no room for the slack.
    #[inline]
    pub(crate) fn allocate(&self, layout: Layout, lane: Lane, budget: &Budget) -> Option<Slot<'_>> {
        let slot = self.take(class_for(layout)?, lane, budget)?;
        if !may_be_sampled(self.block(slot) as usize, layout.size()) {
            // The object is smaller than 16 bytes with a larger alignment, and the slot lies beyond
            // the first 4 GiB of the range.
            self.cache_or_release(slot, lane, budget);
            return None;
        }
        self.add_slack(-(layout.size() as i64), lane, budget);
        Some(slot)
    }

    /// Takes a free slot of a class, with its pages acquired.
    #[inline]
    fn take(&self, class: usize, lane: Lane, budget: &Budget) -> Option<Slot<'_>> {
        let link = |slot: u32| &self.meta(SlotId(slot)).link;
        if let Some(slot) = lane.shard(&self.lanes).and_then(|shard| shard.free[class].pop(link)) {
            return Some(self.slot(SlotId(slot), class));
        }
        self.take_shared(class, budget)
    }

    /// Takes a slot that no lane keeps for itself.
    #[inline(never)]
    fn take_shared(&self, class: usize, budget: &Budget) -> Option<Slot<'_>> {
        let link = |slot: u32| &self.meta(SlotId(slot)).link;
        let free = iter::from_fn(|| self.free[class].pop(link).map(SlotId));
        let new = iter::from_fn(|| {
            let slot =
                (!budget.refuses(META_BYTES as u64, UpTo::Hard)).then(|| self.carve(class))??;
            self.pages.charge_slack(META_BYTES, budget);
            Some(slot)
        });
        self.first_acquired(free, class, budget).or_else(|| self.first_acquired(new, class, budget))
    }

    /// The first of the free `slots` whose pages can be acquired.
    fn first_acquired(
        &self,
        slots: impl Iterator<Item = SlotId>,
        class: usize,
        budget: &Budget,
    ) -> Option<Slot<'_>> {
        for slot in slots {
            let slot = self.slot(slot, class);
            match self.pages.acquire(slot.pages(), budget) {
                Acquisition::Acquired => return Some(slot),
                // In a forked child a page may stay in this state forever. Its slot is abandoned,
                // because a slot that was put back would be the next to be found.
                Acquisition::Decommitting => {}
                Acquisition::OverBudget => {
                    self.free[class].push(slot.id().0, &slot.meta.link);
                    return None;
                }
            }
        }
        None
    }

    /// Carves off a slot that was never used.
    fn carve(&self, class: usize) -> Option<SlotId> {
        let slots_per_span = SPAN as u64 / u64::from(SIZES[class]);
        let open_span = &self.open_span[class];
        // Acquire: pairs with the Release of the exchange below, which publishes the span's class
        // and metadata.
        let mut now = open_span.load(Ordering::Acquire);
        loop {
            let (span, next) = (now >> 32, now & u64::from(u32::MAX));
            if span != 0 && next < slots_per_span {
                match open_span.compare_exchange_weak(
                    now,
                    now + 1,
                    Ordering::Acquire,
                    Ordering::Acquire,
                ) {
                    Ok(_) => return Some(SlotId::new(span as u32 - 1, next as u32)),
                    Err(other) => now = other,
                }
                continue;
            }
            let span = self.new_span(class, slots_per_span as u32)?;
            let new = (u64::from(span) + 1) << 32 | 1;
            // Release: publishes the span to the Acquire operations above. Acquire on failure:
            // pairs with the Release of the thread that opened a span.
            match open_span.compare_exchange(now, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(SlotId::new(span, 0)),
                // Another thread opened a span at the same moment. This span stays unused: it costs
                // address space and a table entry, but no memory.
                Err(other) => now = other,
            }
        }
    }

    fn new_span(&self, class: usize, slots: u32) -> Option<u32> {
        let take = |next: &AtomicU32, count: u32, len: usize| {
            next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |first| {
                (first as usize + count as usize <= len).then_some(first + count)
            })
            .ok()
        };
        let first_meta = take(&self.next_meta, slots, self.metas.len())?;
        let span = if class == SMALLEST {
            take(&self.next_smallest_span, 1, self.first_other_span as usize)?
        } else {
            take(&self.next_other_span, 1, self.spans.len())?
        };
        if !self.pages.commit_span(span as usize) {
            return None;
        }
        let entry = self.spans.get(span as usize);
        entry.first_meta.store(first_meta, Ordering::Relaxed);
        entry.class.store(class as u32 + 1, Ordering::Relaxed);
        Some(span)
    }

    /// Accounts for an object that changed its size in place.
    pub(crate) fn record_resize(&self, old: usize, new: usize, lane: Lane, budget: &Budget) {
        self.add_slack(old as i64 - new as i64, lane, budget);
    }

    #[inline]
    fn add_slack(&self, bytes: i64, lane: Lane, budget: &Budget) {
        let added = match lane.shard(&self.lanes) {
            Some(shard) => shard.slack.add(bytes, UNFLUSHED_SLACK),
            None => Added::Flush(bytes),
        };
        if let Added::Flush(bytes) = added {
            self.pages.charge_slack(bytes, budget);
        }
    }

    /// Frees the slot of an object of `size` bytes. Its cell must be cleared.
    #[inline]
    pub(crate) fn free(&self, slot: Slot<'_>, size: usize, lane: Lane, budget: &Budget) {
        self.add_slack(size as i64, lane, budget);
        self.cache_or_release(slot, lane, budget);
    }

    #[inline]
    fn cache_or_release(&self, slot: Slot<'_>, lane: Lane, budget: &Budget) {
        let is_cached = lane.shard(&self.lanes).is_some_and(|shard| {
            let free = &shard.free[slot.class()];
            self.pages.slack() <= budget.cap() as i64 / 64
                && free.push(slot.id().0, &slot.meta.link, MAX_LANE_FREE[slot.class()])
        });
        if !is_cached {
            self.release(slot, budget);
        }
    }

    /// Returns a free slot to the shared list, and decommits its pages if there is too much slack.
    #[inline(never)]
    fn release(&self, slot: Slot<'_>, budget: &Budget) {
        self.pages.release(slot.pages(), budget);
        self.free[slot.class()].push(slot.id().0, &slot.meta.link);
    }

    /// Returns the free slots that a lane has kept for itself to the shared lists.
    pub(crate) fn flush_lane(&self, lane: Lane, budget: &Budget) {
        let Some(shard) = lane.shard(&self.lanes) else { return };
        for (class, free) in shard.free.iter().enumerate() {
            while let Some(slot) = free.pop(|slot| &self.meta(SlotId(slot)).link) {
                self.release(self.slot(SlotId(slot), class), budget);
            }
        }
    }

    /// Decommits all pages without a live slot.
    pub(crate) fn decommit_unused(&self, budget: &Budget) {
        for (first, next) in
            [(0, &self.next_smallest_span), (self.first_other_span, &self.next_other_span)]
        {
            let page = |span: u32| span as usize * (SPAN / PAGE);
            self.pages.decommit_unused(page(first)..page(next.load(Ordering::Relaxed)), budget);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots with a range of their own. Number 0 is the range of the process; in the range `number`
    /// objects must be larger than 16 × `number` bytes.
    fn slots(number: usize) -> Slots {
        Slots::reserve_at(window::START + number * MAX_RANGE).unwrap()
    }

    /// One thread allocates, another frees, and pages are decommitted all the time.
    #[test]
    fn allocation_waits_for_a_page_that_is_being_decommitted() {
        let slots = slots(3);
        let budget = Budget::new(16 << 20);
        // There is so much slack that each page without a live slot is decommitted at once.
        slots.pages.charge_slack(1 << 20, &budget);
        let layout = Layout::from_size_align(500, 8).unwrap();
        let (hand_over, handed) = std::sync::mpsc::sync_channel::<usize>(64);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for block in handed {
                    let slot = slots.slot_at(block).unwrap();
                    slots.free(slot, layout.size(), Lane::SHARED, &budget);
                }
            });
            for _ in 0..100_000 {
                let slot = slots.allocate(layout, Lane::SHARED, &budget).expect("there is room");
                hand_over.send(slots.block(slot) as usize).unwrap();
            }
            drop(hand_over);
        });
    }

    #[test]
    fn at_least_sixteen_small_objects_share_a_page() {
        let slots = slots(1);
        let budget = Budget::new(64 << 20);
        let mut random = crate::engine::recording::sampler::Random::new(3, 0);
        let blocks: Vec<usize> = (0..4_000)
            .map(|_| {
                let layout = Layout::from_size_align(17 + random.next() as usize % 48, 8).unwrap();
                slots.block(slots.allocate(layout, Lane::of(0), &budget).unwrap()) as usize
            })
            .collect();
        let pages: std::collections::HashSet<usize> = blocks.iter().map(|b| b / PAGE).collect();
        // One page of each class is being filled.
        assert!(pages.len() <= blocks.len() / 16 + 3, "{} pages", pages.len());
    }

    /// Free slots of one lane become available to the others when the lane is flushed.
    #[test]
    fn a_lane_caches_free_slots_until_it_is_flushed() {
        let slots = slots(2);
        let budget = Budget::new(64 << 20);
        let layout = Layout::from_size_align(48, 8).unwrap();
        let [own, other] = [Lane::of(0), Lane::of(1)];
        let allocate = |lane| slots.allocate(layout, lane, &budget).unwrap();
        let slot = allocate(own);
        slots.free(slot, 48, own, &budget);
        assert_ne!(allocate(other).id(), slot.id());
        slots.flush_lane(own, &budget);
        assert_eq!(allocate(other).id(), slot.id());
    }
}
