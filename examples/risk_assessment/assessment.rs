//! The assessment of one portfolio: what it may lose in the coming days.

use std::fmt;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::market::{FACTORS, Market, Moves};

/// The days that a portfolio is followed for.
const HORIZON_DAYS: usize = 20;
/// Share of the scenarios that are worse than the value at risk.
const TAIL: f64 = 0.01;

/// A portfolio by its sensitivities, in currency for a relative move of 1.
#[derive(Debug)]
pub(crate) struct Portfolio {
    scenarios: usize,
    seed: u64,
    /// First derivatives of its value.
    deltas: Moves,
    /// Second derivatives: options make losses grow faster than the move.
    gammas: Moves,
}

impl Portfolio {
    pub(crate) fn numbered(number: u64) -> Self {
        let sensitivity = |factor: usize, scale: u64| {
            let mixed = (number + 1).wrapping_mul(scale).wrapping_add(factor as u64 * 7919);
            (mixed % 2001) as f64 - 700.0
        };
        Self {
            scenarios: [40_000, 60_000, 80_000][number as usize % 3],
            seed: number,
            deltas: std::array::from_fn(|factor| 1e3 * sensitivity(factor, 104_729)),
            gammas: std::array::from_fn(|factor| -1e4 * sensitivity(factor, 15_485_863).abs()),
        }
    }

    fn gain(&self, moves: &Moves) -> f64 {
        (0..FACTORS).map(|i| moves[i] * (self.deltas[i] + 0.5 * self.gammas[i] * moves[i])).sum()
    }
}

/// What an assessment found out.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    scenarios: usize,
    value_at_risk: f64,
    expected_shortfall: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} scenarios of {HORIZON_DAYS} days, value at risk {:.0}, expected shortfall {:.0}",
            self.scenarios, self.value_at_risk, self.expected_shortfall
        )
    }
}

/// An assessment with what it was computed from.
#[derive(Debug)]
pub(crate) struct Assessment {
    pub(crate) figures: Figures,
    /// Accumulated gain, by scenario and day. Most of an assessment's memory, by far.
    pub(crate) paths: Vec<f64>,
}

/// Simulates the portfolio in the market, day by day in many scenarios, and reads the figures off
/// the last day.
pub(crate) fn assess(market: &Market, portfolio: &Portfolio) -> Assessment {
    let mut rng = SmallRng::seed_from_u64(portfolio.seed);
    let mut paths = vec![0.0; portfolio.scenarios * HORIZON_DAYS];
    for path in paths.chunks_exact_mut(HORIZON_DAYS) {
        let mut gain = 0.0;
        for day in path {
            gain += portfolio.gain(&market.draw_day(&mut rng));
            *day = gain;
        }
    }
    let figures = figures(&paths, portfolio.scenarios);
    Assessment { figures, paths }
}

fn figures(paths: &[f64], scenarios: usize) -> Figures {
    let mut outcomes: Vec<f64> =
        paths.chunks_exact(HORIZON_DAYS).map(|path| path[HORIZON_DAYS - 1]).collect();
    outcomes.sort_unstable_by(f64::total_cmp);
    let tail = (scenarios as f64 * TAIL) as usize;
    Figures {
        scenarios,
        value_at_risk: -outcomes[tail],
        expected_shortfall: -outcomes[..tail].iter().sum::<f64>() / tail as f64,
    }
}
