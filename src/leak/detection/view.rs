//! The live set of a tick with all evidence so far, and the rules that tell a leak from other
//! growth.

use super::births::BirthHistogram;
use super::container::{Container, Growth};
use super::finding::{Facts, FindingEstimates};
use super::history::History;
use super::observation::Observation;
use super::survival;
use super::tally::Tally;
use crate::estimate::{Estimate, Weight, inclusion_probability};
use crate::hash::NumberMap;

/// The first tick that counts toward a confirmation. A structure that fills up within a few ticks
/// is full by then.
const FIRST_CONFIRMING_TICK: u32 = 22;

/// Probability of a false confirmation in a session in which nothing leaks, over all sites and
/// ticks.
const CONFIRM_LEVEL: f64 = 0.002;

/// Probability of a false suspicion, likewise. A suspicion costs only a line in a report.
pub(super) const SUSPECT_LEVEL: f64 = 0.2;

/// A leak has fewer recent deaths of mature objects than this share of the births in the same time.
const MAX_RECENT_DEATH_RATIO: f64 = 0.1;

/// For a confirmation there must be fewer deaths of old objects in the last few ticks than this
/// share of the births in the same time. A bounded structure that has just become full begins to
/// free objects.
const MAX_LATEST_DEATH_RATIO: f64 = 0.25;

/// Number of mature objects that a suspicion needs. With fewer there is no telling whether births
/// go on.
const MIN_OBJECTS: u32 = 5;

/// Number of old objects that a confirmation needs, unless they hold [`LARGE_SHARE`] of all live
/// bytes.
pub(super) const MIN_OBJECTS_TO_CONFIRM: u32 = 12;
const LARGE_SHARE: f64 = 0.1;

/// A leak that holds less than this share of all live bytes is not reported.
const MIN_BYTES_SHARE: f64 = 0.001;

