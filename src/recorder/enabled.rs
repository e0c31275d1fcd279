//! Recording: the hook that allocations go through, and the one static that it works on.
//!
//! ```text
//!   alloc ── countdown ──► decide ──► capture stack ──► intern ──► place ──► record ──► sums
//!   free  ── address, size ──────────────────────────────────────► place ──► claim ───► sums
//! ```
//! Nothing on this path parks, and nothing takes a lock; a thread that vanished in the middle of
//! it (a forked child has only one of its parent's threads) costs an engine or a sample.

mod counters;
mod live;
mod local;
mod snapshot;
mod thinner;
mod waker;

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use once_cell::sync::OnceCell;
use parking_lot::Mutex;

pub(crate) use local::{LabelScope, is_due};
pub(crate) use waker::{Wake, Waker};

use crate::arena::Budget;
use crate::live_set::{LARGE, NewSample, Sample, Slots, in_window};
use crate::profiler::{Config, StartError};
use crate::sampler::{Interval, Random};
use crate::{Snapshot, Stats, sys};
use counters::Counter;
use live::Live;
use local::Mute;

/// Shards of everything that threads write to when they sample.
const SHARDS: usize = 16;

/// Everything that outlives a session.
struct Recorder {
    /// Counts sessions; 0 while nothing is recorded.
    session_number: AtomicU32,
    last_session: AtomicU32,
    interval: AtomicU32,
    paused: AtomicBool,
    seed: AtomicU64,
    /// Threads that have taken part in this session.
    streams: AtomicU64,
    /// Threads that have ever sampled or freed a sample.
    threads: AtomicU32,
    /// Threads inside the hook, a counter a shard. Whoever is counted may use `live`.
    inside: [Inside; SHARDS],
    live: AtomicPtr<Live>,
    slots: OnceCell<Slots>,
    budget: Budget,
    running: AtomicBool,
}

#[repr(align(128))]
struct Inside(AtomicU32);

static RECORDER: Recorder = Recorder {
    session_number: AtomicU32::new(0),
    last_session: AtomicU32::new(0),
    interval: AtomicU32::new(0),
    paused: AtomicBool::new(false),
    seed: AtomicU64::new(0),
    streams: AtomicU64::new(0),
    threads: AtomicU32::new(0),
    inside: [const { Inside(AtomicU32::new(0)) }; SHARDS],
    live: AtomicPtr::new(std::ptr::null_mut()),
    slots: OnceCell::new(),
    budget: Budget::new(0),
    running: AtomicBool::new(false),
};

impl Recorder {
    fn interval(&self) -> Interval {
        // Relaxed: any recent value is right, a sample carries the one it was drawn with.
        Interval::from_bits(self.interval.load(Ordering::Relaxed))
    }

    fn set_interval(&self, interval: Interval) {
        self.interval.store(interval.to_bits(), Ordering::Relaxed);
    }

    fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// A generator for the next thread of the session.
    fn next_random(&self) -> Random {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        Random::new(self.seed.load(Ordering::Relaxed), stream)
    }

    /// Enters the hook; `None` while nothing is recorded.
    fn enter(&self) -> Option<Entered<'_>> {
        let shard = local::shard();
        let inside = &self.inside[shard].0;
        // SeqCst, as in `Session::drop`: either the session's end sees this thread inside, or this
        // thread sees that the session has ended.
        inside.fetch_add(1, Ordering::SeqCst);
        let live = self.live.load(Ordering::SeqCst);
        // SAFETY: freed only after all counters were seen at zero with `live` at null.
        match unsafe { live.as_ref() } {
            Some(live) => Some(Entered { live, shard, inside }),
            None => {
                inside.fetch_sub(1, Ordering::Release);
                None
            }
        }
    }
}

/// A thread in the hook.
struct Entered<'a> {
    live: &'a Live,
    shard: usize,
    inside: &'a AtomicU32,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // Release: pairs with the load in `Session::drop`.
        self.inside.fetch_sub(1, Ordering::Release);
    }
}

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
    if let Some(interval) = local::decide(layout.size())
        && let Some(entered) = RECORDER.enter()
        && let Some(interval) = entered.live.accept(layout.size(), interval)
    {
        let _mute = Mute::new();
        // SAFETY: the caller's promises are passed on.
        return unsafe { sample_new(&entered, inner, layout, fill, interval) };
    }
    // SAFETY: the caller's promises are passed on.
    unsafe { fill.allocate(inner, layout) }
}

