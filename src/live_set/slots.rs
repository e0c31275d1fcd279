//! Slots: where small sampled objects live, so that a free knows them by their address.
//!
//! One range of address space is reserved and served in spans of 64 KiB, each cut into slots of one
//! size class. Whether a block is sampled is then told by its address and its size (`window.rs`):
//! nothing is looked up, however many samples are live. What is known of a slot stands outside the
//! range, so that a program that overruns its blocks damages its own data only.
//!
//! ```text
//!   range    | 16 B | 16 B | not yet used | 48 B slots | 32 B | 48 B | … not yet used
//!   metas    | cell, link | cell, link | …                        one a slot
//!   pages    | live slots, committed? | …                         one a page of 4 KiB, see `pages.rs`
//! ```
//! Slots of 16 bytes come first: smaller objects are told at small offsets only.
//!
//! The range outlives sessions: objects stay in their slots when recording stops. Memory of pages
//! without a live slot is given back when their sum exceeds what the budget can spare.

use std::alloc::Layout;
use std::io;
use std::iter;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::classes::{CLASSES, SIZES, SMALLEST, SPAN, class_for, slot_in_span};
use super::pages::{Entry, Pages};
use super::window::{self, may_be_sampled};
use crate::arena::{Budget, Table, UpTo, Zeroed};
use crate::sync::{Added, FreeList, LANES, Lane, OwnList, Pending};
use crate::sys::{Access, PAGE, Reservation};

/// The range that is tried first, and the smallest that is of use. Slot numbers have 32 bits: 20
/// for the span and 12 for the slot in it.
const MAX_RANGE: usize = 64 << 30;
const MIN_RANGE: usize = 16 << 20;

const SLOT_BITS: u32 = 12;

/// The number of a slot: of its span, and in the span.
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
    /// Class + 1.
    class: AtomicU32,
    /// Index of the first slot's meta.
    first_meta: AtomicU32,
}

// SAFETY: atomics only; zero is a span without a class.
unsafe impl Zeroed for Span {}

#[derive(Debug)]
struct Meta {
    cell: AtomicU32,
    /// Link of the free list.
    link: AtomicU32,
}

// SAFETY: atomics only; zero is a slot without a record.
unsafe impl Zeroed for Meta {}

/// A slot and what is known of it. Two words, and so passed in registers: what is passed through memory
/// is written by words and read by two at once, which waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot<'a> {
    meta: &'a Meta,
    /// The class in the upper half, the number in the lower.
    code: u64,
}

impl<'a> Slot<'a> {
    /// The record of the object in the slot, see `RecordId::to_cell`.
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

    /// Where it is in the range.
    fn offset(self) -> usize {
        self.id().span() * SPAN + self.id().in_span() * SIZES[self.class()] as usize
    }

    fn pages(self) -> std::ops::RangeInclusive<usize> {
        let offset = self.offset();
        offset / PAGE..=(offset + SIZES[self.class()] as usize - 1) / PAGE
    }
}

const META_BYTES: i64 = size_of::<Meta>() as i64;

/// What a lane has, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Part {
    /// Free slots whose pages count them as if they were live: they are handed out again without a
    /// look at the pages.
    free: [OwnList; CLASSES],
    slack: Pending,
}

/// The most free slots of a size that a lane keeps to itself: a page of them, one at least and eight
/// at most, since each may keep a page from being given back.
const MOST_OWN: [u32; CLASSES] = {
    let mut most = [1; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        most[class] = match PAGE as u32 / SIZES[class] {
            0 => 1,
            page @ 1..8 => page,
            _ => 8,
        };
        class += 1;
    }
    most
};

/// Slack that a lane may keep to itself. What it has not told counts as held, but for a kilobyte.
const UNTOLD: std::ops::RangeInclusive<i64> = -(PAGE as i64)..=1024;