/// The live set at the end of a tick with all evidence so far.
pub(super) struct TickView<'a> {
    history: &'a History,
    live: &'a dyn Observation,
    /// Estimated live bytes of each site.
    bytes: &'a [f32],
    total_bytes: f64,
    /// The number of ticks so far.
    uptime: u32,
    /// Sites that have or had objects of an age that is tested, in ascending order.
    tested_sites: Vec<u32>,
    /// Number of live samples of each site.
    alive_by_site: Vec<u32>,
    /// Sites with live samples that were born in this tick.
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

    /// The number of ticks so far.
    pub(super) fn uptime(&self) -> u32 {
        self.uptime
    }

    /// The live set itself.
    pub(super) fn live(&self) -> &'a dyn Observation {
        self.live
    }

    /// All sites, tested or not.
    pub(super) fn sites(&self) -> std::ops::Range<u32> {
        0..self.bytes.len() as u32
    }

    /// Sites that have or had objects of an age that is tested.
    pub(super) fn tested_sites(&self) -> &[u32] {
        &self.tested_sites
    }

    /// Sites with live samples that were born in this tick.
    pub(super) fn sites_with_births(&self) -> &[u32] {
        &self.sites_with_births
    }

    /// Number of samples of a site that were born and have died.
    pub(super) fn deaths(&self, site: u32) -> u32 {
        self.history.born[site as usize].saturating_sub(self.alive_by_site[site as usize])
    }

    /// Whether any live sample of a site was born after `tick`.
    pub(super) fn has_births_since(&self, site: u32, tick: u32) -> bool {
        self.history.cohorts.of_site(site).any(|cohort| cohort.birth > tick)
    }

    /// The site with the most old objects among these.
    pub(super) fn main_site(&self, sites: &[u32]) -> u32 {
        let old = |site: &u32| self.births(*site).old_objects(self.uptime);
        sites.iter().copied().max_by_key(old).unwrap_or_default()
    }

    /// The evidence on one site.
    pub(super) fn tally(&self, site: u32) -> Tally {
        let index = site as usize;
        if index >= self.bytes.len() {
            return Tally::default();
        }
        Tally {
            deaths: self.history.deaths[index],
            births: self.births(site),
            born: self.history.born[index] as f32,
            live_bytes: self.bytes[index].into(),
        }
    }

    /// The live samples of a site by time of birth.
    pub(super) fn births(&self, site: u32) -> BirthHistogram {
        let mut births = BirthHistogram::default();
        for cohort in self.history.cohorts.of_site(site) {
            births.add(cohort.birth, self.uptime, cohort.alive);
        }
        births
    }

    /// The evidence on several sites together.
    pub(super) fn tally_of(&self, sites: &[u32]) -> Tally {
        let mut sum = Tally::default();
        sites.iter().for_each(|site| sum.merge(&self.tally(*site)));
        sum
    }

    /// The container allocated at a site, if there is one.
    pub(super) fn container(&self, site: u32) -> Option<&Container> {
        self.history.containers.of_site(site)
    }

    /// What the logarithm of an e-value must exceed for an error probability of `level` over all
    /// sites.
    ///
    /// The level is divided among the tested sites (a Bonferroni correction), one half evenly and
    /// the other in proportion to live bytes, so that a site with much memory needs less evidence.
    /// Source for such weights: Genovese, Roeder, Wasserman, "False discovery control with p-value
    /// weighting", 2006.
    pub(super) fn threshold(&self, tally: &Tally, level: f64) -> f64 {
        let evenly = 0.5 / self.tested_sites.len().max(1) as f64;
        let by_bytes = 0.5 * (tally.live_bytes / self.total_bytes).clamp(0.0, 1.0);
        -(level * (evenly + by_bytes)).ln()
    }

    /// Whether this tick counts toward the confirmation of a leak, most of which is at `main_site`.
    pub(super) fn supports_confirmation(&self, tally: &Tally, main_site: u32) -> bool {
        let is_large = tally.live_bytes > LARGE_SHARE * self.total_bytes;
        // A site that fills up and is then emptied at once starts over.
        self.uptime >= FIRST_CONFIRMING_TICK + self.history.emptied_at[main_site as usize]
            && (is_large || tally.births.old_objects(self.uptime) >= MIN_OBJECTS_TO_CONFIRM)
            && self.leaks_at_level(tally, CONFIRM_LEVEL)
            && tally.deaths.recent_old_deaths()
                < MAX_LATEST_DEATH_RATIO
                    * tally.births.rate(self.uptime)
                    * survival::OLD_DEATH_DECAY_TICKS
    }

    /// Whether a site or node leaks, at an error probability of `level` over all sites: its old
    /// objects survive, hardly any died recently, and new ones keep coming.
    pub(super) fn leaks_at_level(&self, tally: &Tally, level: f64) -> bool {
        let evidence = tally.evidence(self.uptime);
        if evidence.log_e < self.threshold(tally, level)
            || tally.live_bytes < MIN_BYTES_SHARE * self.total_bytes
        {
            return false;
        }
        let spread = tally.births.spread(self.uptime, evidence.mature_age);
        // In a bounded structure that is full, as many old objects die as new ones are born.
        let recent_births = spread.recent_rate() * survival::death_decay_ticks(self.uptime);
        spread.is_ongoing
            && spread.objects >= MIN_OBJECTS
            && evidence.recent_deaths < MAX_RECENT_DEATH_RATIO * recent_births
    }

    /// Whether a site or node whose births come in bursts may only be between two of them.
    pub(super) fn is_pausing(&self, tally: &Tally) -> bool {
        tally.births.is_bursty(self.uptime) && tally.deaths.recent_old_deaths() < 1.0
    }

    /// Whether a node that leaked turns out not to: its objects die after all, or no more are born.
    pub(super) fn is_refuted(&self, tally: &Tally) -> bool {
        let evidence = tally.evidence(self.uptime);
        let threshold = self.threshold(tally, SUSPECT_LEVEL);
        let spread = tally.births.spread(self.uptime, evidence.mature_age);
        evidence.log_e < threshold / 2.0 || spread.has_stopped
    }

    /// Whether births have stopped, as they do after an initialisation.
    pub(super) fn has_stopped(&self, births: &BirthHistogram) -> bool {
        births.old_objects(self.uptime) > 0
            && births.have_stopped(self.uptime, (self.uptime / 8).max(1))
    }

    /// The site and the growth of each container that keeps growing.
    pub(super) fn growing(&self) -> Vec<(u32, Growth)> {
        self.history
            .containers
            .iter()
            .map(|container| (container.blocks.site, container.growth(self.uptime)))
            .filter(|(site, growth)| *growth > Growth::None && (*site as usize) < self.bytes.len())
            .collect()
    }

    /// Estimates for several findings in one pass over the live samples.
    ///
    /// `of_site` maps a site to the index of its finding. `ticks` gives for each finding the ticks
    /// in which the leaked objects were born, the end excluded.
    pub(super) fn estimate(
        &self,
        of_site: &NumberMap<u32, usize>,
        ticks: &[(u32, u32)],
    ) -> Vec<FindingEstimates> {
        let mut sums = vec![FindingEstimates::default(); ticks.len()];
        self.live.for_each(&mut |sample| {
            let Some(finding) = of_site.get(&sample.stack) else { return };
            let p = inclusion_probability(sample.size, sample.interval);
            let (weight, sum) = (Weight::of(sample.size, p), &mut sums[*finding]);
            let bytes = Estimate::new(weight.bytes, weight.bytes_variance.sqrt());
            sum.live_bytes = sum.live_bytes + bytes;
            let count = Estimate::new(weight.count, weight.count_variance.sqrt());
            sum.live_count = sum.live_count + count;
            let (from, to) = ticks[*finding];
            if (from..to).contains(&sample.birth_tick) {
                // Births are random too (a Poisson process), so the variance is the sum of the
                // squared weights, and not only the part that sampling adds.
                sum.leaked_bytes = sum.leaked_bytes + Estimate::new(weight.bytes, weight.bytes);
            }
        });
        sums
    }

    /// The figures that a finding with this evidence rests on.
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
