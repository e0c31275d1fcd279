//! Recording: the hook that allocations go through, and the one static that it works on.
//!
//! ```text
//!   alloc ── countdown ──► decide ──► capture stack ──► intern ──► place ──► record ──► sums
//!   free  ── address, size ──────────────────────────────────────► place ──► claim ───► sums
//! ```
//! Nothing on this path parks, and nobody waits for a lock; a thread that vanished in the middle of
//! it (a forked child has only one of its parent's threads) costs a lane, an engine, or a sample.

mod counters;
mod hook;
mod label_scope;
mod live;
mod local;
mod names;
mod observation;
mod session;
mod snapshot;
mod thinner;
mod waker;

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use once_cell::sync::OnceCell;

pub(crate) use hook::{alloc, alloc_zeroed, dealloc, realloc};
pub(crate) use label_scope::LabelScope;
pub(crate) use local::is_due;
pub(crate) use names::OwnNames;
pub(crate) use session::Session;
pub(crate) use waker::{Wake, Waker};

use crate::arena::Budget;
use crate::live_set::Slots;
pub(crate) use crate::live_set::may_be_sampled;
use crate::sampler::{Interval, Random};
use crate::sync::{LANES, Lane};
use live::Live;

/// Everything that outlives a session.
struct Recorder {
    /// Counts sessions; 0 while nothing is recorded.
    session_number: AtomicU32,
    last_session: AtomicU32,
    interval: AtomicU32,
    paused: AtomicBool,
    seed: AtomicU64,
    /// The tick that is running: 1 from the start of a session to its first diff.
    tick: AtomicU32,
    /// Threads that have taken part in this session.
    streams: AtomicU64,
    /// Threads that have ever sampled or freed a sample.
    threads: AtomicU32,
    /// Threads inside the hook, by lane. Whoever is counted may use `live`.
    inside: [Inside; LANES],
    live: AtomicPtr<Live>,
    slots: OnceCell<Slots>,
    budget: Budget,
    running: AtomicBool,
}

/// Threads in a lane: at most one, but for the shared lane.
#[derive(Debug)]
#[repr(align(128))]
struct Inside {
    now: AtomicU32,
    /// Of those counted, threads of the parent that a forked child does not have.
    vanished: AtomicU32,
}

impl Inside {
    const fn nobody() -> Self {
        Self { now: AtomicU32::new(0), vanished: AtomicU32::new(0) }
    }

    /// Whether nobody is left inside who could come out.
    fn is_empty(&self) -> bool {
        // SeqCst: see `Recorder::enter_lane`. Relaxed: written in a forked child only, by the
        // thread that reads it.
        self.now.load(Ordering::SeqCst) == self.vanished.load(Ordering::Relaxed)
    }
}

static RECORDER: Recorder = Recorder {
    session_number: AtomicU32::new(0),
    last_session: AtomicU32::new(0),
    interval: AtomicU32::new(0),
    paused: AtomicBool::new(false),
    seed: AtomicU64::new(0),
    tick: AtomicU32::new(1),
    streams: AtomicU64::new(0),
    threads: AtomicU32::new(0),
    inside: [const { Inside::nobody() }; LANES],
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
        // Relaxed: as in `interval`.
        self.interval.store(interval.to_bits(), Ordering::Relaxed);
    }

    /// Changes the interval unless another thread has changed it meanwhile.
    fn raise_interval(&self, from: Interval, to: Interval) -> bool {
        let (from, to) = (from.to_bits(), to.to_bits());
        // Relaxed: as in `interval`. The thinner publishes it with the end of its sweep.
        self.interval.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn is_paused(&self) -> bool {
        // Relaxed: see `Session::set_paused`.
        self.paused.load(Ordering::Relaxed)
    }

    /// The tick that is running. Relaxed: a sample that is born as one ends may be counted in
    /// either.
    fn tick(&self) -> u32 {
        self.tick.load(Ordering::Relaxed)
    }

    /// A generator for the next thread of the session.
    fn next_random(&self) -> Random {
        // Relaxed: streams only have to differ, and the seed was published with the session.
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        Random::new(self.seed.load(Ordering::Relaxed), stream)
    }

    /// Enters the hook.
    fn enter(&self) -> Entered<'_> {
        self.enter_lane(Lane::of(local::number())).unwrap_or_else(|| {
            // SeqCst: as in `enter_lane`.
            self.inside[Lane::SHARED.number()].now.fetch_add(1, Ordering::SeqCst);
            self.entered(Lane::SHARED)
        })
    }

    /// Enters a lane, unless somebody is in it.
    fn enter_lane(&self, lane: Lane) -> Option<Entered<'_>> {
        // SeqCst, as in `Session::drop`: either the session's end sees this thread inside, or this
        // thread sees that the session has ended. Acquire is in it: what the last thread in this
        // lane did there is seen.
        let inside = &self.inside[lane.number()].now;
        let is_free = inside.compare_exchange(0, 1, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        is_free.then(|| self.entered(lane))
    }

    /// For a thread that is counted in a lane.
    fn entered(&self, lane: Lane) -> Entered<'_> {
        // SeqCst: as in `enter_lane`. Acquire is in it: pairs with the store in `Session::prepare`.
        let live = self.live.load(Ordering::SeqCst);
        // SAFETY: freed only after all lanes were seen empty with `live` at null.
        Entered { live: unsafe { live.as_ref() }, lane, recorder: self }
    }
}

/// A thread in the hook.
struct Entered<'a> {
    /// `None` while nothing is recorded.
    live: Option<&'a Live>,
    lane: Lane,
    recorder: &'a Recorder,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let inside = &self.recorder.inside[self.lane.number()].now;
        // Release: pairs with `enter`, and with the load in `Session::drop`.
        if self.lane == Lane::SHARED {
            inside.fetch_sub(1, Ordering::Release);
        } else {
            inside.store(0, Ordering::Release);
        }
    }
}

fn slots() -> Option<&'static Slots> {
    RECORDER.slots.get()
}
