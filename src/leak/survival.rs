//! Whether old objects still die: the evidence that a site leaks.
//!
//! Every healthy population has an age by which its members go. Written as a hazard (the chance to
//! die within the next moment, given the age `a`): beyond some age it is at least `α₀/a`, that is,
//! of the objects that reach an age, a fixed share is gone before they are twice as old. Lifetimes of
//! every common shape do so, also heavy-tailed ones. Leaked objects do not: their hazard is zero.
//!
//! Of objects that were followed from an age `a₀` on, let `U` be the sum of `ln(age/a₀)`, their
//! *exposure* on a logarithmic scale, and `D` the number that died. Against a hazard of at least
//! `α₀/a` the likelihood ratio of a hazard `α₁/a`,
//!
//! ```text
//!   E = (α₁/α₀)^D · exp((α₀ − α₁) · U),
//! ```
//! is a nonnegative supermartingale whatever the births do: the intensity of deaths given the past is
//! at least `α₀ U'`, and then `E` does not grow on average. By Ville's inequality it ever exceeds
//! `1/δ` with probability at most `δ`: an e-value that may be looked at after every tick, without
//! paying for the looks. (Counting processes: Aalen, Borgan, Gjessing, "Survival and Event History
//! Analysis", ch. 2; e-values: Ramdas, Grünwald, Vovk, Shafer, "Game-Theoretic Statistics and Safe
//! Anytime-Valid Inference", 2023.)
//!
//! The exposure of objects that have died is left out, and deaths of objects are counted whose
//! survival would not be: both lower `E`. So exposure is a function of the objects that are alive
//! now, and only deaths have to be remembered. From which age on is not known: each octave of age
//! begins one test, and the e-value of a site is their mean, which is one again. Exposures and deaths
//! of several sites add up, and so do those of a node of the call tree.

use super::births::BirthHistogram;

/// Octaves of age in ticks: below 2, from 2, from 4, …; the last is open.
pub(super) const OCTAVES: usize = 16;

/// Hazard exponent of the healthy: at least 29 of 100 objects that reach an age are gone at
/// twice that age (`1 − 2^−0.5`).
const HEALTHY_EXPONENT: f64 = 0.5;

/// Hazard exponent of what is called a leak: less than one in a hundred.
const LEAK_EXPONENT: f64 = 0.01;

/// Deaths by octave of age.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Deaths {
    by_octave: [f32; OCTAVES],
    /// The same, each death counting less as time goes by.
    recent: [f32; OCTAVES],
    /// Deaths at an age of a quarter of the uptime and more, forgotten within [`OLD_DEATH_DECAY_TICKS`] ticks.
    recent_old: f32,
}

/// Over how many ticks the death of an old object keeps a suspicion from being a certainty.
pub(super) const OLD_DEATH_DECAY_TICKS: f64 = 2.0;

/// Over how many ticks a recent death is forgotten.
pub(super) fn death_decay_ticks(uptime: u32) -> f64 {
    f64::from((uptime / 8).max(4))
}

/// The evidence of a site or node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SurvivalEvidence {
    /// Logarithm of the e-value.
    pub(super) log_e: f64,
    /// That of its best test alone: whether what there is speaks for a leak, however little it is.
    pub(super) best_log_e: f64,
    /// The age in ticks from which on it is strongest: objects at least that old are *mature*.
    pub(super) mature_age: u32,
    /// Deaths among mature objects.
    pub(super) mature_deaths: f64,
    /// Those of them in the last [`death_decay_ticks`] ticks, about.
    pub(super) recent_deaths: f64,
}

/// The octave of an age in ticks.
fn octave(age: f32) -> usize {
    (age.max(1.0).log2() as usize).min(OCTAVES - 1)
}

/// The age in ticks at which an octave begins.
pub(super) fn octave_start(octave: usize) -> u32 {
    1 << octave
}

impl Deaths {
    /// Takes down that some died, having been last seen at this age.
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

    /// Lets some ticks pass.
    pub(super) fn decay(&mut self, ticks: u32, uptime: u32) {
        let kept = (-f64::from(ticks) / death_decay_ticks(uptime)).exp() as f32;
        self.recent.iter_mut().for_each(|deaths| *deaths *= kept);
        self.recent_old *= (-f64::from(ticks) / OLD_DEATH_DECAY_TICKS).exp() as f32;
    }

    /// Old objects that died lately.
    pub(super) fn recent_old_deaths(&self) -> f64 {
        self.recent_old.into()
    }

    /// Deaths in an octave.
    pub(super) fn in_octave(&self, octave: usize) -> f64 {
        self.by_octave[octave].into()
    }

    /// The octaves that begin a test at this uptime, in ticks: from a sixteenth of it to a half.
    /// Leaving others out of the mean can only lower it.
    fn test_octaves(uptime: u32) -> impl DoubleEndedIterator<Item = usize> {
        (0..OCTAVES)
            .filter(move |octave| (uptime / 16..=uptime / 2).contains(&octave_start(*octave)))
    }

    /// Deaths at the ages that are looked at.
    pub(super) fn mature_deaths(&self, uptime: u32) -> f64 {
        let first = Self::test_octaves(uptime).next().unwrap_or(0);
        self.by_octave[first..].iter().map(|died| f64::from(*died)).sum()
    }

    /// The evidence of these deaths and of the objects that are alive.
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

    /// A site whose objects die with a hazard of `HEALTHY_EXPONENT / age` from an age of one tick on.
    struct Site {
        /// Tick of birth, and time of death.
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
                    // As the detector counts: last seen at the tick before.
                    deaths.record((tick - 1 - birth) as f32 + 0.5, 1, tick);
                }
                lives
            });
            for _ in 0..births {
                let born = f64::from(tick) - rng.random::<f64>();
                // Of those that reach an age of one, age^(−HEALTHY) reach an age.
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

    /// Ville's inequality, over all looks together: this is what a threshold of 1/δ rests on. The
    /// standard error of the share is 0.5%.
    #[test]
    fn of_healthy_sites_at_most_the_level_ever_exceed_its_inverse() {
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
    fn objects_that_never_die_exceed_every_bound() {
        let mut alive = BirthHistogram::default();
        (1..=100).for_each(|tick| alive.add(tick, 100, 1));
        let leaking = Deaths::default().evidence(&alive, 100);
        assert!(leaking.log_e > 20.0, "{leaking:?}");
        // A death weighs as much as the survival of an object to 2,900 times the age.
        let mut deaths = Deaths::default();
        deaths.record(40.0, 10, 100);
        assert!(deaths.evidence(&alive, 100).log_e < leaking.log_e - 10.0);
    }
}
