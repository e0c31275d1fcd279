//! The leak detector of a session: its ticks, and who is told about them.
//!
//! Invariant: no code of the service (a `log` logger, `on_report`) runs while a lock of this module
//! is held. A tick first comes to its end and stores its report; only then are logger and callback
//! called. They may call the profiler, and their panics are contained.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::contain::contain;
use crate::config::{Config, ReportHook};
use crate::engine::{self, Analysis, Session};
use crate::error::StartError;
use crate::report::{self, LeakCandidate, LeakReport, Verdict};
use crate::{Snapshot, dump};

/// The leak detector, its last report, and the callback that receives reports.
#[derive(Debug)]
pub(super) struct Leaks {
    /// Locked for the duration of a tick, which serialises ticks.
    analysis: Mutex<Analysis>,
    /// The report of the last tick. It has a lock of its own, which is held only to copy the
    /// pointer, so that a snapshot does not wait for a tick. The lock order is `analysis` before
    /// `last`.
    last: Mutex<Option<Arc<LeakReport>>>,
    on_report: Option<ReportHook>,
    baseline: Option<Baseline>,
    panic_reported: AtomicBool,
}

/// What a tick found, and the report of the tick before it.
struct Outcome {
    before: Option<Arc<LeakReport>>,
    report: Arc<LeakReport>,
}

thread_local! {
    /// Whether this thread is in a tick or in a callback of one. One flag for all sessions is
    /// enough: a second one cannot start before the first has ended.
    static IS_TICKING: Cell<bool> = const { Cell::new(false) };
}

/// Marks the thread as ticking while it exists.
struct Ticking;

impl Ticking {
    fn begin() -> Self {
        IS_TICKING.set(true);
        Self
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        IS_TICKING.set(false);
    }
}

/// The report of an earlier release that candidates are compared with.
#[derive(Clone, Debug)]
pub(super) enum Baseline {
    /// The last report in the dump.
    Report(Arc<report::Baseline>),
    /// The dump has no report; the message says so.
    Useless(String),
}

