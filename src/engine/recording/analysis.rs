//! The leak detector of a session, the names of what it finds, and the baseline.

use super::baseline::Baseline;
use super::names::OwnNames;
use super::session::Session;
use crate::Snapshot;
use crate::config::Config;
use crate::error::StartError;
use crate::leak::detection::detector::Detector;
use crate::leak::detection::observation::{Observation, SnapshotObservation};
use crate::report::LeakReport;

#[derive(Debug)]
pub(crate) struct Analysis {
    detector: Detector,
    names: OwnNames,
    baseline: Option<Baseline>,
}

impl Analysis {
    pub(crate) fn new(config: &Config) -> Result<Self, StartError> {
        let baseline = config.baseline.as_deref().map(Baseline::read).transpose()?;
        let names = OwnNames::new(config.own_crates.clone());
        Ok(Self { detector: Detector::default(), names, baseline })
    }

    pub(crate) fn tick(&mut self, session: &Session) -> Option<LeakReport> {
        let tick = session.end_tick();
        session.observe(tick, |live| self.analyse(live))
    }

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
        let mut report = LeakReport::new(findings, live, &mut self.names);
        // Surveys debug information ahead of time, so that the first candidate does not have to
        // wait for it.
        if report.candidates.is_empty() {
            self.names.prepare(live);
        }
        if let Some(baseline) = &self.baseline {
            baseline.compare(&mut report);
        }
        report
    }
}