/// Allocates a block that is sampled.
unsafe fn sample_new(
    entered: &Entered<'_>,
    inner: &dyn GlobalAlloc,
    layout: Layout,
    fill: Fill,
    interval: Interval,
) -> *mut u8 {
    let slot = in_slot(entered, layout);
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
    let site = entered.live.capture(entered.shard);
    entered.live.allocated(site, layout.size(), interval);
    if slot.is_some() || layout.size() >= LARGE {
        entered.live.insert(entered.shard, new_sample(block, layout.size(), site, interval, None));
    }
    block
}

/// A slot for a small object; `None` for a large one, and where there is no room.
fn in_slot(entered: &Entered<'_>, layout: Layout) -> Option<*mut u8> {
    if layout.size() >= LARGE {
        return None;
    }
    let block = slots()?.allocate(layout, entered.shard, &RECORDER.budget);
    if block.is_none() {
        entered.live.count(entered.shard, Counter::DroppedSlots);
        // That no slot has such an alignment is no lack of room.
        if Slots::can_hold(layout) {
            entered.live.begin_thinning();
        }
    }
    block
}

fn slots() -> Option<&'static Slots> {
    RECORDER.slots.get()
}

/// A new sample, or the continuation of one through `realloc`.
fn new_sample(
    block: *mut u8,
    size: usize,
    site: crate::stack_table::SiteId,
    interval: Interval,
    before: Option<Sample>,
) -> NewSample {
    NewSample {
        address: block as usize,
        size: size as u64,
        site: site.0,
        interval,
        birth_ms: before.map_or_else(sys::monotonic_ms, |sample| sample.birth_ms),
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
            // The record goes first, and the memory after.
            take_record(block);
            let slot = slots.slot_at(block as usize);
            slots.free(slot, layout.size(), local::shard(), &RECORDER.budget);
        }
        None => {
            if layout.size() >= LARGE {
                take_record(block);
            }
            // SAFETY: the caller's promises are passed on; the block is not in a slot.
            unsafe { inner.dealloc(block, layout) }
        }
    }
}

/// Takes the sample of a block out of the live set, if it has one.
fn take_record(block: *mut u8) {
    if let Some(entered) = RECORDER.enter() {
        entered.live.remove(block as usize, entered.shard);
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
    let Some(entered) = entered else {
        // SAFETY: the caller's promises are passed on.
        return unsafe { move_or_resize(None, inner, block, layout, new_size, in_slot, None).0 };
    };
    let interval = interval.and_then(|interval| entered.live.accept(new_size, interval));
    let _mute = Mute::new();
    // Looking the old address up after the inner `realloc` would be too late: another thread may
    // have been given it by then.
    let before = (in_slot || layout.size() >= LARGE)
        .then(|| entered.live.remove(block as usize, entered.shard))
        .flatten();
    // SAFETY: the caller's promises are passed on.
    let (new_block, recordable) = unsafe {
        move_or_resize(Some(&entered), inner, block, layout, new_size, in_slot, interval)
    };
    if new_block.is_null() {
        // The old block is as it was, and so is its record.
        if let Some(sample) = before {
            entered.live.insert(entered.shard, sample.again());
        }
        return new_block;
    }
    if let Some(interval) = interval {
        let site = entered.live.capture(entered.shard);
        entered.live.allocated(site, new_size, interval);
        if recordable {
            let sample = new_sample(new_block, new_size, site, interval, before);
            entered.live.insert(entered.shard, sample);
        }
    }
    new_block
}

/// The memory side of `realloc`: where the block is afterwards, and whether a record would be found
/// there again. `interval` says whether the new size is sampled.
unsafe fn move_or_resize(
    entered: Option<&Entered<'_>>,
    inner: &dyn GlobalAlloc,
    block: *mut u8,
    layout: Layout,
    new_size: usize,
    in_a_slot: bool,
    interval: Option<Interval>,
) -> (*mut u8, bool) {
    // SAFETY: the caller of `realloc` promises that `new_size`, rounded up, fits an `isize`.
    let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
    let stays = slots().filter(|_| in_a_slot).is_some_and(|slots| {
        let fits = slots.fits(slots.slot_at(block as usize), new_layout);
        if fits {
            slots.resized(layout.size(), new_size, &RECORDER.budget);
        }
        fits
    });
    if stays {
        return (block, true);
    }
    let slot = match (entered, interval) {
        (Some(entered), Some(_)) => in_slot(entered, new_layout),
        _ => None,
    };
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
                slots.free(old, layout.size(), local::shard(), &RECORDER.budget);
            }
            // SAFETY: the block was the inner allocator's, and its contents have moved.
            None => unsafe { inner.dealloc(block, layout) },
        }
    }
    (target, slot.is_some() || new_size >= LARGE)
}

