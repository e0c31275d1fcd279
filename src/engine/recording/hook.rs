//! The hook: the slow path of allocations and frees that are, or may be, sampled.

use std::alloc::{GlobalAlloc, Layout};

use super::counters::Counter;
use super::live::Live;
use super::local::{self, Mute};
use super::recorder::{RECORDER, enter};
use crate::engine::recording::live_set::{
    LARGE, NewSample, Sample, SampleLocation, SampledObject, Slot, Slots, may_be_sampled,
};
use crate::engine::recording::sampler::Interval;
use crate::engine::recording::stack_table::SiteId;
use crate::engine::recording::sync::Lane;
use crate::engine::recording::sys;

/// Rebuilds the layout that a caller of `Alloc` passed.
///
/// # Safety
/// `size` and `align` must come from one valid `Layout`.
unsafe fn layout(size: usize, align: usize) -> Layout {
    // SAFETY: the caller guarantees that the two come from one valid layout.
    unsafe { Layout::from_size_align_unchecked(size, align) }
}

/// Allocates when the thread's countdown has ended.
///
/// # Safety
/// The caller must uphold the contract of `GlobalAlloc::alloc`, with `size` and `align` from one
/// valid `Layout`.
#[cold]
#[inline(never)]
pub(crate) unsafe fn alloc(size: usize, align: usize, inner: &dyn GlobalAlloc) -> *mut u8 {
    // SAFETY: the caller guarantees that the two come from one valid layout.
    let layout = unsafe { layout(size, align) };
    // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`.
    unsafe { allocate(inner, layout, Fill::Uninitialised) }
}

/// Allocates zeroed memory when the thread's countdown has ended.
///
/// # Safety
/// The caller must uphold the contract of `GlobalAlloc::alloc_zeroed`, with `size` and `align` from
/// one valid `Layout`.
#[cold]
#[inline(never)]
pub(crate) unsafe fn alloc_zeroed(size: usize, align: usize, inner: &dyn GlobalAlloc) -> *mut u8 {
    // SAFETY: the caller guarantees that the two come from one valid layout.
    let layout = unsafe { layout(size, align) };
    // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc_zeroed`.
    unsafe { allocate(inner, layout, Fill::Zero) }
}

/// The initial contents of a new block.
#[derive(Clone, Copy, PartialEq)]
enum Fill {
    Uninitialised,
    Zero,
}

impl Fill {
    /// Allocates from the inner allocator.
    ///
    /// # Safety
    /// The caller must uphold the contract of `GlobalAlloc::alloc`, and so of `alloc_zeroed`.
    unsafe fn allocate(self, inner: &dyn GlobalAlloc, layout: Layout) -> *mut u8 {
        match self {
            // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`.
            Self::Uninitialised => unsafe { inner.alloc(layout) },
            // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc_zeroed`.
            Self::Zero => unsafe { inner.alloc_zeroed(layout) },
        }
    }
}

/// Allocates, and samples the allocation if it contains a point.
///
/// Most calls are only rechecks of the session and its interval, so whatever a sample needs stays
/// in functions that are not inlined here.
///
/// # Safety
/// The caller must uphold the contract of `GlobalAlloc::alloc`.
#[inline]
unsafe fn allocate(inner: &dyn GlobalAlloc, layout: Layout, fill: Fill) -> *mut u8 {
    match local::decide(layout.size(), &RECORDER.control) {
        // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`.
        Some(interval) => unsafe { sample(inner, layout, fill, interval) },
        // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`.
        None => unsafe { fill.allocate(inner, layout) },
    }
}

/// Allocates when the allocation contains a point, and samples it if a session accepts it.
///
/// # Safety
/// The caller must uphold the contract of `GlobalAlloc::alloc`.
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
        // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`.
        return unsafe { allocate_sampled(live, entered.lane, inner, layout, fill, interval) };
    }
    // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`.
    unsafe { fill.allocate(inner, layout) }
}

