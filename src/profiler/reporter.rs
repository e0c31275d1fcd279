//! The reporting thread: periodic ticks of the leak detector, and dumps by period and by signal.
//!
//! It is started only where one of these was asked for. A single idle second thread takes glibc's
//! allocator out of its single-threaded mode, which costs a program 8% to 15%.
//!
//! The thread outlives everything but the session: what panics in one round is caught, and the next
//! round comes.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::Shared;
use super::contain::contain;
use super::worker::Worker;
use crate::Snapshot;
use crate::config::Config;
use crate::engine::{Wake, Waker};
use crate::error::StartError;

/// A running reporting thread. It ends after this value was dropped, which does not wait for it.
#[derive(Debug)]
pub(super) struct Reporter {
    waker: Arc<Waker>,
    /// `None` once it has been waited for.
    thread: Option<Worker>,
}

impl Reporter {
    pub(super) fn start_if_needed(
        shared: &Arc<Shared>,
        config: &Config,
    ) -> Result<Option<Self>, StartError> {
        // A tick that nobody hears of and no dump records would be wasted.
        let somebody_hears = shared.dump_dir.is_some()
            || config.on_report.is_some()
            || contain(|| log::log_enabled!(target: "heapdrift", log::Level::Warn)) == Some(true);
        let start = Instant::now();
        let schedules = Schedules {
            ticks: Schedule::new(config.diff_every, start).filter(|_| somebody_hears),
            dumps: Schedule::new(config.dump_every, start).filter(|_| shared.dump_dir.is_some()),
        };
        let has_work = schedules.ticks.is_some()
            || schedules.dumps.is_some()
            || config.dump_on_signal.is_some();
        if !has_work || !shared.session.is_active() {
            return Ok(None);
        }
        Self::start(shared, config, schedules).map(Some).map_err(StartError::Reporter)
    }

    fn start(shared: &Arc<Shared>, config: &Config, schedules: Schedules) -> io::Result<Self> {
        let waker = Arc::new(Waker::new(config.dump_on_signal)?);
        let thread = Worker::spawn(config.dump_on_signal, {
            // A strong reference would keep the session alive in a forked child, where this thread
            // does not exist.
            let (waker, shared) = (Arc::clone(&waker), Arc::downgrade(shared));
            move || report(&waker, &shared, schedules)
        })?;
        Ok(Self { waker, thread: Some(thread) })
    }

    /// Whether this is the calling thread, in a callback.
    pub(super) fn is_current(&self) -> bool {
        self.thread.as_ref().is_some_and(Worker::is_current)
    }

    /// Makes the thread write the last dump and end, and waits for that, but no longer than
    /// `until`. Returns whether it ended.
    pub(super) fn end(mut self, until: Instant) -> bool {
        self.waker.stop();
        self.thread.take().is_none_or(|thread| thread.wait(until))
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.waker.stop();
    }
}

/// When ticks and dumps are due. Both count from the same start, so that periods of which one is a
/// multiple of the other keep meeting.
struct Schedules {
    ticks: Option<Schedule>,
    dumps: Option<Schedule>,
}

impl Schedules {
    /// When to wake up next, if ever.
    fn next_due(&self) -> Option<Instant> {
        [&self.ticks, &self.dumps].into_iter().flatten().filter_map(|schedule| schedule.due).min()
    }
}

/// Equally spaced points in time.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    period: Duration,
    /// `None` where it is later than the clock can tell.
    due: Option<Instant>,
}