/// A session, as its owner holds it.
pub(crate) struct Session {
    /// Snapshots one after the other: each takes memory for itself.
    one_snapshot: Mutex<()>,
    snapshots: AtomicU64,
    facts: snapshot::Facts,
    /// The process that started.
    process: u32,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// Whether sessions record anything.
    pub(crate) const RECORDS: bool = true;

    /// Starts recording.
    pub(crate) fn start(config: &Config) -> Result<Self, StartError> {
        if RECORDER.running.swap(true, Ordering::SeqCst) {
            return Err(StartError::AlreadyRunning);
        }
        let (session, number, random) =
            Self::muted(|| Self::prepare(config)).inspect_err(|_| {
                RECORDER.running.store(false, Ordering::SeqCst);
            })?;
        // The starting thread takes part from its next allocation on, with the first stream.
        local::join(number, random);
        // Release: pairs with `local::decide`, which then sees all that was prepared.
        RECORDER.session_number.store(number, Ordering::Release);
        Ok(session)
    }

    fn prepare(config: &Config) -> Result<(Self, u32, Random), StartError> {
        RECORDER.budget.set_cap(config.max_profiler_bytes);
        RECORDER.slots.get_or_try_init(|| Slots::reserve(SHARDS)).map_err(StartError::Memory)?;
        let live = Live::new(config).map_err(StartError::Memory)?;
        let facts = snapshot::Facts::new(config);
        RECORDER.seed.store(config.seed.unwrap_or(facts.session), Ordering::Relaxed);
        RECORDER.streams.store(0, Ordering::Relaxed);
        RECORDER.paused.store(false, Ordering::Relaxed);
        RECORDER.set_interval(Interval::from_bytes(config.interval_bytes));
        RECORDER.live.store(Box::into_raw(Box::new(live)), Ordering::SeqCst);
        let number = RECORDER.last_session.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1);
        let session = Self {
            one_snapshot: Mutex::new(()),
            snapshots: AtomicU64::new(0),
            facts,
            process: std::process::id(),
        };
        Ok((session, number, RECORDER.next_random()))
    }

    /// Whether allocations are being sampled.
    pub(crate) fn is_active(&self) -> bool {
        !RECORDER.is_paused()
    }

    /// What is recorded now.
    pub(crate) fn snapshot(&self, reason: &str) -> Snapshot {
        Self::muted(|| {
            // In a forked child the thread that held the lock may not exist.
            let _one = (!self.is_in_child()).then(|| self.one_snapshot.lock());
            let sequence = self.snapshots.fetch_add(1, Ordering::Relaxed) + 1;
            RECORDER.enter().map(|entered| entered.live.snapshot(&self.facts, sequence, reason))
        })
        .unwrap_or_default()
    }

    /// Whether this is a forked child of the process that started, with only one of its threads.
    fn is_in_child(&self) -> bool {
        std::process::id() != self.process
    }

    /// The counters now.
    pub(crate) fn stats(&self) -> Stats {
        RECORDER.enter().map(|entered| entered.live.stats()).unwrap_or_default()
    }

    /// Stops or goes on sampling.
    pub(crate) fn set_paused(&self, paused: bool) {
        RECORDER.paused.store(paused, Ordering::Relaxed);
    }

    /// Changes the interval.
    pub(crate) fn set_interval(&self, interval_bytes: u64) {
        RECORDER.set_interval(Interval::from_bytes(interval_bytes));
        local::rearm();
    }

    /// Notes that a dump could not be written.
    pub(crate) fn count_failed_dump(&self) {
        if let Some(entered) = RECORDER.enter() {
            entered.live.count(entered.shard, Counter::DroppedDumps);
        }
    }

    /// Runs the profiler's own work: its allocations are not the program's.
    pub(crate) fn muted<R>(work: impl FnOnce() -> R) -> R {
        let _mute = Mute::new();
        work()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        RECORDER.session_number.store(0, Ordering::SeqCst);
        let live = RECORDER.live.swap(std::ptr::null_mut(), Ordering::SeqCst);
        // SeqCst: see `Recorder::enter`. Threads are inside for microseconds. In a forked child
        // some never leave, and it is no use to wait; then the tables stay, which is the lesser
        // evil.
        let all_out = || RECORDER.inside.iter().all(|inside| inside.0.load(Ordering::SeqCst) == 0);
        let patience_ms = if self.is_in_child() { 1 } else { 2000 };
        let waited = (0..patience_ms).any(|_| {
            all_out() || {
                std::thread::sleep(std::time::Duration::from_millis(1));
                false
            }
        });
        if waited && !live.is_null() {
            // SAFETY: made by `Box::into_raw`, and no thread is in the hook with it.
            Self::muted(|| drop(unsafe { Box::from_raw(live) }));
            RECORDER.running.store(false, Ordering::SeqCst);
        }
    }
}
