//! Recording: the hook that allocations go through, and the one static that it works on.
//!
//! ```text
//!   alloc ── countdown ──► decide ──► capture stack ──► intern ──► place ──► record ──► sums
//!   free  ── address, size ──────────────────────────────────────► place ──► claim ───► sums
//! ```
//! Nothing on this path parks, and nothing takes a lock; a thread that vanished in the middle of
//! it (a forked child has only one of its parent's threads) costs an engine or a sample.

mod counters;
mod hook;
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

pub(crate) use hook::{alloc, alloc_zeroed, dealloc, may_be_sampled, realloc};
pub(crate) use local::{LabelScope, is_due};
pub(crate) use names::OwnNames;
pub(crate) use session::Session;
pub(crate) use waker::{Wake, Waker};

use crate::arena::Budget;
use crate::live_set::Slots;
use crate::sampler::{Interval, Random};
use live::Live;

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
    /// The tick that is running: 1 from the start of a session to its first diff.
    tick: AtomicU32,
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
        // SeqCst: see `Recorder::enter`.
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
    inside: [const { Inside::nobody() }; SHARDS],
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

    /// The tick that is running. Relaxed: a sample that is born as one ends may be counted in
    /// either.
    fn tick(&self) -> u32 {
        self.tick.load(Ordering::Relaxed)
    }

    /// A generator for the next thread of the session.
    fn next_random(&self) -> Random {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        Random::new(self.seed.load(Ordering::Relaxed), stream)
    }

    /// Enters the hook; `None` while nothing is recorded.
    fn enter(&self) -> Option<Entered<'_>> {
        let shard = local::shard();
        let inside = &self.inside[shard].now;
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

fn slots() -> Option<&'static Slots> {
    RECORDER.slots.get()
}
