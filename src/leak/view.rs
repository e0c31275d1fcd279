//! The live set of a tick with all evidence so far: what is a leak there, and what is none.

use super::births::BirthHistogram;
use super::container::{Container, Growth};
use super::finding::{Facts, FindingEstimates};
use super::history::History;
use super::observation::Observation;
use super::survival;
use super::tally::Tally;
use crate::estimate::{Estimate, Weight, inclusion_probability};
use crate::hash::NumberMap;

/// The first tick that counts toward certainty. What fills up within a few ticks is full by then.
const FIRST_CONFIRMING_TICK: u32 = 22;

/// The chance of a false certainty in a session in which nothing leaks, over all sites and ticks;
/// and of a false suspicion.
const CONFIRM_LEVEL: f64 = 0.002;
pub(super) const SUSPECT_LEVEL: f64 = 0.2;

/// The share of old objects that may have gone lately, of as many as came.
const MAX_RECENT_DEATH_RATIO: f64 = 0.1;

/// The same of the last few ticks, for a certainty: what is full has begun to let go.
const MAX_LATEST_DEATH_RATIO: f64 = 0.25;

/// Old objects that a verdict needs; a certain one needs more, unless they hold a large share of all
/// live bytes.
const MIN_OBJECTS: u32 = 5;
pub(super) const MIN_OBJECTS_TO_CONFIRM: u32 = 12;
const LARGE_SHARE: f64 = 0.1;

/// What holds less than this share of all live bytes is below the floor.
const MIN_BYTES_SHARE: f64 = 0.001;

/// The live set of a tick with all evidence so far.
pub(super) struct TickView<'a> {
    history: &'a History,
    live: &'a dyn Observation,
    bytes: &'a [f32],
    total_bytes: f64,
    uptime: u32,
    /// Sites that have mature objects, or had.
    tested_sites: Vec<u32>,
    /// Samples alive at each site.
    alive_by_site: Vec<u32>,
    /// Sites that have samples born in this tick.
    sites_with_births: Vec<u32>,
}

