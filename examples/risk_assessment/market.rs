//! A market of correlated risk factors, whose daily moves are jointly normal.

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

pub(crate) const FACTORS: usize = 12;
/// Trading days in a year, to convert yearly volatilities to daily ones.
const TRADING_DAYS: f64 = 252.0;

/// The relative moves of all factors on one day.
pub(crate) type Moves = [f64; FACTORS];

#[derive(Debug)]
pub(crate) struct Market {
    /// The Cholesky factor of the covariance of daily moves, a lower triangular matrix.
    spread: [Moves; FACTORS],
}

impl Market {
    /// Yearly volatilities from 8% to 30%; neighbouring factors move together.
    pub(crate) fn new() -> Self {
        let volatility = |factor: usize| (0.08 + 0.02 * factor as f64) / TRADING_DAYS.sqrt();
        let covariance = |row: usize, column: usize| {
            0.6_f64.powi(row.abs_diff(column) as i32) * volatility(row) * volatility(column)
        };
        let mut spread = [[0.0; FACTORS]; FACTORS];
        for row in 0..FACTORS {
            for column in 0..=row {
                let explained: f64 =
                    (0..column).map(|known| spread[row][known] * spread[column][known]).sum();
                let rest = covariance(row, column) - explained;
                spread[row][column] =
                    if row == column { rest.sqrt() } else { rest / spread[column][column] };
            }
        }
        Self { spread }
    }

    /// One possible day.
    pub(crate) fn draw_day(&self, rng: &mut impl Rng) -> Moves {
        let independent: Moves = std::array::from_fn(|_| StandardNormal.sample(rng));
        std::array::from_fn(|factor| {
            self.spread[factor][..=factor].iter().zip(&independent).map(|(a, b)| a * b).sum()
        })
    }
}
