//! A session, as the profiler holds it: start, snapshots, end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::counters::Counter;
use super::live::Live;
use super::local::{self, Mute};
use super::observation::LiveObservation;
use super::snapshot::Facts;
use super::{Inside, RECORDER};
use crate::leak::Observation;
use crate::live_set::Slots;
use crate::profiler::{Config, StartError};
use crate::sampler::{Interval, Random};
use crate::sync::Lane;
use crate::{Snapshot, Stats};

/// A session, as its owner holds it.
pub(crate) struct Session {
    /// Snapshots one after the other: each takes memory for itself.
    one_snapshot: Mutex<()>,
    snapshots: AtomicU64,
    facts: Facts,
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
        // Acquire is in it: pairs with the stores below and in `drop`, after which nothing of an
        // earlier session is under way.
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
        let cap = config.max_profiler_bytes;
        RECORDER.budget.set_cap(cap);
        let slots = RECORDER.slots.get_or_try_init(Slots::reserve).map_err(StartError::Memory)?;
        make_room(slots, cap)?;
        let live = Live::new(config).map_err(StartError::Memory)?;
        let facts = Facts::new(config);
        // Relaxed: published with `live` and with the number of the session.
        RECORDER.seed.store(config.seed.unwrap_or(facts.session), Ordering::Relaxed);
        RECORDER.streams.store(0, Ordering::Relaxed);
        RECORDER.paused.store(false, Ordering::Relaxed);
        RECORDER.tick.store(1, Ordering::Relaxed);
        RECORDER.set_interval(Interval::from_bytes(config.interval_bytes));
        // Release is in it: pairs with the load in `Recorder::entered`.
        RECORDER.live.store(Box::into_raw(Box::new(live)), Ordering::SeqCst);
        // Relaxed: sessions start one at a time.
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
            // Relaxed: a number for each is all that is wanted.
            let sequence = self.snapshots.fetch_add(1, Ordering::Relaxed) + 1;
            RECORDER.enter().live.map(|live| live.snapshot(&self.facts, sequence, reason))
        })
        .unwrap_or_default()
    }

    /// Ends the running tick; its number.
    pub(crate) fn end_tick(&self) -> u32 {
        // Relaxed: as in `Recorder::tick`.
        RECORDER.tick.fetch_add(1, Ordering::Relaxed)
    }

    /// Has the live set looked at as it is at the end of a tick.
    pub(crate) fn observe<R>(
        &self,
        tick: u32,
        look: impl FnOnce(&dyn Observation) -> R,
    ) -> Option<R> {
        Self::muted(|| RECORDER.enter().live.map(|live| look(&LiveObservation::new(live, tick))))
    }

    /// Whether this is a forked child of the process that started, with only one of its threads.
    fn is_in_child(&self) -> bool {
        std::process::id() != self.process
    }

    /// The counters now.
    pub(crate) fn stats(&self) -> Stats {
        RECORDER.enter().live.map(Live::stats).unwrap_or_default()
    }

    /// Stops or goes on sampling.
    pub(crate) fn set_paused(&self, paused: bool) {
        // Relaxed: threads see it sooner or later, and nothing is read on the strength of it.
        RECORDER.paused.store(paused, Ordering::Relaxed);
    }

    /// Changes the interval.
    pub(crate) fn set_interval(&self, interval_bytes: u64) {
        RECORDER.set_interval(Interval::from_bytes(interval_bytes));
        local::rearm();
    }

    /// Notes that a dump could not be written.
    pub(crate) fn count_failed_dump(&self) {
        let entered = RECORDER.enter();
        if let Some(live) = entered.live {
            live.count(entered.lane, Counter::DroppedDumps);
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
        // SeqCst, for `live`: see `Recorder::enter_lane`. Threads that still see the number find no
        // `live`.
        RECORDER.session_number.store(0, Ordering::SeqCst);
        let live = RECORDER.live.swap(std::ptr::null_mut(), Ordering::SeqCst);
        let all_out = wait(self.is_in_child());
        if !live.is_null() {
            Self::muted(refund);
            if all_out {
                // SAFETY: made by `Box::into_raw`, and no thread is in the hook with it.
                Self::muted(|| drop(unsafe { Box::from_raw(live) }));
            }
            // Otherwise a thread may still come out of the tables, and they stay: the lesser evil.
        }
        // Release is in it: pairs with the swap in `start`.
        RECORDER.running.store(false, Ordering::SeqCst);
    }
}

/// Waits until all threads have left the hook; whether they have. They are inside for microseconds.
/// In a forked child some never leave: they are given a moment, and then for gone.
fn wait(in_child: bool) -> bool {
    let all_out = || RECORDER.inside.iter().all(Inside::is_empty);
    let patience_ms = if in_child { 20 } else { 2000 };
    let left = (0..patience_ms).any(|_| {
        all_out() || {
            std::thread::sleep(Duration::from_millis(1));
            false
        }
    });
    if !left && in_child {
        for inside in &RECORDER.inside {
            // Relaxed: in a child nobody else is there to read it.
            inside.vanished.store(inside.now.load(Ordering::SeqCst), Ordering::Relaxed);
        }
    }
    left
}

/// Gives back the memory of all slots without an object, also of those that lanes have kept.
fn give_slots_back(slots: &Slots) {
    for entered in Lane::all().filter_map(|lane| RECORDER.enter_lane(lane)) {
        slots.share(entered.lane, &RECORDER.budget);
    }
    slots.give_all_back(&RECORDER.budget);
}

/// Gives back to the budget what the session held. Slots with objects stay, and so does their share.
fn refund() {
    if let Some(slots) = RECORDER.slots.get() {
        give_slots_back(slots);
        RECORDER.budget.adjust(slots.overhead() - RECORDER.budget.held() as i64);
    }
}

/// Gives back what earlier sessions left. What stays, for the objects of the program that are still in
/// slots and for the numbers of all slots, counts toward this session's cap too; when it is more than
/// half, a session would drop what it samples.
fn make_room(slots: &Slots, cap: u64) -> Result<(), StartError> {
    give_slots_back(slots);
    let kept = u64::try_from(slots.overhead()).unwrap_or(0);
    if kept <= cap / 2 {
        return Ok(());
    }
    let expected = format!(
        "at least {} bytes, twice the {kept} that places of objects which an earlier session sampled \
         take",
        2 * kept
    );
    Err(StartError::bad_value("max_profiler_bytes", cap, expected))
}
