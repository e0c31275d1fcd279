//! The leak detector of a session, with names for what it finds.

use super::names::OwnNames;
use super::session::Session;
use crate::Snapshot;
use crate::leak::detection::detector::Detector;
use crate::leak::detection::observation::{Observation, SnapshotObservation};
use crate::report::LeakReport;

/// The state of leak detection in a running session.
#[derive(Debug)]
pub(crate) struct Analysis {
    detector: Detector,
    names: OwnNames,
}

impl Analysis {
    /// Creates a detector that has seen nothing.
    pub(crate) fn new(own_crates: Vec<String>) -> Self {
        Self { detector: Detector::default(), names: OwnNames::new(own_crates) }
    }

    /// Ends the running tick and analyses the live set in place.
    pub(crate) fn tick(&mut self, session: &Session) -> Option<LeakReport> {
        let tick = session.end_tick();
        session.observe(tick, |live| self.analyse(live))
    }

    /// Ends the running tick and analyses a snapshot of the live set.
    pub(crate) fn tick_with_snapshot(
        &mut self,
        session: &Session,
        reason: &str,
    ) -> (Snapshot, LeakReport) {
        session.end_tick();
        let snapshot = session.snapshot(reason);
        let report = self.analyse(&SnapshotObservation::new(&snapshot));
        (snapshot, report)
    }

    fn analyse(&mut self, live: &dyn Observation) -> LeakReport {
        let findings = self.detector.tick(live, &mut self.names);
        let report = LeakReport::new(findings, live, &mut self.names);
        // Debug information is surveyed ahead of time, so that the first candidate does not have to
        // wait for it.
        if report.candidates.is_empty() {
            self.names.prepare(live);
        }
        report
    }
}