impl Baseline {
    /// Reads a dump, which must be of a program of the same name.
    pub(super) fn read(path: &Path) -> Result<Self, StartError> {
        let refuse = |reason: String| StartError::Baseline { path: path.to_owned(), reason };
        engine::muted(|| {
            let (executable, report) =
                dump::read_baseline(path).map_err(|error| refuse(error.to_string()))?;
            let own = std::env::current_exe().unwrap_or_default();
            let (own, other) = (file_name(&own), file_name(Path::new(&executable)));
            if own != other {
                return Err(refuse(format!("expected a dump of {own}, found one of {other}")));
            }
            Ok(match report {
                Some(report) => Self::Report(Arc::new(report)),
                None => Self::Useless(format!(
                    "expected a dump with a leak report, found none in {}",
                    path.display()
                )),
            })
        })
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Leaks {
    pub(super) fn new(config: &Config, baseline: Option<Baseline>) -> Self {
        Self {
            analysis: Mutex::new(Analysis::new(config.own_crates.clone())),
            last: Mutex::new(None),
            on_report: config.on_report.clone(),
            baseline,
            panic_reported: AtomicBool::new(false),
        }
    }

    /// Ends a tick and analyses the live set in place. Called from a callback of a tick, it does
    /// neither and returns the report of the last tick.
    pub(super) fn tick(&self, session: &Session) -> LeakReport {
        engine::muted(|| {
            if IS_TICKING.get() {
                return self.last_or_empty();
            }
            let _ticking = Ticking::begin();
            let ticked = contain(|| {
                let mut analysis = self.lock_analysis();
                let report = analysis.tick(session);
                report.map(|report| self.store(report))
            });
            // A tick that panics finds nothing new.
            let Some(outcome) = ticked else { return self.last_or_empty() };
            let outcome = outcome.unwrap_or_else(|| Outcome {
                before: None,
                // Nothing is recorded.
                report: Arc::default(),
            });
            self.tell(&outcome);
            Arc::unwrap_or_clone(outcome.report)
        })
    }

    /// Ends a tick and analyses a snapshot of the live set, which is returned with the report.
    pub(super) fn tick_with_snapshot(&self, session: &Session, reason: &str) -> Snapshot {
        engine::muted(|| {
            let _ticking = Ticking::begin();
            let (mut snapshot, outcome) = {
                let mut analysis = self.lock_analysis();
                let (snapshot, report) = analysis.tick_with_snapshot(session, reason);
                (snapshot, self.store(report))
            };
            self.tell(&outcome);
            snapshot.leaks = Some(Arc::unwrap_or_clone(outcome.report));
            snapshot
        })
    }

    /// The report of the last tick.
    pub(super) fn last(&self) -> Option<Arc<LeakReport>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn last_or_empty(&self) -> LeakReport {
        self.last().map(Arc::unwrap_or_clone).unwrap_or_default()
    }

    /// The report of the last tick, for a forked child: the thread that holds the lock may not
    /// exist there, and nobody would ever release it.
    pub(super) fn last_in_child(&self) -> Option<Arc<LeakReport>> {
        match self.last.try_lock() {
            Ok(last) => last.clone(),
            Err(TryLockError::Poisoned(last)) => last.into_inner().clone(),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn lock_analysis(&self) -> MutexGuard<'_, Analysis> {
        // A tick that panicked may have left evidence out. Evidence of later ticks is still sound.
        self.analysis.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares a report with the baseline, and stores it as the last one. Called while `analysis`
    /// is held.
    fn store(&self, mut report: LeakReport) -> Outcome {
        match &self.baseline {
            None => {}
            Some(Baseline::Report(baseline)) => report.compare_with(baseline),
            Some(Baseline::Useless(why)) => report.baseline_problem = Some(why.clone()),
        }
        let report = Arc::new(report);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.replace(Arc::clone(&report));
        Outcome { before, report }
    }

    /// Logs changed verdicts and calls `on_report`. No lock is held here.
    fn tell(&self, outcome: &Outcome) {
        // The panic hook has reported a logger that panics, and there is nobody else to tell.
        contain(|| log_changes(outcome.before.as_deref(), &outcome.report));
        let Some(on_report) = &self.on_report else { return };
        let told = contain(|| on_report.call(&outcome.report));
        // Relaxed: the flag publishes nothing else.
        if told.is_none() && !self.panic_reported.swap(true, Ordering::Relaxed) {
            contain(|| {
                log::error!(
                    target: "heapdrift",
                    "on_report panicked (logged only this time; it is still called at every tick)"
                );
            });
        }
    }
}

impl Drop for Leaks {
    fn drop(&mut self) {
        // The destructors of what it captured are code of the service.
        let on_report = self.on_report.take();
        contain(|| drop(on_report));
    }
}

/// Logs each candidate whose verdict is not that of the report before.
fn log_changes(before: Option<&LeakReport>, now: &LeakReport) {
    let key = |candidate: &LeakCandidate| {
        (candidate.function.clone(), candidate.first_seen_tick, candidate.labels.clone())
    };
    let before: HashMap<_, _> = before
        .iter()
        .flat_map(|report| &report.candidates)
        .map(|candidate| (key(candidate), candidate.verdict))
        .collect();
    for candidate in &now.candidates {
        if before.get(&key(candidate)) == Some(&candidate.verdict) {
            continue;
        }
        let level = match candidate.verdict {
            Verdict::Confirmed => log::Level::Warn,
            Verdict::Suspect | Verdict::Retracted => log::Level::Info,
        };
        log::log!(target: "heapdrift", level, "leak {}", candidate.to_string().trim_end());
    }
}

#[cfg(all(test, feature = "read"))]
mod tests {
    use std::collections::BTreeMap;

    use crate::Snapshot;
    use crate::blame::{Frame, Packages};
    use crate::leak::{Names, Replay, Verdict};
    use crate::snapshot::{Frames, LiveSample, LiveSamples, Module, Stack, Taken};

    /// Knows no names.
    #[derive(Default)]
    struct Nameless(Packages);

    impl Names for Nameless {
        fn resolve(&mut self, _: &[Module], _: &[(usize, u64)]) -> Vec<Vec<Frame>> {
            Vec::new()
        }

        fn packages(&self) -> &Packages {
            &self.0
        }
    }

    const LEAKING: u32 = 0;
    const HEALTHY: u32 = 1;

    /// The state at the end of a tick of a program with two call sites, recorded exactly.
    fn snapshot(tick: u32, live: LiveSamples) -> Snapshot {
        let function = vec![0x1000, 0x2000];
        Snapshot {
            taken: Taken { tick, uptime_ms: 1000 * u64::from(tick), ..Taken::default() },
            modules: vec![Module { end: 0x10000, ..Module::named("/app") }],
            frames: Frames {
                module: vec![0, 0],
                address: function.clone(),
                function,
                symbols: None,
            },
            label_sets: vec![BTreeMap::new()],
            stacks: [LEAKING, HEALTHY]
                .map(|site| Stack { frames: vec![site], site, ..Stack::default() })
                .to_vec(),
            live,
            ..Snapshot::default()
        }
    }

    fn sample(id: u64, stack: u32, size: u64, birth_tick: u32, reallocs: u32) -> LiveSample {
        LiveSample { id, stack, size, interval: 1.0, birth_tick, reallocs, birth_ms: 0 }
    }

    /// The first tick with a candidate, and the first with one that is confirmed, of a program that
    /// leaks as `leaking` says beside a healthy call site.
    fn first_ticks(leaking: impl Fn(u32) -> Vec<LiveSample>) -> [Option<u32>; 2] {
        let (mut replay, mut names) = (Replay::new(), Nameless::default());
        let mut first = [None; 2];
        for tick in 1..=60 {
            let mut live = LiveSamples::default();
            leaking(tick).into_iter().for_each(|sample| live.push(sample));
            // What is born in a tick is dead at the end of the next.
            (0..10).for_each(|n| {
                live.push(sample(u64::from(tick) << 32 | n, HEALTHY, 100, tick, 0));
            });
            let report = replay.tick(&snapshot(tick, live), &mut names);
            assert!(report.candidates.len() <= 1, "{report}");
            let Some(candidate) = report.candidates.first() else { continue };
            first[0].get_or_insert(tick);
            if candidate.verdict == Verdict::Confirmed {
                first[1].get_or_insert(tick);
            }
        }
        first
    }

    #[test]
    fn the_documented_first_ticks_are_those_of_the_detector() {
        // As much evidence as there can be: many objects, none of which dies.
        let leak = first_ticks(|tick| {
            let births = (1..=tick).flat_map(|birth| (0..500).map(move |n| (birth, n)));
            births
                .map(|(birth, n)| sample(u64::from(birth) << 16 | n, LEAKING, 1000, birth, 0))
                .collect()
        });
        // A block that grows by `realloc`, by half at every tick.
        let container = first_ticks(|tick| {
            vec![sample(7, LEAKING, (1000.0 * 1.5_f64.powi(tick as i32)) as u64, 1, tick)]
        });
        let [Some(candidate), Some(confirmed)] = leak else { panic!("{leak:?}") };
        let [Some(_), Some(confirmed_container)] = container else { panic!("{container:?}") };
        assert_eq!(container[0], Some(candidate), "a container comes no earlier");
        let documented: String = include_str!("mod.rs")
            .lines()
            .filter_map(|line| line.trim().strip_prefix("/// "))
            .fold(String::new(), |text, line| text + line + " ");
        let claim = format!(
            "no candidates before tick {candidate}. A leak is confirmed at tick {confirmed} at the \
             earliest, a container that only grows at tick {confirmed_container}:"
        );
        assert!(documented.contains(&claim), "the documentation does not say: {claim}");
    }
}
