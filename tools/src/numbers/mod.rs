//! Numbers: which quantity is looked at, and how numbers are printed and parsed.

pub mod metric;
pub mod rate;
pub(crate) mod sum;
pub mod units;