/// All slots of the process.
#[derive(Debug)]
pub(crate) struct Slots {
    pages: Pages,
    spans: Table<Span>,
    metas: Table<Meta>,
    free: [FreeList; CLASSES],
    parts: Box<[Part]>,
    /// For each class the span being cut: (span + 1) in the high half, next slot in the low half.
    cutting: [AtomicU64; CLASSES],
    /// Of the smallest class, whose spans end where those of others begin.
    next_smallest: AtomicU32,
    first_other: u32,
    next_other: AtomicU32,
    next_meta: AtomicU32,
}

impl Slots {
    /// Reserves the range: 64 GiB, or less where that is refused (`RLIMIT_AS`).
    pub(crate) fn reserve() -> io::Result<Self> {
        Self::reserve_at(window::START)
    }

    fn reserve_at(start: usize) -> io::Result<Self> {
        let range = Self::reserve_range(start)?;
        // An eighth of the slots that would fit if all were of the smallest class, and 2²⁵ at most.
        let metas = (range.len() / SIZES[SMALLEST] as usize / 8).min(1 << 25);
        let first_other = (metas * SIZES[SMALLEST] as usize / SPAN) as u32;
        Ok(Self {
            spans: Table::new(range.len() / SPAN)?,
            pages: Pages::new(range)?,
            metas: Table::new(metas)?,
            free: std::array::from_fn(|_| FreeList::default()),
            parts: (0..LANES)
                .map(|_| Part {
                    free: std::array::from_fn(|_| OwnList::default()),
                    slack: Pending::default(),
                })
                .collect(),
            cutting: std::array::from_fn(|_| AtomicU64::new(0)),
            next_smallest: AtomicU32::new(0),
            first_other,
            next_other: AtomicU32::new(first_other),
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
        // Relaxed: stored before any slot of the span was handed out.
        let class = self.spans.get(span).class.load(Ordering::Relaxed) as usize - 1;
        let id = SlotId::new(span as u32, slot_in_span(offset % SPAN, class));
        Some(self.slot(id, class))
    }

    fn slot(&self, id: SlotId, class: usize) -> Slot<'_> {
        Slot::new(id, class, self.meta(id))
    }

    fn meta(&self, slot: SlotId) -> &Meta {
        // Relaxed: as in `slot_at`.
        let first = self.spans.get(slot.span()).first_meta.load(Ordering::Relaxed) as usize;
        self.metas.get(first + slot.in_span())
    }

    /// Whether there are slots for such objects at all: not above 32 KiB, nor above 64 KiB of
    /// alignment.
    pub(crate) fn can_hold(layout: Layout) -> bool {
        class_for(layout).is_some()
    }

    /// Whether an object may change its size to `new` and stay where it is.
    pub(crate) fn fits(&self, slot: Slot<'_>, new: Layout) -> bool {
        class_for(new) == Some(slot.class())
            && may_be_sampled(self.block(slot) as usize, new.size())
    }

    /// Where a slot is.
    #[inline]
    pub(crate) fn block(&self, slot: Slot<'_>) -> *mut u8 {
        self.pages.block(slot.offset())
    }

    /// Bytes of slots that hold no object, and of what is known of slots.
    pub(crate) fn overhead(&self) -> i64 {
        self.pages.slack()
    }

    /// A slot for `layout`, uninitialised. `None` where the alignment is above 64 KiB, the
    /// range is used up, or the budget has no room for the slack.
    #[inline]
    pub(crate) fn allocate(&self, layout: Layout, lane: Lane, budget: &Budget) -> Option<Slot<'_>> {
        let slot = self.take(class_for(layout)?, lane, budget)?;
        if !may_be_sampled(self.block(slot) as usize, layout.size()) {
            // Less than 16 bytes of a larger alignment, beyond the first 4 GiB of the range.
            self.keep_or_leave(slot, lane, budget);
            return None;
        }
        self.add_slack(-(layout.size() as i64), lane, budget);
        Some(slot)
    }

