//! The hook: what allocations and frees go through that are, or may be, sampled.

use std::alloc::{GlobalAlloc, Layout};

use super::counters::Counter;
use super::live::Live;
use super::local::{self, Mute};
use super::{RECORDER, slots};
use crate::live_set::{LARGE, NewSample, Sample, Slots, in_window};
use crate::sampler::Interval;
use crate::stack_table::SiteId;
use crate::sync::Lane;
use crate::sys;

/// Whether a free may be of a sampled block. Wrong one way only: a `false` is certain.
#[inline(always)]
pub(crate) fn may_be_sampled(block: *mut u8, size: usize) -> bool {
    in_window(block as usize) || size >= LARGE
}

/// The layout that a caller of `Alloc` gave, put together again.
///
/// # Safety
/// Both are from one `Layout`.
unsafe fn layout(size: usize, align: usize) -> Layout {
    // SAFETY: the caller's promise.
    unsafe { Layout::from_size_align_unchecked(size, align) }
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

unsafe fn allocate(inner: &dyn GlobalAlloc, layout: Layout, fill: Fill) -> *mut u8 {
    if let Some(interval) = local::decide(layout.size()) {
        let entered = RECORDER.enter();
        if let Some(live) = entered.live
            && let Some(interval) = live.accept(layout.size(), interval)
        {
            let _mute = Mute::new();
            // SAFETY: the caller's promises are passed on.
            return unsafe { sample_new(live, entered.lane, inner, layout, fill, interval) };
        }
    }
    // SAFETY: the caller's promises are passed on.
    unsafe { fill.allocate(inner, layout) }
}

/// Allocates a block that is sampled.
unsafe fn sample_new(
    live: &Live,
    lane: Lane,
    inner: &dyn GlobalAlloc,
    layout: Layout,
    fill: Fill,
    interval: Interval,
) -> *mut u8 {
    let slot = in_slot(live, lane, layout);
    let block = match slot {
        Some(block) => {
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
    live.allocated(lane, sample, slot.is_some() || layout.size() >= LARGE);
    block
}

/// A slot for a small object; `None` for a large one, and where there is no room.
fn in_slot(live: &Live, lane: Lane, layout: Layout) -> Option<*mut u8> {
    if layout.size() >= LARGE {
        return None;
    }
    let block = slots()?.allocate(layout, lane, &RECORDER.budget);
    if block.is_none() {
        live.count(lane, Counter::DroppedSlots);
        // That no slot has such an alignment is no lack of room.
        if Slots::can_hold(layout) {
            live.begin_thinning(lane);
        }
    }
    block
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
        size: size as u64,
        site: site.0,
        interval,
        birth_ms: before.map_or_else(sys::monotonic_ms, |sample| sample.birth_ms),
        birth_tick: before.map_or_else(|| RECORDER.tick(), |sample| sample.birth_tick),
        reallocs: before.map_or(0, |sample| sample.reallocs.saturating_add(1)),
        id: before.map(|sample| sample.id),
    }
}

/// Frees a block that may be sampled.
#[cold]
#[inline(never)]
pub(crate) unsafe fn dealloc(block: *mut u8, size: usize, align: usize, inner: &dyn GlobalAlloc) {
    // SAFETY: the caller's promises are passed on.
    let layout = unsafe { layout(size, align) };
    match slots().filter(|slots| slots.contains(block as usize)) {
        Some(slots) => {
            let entered = RECORDER.enter();
            // The record goes first, and the memory after.
            if let Some(live) = entered.live {
                live.remove(block as usize, entered.lane);
            }
            let slot = slots.slot_at(block as usize);
            slots.free(slot, layout.size(), entered.lane, &RECORDER.budget);
        }
        None => {
            if layout.size() >= LARGE {
                let entered = RECORDER.enter();
                entered.live.map(|live| live.remove(block as usize, entered.lane));
            }
            // SAFETY: the caller's promises are passed on; the block is not in a slot.
            unsafe { inner.dealloc(block, layout) }
        }
    }
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
    let interval = if local::was_due() { local::decide(new_size) } else { None };
    let in_slot = slots().is_some_and(|slots| slots.contains(block as usize));
    let entered = RECORDER.enter();
    let lane = entered.lane;
    let Some(live) = entered.live else {
        // SAFETY: the caller's promises are passed on.
        return unsafe {
            move_or_resize(None, lane, inner, block, layout, new_size, in_slot, false).0
        };
    };
    let interval = interval.and_then(|interval| live.accept(new_size, interval));
    let _mute = Mute::new();
    // Looking the old address up after the inner `realloc` would be too late: another thread may
    // have been given it by then.
    let before =
        (in_slot || layout.size() >= LARGE).then(|| live.remove(block as usize, lane)).flatten();
    // SAFETY: the caller's promises are passed on.
    let (new_block, recordable) = unsafe {
        let is_sampled = interval.is_some();
        move_or_resize(Some(live), lane, inner, block, layout, new_size, in_slot, is_sampled)
    };
    if new_block.is_null() {
        // The old block is as it was, and so is its record.
        if let Some(sample) = before {
            live.put_back(lane, sample.again());
        }
        return new_block;
    }
    if let Some(interval) = interval {
        let site = live.capture(lane);
        let sample = new_sample(new_block, new_size, site, interval, before);
        live.allocated(lane, sample, recordable);
    }
    new_block
}

/// The memory side of `realloc`: where the block is afterwards, and whether a record would be found
/// there again.
#[expect(clippy::too_many_arguments, reason = "those of `realloc`, and where it is recorded")]
unsafe fn move_or_resize(
    live: Option<&Live>,
    lane: Lane,
    inner: &dyn GlobalAlloc,
    block: *mut u8,
    layout: Layout,
    new_size: usize,
    in_a_slot: bool,
    is_sampled: bool,
) -> (*mut u8, bool) {
    // SAFETY: the caller of `realloc` promises that `new_size`, rounded up, fits an `isize`.
    let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
    let stays = slots().filter(|_| in_a_slot).is_some_and(|slots| {
        let fits = slots.fits(slots.slot_at(block as usize), new_layout);
        if fits {
            slots.resized(layout.size(), new_size, lane, &RECORDER.budget);
        }
        fits
    });
    if stays {
        return (block, true);
    }
    let slot = live.filter(|_| is_sampled).and_then(|live| in_slot(live, lane, new_layout));
    if slot.is_none() && !in_a_slot {
        // The usual case: large blocks grow by the inner allocator's own means.
        // SAFETY: the caller's promises are passed on; the block is the inner allocator's.
        return (unsafe { inner.realloc(block, layout, new_size) }, new_size >= LARGE);
    }
    // SAFETY: sizes are not zero, as the caller of `realloc` promises.
    let target = slot.unwrap_or_else(|| unsafe { inner.alloc(new_layout) });
    if !target.is_null() {
        // SAFETY: both blocks are at least that large, and a new block overlaps no other.
        unsafe { block.copy_to_nonoverlapping(target, layout.size().min(new_size)) };
        match slots().filter(|_| in_a_slot) {
            Some(slots) => {
                let old = slots.slot_at(block as usize);
                slots.free(old, layout.size(), lane, &RECORDER.budget);
            }
            // SAFETY: the block was the inner allocator's, and its contents have moved.
            None => unsafe { inner.dealloc(block, layout) },
        }
    }
    (target, slot.is_some() || new_size >= LARGE)
}
