//! A sampling heap profiler for Rust services.
//!
//! A `#[global_allocator]` wrapper samples allocations with their stacks, over any allocator. Dumps
//! of the live set are written on request, periodically, on a signal and at the end. The companion
//! program `heapdrift` (package `heapdrift-tools`) draws flamegraphs and tables from them offline.
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
//! When the service is built with `heap-profiling`, this writes a dump every minute and one at the
//! end. Without it, the same code compiles to the bare allocator. [`Profiler::from_env`] reads the
//! settings from the environment variable `HEAPDRIFT` instead.
//!
//! # Features
//! | | |
//! | --- | --- |
//! | `profiling` | recording; includes `read` |
//! | `read` | reading dumps, for programs that analyse them; the tools turn it on |
//!
//! Neither is on by default. What a service uses, such as [`Alloc`], [`Profiler`] and
//! [`with_labels`], exists without any feature. A profiler that is started without `profiling` is
//! inert: it records nothing, and its reports are empty.
//!
//! # What the numbers mean
//! Samples are taken at random points of the allocated bytes: a Poisson process with a mean
//! distance of `R` bytes, 512 KiB by default. An allocation of `s` bytes is therefore sampled with
//! probability `p = 1 − exp(−s/R)`, whatever the program does, and each sample stands for `1/p`
//! objects and `s/p` bytes. Every number derived from samples is an [`Estimate`] with its standard
//! error. An interval of 1 records every allocation, and the numbers are then exact.
//!
//! # Cost
//! | | |
//! | --- | --- |
//! | without `profiling` | none: the machine code is that of the inner allocator |
//! | an allocation and its free, not sampled | 8 instructions (3 + 5), however many samples are live |
//! | a sampled allocation under 40 frames | 0.09 to 0.23 µs where most of the stack is unchanged since the last sample, 0.6 µs where nothing is; its free 0.02 µs |
//! | memory | at most [`max_profiler_bytes`](Builder::max_profiler_bytes), 64 MiB by default |
//! | threads | one if dumps or leak reports are periodic or a signal triggers dumps; otherwise none |
//!
//! `docs/performance.md` in the repository is the source of these figures and has the tables.
//!
//! # Your responsibilities
//! - The process must have only one [`Alloc`], as its `#[global_allocator]`.
//! - The binary needs unwind tables. Rust writes them by default, on Linux even if panics abort. A
//!   stack ends at a C function that was compiled with `-fno-asynchronous-unwind-tables`, and is
//!   marked as truncated.
//! - Code that closes descriptors which it did not open (some ways to become a daemon,
//!   `close_range`) must not run while a dump is being written, because the dump is an open file.
//! - Dumps of earlier sessions stay in the [`dump_dir`](Builder::dump_dir) until somebody removes
//!   them.
//! - A thread that calls [`Profiler::snapshot`], [`Profiler::dump`] or [`Profiler::diff_now`] needs
//!   64 KiB of stack in a release build, and 128 KiB in a debug build.
//! - The tools need build-ids and symbols. `debug = "limited"` in the release profile provides
//!   function names, inlined functions and line numbers, and does not make the program slower. With
//!   `line-tables-only` the names of inlined async functions are missing.
//!
//! # What it is not for
//! - Memory that C code allocates itself. Only allocations through Rust's global allocator are
//!   recorded.
//! - Finding invalid memory accesses. heapdrift is not a sanitizer, and does not run under
//!   AddressSanitizer or ThreadSanitizer, which occupy the addresses that it needs.
//! - Windows. The feature compiles there, but nothing is recorded, and [`start`](Builder::start)
//!   says so.
//!
//! # Stability
//! The modules `names`, `blame` and `units`, and the items `leak::Names` and `leak::Replay`, are
//! public only because the tools of the same version use them. They are hidden from this
//! documentation, and semantic versioning does not cover them.

// Unsafe code is denied in the whole crate and allowed only in the modules that are marked here.

#[allow(unsafe_code)]
mod alloc;
#[cfg(feature = "read")]
#[doc(hidden)]
pub mod blame;
mod config;
#[cfg(feature = "read")]
mod diff;
pub mod dump;
mod engine;
mod error;
mod estimate;
#[cfg(feature = "read")]
mod hash;
mod labels;
pub mod leak;
#[cfg(feature = "read")]
#[doc(hidden)]
pub mod names;
mod os;
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

/// Compiles the code in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
