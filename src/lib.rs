//! A sampling heap profiler for Rust services.
//!
//! A `#[global_allocator]` wrapper samples allocations with their stacks, over any allocator;
//! dumps of the live set are written by call, periodically, by signal and at the end; the companion
//! program `heapdrift` (package `heapdrift-tools`) draws flamegraphs and tables from them, offline.
//!
//! # Quick start
//! ```toml
//! [dependencies]
//! heapdrift = "0.1"
//!
//! [features]
//! heap-profiling = ["heapdrift/profiling"]
//! ```
//! ```no_run
//! #[global_allocator]
//! static ALLOC: heapdrift::Alloc = heapdrift::Alloc::system();
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let _profiler = heapdrift::Profiler::builder().dump_dir("heapdrift-out").start()?;
//!     // … the service …
//!     Ok(())
//! }
//! ```
//! Built with `heap-profiling` this writes a dump every minute and one at the end. Without it, the
//! same code compiles to the bare allocator. [`Profiler::from_env`] takes the settings from the
//! environment instead.
//!
//! # What the numbers mean
//! By default one sample is taken every 512 KiB of allocated bytes, at random points (a Poisson
//! process), so that an allocation of `s` bytes is sampled with probability `1 − exp(−s/R)` whatever
//! the program does. Each sample stands for as many bytes and objects as that probability says.
//! Every number is an [`Estimate`] with its standard error, and an interval of 1 is exact.
//!
//! # Cost
//! | | |
//! | --- | --- |
//! | without `profiling` | none: the machine code is that of the inner allocator |
//! | an allocation and its free, not sampled | 9 instructions, whatever the number of live samples |
//! | a sample, from allocation to free, about 40 frames | 0.7 to 0.9 µs |
//! | memory | at most [`max_profiler_bytes`](Builder::max_profiler_bytes), 64 MiB by default |
//! | threads | one, if dumps are periodic or by signal; otherwise none |
//!
//! # Your responsibilities
//! - One [`Alloc`] in a process, as its `#[global_allocator]`.
//! - Unwind tables: Rust writes them by default, also with `panic = "abort"` on Linux. C code that
//!   was built with `-fno-asynchronous-unwind-tables` cuts stacks short, and they are marked so.
//! - Build-ids and symbols for the tools: `debug = "limited"` in the release profile gives names, inlined
//!   functions and line numbers, and does not make the program slower. With `line-tables-only` the
//!   names of inlined async functions are missing.
//!
//! # What it is not for
//! - Memory that C code allocates by itself: only what passes through Rust's global allocator is
//!   seen.
//! - Finding invalid accesses: it is no sanitizer, and does not run under AddressSanitizer or
//!   ThreadSanitizer, which claim the addresses it needs.
//! - Windows: there the feature compiles and records nothing.

// Where recording is inert although the feature is on, nothing uses what only recording does.
#![cfg_attr(all(feature = "profiling", not(unix)), allow(dead_code))]
// Unsafe code stands in the modules that are allowed to here, and nowhere else.

#[allow(unsafe_code)]
mod alloc;
#[cfg(feature = "analysis")]
#[doc(hidden)]
pub mod blame;
mod config;
#[cfg(feature = "analysis")]
mod diff;
pub mod dump;
mod engine;
mod error;
mod estimate;
#[cfg(feature = "analysis")]
mod hash;
mod labels;
pub mod leak;
#[cfg(feature = "analysis")]
#[doc(hidden)]
pub mod names;
mod profiler;
mod report;
mod signals;
pub mod snapshot;
mod stats;
#[doc(hidden)]
pub mod units;

pub use alloc::Alloc;
pub use error::{SettingError, StartError};
pub use estimate::{Estimate, Weight};
pub use labels::{LabelFuture, Labeled, with_labels};
pub use profiler::{Builder, Profiler};
pub use report::{LeakCandidate, LeakReport, Verdict};
pub use snapshot::Snapshot;
pub use stats::Stats;

/// The README's code, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
