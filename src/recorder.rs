//! The seam between recording and not recording: two implementations of the same functions.
//!
//! Everything above calls these functions unconditionally. This is the only place that looks at
//! `feature = "profiling"`.
//!
//! Recording needs `mmap` and thread ids of a Unix; elsewhere the feature compiles and is inert.

#[cfg(all(feature = "profiling", unix))]
mod enabled;
#[cfg(all(feature = "profiling", unix))]
pub(crate) use enabled::*;

#[cfg(not(all(feature = "profiling", unix)))]
mod disabled;
#[cfg(not(all(feature = "profiling", unix)))]
pub(crate) use disabled::*;
