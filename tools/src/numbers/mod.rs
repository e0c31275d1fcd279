//! The quantities of a heap, sums of them, and how numbers are printed and parsed.

pub mod metric;
pub mod rate;
pub(crate) mod sum;
pub mod units;
