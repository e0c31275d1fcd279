//! The live set of a tick with all evidence so far: what is a leak there, and what is none.

use super::births::Births;
use super::container::{Container, Growth};
use super::finding::{Facts, Measure};
use super::history::History;
use super::observation::Observation;
use super::survival;
use super::tally::Tally;
use crate::estimate::{Estimate, Weight, inclusion_probability};
use crate::hash::NumberMap;

/// The first tick that counts toward certainty. What fills up within a few ticks is full by then.
const FIRST_CERTAIN_TICK: u32 = 22;

/// The chance of a false certainty in a session in which nothing leaks, over all sites and ticks;
/// and of a false suspicion.
const CONFIRM_LEVEL: f64 = 0.002;
pub(super) const SUSPECT_LEVEL: f64 = 0.2;

/// The share of old objects that may have gone lately, of as many as came.
const GOING: f64 = 0.1;

/// The same of the last few ticks, for a certainty: what is full has begun to let go.
const GOING_NOW: f64 = 0.25;

/// Old objects that a verdict needs; a certain one needs more, unless they hold a large share of all
/// live bytes.
const FEWEST_OBJECTS: u32 = 5;
pub(super) const FEWEST_CERTAIN: u32 = 12;
const LARGE_SHARE: f64 = 0.1;

/// What holds less than this share of all live bytes is below the floor.
const FLOOR: f64 = 0.001;

/// The live set of a tick with all evidence so far.
pub(super) struct TickView<'a> {
    history: &'a History,
    live: &'a dyn Observation,
    bytes: &'a [f32],
    all_bytes: f64,
    uptime: u32,
    /// Sites that have mature objects, or had.
    items: Vec<u32>,
    /// Samples alive at each site.
    alive: Vec<u32>,
    /// Sites that have samples born in this tick.
    fresh: Vec<u32>,
}

impl<'a> TickView<'a> {
    pub(super) fn new(history: &'a History, live: &'a dyn Observation, bytes: &'a [f32]) -> Self {
        let uptime = live.tick();
        let mut items: Vec<u32> = (0..bytes.len() as u32)
            .filter(|site| history.deaths[*site as usize].mature(uptime) > 0.0)
            .collect();
        let mut alive = vec![0; bytes.len()];
        let mut fresh = Vec::new();
        for cohort in history.cohorts.iter() {
            alive[cohort.site as usize] += cohort.alive;
            if cohort.birth == uptime {
                fresh.push(cohort.site);
            }
            let is_old = cohort.birth + uptime / 16 <= uptime;
            if is_old && items.last() != Some(&cohort.site) {
                items.push(cohort.site);
            }
        }
        items.sort_unstable();
        items.dedup();
        Self {
            history,
            live,
            bytes,
            all_bytes: bytes.iter().map(|bytes| f64::from(*bytes)).sum::<f64>().max(1.0),
            uptime,
            items,
            alive,
            fresh,
        }
    }

    pub(super) fn uptime(&self) -> u32 {
        self.uptime
    }