/// Allocates a block and records it as a sample.
///
/// # Safety
/// The caller must uphold the contract of `GlobalAlloc::alloc`.
unsafe fn allocate_sampled(
    live: &Live<'_>,
    lane: Lane,
    inner: &dyn GlobalAlloc,
    layout: Layout,
    fill: Fill,
    interval: Interval,
) -> *mut u8 {
    let slot = allocate_slot(live, lane, layout);
    let block = match slot {
        Some((block, _)) => {
            if fill == Fill::Zero {
                // SAFETY: the slot is writable, not in use and at least as large as the layout. It
                // must be zeroed because it may have been used before.
                unsafe { block.write_bytes(0, layout.size()) };
            }
            block
        }
        // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`.
        None => unsafe { fill.allocate(inner, layout) },
    };
    if block.is_null() {
        // A failed allocation is not counted.
        return block;
    }
    let site = live.capture(lane);
    let sample = new_sample(block, layout.size(), site, interval, None);
    let location = location_of(slot.map(|(_, slot)| slot), block, layout.size());
    live.record_allocation(lane, sample, location);
    block
}

/// A slot for a small object; `None` for a large object, and when there is no room.
#[inline]
fn allocate_slot(live: &Live<'_>, lane: Lane, layout: Layout) -> Option<(*mut u8, Slot<'static>)> {
    if layout.size() >= LARGE {
        return None;
    }
    let slots = RECORDER.slots()?;
    let slot = slots.allocate(layout, lane, &RECORDER.budget);
    if slot.is_none() {
        live.count(lane, Counter::DroppedSlots);
        // An unsupported alignment is not memory pressure: do not start thinning.
        if Slots::can_hold(layout) {
            live.begin_thinning(lane);
        }
    }
    slot.map(|slot| (slots.block(slot), slot))
}

/// The slot in which a block lies, if it lies in one.
#[inline]
fn slot_of(block: *mut u8) -> Option<Slot<'static>> {
    RECORDER.slots()?.slot_at(block as usize)
}

/// Where the sample of an object of `size` bytes is found again; `None` if it cannot be found
/// again.
#[inline]
fn location_of(
    slot: Option<Slot<'static>>,
    block: *mut u8,
    size: usize,
) -> Option<SampleLocation<'static>> {
    match slot {
        Some(slot) => Some(SampleLocation::SlotCell(slot.cell())),
        // With five-level paging a block may lie above the usual bits of an address, where
        // `dealloc` cannot recognise it; skip it.
        None => (size >= LARGE && may_be_sampled(block as usize, size))
            .then_some(SampleLocation::LargeIndex),
    }
}

/// Frees the slot of an object of `size` bytes.
#[inline]
fn free_slot(slot: Slot<'_>, size: usize, lane: Lane) {
    if let Some(slots) = RECORDER.slots() {
        slots.free(slot, size, lane, &RECORDER.budget);
    }
}

/// Makes a new sample, or the continuation of the sample `before` through a `realloc`.
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
///
/// # Safety
/// The caller must uphold the contract of `GlobalAlloc::dealloc`, with `size` and `align` from the
/// block's `Layout`, and the block must come from this module or from `inner`.
#[cold]
#[inline(never)]
pub(crate) unsafe fn dealloc(block: *mut u8, size: usize, align: usize, inner: &dyn GlobalAlloc) {
    // SAFETY: the caller guarantees that the two come from the block's layout.
    let layout = unsafe { layout(size, align) };
    let slot = slot_of(block);
    if let Some(location) = location_of(slot, block, layout.size()) {
        let entered = enter();
        // The record is removed before the memory is freed (invariant 4 of the live set).
        if let Some(live) = entered.live {
            live.remove(block as usize, location, entered.lane);
        }
        if let Some(slot) = slot {
            return free_slot(slot, layout.size(), entered.lane);
        }
    }
    // SAFETY: the caller upholds the contract of `GlobalAlloc::dealloc`. The block lies in no slot,
    // so it came from `inner`.
    unsafe { inner.dealloc(block, layout) }
}

