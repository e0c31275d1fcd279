//! The hook: what allocations and frees go through that are, or may be, sampled.

use std::alloc::{GlobalAlloc, Layout};

use super::counters::Counter;
use super::live::Live;
use super::local::{self, Mute};
use super::recorder::{Entered, RECORDER};
use crate::engine::recording::live_set::{
    LARGE, NewSample, Place, Sample, SampledObject, Slot, Slots, may_be_sampled,
};
use crate::engine::recording::sampler::Interval;
use crate::engine::recording::stack_table::SiteId;
use crate::engine::recording::sync::Lane;
use crate::engine::recording::sys;

/// The layout that a caller of `Alloc` gave, put together again.
///
/// # Safety
/// Both are from one `Layout`.
unsafe fn layout(size: usize, align: usize) -> Layout {
    // SAFETY: the caller's promise.
    unsafe { Layout::from_size_align_unchecked(size, align) }
}

/// Enters the hook in the calling thread's lane.
#[inline]
fn enter() -> Entered<'static> {
    RECORDER.enter(Lane::of(local::number()))
}

/// Allocates, where a sample is due.
#[cold]
#[inline(never)]
pub(crate) unsafe fn alloc(size: usize, align: usize, inner: &dyn GlobalAlloc) -> *mut u8 {
    // SAFETY: the caller's promises are passed on.
    let layout = unsafe { layout(size, align) };
    // SAFETY: as above.
    unsafe { allocate(inner, layout, Fill::Uninitialised) }
}

/// Allocates zeroed memory, where a sample is due.
#[cold]
#[inline(never)]
pub(crate) unsafe fn alloc_zeroed(size: usize, align: usize, inner: &dyn GlobalAlloc) -> *mut u8 {
    // SAFETY: the caller's promises are passed on.
    let layout = unsafe { layout(size, align) };
    // SAFETY: as above.
    unsafe { allocate(inner, layout, Fill::Zero) }
}

/// What a new block holds.
#[derive(Clone, Copy, PartialEq)]
enum Fill {
    Uninitialised,
    Zero,
}

impl Fill {
    /// # Safety
    /// As of the method of `GlobalAlloc`.
    unsafe fn allocate(self, inner: &dyn GlobalAlloc, layout: Layout) -> *mut u8 {
        match self {
            // SAFETY: the caller's promises are passed on.
            Self::Uninitialised => unsafe { inner.alloc(layout) },
            // SAFETY: the caller's promises are passed on.
            Self::Zero => unsafe { inner.alloc_zeroed(layout) },
        }
    }
}

// Most allocations that are due are so because the thread looks again: what a sample needs stays out
// of here.
#[inline]
unsafe fn allocate(inner: &dyn GlobalAlloc, layout: Layout, fill: Fill) -> *mut u8 {
    match local::decide(layout.size(), &RECORDER.control) {
        // SAFETY: the caller's promises are passed on.
        Some(interval) => unsafe { sample(inner, layout, fill, interval) },
        // SAFETY: the caller's promises are passed on.
        None => unsafe { fill.allocate(inner, layout) },
    }
}

/// Allocates, where an allocation holds a point.
#[inline(never)]
unsafe fn sample(
    inner: &dyn GlobalAlloc,
    layout: Layout,
    fill: Fill,
    interval: Interval,
) -> *mut u8 {
    let entered = enter();
    if let Some(live) = entered.live
        && let Some(interval) = live.accept(layout.size(), interval)
    {
        let _mute = Mute::new();
        // SAFETY: the caller's promises are passed on.
        return unsafe { sample_new(live, entered.lane, inner, layout, fill, interval) };
    }
    // SAFETY: the caller's promises are passed on.
    unsafe { fill.allocate(inner, layout) }
}

