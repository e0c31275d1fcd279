//! A session: start, snapshots, end.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::counters::Counter;
use super::live::{Globals, Live};
use super::local::{self, muted};
use super::observation::LiveObservation;
use super::recorder::{Claim, Entered, RECORDER, enter};
use super::snapshot::SessionInfo;
use crate::config::Config;
use crate::engine::recording::live_set::Slots;
use crate::engine::recording::sampler::{Interval, Random};
use crate::engine::recording::sync::Lane;
use crate::error::StartError;
use crate::leak::detection::observation::Observation;
use crate::{Snapshot, Stats};

/// The session, as its owner holds it.
///
/// It may have ended before this value is dropped: by [`end`](Self::end), or because a forked
/// child, which inherits the value, has started a session of its own. Nothing is recorded in it
/// then.
pub(crate) struct Session {
    number: u32,
    /// Serialises snapshots, each of which needs memory of its own.
    snapshot_lock: Mutex<()>,
    snapshot_count: AtomicU64,
    info: SessionInfo,
    /// The id of the process that started the session.
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
        match RECORDER.claim_session() {
            Claim::Granted => {}
            Claim::Inherited => end_recording(true),
            Claim::Refused => return Err(StartError::AlreadyRunning),
        }
        let (session, random) = muted(|| Self::prepare(config)).inspect_err(|_| {
            RECORDER.release_session();
        })?;
        // The starting thread takes part from its next allocation on, with the first stream of
        // random numbers.
        local::join(session.number, random);
        RECORDER.control.begin_session(session.number);
        Ok(session)
    }

    fn prepare(config: &Config) -> Result<(Self, Random), StartError> {
        let cap = config.max_profiler_bytes;
        RECORDER.budget.set_cap(cap);
        let slots = RECORDER.reserve_slots().map_err(StartError::Memory)?;
        reclaim_slots(slots, cap)?;
        let globals = Globals {
            control: &RECORDER.control,
            budget: &RECORDER.budget,
            slots,
            uniform: local::uniform,
        };
        let live = Live::new(config, globals).map_err(StartError::Memory)?;
        let info = SessionInfo::new(config);
        let interval = Interval::from_bytes(config.sample_interval_bytes);
        RECORDER.control.prepare_session(interval, config.seed.unwrap_or(info.session));
        RECORDER.install(Box::new(live));
        let session = Self {
            number: RECORDER.control.next_session(),
            snapshot_lock: Mutex::new(()),
            snapshot_count: AtomicU64::new(0),
            info,
            process: std::process::id(),
        };
        Ok((session, RECORDER.control.next_random()))
    }

    /// Whether this process's allocations are being sampled for this session.
    pub(crate) fn is_active(&self) -> bool {
        !self.is_in_child() && self.is_current() && !RECORDER.control.is_paused()
    }

    /// Whether the session has not ended.
    fn is_current(&self) -> bool {
        RECORDER.control.session() == self.number
    }

    /// Enters the hook; `None` if the session has ended.
    fn enter(&self) -> Option<Entered<'static>> {
        self.is_current().then(enter)
    }

    /// Takes a snapshot.
    pub(crate) fn snapshot(&self, reason: &str) -> Snapshot {
        muted(|| {
            // In a forked child the thread that held the lock may not exist, so the child takes no
            // lock.
            let _guard = (!self.is_in_child()).then(|| self.snapshot_lock.lock());
            let sequence = self.snapshot_count.fetch_add(1, Ordering::Relaxed) + 1;
            let entered = self.enter()?;
            entered.live.map(|live| live.snapshot(&self.info, sequence, reason))
        })
        .unwrap_or_default()
    }

    /// Ends the running tick and returns its number.
    pub(crate) fn end_tick(&self) -> u32 {
        RECORDER.control.end_tick()
    }

    /// Shows `look` the live set as it is at the end of `tick`.
    pub(crate) fn observe<R>(
        &self,
        tick: u32,
        look: impl FnOnce(&dyn Observation) -> R,
    ) -> Option<R> {
        muted(|| {
            let entered = self.enter()?;
            entered.live.map(|live| look(&LiveObservation::new(live, tick)))
        })
    }

    /// Whether this is a forked child of the process that started the session, with only one of its
    /// threads.
    fn is_in_child(&self) -> bool {
        std::process::id() != self.process
    }

    /// The counters now.
    pub(crate) fn stats(&self) -> Stats {
        let stats = |entered: Entered<'_>| entered.live.map(Live::stats);
        self.enter().and_then(stats).unwrap_or_default()
    }

    /// Pauses or resumes sampling.
    pub(crate) fn set_paused(&self, paused: bool) {
        if self.is_current() {
            RECORDER.control.set_paused(paused);
        }
    }

    /// Changes the sampling interval.
    pub(crate) fn set_interval(&self, interval_bytes: u64) {
        if !self.is_current() {
            return;
        }
        RECORDER.control.set_interval(Interval::from_bytes(interval_bytes));
        local::rearm();
    }

    /// Counts a dump that could not be written.
    pub(crate) fn count_failed_dump(&self) {
        let Some(entered) = self.enter() else { return };
        if let Some(live) = entered.live {
            live.count(entered.lane, Counter::DroppedDumps);
        }
    }

    /// Ends the session, unless it has ended. Another one may then start.
    pub(crate) fn end(&self) {
        if RECORDER.control.end_session_of(self.number) {
            end_recording(self.is_in_child());
            RECORDER.release_session();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ends all recording and frees its tables. In a forked child, threads of the parent may have been
/// using them, see [`Recorder::uninstall`](super::recorder::Recorder::uninstall).
fn end_recording(in_child: bool) {
    RECORDER.control.end_session();
    muted(|| {
        let live = RECORDER.uninstall(in_child);
        settle_budget();
        drop(live);
    });
}

/// Decommits the pages without live slots, after taking back the free slots that lanes have cached.
fn decommit_unused_slots(slots: &Slots) {
    for entered in Lane::exclusive().filter_map(|lane| RECORDER.enter_lane(lane)) {
        slots.flush_lane(entered.lane, &RECORDER.budget);
    }
    slots.decommit_unused(&RECORDER.budget);
}

/// Returns to the budget what the session held. Slots that hold objects stay, and so does their
/// slack.
fn settle_budget() {
    if let Some(slots) = RECORDER.slots() {
        decommit_unused_slots(slots);
        RECORDER.budget.adjust(slots.overhead() - RECORDER.budget.held() as i64);
    }
}

/// Reclaims what earlier sessions left in the slots, and checks that `cap` has room for the rest.
/// What remains, for objects of the program that are still in slots and for the metadata of all
/// slots, counts toward this session's cap too; if it were more than half, the session would drop
/// its samples.
fn reclaim_slots(slots: &Slots, cap: u64) -> Result<(), StartError> {
    decommit_unused_slots(slots);
    let kept = u64::try_from(slots.overhead()).unwrap_or(0);
    if kept <= cap / 2 {
        return Ok(());
    }
    let expected = format!(
        "at least {} bytes: objects that an earlier session sampled still hold {kept} bytes of slots, \
         which may take up at most half",
        2 * kept
    );
    Err(StartError::bad_value("max_profiler_bytes", cap, expected))
}
