//! The one static of the crate, and how threads enter and leave the session that it points to.
//!
//! A session's tables are freed only after `live` was set to null and every lane was then seen
//! empty. A thread that vanished inside (a forked child has only one of its parent's threads) is
//! counted as vanished, and costs a lane.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

use once_cell::sync::OnceCell;

use super::control::Control;
use super::live::Live;
use crate::engine::recording::arena::Budget;
use crate::engine::recording::live_set::Slots;
use crate::engine::recording::sync::{LANES, Lane};

/// Everything that outlives a session.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) control: Control,
    /// Whether a session exists, from before its tables are made until after they are freed.
    running: AtomicBool,
    /// Threads inside the hook, by lane. Whoever is counted may use `live`.
    inside: [Inside; LANES],
    live: AtomicPtr<Live<'static>>,
    slots: OnceCell<Slots>,
    pub(super) budget: Budget,
}

/// Threads in a lane: at most one, but for the shared lane.
#[derive(Debug)]
#[repr(align(128))]
struct Inside {
    now: AtomicU32,
    /// Of those counted, the threads of the parent that a forked child does not have.
    vanished: AtomicU32,
}

impl Inside {
    const fn nobody() -> Self {
        Self { now: AtomicU32::new(0), vanished: AtomicU32::new(0) }
    }

    /// Whether nobody is left inside who could come out.
    fn is_empty(&self) -> bool {
        // SeqCst: see `Recorder::enter_lane`.
        self.now.load(Ordering::SeqCst) == self.vanished.load(Ordering::Relaxed)
    }
}

pub(super) static RECORDER: Recorder = Recorder {
    control: Control::new(),
    running: AtomicBool::new(false),
    inside: [const { Inside::nobody() }; LANES],
    live: AtomicPtr::new(std::ptr::null_mut()),
    slots: OnceCell::new(),
    budget: Budget::new(0),
};

impl Recorder {
    /// Makes this session the only one; `false` when there is one already.
    pub(super) fn claim(&self) -> bool {
        !self.running.swap(true, Ordering::SeqCst)
    }

    /// Lets another session start.
    pub(super) fn unclaim(&self) {
        self.running.store(false, Ordering::SeqCst);
    }

    /// The slots, reserved at the first call; they stay for as long as the process runs.
    pub(super) fn reserve_slots(&self) -> std::io::Result<&Slots> {
        self.slots.get_or_try_init(Slots::reserve)
    }

    /// The slots, once any session has reserved them.
    #[inline]
    pub(super) fn slots(&self) -> Option<&Slots> {
        self.slots.get()
    }

    /// Makes a session's tables the ones that threads find when they enter.
    pub(super) fn install(&self, live: Box<Live<'static>>) {
        self.live.store(Box::into_raw(live), Ordering::SeqCst);
    }

    /// Enters the hook, in this lane or, when somebody is in it, in the shared one.
    #[inline]
    pub(super) fn enter(&self, lane: Lane) -> Entered<'_> {
        self.enter_lane(lane).unwrap_or_else(|| {
            // SeqCst: as in `enter_lane`.
            self.inside[Lane::SHARED.number()].now.fetch_add(1, Ordering::SeqCst);
            self.entered(Lane::SHARED)
        })
    }

    /// Enters a lane, unless somebody is in it.
    #[inline]
    pub(super) fn enter_lane(&self, lane: Lane) -> Option<Entered<'_>> {
        // SeqCst, as in `remove`: either the session's end sees this thread inside, or this thread
        // sees that the session has ended. It includes Acquire, which pairs with the Release in
        // `Entered::drop`: this thread sees what the last one did in the lane.
        let inside = &self.inside[lane.number()].now;
        let is_free = inside.compare_exchange(0, 1, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        is_free.then(|| self.entered(lane))
    }

    /// For a thread that is counted in a lane.
    #[inline]
    fn entered(&self, lane: Lane) -> Entered<'_> {
        let live = self.live.load(Ordering::SeqCst);
        // SAFETY: freed only after all lanes were seen empty with `live` at null.
        Entered { live: unsafe { live.as_ref() }, lane, recorder: self }
    }

    /// Takes the session's tables away and waits until all threads have left them.
    ///
    /// In a forked child some threads never leave: they are given a moment and then counted as
    /// vanished. `None` when there were no tables, or when a thread may still be in them; then they
    /// are leaked, which is the lesser evil.
    pub(super) fn remove(&self, in_child: bool) -> Option<Box<Live<'static>>> {
        let live = self.live.swap(std::ptr::null_mut(), Ordering::SeqCst);
        let is_alone = self.wait_until_empty(in_child);
        // SAFETY: made by `Box::into_raw` in `install`, and no thread is in the hook with it.
        (!live.is_null() && is_alone).then(|| unsafe { Box::from_raw(live) })
    }

    /// Whether all threads have left the hook. They are inside for microseconds.
    fn wait_until_empty(&self, in_child: bool) -> bool {
        let is_empty = || self.inside.iter().all(Inside::is_empty);
        let patience_ms = if in_child { 20 } else { 2000 };
        let left = (0..patience_ms).any(|_| {
            is_empty() || {
                std::thread::sleep(Duration::from_millis(1));
                false
            }
        });
        if !left && in_child {
            for inside in &self.inside {
                inside.vanished.store(inside.now.load(Ordering::SeqCst), Ordering::Relaxed);
            }
        }
        left
    }
}

/// A thread in the hook.
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
        let inside = &self.recorder.inside[self.lane.number()].now;
        // Release: pairs with `enter_lane` and with the load in `Inside::is_empty`.
        if self.lane == Lane::SHARED {
            inside.fetch_sub(1, Ordering::Release);
        } else {
            inside.store(0, Ordering::Release);
        }
    }
}
