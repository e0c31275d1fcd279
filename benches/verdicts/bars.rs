//! What the detector must reach on the half for judgement.

use statrs::distribution::{Binomial, DiscreteCDF, Poisson};

use crate::Run;
use crate::table::Score;

/// A bar is refuted when an outcome as bad as this has less than this chance at the bar itself.
const LEVEL: f64 = 0.001;

/// One of the bars, and how the runs bear it out.
pub(crate) struct Bar {
    /// What it asks for and what was found.
    pub(crate) text: String,
    pub(crate) is_met: bool,
    /// The chance of an outcome as bad as this, of a detector that just meets the bar.
    chance: f64,
}

impl Bar {
    /// Whether the runs say that it is missed, and not only chance in a few of them.
    pub(crate) fn is_refuted(&self) -> bool {
        self.chance < LEVEL
    }

    /// At least this share of `n`, of which `k` were.
    fn share(what: &str, bar: f64, k: usize, n: usize) -> Self {
        let share = k as f64 / n.max(1) as f64;
        let chance = Binomial::new(bar, n as u64).map_or(1.0, |exactly| exactly.cdf(k as u64));
        Self { text: format!("{what} of {bar}: {share:.3}"), is_met: share >= bar, chance }
    }

    /// A median of at most this.
    fn median(what: &str, bar: f64, samples: &[f64]) -> Self {
        let late = samples.iter().filter(|samples| **samples > bar).count() as u64;
        let n = samples.len() as u64;
        // Where nothing is detected, nothing is detected in time.
        let chance = if n == 0 { 0.0 } else { at_least(Binomial::new(0.5, n), late) };
        Self {
            text: format!("{what} within {bar} samples: later in {late} of {n}"),
            is_met: n > 0 && 2 * late <= n,
            chance,
        }
    }

    /// At most this many in a time in which `expected` would be the bar.
    fn rate(what: &str, k: usize, expected: f64) -> Self {
        Self {
            text: format!("{what}, {expected:.1} in all: {k}"),
            is_met: k as f64 <= expected,
            chance: at_least(Poisson::new(expected), k as u64),
        }
    }
}

/// The chance of `k` and more; 1 where there is no such distribution.
fn at_least<E>(counts: Result<impl DiscreteCDF<u64, f64>, E>, k: u64) -> f64 {
    match (counts, k.checked_sub(1)) {
        (Ok(counts), Some(fewer)) => counts.sf(fewer),
        _ => 1.0,
    }
}

/// All bars, by the runs of the half for judgement.
pub(crate) fn of(runs: &[Run]) -> Vec<Bar> {
    let half: Vec<_> = runs.iter().filter(|run| !run.tuning).collect();
    let score = Score::new(&half, |run| Some(&run.detector));
    vec![
        Bar::share("a precision", 0.98, score.right, score.right + score.false_sites),
        Bar::share("a recall", 0.95, score.held, score.due),
        Bar::rate(
            "one false confirmation in 10,000 site-hours",
            score.false_alarms,
            score.site_hours / 1e4,
        ),
        Bar::median("detection", 48.0, &score.at_detection),
        Bar::median("detection at 10% of births", 120.0, &score.at_detection_of_a_tenth),
    ]
}
