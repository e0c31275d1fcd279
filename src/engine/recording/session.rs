//! A session, as the profiler holds it: start, snapshots, end.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::counters::Counter;
use super::live::{Globals, Live};
use super::local::{self, muted};
use super::observation::LiveObservation;
use super::recorder::{Entered, RECORDER};
use super::snapshot::Facts;
use crate::config::Config;
use crate::engine::recording::live_set::Slots;
use crate::engine::recording::sampler::{Interval, Random};
use crate::engine::recording::sync::Lane;
use crate::error::StartError;
use crate::leak::detection::observation::Observation;
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
        if !RECORDER.claim() {
            return Err(StartError::AlreadyRunning);
        }
        let (session, number, random) = muted(|| Self::prepare(config)).inspect_err(|_| {
            RECORDER.unclaim();
        })?;
        // The starting thread takes part from its next allocation on, with the first stream.
        local::join(number, random);
        RECORDER.control.begin_session(number);
        Ok(session)
    }

    fn prepare(config: &Config) -> Result<(Self, u32, Random), StartError> {
        let cap = config.max_profiler_bytes;
        RECORDER.budget.set_cap(cap);
        let slots = RECORDER.reserve_slots().map_err(StartError::Memory)?;
        make_room(slots, cap)?;
        let globals = Globals {
            control: &RECORDER.control,
            budget: &RECORDER.budget,
            slots,
            uniform: local::uniform,
        };
        let live = Live::new(config, globals).map_err(StartError::Memory)?;
        let facts = Facts::new(config);
        let interval = Interval::from_bytes(config.sample_interval_bytes);
        RECORDER.control.prepare_session(interval, config.seed.unwrap_or(facts.session));
        RECORDER.install(Box::new(live));
        let number = RECORDER.control.next_session();
        let session = Self {
            one_snapshot: Mutex::new(()),
            snapshots: AtomicU64::new(0),
            facts,
            process: std::process::id(),
        };
        Ok((session, number, RECORDER.control.next_random()))
    }

    /// Whether allocations are being sampled.
    pub(crate) fn is_active(&self) -> bool {
        !RECORDER.control.is_paused()
    }

    /// What is recorded now.
    pub(crate) fn snapshot(&self, reason: &str) -> Snapshot {
        muted(|| {
            // In a forked child the thread that held the lock may not exist.
            let _one = (!self.is_in_child()).then(|| self.one_snapshot.lock());
            let sequence = self.snapshots.fetch_add(1, Ordering::Relaxed) + 1;
            enter().live.map(|live| live.snapshot(&self.facts, sequence, reason))
        })
        .unwrap_or_default()
    }

    /// Ends the running tick; its number.
    pub(crate) fn end_tick(&self) -> u32 {
        RECORDER.control.end_tick()
    }

    /// Has the live set looked at as it is at the end of a tick.
    pub(crate) fn observe<R>(
        &self,
        tick: u32,
        look: impl FnOnce(&dyn Observation) -> R,
    ) -> Option<R> {
        muted(|| enter().live.map(|live| look(&LiveObservation::new(live, tick))))
    }

    /// Whether this is a forked child of the process that started, with only one of its threads.
    fn is_in_child(&self) -> bool {
        std::process::id() != self.process
    }

    /// The counters now.
    pub(crate) fn stats(&self) -> Stats {
        enter().live.map(|live| live.stats()).unwrap_or_default()
    }

    /// Stops or goes on sampling.
    pub(crate) fn set_paused(&self, paused: bool) {
        RECORDER.control.set_paused(paused);
    }

    /// Changes the interval.
    pub(crate) fn set_interval(&self, interval_bytes: u64) {
        RECORDER.control.set_interval(Interval::from_bytes(interval_bytes));
        local::rearm();
    }

    /// Notes that a dump could not be written.
    pub(crate) fn count_failed_dump(&self) {
        let entered = enter();
        if let Some(live) = entered.live {
            live.count(entered.lane, Counter::DroppedDumps);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        RECORDER.control.end_session();
        muted(|| {
            let live = RECORDER.remove(self.is_in_child());
            refund();
            drop(live);
        });
        RECORDER.unclaim();
    }
}

/// Enters the hook in the calling thread's lane.
fn enter() -> Entered<'static> {
    RECORDER.enter(Lane::of(local::number()))
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
    if let Some(slots) = RECORDER.slots() {
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
