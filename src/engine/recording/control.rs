//! The state of the running session that threads read without entering the hook: whether and how to
//! sample.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::engine::recording::sampler::{Interval, Random};

/// The settings and counts of the running session that the allocation path reads.
#[derive(Debug)]
pub(super) struct Control {
    /// The number of the running session; 0 while nothing is recorded.
    session: AtomicU32,
    /// The number of the session that was started last.
    last_session: AtomicU32,
    interval: AtomicU32,
    paused: AtomicBool,
    seed: AtomicU64,
    /// The running tick: 1 from the start of a session to the end of its first tick.
    tick: AtomicU32,
    /// The number of threads that have joined this session.
    streams: AtomicU64,
}

impl Control {
    /// Creates the state of a process in which no session has been started.
    pub(super) const fn new() -> Self {
        Self {
            session: AtomicU32::new(0),
            last_session: AtomicU32::new(0),
            interval: AtomicU32::new(0),
            paused: AtomicBool::new(false),
            seed: AtomicU64::new(0),
            tick: AtomicU32::new(1),
            streams: AtomicU64::new(0),
        }
    }

    /// Resets everything for the session that [`begin_session`](Self::begin_session) will announce.
    pub(super) fn prepare_session(&self, interval: Interval, seed: u64) {
        // Relaxed: threads read these after the session number, which `begin_session` stores with
        // Release after this.
        self.seed.store(seed, Ordering::Relaxed);
        self.streams.store(0, Ordering::Relaxed);
        self.paused.store(false, Ordering::Relaxed);
        self.tick.store(1, Ordering::Relaxed);
        self.set_interval(interval);
    }

    /// Returns a session number, never 0, that is unique until the counter wraps around.
    pub(super) fn next_session(&self) -> u32 {
        // Relaxed: numbers only need to be different.
        self.last_session.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1)
    }

    /// Lets threads join the session.
    pub(super) fn begin_session(&self, number: u32) {
        // Release: pairs with the Acquire in `session`, whose thread then sees everything that was
        // prepared.
        self.session.store(number, Ordering::Release);
    }

    /// Keeps threads from joining.
    pub(super) fn end_session(&self) {
        // SeqCst: this store is in the single order of the SeqCst operations that
        // `Recorder::enter_lane` describes.
        self.session.store(0, Ordering::SeqCst);
    }

    /// Keeps threads from joining the session `number`, and returns whether it was still running.
    pub(super) fn end_session_of(&self, number: u32) -> bool {
        // SeqCst: as in `end_session`. Of two threads that end the session only one succeeds.
        self.session.compare_exchange(number, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The number of the running session, or 0 when there is none.
    #[inline]
    pub(super) fn session(&self) -> u32 {
        // Acquire: pairs with the Release in `begin_session`.
        self.session.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn interval(&self) -> Interval {
        // Relaxed: any recent value is right, because a sample carries the interval with which its
        // gap was drawn.
        Interval::from_bits(self.interval.load(Ordering::Relaxed))
    }

    pub(super) fn set_interval(&self, interval: Interval) {
        self.interval.store(interval.to_bits(), Ordering::Relaxed);
    }

    /// Changes the interval from `from` to `to`, unless another thread has changed it meanwhile.
    pub(super) fn raise_interval(&self, from: Interval, to: Interval) -> bool {
        let (from, to) = (from.to_bits(), to.to_bits());
        // Relaxed: nothing is published through the interval.
        self.interval.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    #[inline]
    pub(super) fn is_paused(&self) -> bool {
        // Relaxed: sampling a few allocations more or less around the moment of the call causes no
        // bias.
        self.paused.load(Ordering::Relaxed)
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// The running tick. Relaxed: a sample that is born while a tick ends may count toward either.
    pub(super) fn tick(&self) -> u32 {
        self.tick.load(Ordering::Relaxed)
    }

    /// Begins the next tick and returns the number of the one that ended.
    pub(super) fn end_tick(&self) -> u32 {
        self.tick.fetch_add(1, Ordering::Relaxed)
    }

    /// Creates the random number generator of the next thread that joins the session.
    pub(super) fn next_random(&self) -> Random {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        Random::new(self.seed.load(Ordering::Relaxed), stream)
    }
}
