//! The survival test: do the old objects of a site still die?
//!
//! # The idea
//! Healthy objects are freed in the end, so every healthy population has an age by which its
//! members die. Leaked objects do not die at all. The longer the live objects have survived, the
//! stronger is the case for a leak, and every old object that dies is evidence against it. The test
//! puts both into one number, the e-value `E`.
//!
//! # Healthy and leaking
//! The *hazard* at age `a` is the rate at which objects of that age die: the chance to die within
//! the next moment, given the age, divided by the length of the moment. A population counts as
//! healthy if beyond some age its hazard is at least `α₀/a`. That is to say, of the objects that
//! reach an age, a fixed share (`1 − 2^−α₀`) is gone before they are twice as old. Lifetimes of
//! every common shape satisfy this, heavy-tailed ones too. The hazard of leaked objects is zero.
//!
//! # The e-value
//! Follow objects from an age `a₀` on. Let `U` be the sum of `ln(age/a₀)` over the objects, their
//! *exposure*: under a hazard of `α/a`, `α · U` of them are expected to die. Let `D` be the number
//! that did die. The likelihood ratio of a hazard of `α₁/a`, with a small `α₁`, to one of `α₀/a` is
//!
//! ```text
//!   E = (α₁/α₀)^D · exp((α₀ − α₁) · U)
//! ```
//! It grows with every tick that the objects survive, and shrinks by the factor `α₁/α₀` with each
//! death. For a healthy population it is a nonnegative supermartingale, whatever the births do:
//! given the past, deaths come at a rate of at least `α₀ U'`, and then `E` does not grow on
//! average. (This takes the lifetimes of different objects as independent.) By Ville's inequality
//! it *ever* exceeds `1/δ` with probability at most `δ`. A statistic with this property is called
//! an e-value: it may be looked at after every tick without a correction for the number of looks,
//! where repeated p-values would raise a false alarm sooner or later.
//!
//! Sources: for counting processes and their likelihood ratios Aalen, Borgan, Gjessing, "Survival
//! and Event History Analysis", ch. 2; for e-values Ramdas, Grünwald, Vovk, Shafer, "Game-Theoretic
//! Statistics and Safe Anytime-Valid Inference", 2023.
//!
//! # What is counted
//! - The exposure of objects that have died is left out, and some deaths are counted of objects
//!   whose survival would not be, such as those born in the warm-up. Both lower `E`, so the bound
//!   holds. In return the exposure depends only on the objects that are alive now, and only deaths
//!   have to be remembered.
//! - The right `a₀` is not known. Each octave of age begins one test, and the e-value of a site is
//!   the mean of the tests' e-values: a mean of e-values is an e-value again.
//! - Exposures and deaths of several sites add up, so a node of the call tree is tested like a
//!   site.

use super::births::BirthHistogram;

/// Number of octaves of age in ticks: below 2, from 2, from 4, …; the last one has no upper end.
pub(super) const OCTAVES: usize = 16;

/// `α₀`, the hazard exponent of a healthy population: of the objects that reach an age, at least 29
/// in 100 (`1 − 2^−0.5`) are gone at twice that age.
const HEALTHY_EXPONENT: f64 = 0.5;

/// `α₁`, the hazard exponent of a leak: fewer than one in 100 are gone at twice the age.
const LEAK_EXPONENT: f64 = 0.01;

/// Number of deaths by octave of the age at death.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Deaths {
    by_octave: [f32; OCTAVES],
    /// The same, with weights that decay over [`death_decay_ticks`].
    recent: [f32; OCTAVES],
    /// Deaths at an age of at least a quarter of the uptime, with weights that decay over
    /// [`OLD_DEATH_DECAY_TICKS`].
    recent_old: f32,
}

/// Time constant, in ticks, over which the deaths of old objects are forgotten that keep a suspect
/// from being confirmed.
pub(super) const OLD_DEATH_DECAY_TICKS: f64 = 2.0;

/// Time constant, in ticks, over which a recent death is forgotten.
pub(super) fn death_decay_ticks(uptime: u32) -> f64 {
    f64::from((uptime / 8).max(4))
}

