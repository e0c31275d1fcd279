//! Whether old objects still die: the evidence that a site leaks.
//!
//! Every healthy population has an age by which its members go. Written as a hazard (the chance to
//! die within the next moment, given the age `a`): beyond some age it is at least `α₀/a`, that is,
//! of the objects that reach an age, a fixed share is gone before they are twice as old. Lifetimes of
//! every common shape do so, also heavy-tailed ones. Leaked objects do not: their hazard is zero.
//!
//! Between two ticks the survivors of each cohort add `n · ln(a'/a)` to the *exposure* `U` of the
//! octave of their age, and deaths are counted in `D`. Against a hazard of at least `α₀/a` the
//! likelihood ratio of a hazard `α₁/a`,
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
//! From which age on is not known, so each octave begins one test, and the e-value of a site is
//! their mean, which is one again. Exposures and deaths of several sites add up, and so do those
//! of a node of the call tree.

/// Octaves of age in ticks: below 2, from 2, from 4, …; the last is open.
pub(super) const OCTAVES: usize = 16;

/// Hazard exponent of the healthy: at least a quarter of the objects that reach an age are gone at
/// twice that age (`1 − 2^−0.4`).
const HEALTHY: f64 = 0.4;

/// Hazard exponent of what is called a leak: less than one in a hundred.
const LEAKING: f64 = 0.01;

/// Exposure and deaths by octave of age.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Survival {
    exposure: [f32; OCTAVES],
    deaths: [f32; OCTAVES],
}

/// The evidence of a site or node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Evidence {
    /// Logarithm of the e-value.
    pub(super) log_e: f64,
    /// The age in ticks from which on it is strongest: objects at least that old are *mature*.
    pub(super) mature_age: u32,
    /// Deaths among mature objects.
    pub(super) mature_deaths: f64,
}

/// The octave of an age in ticks.
fn octave(age: f32) -> usize {
    (age.max(1.0).log2() as usize).min(OCTAVES - 1)
}

/// The age in ticks at which an octave begins.
pub(super) fn begin(octave: usize) -> u32 {
    if octave == 0 { 0 } else { 1 << octave }
}

impl Survival {
    /// Takes down that of a cohort of an age `before` some survived to the age `after`, and others
    /// did not.
    pub(super) fn observe(&mut self, before: f32, after: f32, survived: u32, died: u32) {
        let octave = octave(before);
        // The dead lived through half of it, on average.
        let at_risk = survived as f32 + died as f32 / 2.0;
        self.exposure[octave] += at_risk * (after / before).ln();
        self.deaths[octave] += died as f32;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for octave in 0..OCTAVES {
            self.exposure[octave] += other.exposure[octave];
            self.deaths[octave] += other.deaths[octave];
        }
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        for octave in 0..OCTAVES {
            self.exposure[octave] -= other.exposure[octave];
            self.deaths[octave] -= other.deaths[octave];
        }
    }

    /// The evidence among objects that are mature at this uptime, in ticks: older than a sixteenth
    /// of it at least. Leaving tests out of the mean can only lower it.
    pub(super) fn evidence(&self, uptime: u32) -> Evidence {
        let mut best = Evidence { log_e: f64::NEG_INFINITY, mature_age: 0, mature_deaths: 0.0 };
        let (mut exposure, mut deaths) = (0.0, 0.0);
        let mut logs = [f64::NEG_INFINITY; OCTAVES];
        for octave in (0..OCTAVES).rev() {
            exposure += f64::from(self.exposure[octave]);
            deaths += f64::from(self.deaths[octave]);
            let age = begin(octave);
            if age > uptime / 2 || exposure == 0.0 {
                continue;
            }
            if age < uptime / 16 {
                break;
            }
            let log_e = (HEALTHY - LEAKING) * exposure - deaths * (HEALTHY / LEAKING).ln();
            logs[octave] = log_e;
            if log_e > best.log_e {
                best = Evidence { log_e, mature_age: age.max(1), mature_deaths: deaths };
            }
        }
        if best.log_e.is_finite() {
            let sum: f64 = logs.iter().map(|log| (log - best.log_e).exp()).sum();
            best.log_e += (sum / OCTAVES as f64).ln();
        }
        best
    }

    /// Exposure and deaths of an octave.
    pub(super) fn octave(&self, octave: usize) -> (f64, f64) {
        (self.exposure[octave].into(), self.deaths[octave].into())
    }
}
