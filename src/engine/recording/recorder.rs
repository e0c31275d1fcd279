//! The one static of the crate, and how threads enter and leave the session that it points to.
//!
//! A session's tables are freed only after `live` was set to null and every lane was then seen
//! empty. A thread that vanished while inside (a forked child has only one of its parent's threads)
//! is counted as vanished and costs a lane.

use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

use once_cell::sync::OnceCell;

use super::control::Control;
use super::live::Live;
use super::local;
use crate::engine::recording::arena::Budget;
use crate::engine::recording::live_set::Slots;
use crate::engine::recording::sync::{LANES, Lane};

/// The state that outlives sessions.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) control: Control,
    /// The id of the process that has a session, from before its tables are created until after
    /// they are freed; 0 if none has. A forked child inherits its parent's id.
    owner: AtomicU32,
    /// The threads inside the hook, by lane. A thread that is counted here may use `live`.
    occupancy: [Occupancy; LANES],
    live: AtomicPtr<Live<'static>>,
    slots: OnceCell<Slots>,
    pub(super) budget: Budget,
}

/// The threads in a lane: at most one, except in the shared lane.
#[derive(Debug)]
#[repr(align(128))]
struct Occupancy {
    threads: AtomicU32,
    /// How many of the counted threads a forked child does not have.
    vanished: AtomicU32,
}

impl Occupancy {
    const fn empty() -> Self {
        Self { threads: AtomicU32::new(0), vanished: AtomicU32::new(0) }
    }

    /// Whether every thread that can leave the lane has left it.
    fn is_empty(&self) -> bool {
        // SeqCst: see `Recorder::enter_lane`. Relaxed: the thread that ends the session wrote
        // `vanished` itself.
        self.threads.load(Ordering::SeqCst) == self.vanished.load(Ordering::Relaxed)
    }
}

pub(super) static RECORDER: Recorder = Recorder {
    control: Control::new(),
    owner: AtomicU32::new(0),
    occupancy: [const { Occupancy::empty() }; LANES],
    live: AtomicPtr::new(std::ptr::null_mut()),
    slots: OnceCell::new(),
    budget: Budget::new(0),
};

/// Enters the hook in the calling thread's lane.
#[inline]
pub(super) fn enter() -> Entered<'static> {
    RECORDER.enter(Lane::of(local::number()))
}

/// What the caller of [`Recorder::claim_session`] got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The only session of the process.
    Granted,
    /// The same, in a forked child that has inherited a session, which the caller has to end.
    Inherited,
    /// Nothing: this process has a session already.
    Refused,
}

impl Recorder {
    /// Claims the only session of the process.
    pub(super) fn claim_session(&self) -> Claim {
        let own = std::process::id();
        // SeqCst: pairs with the store in `release_session`, so that the tables of the previous
        // session are gone.
        let claim =
            |from| self.owner.compare_exchange(from, own, Ordering::SeqCst, Ordering::SeqCst).err();
        match claim(0) {
            None => Claim::Granted,
            Some(owner) if owner == own => Claim::Refused,
            Some(parent) => match claim(parent) {
                None => Claim::Inherited,
                // Another thread of this child was faster.
                Some(_) => Claim::Refused,
            },
        }
    }

    /// Lets another session start.
    pub(super) fn release_session(&self) {
        // SeqCst: pairs with the exchange in `claim_session`.
        self.owner.store(0, Ordering::SeqCst);
    }

    /// The slots, which the first call reserves and which stay reserved for the life of the
    /// process.
    pub(super) fn reserve_slots(&self) -> std::io::Result<&Slots> {
        self.slots.get_or_try_init(Slots::reserve)
    }

    /// The slots, once a session has reserved them.
    #[inline]
    pub(super) fn slots(&self) -> Option<&Slots> {
        self.slots.get()
    }

