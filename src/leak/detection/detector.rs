//! The detector: turns the live sets of successive ticks into findings.

use super::container::{Blocks, Owner};
use super::finding::Findings;
use super::history::History;
use super::naming::Names;
use super::observation::Observation;
use super::path::Paths;
use super::search::NodeSearch;
use super::track::Tracks;
use super::view::TickView;
use crate::diff::Cohorts;
use crate::estimate::inclusion_probability;
use crate::hash::NumberMap;
use crate::snapshot::LiveSample;

/// The first tick that is tested. Before it no object is old enough to tell anything.
const FIRST_TICK: u32 = 20;

/// A block of this many sampling intervals is sampled with near certainty: one in 150 is missed
/// (`exp(−5)`).
const CERTAIN_INTERVALS: f64 = 5.0;

/// The state of the detector: what has been observed up to the last tick of a session.
#[derive(Debug, Default)]
pub(crate) struct Detector {
    history: History,
    tracks: Tracks,
    paths: Paths,
}

impl Detector {
    /// Observes the live set at the end of a tick. Ticks must come in order. A gap costs evidence,
    /// not soundness.
    pub(crate) fn tick(&mut self, live: &dyn Observation, names: &mut dyn Names) -> Findings {
        let tick = live.tick();
        // Room for a little more than the last time. A vector that grows by doubling would take
        // twice the memory.
        let mut cohorts = Cohorts::with_capacity(self.history.cohorts.samples() * 9 / 8 + 1024);
        let mut bytes = vec![0.0_f32; live.sites() as usize];
        let mut blocks: NumberMap<Owner, Blocks> = NumberMap::default();
        live.for_each(&mut |sample: LiveSample| {
            // Skip samples that were born while the tick ended.
            if sample.birth_tick > tick || sample.stack as usize >= bytes.len() {
                return;
            }
            cohorts.push(sample.stack, sample.birth_tick, sample.interval);
            let probability = inclusion_probability(sample.size, sample.interval);
            bytes[sample.stack as usize] += (sample.size as f64 / probability) as f32;
            if sample.size as f64 >= CERTAIN_INTERVALS * f64::from(sample.interval) {
                let blocks = blocks.entry(Owner::of(&sample)).or_default();
                blocks.site = sample.stack;
                blocks.objects += 1;
                blocks.bytes += sample.size;
            }
        });
        cohorts.sort();
        self.history.record(tick, cohorts, bytes.len());
        self.history.containers.observe(tick, &blocks);
        let mut findings = Findings { tick, uptime_ms: live.uptime_ms(), ..Findings::default() };
        if tick >= FIRST_TICK {
            let view = TickView::new(&self.history, live, &bytes);
            findings.tested_sites = view.tested_sites().len();
            let nodes = NodeSearch::new(&view, &self.paths, names).leaking_nodes();
            self.tracks.update(tick, nodes, view.growing(), &view, &self.paths);
            findings.findings = self.tracks.findings(&view, &self.paths);
        }
        findings
    }
}
