//! heapdrift: a sampling heap profiler for Rust services.

pub mod dump;
mod estimate;
pub mod snapshot;
mod stats;

pub use estimate::Estimate;
pub use snapshot::Snapshot;
pub use stats::Stats;