impl Schedule {
    /// The first point is one period after `start`. There is no schedule for a period of zero.
    fn new(period: Duration, start: Instant) -> Option<Self> {
        (!period.is_zero()).then(|| Self { period, due: start.checked_add(period) })
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Moves on by one period, or by as many as lie before `now`. Returns how many were skipped:
    /// they are not made up for.
    fn advance(&mut self, now: Instant) -> u64 {
        let Some(due) = self.due else { return 0 };
        let late = now.saturating_duration_since(due).saturating_sub(self.period);
        let skipped = late.as_nanos().div_ceil(self.period.as_nanos());
        self.due = due.checked_add(from_nanos(self.period.as_nanos() * (skipped + 1)));
        skipped.try_into().unwrap_or(u64::MAX)
    }
}

fn from_nanos(nanos: u128) -> Duration {
    const NANOS_PER_SECOND: u128 = 1_000_000_000;
    let seconds = u64::try_from(nanos / NANOS_PER_SECOND).unwrap_or(u64::MAX);
    Duration::new(seconds, (nanos % NANOS_PER_SECOND) as u32)
}

fn report(waker: &Waker, shared: &Weak<Shared>, mut schedules: Schedules) {
    loop {
        match waker.wait(schedules.next_due()) {
            Wake::Stop => return write_last_dump(shared),
            Wake::Signal => write_dump(shared, |shared| shared.snapshot("signal")),
            Wake::Timeout => work(shared, &mut schedules),
        }
        if shared.strong_count() == 0 {
            // A callback has dropped the profiler.
            return;
        }
    }
}

/// Does what is due: a tick, a dump, or both with one look at the live set.
fn work(shared: &Weak<Shared>, schedules: &mut Schedules) {
    let now = Instant::now();
    let ticks = schedules.ticks.as_mut().filter(|ticks| ticks.is_due(now));
    let dumps = schedules.dumps.as_mut().filter(|dumps| dumps.is_due(now));
    match (&ticks, &dumps) {
        (Some(_), Some(_)) => write_dump(shared, |shared| {
            // A tick that panics must not take the dump with it.
            let ticked = contain(|| shared.tick_with_snapshot("periodic"));
            ticked.unwrap_or_else(|| shared.snapshot("periodic"))
        }),
        (Some(_), None) => {
            contain(|| {
                let shared = shared.upgrade()?;
                Some(shared.leaks.tick(&shared.session))
            });
        }
        (None, Some(_)) => write_dump(shared, |shared| shared.snapshot("periodic")),
        (None, None) => {}
    }
    // The schedules advance whatever has happened: otherwise the thread would spin.
    let now = Instant::now();
    let skipped_ticks = ticks.map_or(0, |ticks| ticks.advance(now));
    let skipped_dumps = dumps.map_or(0, |dumps| dumps.advance(now));
    contain(|| {
        let shared = shared.upgrade()?;
        add(&shared.skipped_ticks, skipped_ticks);
        add(&shared.skipped_dumps, skipped_dumps);
        Some(())
    });
}

fn add(counter: &AtomicU64, count: u64) {
    // Relaxed: a counter that publishes nothing else. Only one thread adds to it.
    let sum = counter.load(Ordering::Relaxed).saturating_add(count);
    counter.store(sum, Ordering::Relaxed);
}

/// Writes the dump of the end.
pub(super) fn write_last_dump(shared: &Weak<Shared>) {
    write_dump(shared, |shared| shared.snapshot("end"));
}

/// Writes a dump of what `take` returns into the dump folder, if there is one. The service must
/// survive a failure and its operator hear of it, so failures are counted, and the first is
/// printed.
///
/// The session is not held while the file is written: where that takes for ever, because the disk
/// does not answer, the session can end.
fn write_dump(shared: &Weak<Shared>, take: impl FnOnce(&Shared) -> Snapshot) {
    let written = contain(|| {
        let (snapshot, dump_dir) = {
            let shared = shared.upgrade()?;
            let dump_dir = Arc::clone(shared.dump_dir.as_ref()?);
            (take(&shared), dump_dir)
        };
        let written = dump_dir.write(&snapshot);
        if let Err(error) = &written {
            dump_dir.report_once(error);
        }
        Some(written.is_ok())
    });
    // `Some(None)` stands for a session that has ended, or has no folder.
    if matches!(written, None | Some(Some(false))) {
        contain(|| {
            let shared = shared.upgrade()?;
            shared.session.count_failed_dump();
            Some(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_schedule_stays_on_its_grid_and_counts_what_it_skips() {
        let start = Instant::now();
        let mut schedule = Schedule::new(ms(10), start).unwrap();
        assert!(!schedule.is_due(start + ms(9)) && schedule.is_due(start + ms(10)));
        for (now, skipped, next) in [(12, 0, 20), (20, 0, 30), (40, 0, 40), (61, 2, 70)] {
            assert_eq!(schedule.advance(start + ms(now)), skipped, "at {now} ms");
            assert_eq!(schedule.due, Some(start + ms(next)), "at {now} ms");
        }
    }

    #[test]
    fn schedules_of_which_one_is_a_multiple_of_the_other_keep_meeting() {
        let start = Instant::now();
        let mut ticks = Schedule::new(ms(7), start).unwrap();
        let mut dumps = Schedule::new(ms(21), start).unwrap();
        // Each wake-up is late by as much as a busy machine makes it.
        for round in 1..=1000_u64 {
            let late = ms(round % 5);
            while ticks.due < dumps.due {
                let now = ticks.due.unwrap() + late;
                assert_eq!(ticks.advance(now), 0);
            }
            assert_eq!(ticks.due, dumps.due, "round {round}");
            let now = dumps.due.unwrap() + late;
            assert_eq!((ticks.advance(now), dumps.advance(now)), (0, 0));
        }
    }

    #[test]
    fn the_longest_and_the_shortest_period_work() {
        let start = Instant::now();
        let mut never = Schedule::new(Duration::MAX, start).unwrap();
        assert!(!never.is_due(start + ms(1 << 40)));
        assert_eq!((never.advance(start), never.due), (0, None));
        let mut always = Schedule::new(Duration::from_nanos(1), start).unwrap();
        let now = start + Duration::from_secs(3600);
        assert_eq!(always.advance(now), 3600 * 1_000_000_000 - 2);
        assert_eq!(always.due, Some(now));
        assert!(Schedule::new(Duration::ZERO, start).is_none());
    }
}