    /// Publishes a session's tables to the threads that enter from now on.
    pub(super) fn install(&self, live: Box<Live<'static>>) {
        // SeqCst: pairs with the load in `entered`, whose thread then sees the tables initialised.
        self.live.store(Box::into_raw(live), Ordering::SeqCst);
    }

    /// Enters the hook in `lane` or, when another thread is in it, in the shared lane.
    #[inline]
    pub(super) fn enter(&self, lane: Lane) -> Entered<'_> {
        self.enter_lane(lane).unwrap_or_else(|| {
            // SeqCst: as in `enter_lane`.
            self.occupancy[Lane::SHARED.number()].threads.fetch_add(1, Ordering::SeqCst);
            self.entered(Lane::SHARED)
        })
    }

    /// Enters `lane`, unless another thread is in it.
    #[inline]
    pub(super) fn enter_lane(&self, lane: Lane) -> Option<Entered<'_>> {
        // SeqCst: a thread stores to `threads` and then loads `live`, while `uninstall` stores to
        // `live` and then loads `threads`. In the single order of these four, either the end of the
        // session sees this thread inside, or this thread sees that the session has ended. SeqCst
        // includes Acquire, which pairs with the Release in `Entered::drop`: this thread sees what
        // the last one did in the lane.
        let threads = &self.occupancy[lane.number()].threads;
        let is_free = threads.compare_exchange(0, 1, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        is_free.then(|| self.entered(lane))
    }

    /// Makes the guard for a thread that is already counted in `lane`.
    #[inline]
    fn entered(&self, lane: Lane) -> Entered<'_> {
        // SeqCst: the second half of the pair of operations that `enter_lane` describes.
        let live = self.live.load(Ordering::SeqCst);
        // SAFETY: the tables are freed only after every lane was seen empty with `live` at null,
        // and this thread is counted in its lane.
        Entered { live: unsafe { live.as_ref() }, lane, recorder: self }
    }

    /// Unpublishes the session's tables and waits until all threads have left them.
    ///
    /// In a forked child some threads never leave: they are given a moment and then counted as
    /// vanished. Returns `None` when there were no tables, or when a thread may still be using
    /// them; they are leaked then, which is the lesser evil.
    pub(super) fn uninstall(&self, in_child: bool) -> Option<Box<Live<'static>>> {
        // SeqCst: the first half of the pair of operations that `enter_lane` describes.
        let live = self.live.swap(std::ptr::null_mut(), Ordering::SeqCst);
        let is_alone = self.wait_until_empty(in_child);
        // SAFETY: the pointer comes from `Box::into_raw` in `install`, the swap took it out, and no
        // thread in the hook has it.
        (!live.is_null() && is_alone).then(|| unsafe { Box::from_raw(live) })
    }

    /// Waits until all threads have left the hook, which they are in for microseconds; `false` when
    /// that takes too long.
    fn wait_until_empty(&self, in_child: bool) -> bool {
        let is_empty = || self.occupancy.iter().all(Occupancy::is_empty);
        let timeout_ms = if in_child { 20 } else { 2000 };
        let left = (0..timeout_ms).any(|_| {
            is_empty() || {
                std::thread::sleep(Duration::from_millis(1));
                false
            }
        });
        if !left && in_child {
            for lane in &self.occupancy {
                lane.vanished.store(lane.threads.load(Ordering::SeqCst), Ordering::Relaxed);
            }
        }
        left
    }
}

/// The guard of a thread in the hook.
#[derive(Debug)]
pub(super) struct Entered<'a> {
    /// `None` while nothing is recorded.
    pub(super) live: Option<&'a Live<'static>>,
    pub(super) lane: Lane,
    recorder: &'a Recorder,
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        let threads = &self.recorder.occupancy[self.lane.number()].threads;
        // Release: pairs with the Acquire of the exchange in `enter_lane` and of the load in
        // `Occupancy::is_empty`.
        if self.lane == Lane::SHARED {
            threads.fetch_sub(1, Ordering::Release);
        } else {
            threads.store(0, Ordering::Release);
        }
    }
}
