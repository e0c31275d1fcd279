//! heapdrift: a sampling heap profiler for Rust services.

// Unsafe code stands in the modules that are allowed to here, and nowhere else.

#[allow(unsafe_code)]
mod alloc;
pub mod dump;
mod estimate;
mod labels;
mod profiler;
#[allow(unsafe_code)]
mod recorder;
pub mod snapshot;
mod stats;

// What recording is made of.
#[cfg(all(feature = "profiling", unix))]
#[allow(unsafe_code)]
mod arena;
#[cfg(all(feature = "profiling", unix))]
#[allow(unsafe_code)]
mod label_table;
#[cfg(all(feature = "profiling", unix))]
#[allow(unsafe_code)]
mod live_set;
#[cfg(all(feature = "profiling", unix))]
mod sampler;
#[cfg(all(feature = "profiling", unix))]
#[allow(unsafe_code)]
mod stack_table;
#[cfg(all(feature = "profiling", unix))]
mod sync;
#[cfg(all(feature = "profiling", unix))]
#[allow(unsafe_code)]
mod sys;
#[cfg(all(feature = "profiling", unix))]
#[allow(unsafe_code)]
mod unwind;

pub use alloc::Alloc;
pub use estimate::Estimate;
pub use labels::{LabelFuture, Labeled, with_labels};
pub use profiler::{Builder, Profiler, StartError};
pub use snapshot::Snapshot;
pub use stats::Stats;
