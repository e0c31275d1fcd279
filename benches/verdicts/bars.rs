//! The bars that the detector must reach on the judgement half of the scenarios.

use statrs::distribution::{Binomial, DiscreteCDF, Poisson};

use crate::Run;
use crate::table::Score;

/// A bar is refuted if a detector that just meets it would do as badly with less than this
/// probability.
const LEVEL: f64 = 0.001;

/// One of the bars, and the result of the runs.
pub(crate) struct Bar {
    /// What it asks for, and what was found.
    pub(crate) text: String,
    pub(crate) is_met: bool,
    /// The probability of a result as bad as this for a detector that just meets the bar.
    chance: f64,
}

impl Bar {
    /// Whether it is missed by more than chance explains.
    pub(crate) fn is_refuted(&self) -> bool {
        self.chance < LEVEL
    }

    /// A share of at least `bar`, when `k` of `n` were found.
    fn share(what: &str, bar: f64, k: usize, n: usize) -> Self {
        let share = k as f64 / n.max(1) as f64;
        let chance = Binomial::new(bar, n as u64).map_or(1.0, |counts| counts.cdf(k as u64));
        Self { text: format!("{what} of {bar}: {share:.3}"), is_met: share >= bar, chance }
    }

    /// A median of at most `bar`.
    fn median(what: &str, bar: f64, samples: &[f64]) -> Self {
        let late = samples.iter().filter(|samples| **samples > bar).count() as u64;
        let n = samples.len() as u64;
        // If nothing is detected, nothing is detected in time.
        let chance = if n == 0 { 0.0 } else { at_least(Binomial::new(0.5, n), late) };
        Self {
            text: format!("{what} within {bar} samples: later in {late} of {n}"),
            is_met: n > 0 && 2 * late <= n,
            chance,
        }
    }

    /// At most `expected` events, when `k` were found.
    fn rate(what: &str, k: usize, expected: f64) -> Self {
        Self {
            text: format!("{what}, {expected:.1} in all: {k}"),
            is_met: k as f64 <= expected,
            chance: at_least(Poisson::new(expected), k as u64),
        }
    }
}

/// The probability of `k` or more; 1 if there is no such distribution.
fn at_least<E>(counts: Result<impl DiscreteCDF<u64, f64>, E>, k: u64) -> f64 {
    match (counts, k.checked_sub(1)) {
        (Ok(counts), Some(fewer)) => counts.sf(fewer),
        _ => 1.0,
    }
}

/// All bars, from the runs of the judgement half.
pub(crate) fn of(runs: &[Run]) -> Vec<Bar> {
    let half: Vec<_> = runs.iter().filter(|run| !run.tuning).collect();
    let score = Score::new(&half, |run| Some(&run.detector));
    vec![
        Bar::share("precision", 0.98, score.right, score.right + score.false_sites),
        Bar::share("recall", 0.95, score.held, score.due),
        Bar::rate(
            "one false confirmation per 10,000 site-hours",
            score.false_alarms,
            score.site_hours / 1e4,
        ),
        Bar::median("detection", 48.0, &score.at_detection),
        Bar::median("detection at 10% of births", 120.0, &score.at_detection_of_a_tenth),
    ]
}
