//! The detector run offline, over the dumps of a session.

use super::detector::Detector;
use super::naming::Names;
use super::observation::SnapshotObservation;
use crate::Snapshot;
use crate::leak::LeakReport;

/// Runs the leak detector over the snapshots of one session.
///
/// With the snapshots of all ticks the verdicts are those of the service. With gaps between the
/// snapshots evidence is lost, and verdicts come later.
#[derive(Debug, Default)]
pub struct Replay {
    detector: Detector,
}

impl Replay {
    /// A detector that has observed nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Observes the next snapshot and returns the report for its tick.
    ///
    /// The snapshot must be of the same session as the one before, and of a later tick
    /// ([`Taken::tick`](crate::snapshot::Taken::tick)).
    pub fn tick(&mut self, snapshot: &Snapshot, names: &mut dyn Names) -> LeakReport {
        let live = SnapshotObservation::new(snapshot);
        LeakReport::new(self.detector.tick(&live, names), &live, names)
    }
}