    /// The live set itself.
    pub(super) fn live(&self) -> &'a dyn Observation {
        self.live
    }

    /// All sites, whether there is anything to say of them or not.
    pub(super) fn sites(&self) -> std::ops::Range<u32> {
        0..self.bytes.len() as u32
    }

    /// Sites that have mature objects, or had.
    pub(super) fn items(&self) -> &[u32] {
        &self.items
    }

    /// Sites that have samples born in this tick.
    pub(super) fn fresh(&self) -> &[u32] {
        &self.fresh
    }

    /// Samples that were born at a site and have died.
    pub(super) fn dead(&self, site: u32) -> u32 {
        self.history.born[site as usize].saturating_sub(self.alive[site as usize])
    }

    /// Whether something that is alive at a site was born after a tick.
    pub(super) fn has_births_since(&self, site: u32, tick: u32) -> bool {
        self.history.cohorts.of_site(site).any(|cohort| cohort.birth > tick)
    }

    /// The site with most old objects.
    pub(super) fn main_site(&self, sites: &[u32]) -> u32 {
        let old = |site: &u32| self.births(*site).old(self.uptime);
        sites.iter().copied().max_by_key(old).unwrap_or_default()
    }

    pub(super) fn tally(&self, site: u32) -> Tally {
        let at = site as usize;
        if at >= self.bytes.len() {
            return Tally::default();
        }
        Tally {
            deaths: self.history.deaths[at],
            births: self.births(site),
            born: self.history.born[at] as f32,
            live_bytes: self.bytes[at].into(),
        }
    }

    pub(super) fn births(&self, site: u32) -> Births {
        let mut births = Births::default();
        for cohort in self.history.cohorts.of_site(site) {
            births.add(cohort.birth, self.uptime, cohort.alive);
        }
        births
    }

    pub(super) fn sum(&self, sites: &[u32]) -> Tally {
        let mut sum = Tally::default();
        sites.iter().for_each(|site| sum.add(&self.tally(*site)));
        sum
    }

    pub(super) fn container(&self, site: u32) -> Option<&Container> {
        self.history.containers.at(site)
    }

    /// What the logarithm of an e-value must exceed. The level is divided among the sites, one half
    /// evenly, the other by live bytes: what holds much memory is looked at with less suspicion of
    /// chance (a weighted Bonferroni correction: Genovese, Roeder, Wasserman, 2006).
    pub(super) fn threshold(&self, tally: &Tally, level: f64) -> f64 {
        let evenly = 0.5 / self.items.len().max(1) as f64;
        let by_bytes = 0.5 * (tally.live_bytes / self.all_bytes).clamp(0.0, 1.0);
        -(level * (evenly + by_bytes)).ln()
    }

    /// Whether what leaks, most of it at `main_site`, does so beyond doubt as far as this tick tells.
    pub(super) fn is_certain(&self, tally: &Tally, main_site: u32) -> bool {
        let is_large = tally.live_bytes > LARGE_SHARE * self.all_bytes;
        // What fills up and is emptied at once tells nothing of the time before.
        self.uptime >= FIRST_CERTAIN_TICK + self.history.emptied[main_site as usize]
            && (is_large || tally.births.old(self.uptime) >= FEWEST_CERTAIN)
            && self.exceeds(tally, CONFIRM_LEVEL)
            && tally.deaths.old_lately()
                < GOING_NOW * tally.births.rate(self.uptime) * survival::LATELY
    }

    pub(super) fn exceeds(&self, tally: &Tally, level: f64) -> bool {
        let evidence = tally.evidence(self.uptime);
        if evidence.log_e < self.threshold(tally, level)
            || tally.live_bytes < FLOOR * self.all_bytes
        {
            return false;
        }
        let spread = tally.births.spread(self.uptime, evidence.mature_age);
        // As many old objects as come must not go.
        let coming = spread.rate() * survival::memory(self.uptime);
        spread.lasts && spread.objects >= FEWEST_OBJECTS && evidence.recent_deaths < GOING * coming
    }

    /// Whether what came in bursts may only be between two of them.
    pub(super) fn is_pausing(&self, tally: &Tally) -> bool {
        tally.births.is_bursty(self.uptime) && tally.deaths.old_lately() < 1.0
    }

    /// Whether a node that once leaked does not: its objects die after all, or no more are born.
    pub(super) fn is_refuted(&self, tally: &Tally) -> bool {
        let evidence = tally.evidence(self.uptime);
        let threshold = self.threshold(tally, SUSPECT_LEVEL);
        let spread = tally.births.spread(self.uptime, evidence.mature_age);
        evidence.log_e < threshold / 2.0 || spread.stopped
    }

    /// Whether what came at a site was once for all.
    pub(super) fn has_stopped(&self, births: &Births) -> bool {
        births.old(self.uptime) > 0 && births.have_stopped(self.uptime, (self.uptime / 8).max(1))
    }

    /// Containers that grow and grow.
    pub(super) fn growing(&self) -> Vec<(u32, Growth)> {
        self.history
            .containers
            .iter()
            .map(|container| (container.blocks.site, container.growth(self.uptime)))
            .filter(|(site, growth)| *growth > Growth::No && (*site as usize) < self.bytes.len())
            .collect()
    }

    /// Estimates over the live samples of sites, each with the number it is to be added to; of all
    /// samples, and of those born in the ticks given for that number.
    pub(super) fn measure(
        &self,
        of_site: &NumberMap<u32, usize>,
        ticks: &[(u32, u32)],
    ) -> Vec<Measure> {
        let mut sums = vec![Measure::default(); ticks.len()];
        self.live.for_each(&mut |sample| {
            let Some(number) = of_site.get(&sample.stack) else { return };
            let p = inclusion_probability(sample.size, sample.interval);
            let (weight, sum) = (Weight::of(sample.size, p), &mut sums[*number]);
            let bytes = Estimate::new(weight.bytes, weight.bytes_variance.sqrt());
            sum.live_bytes = sum.live_bytes + bytes;
            let count = Estimate::new(weight.count, weight.count_variance.sqrt());
            sum.live_count = sum.live_count + count;
            let (from, to) = ticks[*number];
            if (from..to).contains(&sample.birth_tick) {
                // Births are random too: each adds its square, not only what sampling adds.
                sum.leaked_bytes = sum.leaked_bytes + Estimate::new(weight.bytes, weight.bytes);
            }
        });
        sums
    }

    pub(super) fn facts(&self, tally: &Tally) -> Facts {
        let evidence = tally.evidence(self.uptime);
        let spread = tally.births.spread(self.uptime, evidence.mature_age);
        let age_group = |octave: usize| {
            let from = survival::begin(octave);
            let alive = tally.births.of_age(self.uptime, from, 2 * from);
            (from, alive, tally.deaths.octave(octave))
        };
        Facts {
            log_e: evidence.log_e,
            threshold: self.threshold(tally, CONFIRM_LEVEL),
            mature_age: evidence.mature_age,
            mature_alive: spread.objects,
            mature_deaths: evidence.mature_deaths,
            born: tally.born.into(),
            ticks: spread.ticks,
            quarters: spread.quarters,
            births: tally.births.sixteenths(self.uptime),
            ages: (0..survival::OCTAVES)
                .map(age_group)
                .filter(|(_, alive, died)| *alive > 0 || *died > 0.0)
                .collect(),
            ..Facts::default()
        }
    }
}
