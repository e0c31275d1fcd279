//! The detector: one tick after the other, from live sets to findings.

use std::cell::RefCell;
use std::collections::HashMap;

use super::container::{Blocks, Containers, Owner};
use super::finding::Findings;
use super::naming::Names;
use super::observation::{Observation, Observed};
use super::scene::Scene;
use super::survival::Deaths;
use super::track::Tracks;
use crate::diff::{self, Cohorts};
use crate::estimate::inclusion_probability;

/// The first tick with an opinion: before, there is no age to speak of.
const FIRST_TICK: u32 = 20;

/// A block this many intervals large is in the sample for certain (but for one in 150).
const CERTAIN: f64 = 5.0;

/// Ticks that an object must have lived, and objects that must go in one tick, for a site to count
/// as emptied if they were most of it.
const HELD_FOR: u32 = 3;
const FEWEST_GONE: u32 = 4;

/// The state of a session: what was seen up to the last tick.
#[derive(Debug, Default)]
pub(crate) struct Detector {
    pub(super) cohorts: Cohorts,
    last_tick: u32,
    pub(super) deaths: Vec<Deaths>,
    pub(super) born: Vec<u32>,
    /// The last tick, by site, in which most of what it had held for a while went at once.
    pub(super) emptied: Vec<u32>,
    pub(super) containers: Containers,
    tracks: Tracks,
    pub(super) functions: RefCell<HashMap<u64, u64>>,
}

impl Detector {
    /// Looks at the live set at the end of a tick. Ticks must come in order; a gap costs evidence,
    /// not soundness.
    pub(crate) fn tick(&mut self, live: &dyn Observation, names: &mut dyn Names) -> Findings {
        let tick = live.tick();
        // Some more than last time: a live set that doubles its room by itself would take twice that.
        let mut cohorts = Cohorts::with_capacity(self.cohorts.samples() * 9 / 8 + 1024);
        let mut bytes = vec![0.0_f32; live.sites() as usize];
        let mut blocks: HashMap<Owner, Blocks> = HashMap::new();
        live.for_each(&mut |sample: Observed| {
            // Born while this tick was being ended.
            if sample.birth > tick || sample.site as usize >= bytes.len() {
                return;
            }
            cohorts.push(sample.site, sample.birth, sample.interval);
            let probability = inclusion_probability(sample.size, sample.interval);
            bytes[sample.site as usize] += (sample.size as f64 / probability) as f32;
            if sample.size as f64 >= CERTAIN * f64::from(sample.interval) {
                let blocks = blocks.entry(Owner::of(&sample)).or_default();
                blocks.site = sample.site;
                blocks.objects += 1;
                blocks.bytes += sample.size;
            }
        });
        cohorts.sort();
        self.take_down(tick, cohorts, bytes.len());
        self.containers.observe(tick, &blocks);
        let mut findings = Findings { tick, uptime_ms: live.uptime_ms(), ..Findings::default() };
        if tick >= FIRST_TICK {
            let mut tracks = std::mem::take(&mut self.tracks);
            let scene = Scene::new(self, live, names, &bytes);
            findings.tested = scene.items.len();
            tracks.update(tick, scene.nodes(), scene.growing(), &scene);
            findings.findings = tracks.findings(&scene);
            self.tracks = tracks;
        }
        findings
    }

    /// Adds what happened since the last tick to the evidence of each site.
    fn take_down(&mut self, tick: u32, cohorts: Cohorts, sites: usize) {
        if self.deaths.len() < sites {
            self.deaths.resize(sites, Deaths::default());
            self.born.resize(sites, 0);
            self.emptied.resize(sites, 0);
        }
        let passed = tick.saturating_sub(self.last_tick);
        self.deaths.iter_mut().for_each(|deaths| deaths.age(passed, tick));
        let mut held = Held::default();
        for change in diff::diff(&self.cohorts, &cohorts) {
            let site = change.site as usize;
            if held.site != site {
                held.take_down(tick, &mut self.emptied);
                held = Held { site, ..Held::default() };
            }
            if change.birth > self.last_tick {
                self.born[site] += change.after;
            } else if !change.resampled && change.before > change.after {
                // Born in the middle of its tick, on average.
                let age = (self.last_tick - change.birth) as f32 + 0.5;
                self.deaths[site].add(age, change.before - change.after, tick);
            }
            if change.birth + HELD_FOR <= self.last_tick && !change.resampled {
                held.before += change.before;
                held.gone += change.before - change.after;
            }
        }
        held.take_down(tick, &mut self.emptied);
        self.cohorts = cohorts;
        self.last_tick = tick;
    }
}

/// What a site had held for a while at the last tick, and how much of it is gone.
#[derive(Default)]
struct Held {
    site: usize,
    before: u32,
    gone: u32,
}

impl Held {
    fn take_down(&self, tick: u32, emptied: &mut [u32]) {
        if self.gone >= FEWEST_GONE && 2 * self.gone >= self.before {
            emptied[self.site] = tick;
        }
    }
}
