//! The leak detector of a session: its ticks, and whom it tells.

use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::StartError;
use super::config::{Config, ReportHook};
use crate::leak::{Detector, LeakReport, Observation, SnapshotObservation, Verdict};
use crate::recorder::{OwnNames, Session};
use crate::{Snapshot, dump};

/// The detector and those who hear of its verdicts.
#[derive(Debug)]
pub(super) struct Leaks {
    state: Mutex<State>,
    on_report: Option<ReportHook>,
    baseline: Option<Baseline>,
    /// Periods that went by while a tick was still at work.
    skipped: AtomicU64,
    panic_reported: AtomicBool,
}

#[derive(Debug)]
struct State {
    detector: Detector,
    names: OwnNames,
    last: Option<LeakReport>,
}

/// What the release before had to say.
#[derive(Clone, Debug)]
pub(super) enum Baseline {
    /// Its last report.
    Report(Arc<LeakReport>),
    /// It has none.
    Useless(String),
}

impl Baseline {
    /// From a dump, which must be of a program of the same name.
    pub(super) fn read(path: &Path) -> Result<Self, StartError> {
        let refuse = |why: String| StartError::Baseline(path.to_owned(), why);
        Session::muted(|| {
            let snapshot = dump::read(path).map_err(|error| refuse(error.to_string()))?;
            let own = std::env::current_exe().unwrap_or_default();
            let (own, other) =
                (file_name(&own), file_name(Path::new(&snapshot.process.executable)));
            if own != other {
                return Err(refuse(format!("expected a dump of {own}, found one of {other}")));
            }
            Ok(match snapshot.leaks {
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
            state: Mutex::new(State {
                detector: Detector::default(),
                names: OwnNames::new(config.own_crates.clone()),
                last: None,
            }),
            on_report: config.on_report.clone(),
            baseline,
            skipped: AtomicU64::new(0),
            panic_reported: AtomicBool::new(false),
        }
    }

    /// Ends a tick, and looks at the tables as they are.
    pub(super) fn tick(&self, session: &Session) -> LeakReport {
        Session::muted(|| {
            // One tick at a time; of what a panic left behind the next tick makes what it can.
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let tick = session.end_tick();
            let report = session.observe(tick, |live| self.look(&mut state, live));
            drop(state);
            let report = report.unwrap_or_default();
            self.tell(&report);
            report
        })
    }

    /// Ends a tick, and looks at a snapshot of it, which gets the report.
    pub(super) fn tick_with_snapshot(&self, session: &Session, reason: &str) -> Snapshot {
        Session::muted(|| {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            session.end_tick();
            let mut snapshot = session.snapshot(reason);
            let report = self.look(&mut state, &SnapshotObservation::new(&snapshot));
            drop(state);
            self.tell(&report);
            snapshot.leaks = Some(report);
            snapshot
        })
    }

    /// The report of the last tick.
    pub(super) fn last(&self) -> Option<LeakReport> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).last.clone()
    }

    pub(super) fn skip(&self, periods: u64) {
        // Relaxed: a count.
        self.skipped.fetch_add(periods, Ordering::Relaxed);
    }

    pub(super) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    fn look(&self, state: &mut State, live: &dyn Observation) -> LeakReport {
        let findings = state.detector.tick(live, &mut state.names);
        let mut report = LeakReport::new(findings, live, &mut state.names);
        // The first candidate, which a session begins without, is not to wait for all that names take.
        if report.candidates.is_empty() {
            state.names.prepare(live);
        }
        match &self.baseline {
            None => {}
            Some(Baseline::Report(baseline)) => report.compare(baseline),
            Some(Baseline::Useless(why)) => report.baseline_problem = Some(why.clone()),
        }
        log_changes(state.last.as_ref(), &report);
        state.last = Some(report.clone());
        report
    }

    fn tell(&self, report: &LeakReport) {
        let Some(on_report) = &self.on_report else { return };
        let told = panic::catch_unwind(AssertUnwindSafe(|| on_report.call(report)));
        // Relaxed: nothing else is read on the strength of it.
        if told.is_err() && !self.panic_reported.swap(true, Ordering::Relaxed) {
            log::error!(target: "heapdrift", "on_report panicked (said once; it is called again)");
        }
    }
}

/// An event of the `log` crate for each verdict that is not what it was.
fn log_changes(before: Option<&LeakReport>, now: &LeakReport) {
    let key = |candidate: &crate::leak::LeakCandidate| {
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