/// Resizes a block that may be sampled, or resizes to a size at which the countdown has ended.
///
/// For the statistics a `realloc` is a free and an allocation: the new size is sampled anew with
/// its own probability, whether or not the old one was sampled. If both were sampled the object
/// continues: it keeps its identity, its birth and its count of `realloc`s.
///
/// # Safety
/// The caller must uphold the contract of `GlobalAlloc::realloc`, with `size` and `align` from the
/// block's `Layout`, and the block must come from this module or from `inner`.
#[cold]
#[inline(never)]
pub(crate) unsafe fn realloc(
    block: *mut u8,
    size: usize,
    align: usize,
    new_size: usize,
    inner: &dyn GlobalAlloc,
) -> *mut u8 {
    // SAFETY: the caller guarantees that the two come from the block's layout.
    let layout = unsafe { layout(size, align) };
    let interval = if local::was_due() { local::decide(new_size, &RECORDER.control) } else { None };
    let slot = slot_of(block);
    let location = location_of(slot, block, size);
    let entered = enter();
    let lane = entered.lane;
    let Some(live) = entered.live else {
        // SAFETY: the caller upholds the contract of `GlobalAlloc::realloc`, and `slot` is where
        // the block lies.
        return unsafe { move_or_resize(None, lane, inner, block, layout, new_size, slot).0 };
    };
    let interval = interval.and_then(|interval| live.accept(new_size, interval));
    let _mute = Mute::new();
    // Looking the old address up after the inner `realloc` would be too late: another thread may
    // have been given it by then.
    let before = location
        .and_then(|location| Some((live.remove(block as usize, location, lane)?, location)));
    let sampling = interval.map(|_| live);
    // SAFETY: the caller upholds the contract of `GlobalAlloc::realloc`, and `slot` is where the
    // block lies.
    let (new_block, new_location) =
        unsafe { move_or_resize(sampling, lane, inner, block, layout, new_size, slot) };
    if new_block.is_null() {
        // The allocation failed: the old block is unchanged, so its record is put back.
        if let Some((sample, location)) = before {
            live.reinsert(lane, sample.to_new_sample(), location);
        }
        return new_block;
    }
    if let Some(interval) = interval {
        let site = live.capture(lane);
        let before = before.map(|(sample, _)| sample);
        let sample = new_sample(new_block, new_size, site, interval, before);
        live.record_allocation(lane, sample, new_location);
    }
    new_block
}

/// Moves or resizes the memory for `realloc`. Returns where the block is afterwards, and where its
/// sample would be found again. The block may move into a slot only if `sampling` is given.
///
/// # Safety
/// The caller must uphold the contract of `GlobalAlloc::realloc`, and `old_slot` must be the slot
/// in which the block lies, or `None` if it came from `inner`.
unsafe fn move_or_resize(
    sampling: Option<&Live<'_>>,
    lane: Lane,
    inner: &dyn GlobalAlloc,
    block: *mut u8,
    layout: Layout,
    new_size: usize,
    old_slot: Option<Slot<'static>>,
) -> (*mut u8, Option<SampleLocation<'static>>) {
    // SAFETY: the caller guarantees that `new_size`, rounded up to the alignment, fits in an
    // `isize`.
    let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
    if let (Some(slot), Some(slots)) = (old_slot, RECORDER.slots())
        && slots.fits_in_place(slot, new_layout)
    {
        slots.record_resize(layout.size(), new_size, lane, &RECORDER.budget);
        return (block, location_of(old_slot, block, new_size));
    }
    let new_slot = sampling.and_then(|live| allocate_slot(live, lane, new_layout));
    if new_slot.is_none() && old_slot.is_none() {
        // The usual case: a large block grows by the inner allocator's own means, such as `mremap`.
        // SAFETY: the caller upholds the contract of `GlobalAlloc::realloc`. The block lies in no
        // slot, so it came from `inner`.
        let new_block = unsafe { inner.realloc(block, layout, new_size) };
        return (new_block, location_of(None, new_block, new_size));
    }
    // SAFETY: the caller guarantees that `new_size` is not zero.
    let target = new_slot.map_or_else(|| unsafe { inner.alloc(new_layout) }, |(block, _)| block);
    if !target.is_null() {
        // SAFETY: both blocks are at least this large, and a newly allocated block overlaps no
        // other.
        unsafe { block.copy_to_nonoverlapping(target, layout.size().min(new_size)) };
        match old_slot {
            Some(slot) => free_slot(slot, layout.size(), lane),
            // SAFETY: the block lies in no slot, so it came from `inner`, and its contents were
            // copied.
            None => unsafe { inner.dealloc(block, layout) },
        }
    }
    (target, location_of(new_slot.map(|(_, slot)| slot), target, new_size))
}