    /// A free slot of a class, with its pages marked in use.
    #[inline]
    fn take(&self, class: usize, lane: Lane, budget: &Budget) -> Option<Slot<'_>> {
        let link = |slot: u32| &self.meta(SlotId(slot)).link;
        if let Some(slot) = lane.own(&self.parts).and_then(|part| part.free[class].pop(link)) {
            return Some(self.slot(SlotId(slot), class));
        }
        self.take_shared(class, budget)
    }

    /// One that no lane keeps to itself.
    #[inline(never)]
    fn take_shared(&self, class: usize, budget: &Budget) -> Option<Slot<'_>> {
        let link = |slot: u32| &self.meta(SlotId(slot)).link;
        let known = iter::from_fn(|| self.free[class].pop(link).map(SlotId));
        let new = iter::from_fn(|| {
            let slot =
                (!budget.refuses(META_BYTES as u64, UpTo::Hard)).then(|| self.cut(class))??;
            self.pages.settle(META_BYTES, budget);
            Some(slot)
        });
        self.first_entered(known, class, budget).or_else(|| self.first_entered(new, class, budget))
    }

    /// The first of free slots whose pages can be used.
    fn first_entered(
        &self,
        slots: impl Iterator<Item = SlotId>,
        class: usize,
        budget: &Budget,
    ) -> Option<Slot<'_>> {
        for slot in slots {
            let slot = self.slot(slot, class);
            match self.pages.enter(slot.pages(), budget) {
                Entry::Entered => return Some(slot),
                // In a forked child a page may be leaving for ever. A slot of it is left behind: put back,
                // it would be the next to be found.
                Entry::Leaving => {}
                Entry::Refused => {
                    self.free[class].push(slot.id().0, &slot.meta.link);
                    return None;
                }
            }
        }
        None
    }

    /// A slot that was never used.
    fn cut(&self, class: usize) -> Option<SlotId> {
        let slots_per_span = SPAN as u64 / u64::from(SIZES[class]);
        let cutting = &self.cutting[class];
        // Acquire: pairs with the release below, which publishes the span's class and metas.
        let mut now = cutting.load(Ordering::Acquire);
        loop {
            let (span, next) = (now >> 32, now & u64::from(u32::MAX));
            if span != 0 && next < slots_per_span {
                match cutting.compare_exchange_weak(
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
            // Release: publishes what `new_span` has stored, to the acquires of this function.
            match cutting.compare_exchange(now, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(SlotId::new(span, 0)),
                // Another thread opened a span at the same moment. This one stays unused: address
                // space and a table entry, no memory.
                Err(other) => now = other,
            }
        }
    }

    fn new_span(&self, class: usize, slots: u32) -> Option<u32> {
        let take = |next: &AtomicU32, count: u32, len: usize| {
            // Relaxed: only uniqueness matters.
            next.try_update(Ordering::Relaxed, Ordering::Relaxed, |first| {
                (first as usize + count as usize <= len).then_some(first + count)
            })
            .ok()
        };
        let first_meta = take(&self.next_meta, slots, self.metas.len())?;
        let span = if class == SMALLEST {
            take(&self.next_smallest, 1, self.first_other as usize)?
        } else {
            take(&self.next_other, 1, self.spans.len())?
        };
        if !self.pages.commit_span(span as usize) {
            return None;
        }
        let entry = self.spans.get(span as usize);
        // Relaxed: published by the exchange in `cut`.
        entry.first_meta.store(first_meta, Ordering::Relaxed);
        entry.class.store(class as u32 + 1, Ordering::Relaxed);
        Some(span)
    }

    /// Notes that the object in a slot changed its size in place.
    pub(crate) fn resized(&self, old: usize, new: usize, lane: Lane, budget: &Budget) {
        self.add_slack(old as i64 - new as i64, lane, budget);
    }

    #[inline]
    fn add_slack(&self, bytes: i64, lane: Lane, budget: &Budget) {
        let added = match lane.own(&self.parts) {
            Some(part) => part.slack.add(bytes, UNTOLD),
            None => Added::Due(bytes),
        };
        if let Added::Due(bytes) = added {
            self.pages.settle(bytes, budget);
        }
    }

    /// Takes back the slot of an object of `size` bytes. Its cell must be cleared.
    #[inline]
    pub(crate) fn free(&self, slot: Slot<'_>, size: usize, lane: Lane, budget: &Budget) {
        self.add_slack(size as i64, lane, budget);
        self.keep_or_leave(slot, lane, budget);
    }

    #[inline]
    fn keep_or_leave(&self, slot: Slot<'_>, lane: Lane, budget: &Budget) {
        let keeps = lane.own(&self.parts).is_some_and(|part| {
            let free = &part.free[slot.class()];
            self.pages.slack() <= budget.cap() as i64 / 64
                && free.push(slot.id().0, &slot.meta.link, MOST_OWN[slot.class()])
        });
        if !keeps {
            self.leave(slot, budget);
        }
    }

    /// Hands a free slot to all lanes, and its pages to the kernel if they are too much.
    #[inline(never)]
    fn leave(&self, slot: Slot<'_>, budget: &Budget) {
        self.pages.leave(slot.pages(), budget);
        self.free[slot.class()].push(slot.id().0, &slot.meta.link);
    }

    /// Hands what a lane has kept to itself to all.
    pub(crate) fn share(&self, lane: Lane, budget: &Budget) {
        let Some(part) = lane.own(&self.parts) else { return };
        for (class, free) in part.free.iter().enumerate() {
            while let Some(slot) = free.pop(|slot| &self.meta(SlotId(slot)).link) {
                self.leave(self.slot(SlotId(slot), class), budget);
            }
        }
    }

    /// Gives back the memory of all pages without a live slot.
    pub(crate) fn give_all_back(&self, budget: &Budget) {
        for (first, next) in [(0, &self.next_smallest), (self.first_other, &self.next_other)] {
            let page = |span: u32| span as usize * (SPAN / PAGE);
            self.pages.give_back(page(first)..page(next.load(Ordering::Relaxed)), budget);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first is the process's; in others objects must be larger than 16 bytes times the number.
    fn slots(number: usize) -> Slots {
        Slots::reserve_at(window::START + number * MAX_RANGE).unwrap()
    }

    /// One thread allocates, another frees, and pages are given back all the time.
    #[test]
    fn a_page_that_is_being_given_back_is_waited_for() {
        let slots = slots(3);
        let budget = Budget::new(16 << 20);
        // So much slack that each page without a live slot is given back at once.
        slots.pages.settle(1 << 20, &budget);
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
    fn sixteen_small_objects_and_more_share_a_page() {
        let slots = slots(1);
        let budget = Budget::new(64 << 20);
        let mut random = crate::sampler::Random::new(3, 0);
        let blocks: Vec<usize> = (0..4_000)
            .map(|_| {
                let layout = Layout::from_size_align(17 + random.next() as usize % 48, 8).unwrap();
                slots.block(slots.allocate(layout, Lane::of(0), &budget).unwrap()) as usize
            })
            .collect();
        let pages: std::collections::HashSet<usize> = blocks.iter().map(|b| b / PAGE).collect();
        // One of each class is being filled.
        assert!(pages.len() <= blocks.len() / 16 + 3, "{} pages", pages.len());
    }

    /// Those of another lane are free to all when the lane shares them.
    #[test]
    fn a_lane_keeps_a_few_free_slots_until_it_shares_them() {
        let slots = slots(2);
        let budget = Budget::new(64 << 20);
        let layout = Layout::from_size_align(48, 8).unwrap();
        let [own, other] = [Lane::of(0), Lane::of(1)];
        let allocate = |lane| slots.allocate(layout, lane, &budget).unwrap();
        let slot = allocate(own);
        slots.free(slot, 48, own, &budget);
        assert_ne!(allocate(other).id(), slot.id());
        slots.share(own, &budget);
        assert_eq!(allocate(other).id(), slot.id());
    }
}