/// The result of the survival test for a site or a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SurvivalEvidence {
    /// Natural logarithm of the e-value, the mean over all tests.
    pub(super) log_e: f64,
    /// Natural logarithm of the e-value of the best test alone. If it is positive, the evidence is
    /// in favour of a leak, however little there is.
    pub(super) best_log_e: f64,
    /// The age in ticks at which the best test begins. Objects at least that old are *mature*.
    pub(super) mature_age: u32,
    /// Number of deaths among mature objects.
    pub(super) mature_deaths: f64,
    /// Roughly the number of those deaths in the last [`death_decay_ticks`] ticks.
    pub(super) recent_deaths: f64,
}

/// The octave that an age in ticks falls into.
fn octave(age: f32) -> usize {
    (age.max(1.0).log2() as usize).min(OCTAVES - 1)
}

/// The age in ticks at which an octave begins.
pub(super) fn octave_start(octave: usize) -> u32 {
    1 << octave
}

impl Deaths {
    /// Records that `died` objects died, which were `age` ticks old when last seen.
    pub(super) fn record(&mut self, age: f32, died: u32, uptime: u32) {
        self.by_octave[octave(age)] += died as f32;
        self.recent[octave(age)] += died as f32;
        if age >= uptime as f32 / 4.0 {
            self.recent_old += died as f32;
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.by_octave.iter_mut().zip(other.by_octave).for_each(|(sum, more)| *sum += more);
        self.recent.iter_mut().zip(other.recent).for_each(|(sum, more)| *sum += more);
        self.recent_old += other.recent_old;
    }

    /// Lowers the weight of recent deaths after `ticks` ticks have passed.
    pub(super) fn decay(&mut self, ticks: u32, uptime: u32) {
        let kept = (-f64::from(ticks) / death_decay_ticks(uptime)).exp() as f32;
        self.recent.iter_mut().for_each(|deaths| *deaths *= kept);
        self.recent_old *= (-f64::from(ticks) / OLD_DEATH_DECAY_TICKS).exp() as f32;
    }

    /// Number of deaths at an age of at least a quarter of the uptime, weighted towards the last
    /// [`OLD_DEATH_DECAY_TICKS`] ticks.
    pub(super) fn recent_old_deaths(&self) -> f64 {
        self.recent_old.into()
    }

    /// Number of deaths at an age in this octave.
    pub(super) fn in_octave(&self, octave: usize) -> f64 {
        self.by_octave[octave].into()
    }

    /// The octaves that begin a test: those that start between a sixteenth and a half of the
    /// uptime.
    ///
    /// The mean is still taken over all octaves. Those without a test count as an e-value of zero,
    /// which can only lower the mean, so the bound holds.
    fn test_octaves(uptime: u32) -> impl DoubleEndedIterator<Item = usize> {
        (0..OCTAVES)
            .filter(move |octave| (uptime / 16..=uptime / 2).contains(&octave_start(*octave)))
    }

    /// Number of deaths at the ages that are tested.
    pub(super) fn mature_deaths(&self, uptime: u32) -> f64 {
        let first = Self::test_octaves(uptime).next().unwrap_or(0);
        self.by_octave[first..].iter().map(|died| f64::from(*died)).sum()
    }

    /// The survival test for these deaths and the objects that are `alive`.
    pub(super) fn evidence(&self, alive: &BirthHistogram, uptime: u32) -> SurvivalEvidence {
        let mut best = SurvivalEvidence {
            log_e: f64::NEG_INFINITY,
            best_log_e: f64::NEG_INFINITY,
            mature_age: 1,
            mature_deaths: 0.0,
            recent_deaths: 0.0,
        };
        let mut logs = [f64::NEG_INFINITY; OCTAVES];
        for octave in Self::test_octaves(uptime) {
            let age = octave_start(octave);
            let sum = |deaths: &[f32]| deaths[octave..].iter().map(|died| f64::from(*died)).sum();
            let deaths: f64 = sum(&self.by_octave);
            let exposure = alive.exposure(uptime, age);
            let log_e = (HEALTHY_EXPONENT - LEAK_EXPONENT) * exposure
                - deaths * (HEALTHY_EXPONENT / LEAK_EXPONENT).ln();
            logs[octave] = log_e;
            if log_e > best.log_e {
                best = SurvivalEvidence {
                    log_e,
                    best_log_e: log_e,
                    mature_age: age,
                    mature_deaths: deaths,
                    recent_deaths: sum(&self.recent),
                };
            }
        }
        if best.log_e.is_finite() {
            let sum: f64 = logs.iter().map(|log| (log - best.log_e).exp()).sum();
            best.log_e += (sum / OCTAVES as f64).ln();
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// A site that is just healthy: its objects die with a hazard of `HEALTHY_EXPONENT / age` from
    /// an age of one tick on.
    struct Site {
        /// Tick of birth and time of death of each object.
        objects: Vec<(u32, f64)>,
        deaths: Deaths,
    }

    impl Site {
        fn tick(&mut self, tick: u32, births: u32, rng: &mut StdRng) {
            let deaths = &mut self.deaths;
            deaths.decay(1, tick);
            self.objects.retain(|(birth, death)| {
                let lives = *death > f64::from(tick);
                if !lives {
                    // Like the detector: the object was last seen at the tick before.
                    deaths.record((tick - 1 - birth) as f32 + 0.5, 1, tick);
                }
                lives
            });
            for _ in 0..births {
                let born = f64::from(tick) - rng.random::<f64>();
                // Of the objects that reach an age of one tick, the share a^(−HEALTHY_EXPONENT)
                // reaches the age a.
                let lifetime = (1.0 - rng.random::<f64>()).powf(-1.0 / HEALTHY_EXPONENT);
                if born + lifetime > f64::from(tick) {
                    self.objects.push((tick, born + lifetime));
                }
            }
        }

        fn evidence(&self, uptime: u32) -> SurvivalEvidence {
            let mut alive = BirthHistogram::default();
            self.objects.iter().for_each(|(birth, _)| alive.add(*birth, uptime, 1));
            self.deaths.evidence(&alive, uptime)
        }
    }

    /// Ville's inequality over all looks together, which is what justifies a threshold of `1/δ`.
    /// The standard error of the share is 0.5%.
    #[test]
    fn at_most_a_share_delta_of_healthy_sites_ever_exceeds_one_over_delta() {
        const SITES: usize = 2000;
        const LEVEL: f64 = 0.05;
        let mut rng = StdRng::seed_from_u64(17);
        let mut share = |births_per_tick: u32, ticks: u32| {
            let exceeds = |_: &usize| {
                let mut site = Site { objects: Vec::new(), deaths: Deaths::default() };
                let mut exceeded = false;
                for tick in 1..=ticks {
                    site.tick(tick, births_per_tick, &mut rng);
                    exceeded |= site.evidence(tick).log_e > -LEVEL.ln();
                }
                exceeded
            };
            (0..SITES).filter(exceeds).count() as f64 / SITES as f64
        };
        for (births_per_tick, ticks) in [(1, 150), (6, 70)] {
            let share = share(births_per_tick, ticks);
            println!(
                "{share} of {SITES} sites with {births_per_tick} births a tick exceed 1/{LEVEL}"
            );
            assert!(share <= LEVEL * 1.3);
        }
    }

    #[test]
    fn objects_that_never_die_exceed_every_threshold() {
        let mut alive = BirthHistogram::default();
        (1..=100).for_each(|tick| alive.add(tick, 100, 1));
        let leaking = Deaths::default().evidence(&alive, 100);
        assert!(leaking.log_e > 20.0, "{leaking:?}");
        // A death weighs as much as the survival of one object to 2,900 times the age.
        let mut deaths = Deaths::default();
        deaths.record(40.0, 10, 100);
        assert!(deaths.evidence(&alive, 100).log_e < leaking.log_e - 10.0);
    }
}
