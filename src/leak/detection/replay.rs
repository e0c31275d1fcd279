//! The detector offline, over dumps.

use super::detector::Detector;
use super::naming::Names;
use super::observation::SnapshotObservation;
use crate::Snapshot;
use crate::leak::LeakReport;

/// The detector over the snapshots of one session, as it was in the service.
///
/// With the snapshots of all ticks the verdicts are the same as there; with gaps between them
/// evidence is lost, and verdicts come later.
#[derive(Debug, Default)]
pub struct Replay {
    detector: Detector,
}

impl Replay {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the next snapshot: of a later tick ([`Taken::tick`](crate::snapshot::Taken::tick))
    /// than the one before, and of the same session.
    pub fn tick(&mut self, snapshot: &Snapshot, names: &mut dyn Names) -> LeakReport {
        let live = SnapshotObservation::new(snapshot);
        LeakReport::new(self.detector.tick(&live, names), &live, names)
    }
}