impl<'a> TickView<'a> {
    pub(super) fn new(history: &'a History, live: &'a dyn Observation, bytes: &'a [f32]) -> Self {
        let uptime = live.tick();
        let mut tested_sites: Vec<u32> = (0..bytes.len() as u32)
            .filter(|site| history.deaths[*site as usize].mature_deaths(uptime) > 0.0)
            .collect();
        let mut alive_by_site = vec![0; bytes.len()];
        let mut sites_with_births = Vec::new();
        for cohort in history.cohorts.iter() {
            alive_by_site[cohort.site as usize] += cohort.alive;
            if cohort.birth == uptime {
                sites_with_births.push(cohort.site);
            }
            let is_old = cohort.birth + uptime / 16 <= uptime;
            if is_old && tested_sites.last() != Some(&cohort.site) {
                tested_sites.push(cohort.site);
            }
        }
        tested_sites.sort_unstable();
        tested_sites.dedup();
        Self {
            history,
            live,
            bytes,
            total_bytes: bytes.iter().map(|bytes| f64::from(*bytes)).sum::<f64>().max(1.0),
            uptime,
            tested_sites,
            alive_by_site,
            sites_with_births,
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
    pub(super) fn tested_sites(&self) -> &[u32] {
        &self.tested_sites
    }

    /// Sites that have samples born in this tick.
    pub(super) fn sites_with_births(&self) -> &[u32] {
        &self.sites_with_births
    }

    /// Samples that were born at a site and have died.
    pub(super) fn deaths(&self, site: u32) -> u32 {
        self.history.born[site as usize].saturating_sub(self.alive_by_site[site as usize])
    }

    /// Whether something that is alive at a site was born after a tick.
    pub(super) fn has_births_since(&self, site: u32, tick: u32) -> bool {
        self.history.cohorts.of_site(site).any(|cohort| cohort.birth > tick)
    }

    /// The site with most old objects.
    pub(super) fn main_site(&self, sites: &[u32]) -> u32 {
        let old = |site: &u32| self.births(*site).old_objects(self.uptime);
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

    pub(super) fn births(&self, site: u32) -> BirthHistogram {
        let mut births = BirthHistogram::default();
        for cohort in self.history.cohorts.of_site(site) {
            births.add(cohort.birth, self.uptime, cohort.alive);
        }
        births
    }

    pub(super) fn tally_of(&self, sites: &[u32]) -> Tally {
        let mut sum = Tally::default();
        sites.iter().for_each(|site| sum.merge(&self.tally(*site)));
        sum
    }

    pub(super) fn container(&self, site: u32) -> Option<&Container> {
        self.history.containers.of_site(site)
    }

    /// What the logarithm of an e-value must exceed. The level is divided among the sites, one half
    /// evenly, the other by live bytes: what holds much memory is looked at with less suspicion of
    /// chance (a weighted Bonferroni correction: Genovese, Roeder, Wasserman, 2006).
    pub(super) fn threshold(&self, tally: &Tally, level: f64) -> f64 {
        let evenly = 0.5 / self.tested_sites.len().max(1) as f64;
        let by_bytes = 0.5 * (tally.live_bytes / self.total_bytes).clamp(0.0, 1.0);
        -(level * (evenly + by_bytes)).ln()
    }

    /// Whether what leaks, most of it at `main_site`, does so beyond doubt as far as this tick tells.
    pub(super) fn supports_confirmation(&self, tally: &Tally, main_site: u32) -> bool {
        let is_large = tally.live_bytes > LARGE_SHARE * self.total_bytes;
        // What fills up and is emptied at once tells nothing of the time before.
        self.uptime >= FIRST_CONFIRMING_TICK + self.history.emptied_at[main_site as usize]
            && (is_large || tally.births.old_objects(self.uptime) >= MIN_OBJECTS_TO_CONFIRM)
            && self.leaks_at_level(tally, CONFIRM_LEVEL)
            && tally.deaths.recent_old_deaths()
                < MAX_LATEST_DEATH_RATIO
                    * tally.births.rate(self.uptime)
                    * survival::OLD_DEATH_DECAY_TICKS
    }

    pub(super) fn leaks_at_level(&self, tally: &Tally, level: f64) -> bool {
        let evidence = tally.evidence(self.uptime);
        if evidence.log_e < self.threshold(tally, level)
            || tally.live_bytes < MIN_BYTES_SHARE * self.total_bytes
        {
            return false;
        }
        let spread = tally.births.spread(self.uptime, evidence.mature_age);
        // As many old objects as come must not go.
        let coming = spread.recent_rate() * survival::death_decay_ticks(self.uptime);
        spread.is_ongoing
            && spread.objects >= MIN_OBJECTS
            && evidence.recent_deaths < MAX_RECENT_DEATH_RATIO * coming
    }

    /// Whether what came in bursts may only be between two of them.
    pub(super) fn is_pausing(&self, tally: &Tally) -> bool {
        tally.births.is_bursty(self.uptime) && tally.deaths.recent_old_deaths() < 1.0
    }

    /// Whether a node that once leaked does not: its objects die after all, or no more are born.
    pub(super) fn is_refuted(&self, tally: &Tally) -> bool {
        let evidence = tally.evidence(self.uptime);
        let threshold = self.threshold(tally, SUSPECT_LEVEL);
        let spread = tally.births.spread(self.uptime, evidence.mature_age);
        evidence.log_e < threshold / 2.0 || spread.has_stopped
    }

    /// Whether what came at a site was once for all.
    pub(super) fn has_stopped(&self, births: &BirthHistogram) -> bool {
        births.old_objects(self.uptime) > 0
            && births.have_stopped(self.uptime, (self.uptime / 8).max(1))
    }

    /// Containers that grow and grow.
    pub(super) fn growing(&self) -> Vec<(u32, Growth)> {
        self.history
            .containers
            .iter()
            .map(|container| (container.blocks.site, container.growth(self.uptime)))
            .filter(|(site, growth)| *growth > Growth::None && (*site as usize) < self.bytes.len())
            .collect()
    }

    /// Estimates over the live samples of sites, each with the number it is to be added to; of all
    /// samples, and of those born in the ticks given for that number.
    pub(super) fn estimate(
        &self,
        of_site: &NumberMap<u32, usize>,
        ticks: &[(u32, u32)],
    ) -> Vec<FindingEstimates> {
        let mut sums = vec![FindingEstimates::default(); ticks.len()];
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
            let from = survival::octave_start(octave);
            let alive = tally.births.alive_at_ages(self.uptime, from, 2 * from);
            (from, alive, tally.deaths.in_octave(octave))
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