/// Allocates a block that is sampled.
unsafe fn sample_new(
    live: &Live<'_>,
    lane: Lane,
    inner: &dyn GlobalAlloc,
    layout: Layout,
    fill: Fill,
    interval: Interval,
) -> *mut u8 {
    let slot = in_slot(live, lane, layout);
    let block = match slot {
        Some((block, _)) => {
            if fill == Fill::Zero {
                // SAFETY: a slot is at least as large as the layout. It may have been used before.
                unsafe { block.write_bytes(0, layout.size()) };
            }
            block
        }
        // SAFETY: the caller's promises are passed on.
        None => unsafe { fill.allocate(inner, layout) },
    };
    if block.is_null() {
        // A failed allocation does not count.
        return block;
    }
    let site = live.capture(lane);
    let sample = new_sample(block, layout.size(), site, interval, None);
    let place = place_of(slot.map(|(_, slot)| slot), block, layout.size());
    live.allocated(lane, sample, place);
    block
}

/// A slot for a small object; `None` for a large one, and where there is no room.
#[inline]
fn in_slot(live: &Live<'_>, lane: Lane, layout: Layout) -> Option<(*mut u8, Slot<'static>)> {
    if layout.size() >= LARGE {
        return None;
    }
    let slots = RECORDER.slots()?;
    let slot = slots.allocate(layout, lane, &RECORDER.budget);
    if slot.is_none() {
        live.count(lane, Counter::DroppedSlots);
        // That no slot has such an alignment is no lack of room.
        if Slots::can_hold(layout) {
            live.begin_thinning(lane);
        }
    }
    slot.map(|slot| (slots.block(slot), slot))
}

/// The slot that a block lies in, if it does.
#[inline]
fn slot_of(block: *mut u8) -> Option<Slot<'static>> {
    RECORDER.slots()?.slot_at(block as usize)
}

/// Where an object of `size` bytes would be known again, if at all.
#[inline]
fn place_of(slot: Option<Slot<'static>>, block: *mut u8, size: usize) -> Option<Place<'static>> {
    match slot {
        Some(slot) => Some(Place::Cell(slot.cell())),
        // Programs may ask for addresses that are longer than usual: what is there is not recorded.
        None => (size >= LARGE && may_be_sampled(block as usize, size)).then_some(Place::Address),
    }
}

/// Takes back the slot of an object of `size` bytes.
#[inline]
fn free_slot(slot: Slot<'_>, size: usize, lane: Lane) {
    if let Some(slots) = RECORDER.slots() {
        slots.free(slot, size, lane, &RECORDER.budget);
    }
}

/// A new sample, or the continuation of one through `realloc`.
fn new_sample(
    block: *mut u8,
    size: usize,
    site: SiteId,
    interval: Interval,
    before: Option<Sample>,
) -> NewSample {
    NewSample {
        address: block as usize,
        object: SampledObject {
            size: size as u64,
            site: site.0,
            interval,
            birth_ms: before.map_or_else(sys::monotonic_ms, |before| before.object.birth_ms),
            birth_tick: before
                .map_or_else(|| RECORDER.control.tick(), |before| before.object.birth_tick),
            reallocs: before.map_or(0, |before| before.object.reallocs.saturating_add(1)),
        },
        id: before.map(|before| before.id),
    }
}

/// Frees a block that may be sampled.
#[cold]
#[inline(never)]
pub(crate) unsafe fn dealloc(block: *mut u8, size: usize, align: usize, inner: &dyn GlobalAlloc) {
    // SAFETY: the caller's promises are passed on.
    let layout = unsafe { layout(size, align) };
    let slot = slot_of(block);
    if let Some(place) = place_of(slot, block, layout.size()) {
        let entered = enter();
        // The record goes first, and the memory after.
        if let Some(live) = entered.live {
            live.remove(block as usize, place, entered.lane);
        }
        if let Some(slot) = slot {
            return free_slot(slot, layout.size(), entered.lane);
        }
    }
    // SAFETY: the caller's promises are passed on; the block is not in a slot.
    unsafe { inner.dealloc(block, layout) }
}

/// Resizes a block that may be sampled, or to a size at which a sample is due.
///
/// In the books a `realloc` is a free and an allocation: the new size is sampled anew, with its own
/// probability, whatever became of the old one. If both were sampled it is one object that goes on:
/// identity, birth and the count of `realloc`s are kept.
#[cold]
#[inline(never)]
pub(crate) unsafe fn realloc(
    block: *mut u8,
    size: usize,
    align: usize,
    new_size: usize,
    inner: &dyn GlobalAlloc,
) -> *mut u8 {
    // SAFETY: the caller's promises are passed on.
    let layout = unsafe { layout(size, align) };
    let interval = if local::was_due() { local::decide(new_size, &RECORDER.control) } else { None };
    let slot = slot_of(block);
    let place = place_of(slot, block, size);
    let entered = enter();
    let lane = entered.lane;
    let Some(live) = entered.live else {
        // SAFETY: the caller's promises are passed on.
        return unsafe { move_or_resize(None, lane, inner, block, layout, new_size, slot).0 };
    };
    let interval = interval.and_then(|interval| live.accept(new_size, interval));
    let _mute = Mute::new();
    // Looking the old address up after the inner `realloc` would be too late: another thread may
    // have been given it by then.
    let before = place.and_then(|place| Some((live.remove(block as usize, place, lane)?, place)));
    let sampling = interval.map(|_| live);
    // SAFETY: the caller's promises are passed on.
    let (new_block, new_place) =
        unsafe { move_or_resize(sampling, lane, inner, block, layout, new_size, slot) };
    if new_block.is_null() {
        // The old block is as it was, and so is its record.
        if let Some((sample, place)) = before {
            live.put_back(lane, sample.again(), place);
        }
        return new_block;
    }
    if let Some(interval) = interval {
        let site = live.capture(lane);
        let before = before.map(|(sample, _)| sample);
        let sample = new_sample(new_block, new_size, site, interval, before);
        live.allocated(lane, sample, new_place);
    }
    new_block
}

/// The memory side of `realloc`: where the block is afterwards, and where it would be known again. It may
/// go to a slot if it is sampled.
unsafe fn move_or_resize(
    sampling: Option<&Live<'_>>,
    lane: Lane,
    inner: &dyn GlobalAlloc,
    block: *mut u8,
    layout: Layout,
    new_size: usize,
    old_slot: Option<Slot<'static>>,
) -> (*mut u8, Option<Place<'static>>) {
    // SAFETY: the caller of `realloc` promises that `new_size`, rounded up, fits an `isize`.
    let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
    if let (Some(slot), Some(slots)) = (old_slot, RECORDER.slots())
        && slots.fits(slot, new_layout)
    {
        slots.resized(layout.size(), new_size, lane, &RECORDER.budget);
        return (block, place_of(old_slot, block, new_size));
    }
    let new_slot = sampling.and_then(|live| in_slot(live, lane, new_layout));
    if new_slot.is_none() && old_slot.is_none() {
        // The usual case: large blocks grow by the inner allocator's own means.
        // SAFETY: the caller's promises are passed on; the block is the inner allocator's.
        let new_block = unsafe { inner.realloc(block, layout, new_size) };
        return (new_block, place_of(None, new_block, new_size));
    }
    // SAFETY: sizes are not zero, as the caller of `realloc` promises.
    let target = new_slot.map_or_else(|| unsafe { inner.alloc(new_layout) }, |(block, _)| block);
    if !target.is_null() {
        // SAFETY: both blocks are at least that large, and a new block overlaps no other.
        unsafe { block.copy_to_nonoverlapping(target, layout.size().min(new_size)) };
        match old_slot {
            Some(slot) => free_slot(slot, layout.size(), lane),
            // SAFETY: the block was the inner allocator's, and its contents have moved.
            None => unsafe { inner.dealloc(block, layout) },
        }
    }
    (target, place_of(new_slot.map(|(_, slot)| slot), target, new_size))
}
