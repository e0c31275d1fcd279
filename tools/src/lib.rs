//! Reads heapdrift dumps: tables, flamegraphs, exports.
//!
//! The `heapdrift` command is a thin shell over this library. The way of the data is short:
//!
//! ```text
//! dump ── heapdrift::dump::read ──> Snapshot        addresses and estimates
//! Snapshot ── Symbolizer::symbolize ──> Symbolized  names and estimates
//! Snapshot ── Symbolizer::locate ──> Located        addresses with names beside them
//! Located ── pprof::write, dhat::write, jeprof::write ──> files for other programs
//! Symbolized ── top::table ──> rows ── top::render ──> text
//!            ── fold::lines ──> folded stacks
//!            ── speedscope::write ──> speedscope
//!            ── flamegraph::write ──> SVG
//! Snapshot, Symbolized, twice ── diff::diff ──> rows
//!            ── report::write ──> HTML, with report::History of a series
//! Snapshot, or a series ── leaks::embedded, heapdrift::leak::Replay with leaks::DumpNames ──> LeakReport
//! ```
//!
//! Everything after [`Symbolizer`] is a pure function of a [`Symbolized`], so a program can also
//! draw its own heap without a file in between:
//!
//! ```no_run
//! use heapdrift_tools::{By, Metric, Symbolizer, flamegraph, symbolizer, top};
//!
//! # fn snapshot() -> heapdrift::Snapshot { heapdrift::Snapshot::default() }
//! # fn main() -> std::io::Result<()> {
//! let snapshot: heapdrift::Snapshot = snapshot(); // profiler.snapshot(), or heapdrift::dump::read
//! let mut symbolizer = Symbolizer::new(symbolizer::Options::default());
//! let heap = symbolizer.symbolize(&snapshot);
//! for warning in symbolizer.take_warnings() {
//!     eprintln!("warning: {warning}");
//! }
//! flamegraph::write(&heap, Metric::LiveBytes, "flamegraph.svg".as_ref())?;
//! let rows = top::table(&heap, &By::Function, Metric::LiveBytes);
//! print!("{}", top::render(&heap, &By::Function, Metric::LiveBytes, &rows, 20));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod cli;
mod commands;
mod dumps;
mod error;
mod exports;
mod heap;
mod numbers;
mod output;
pub mod report;
mod symbolize;
mod views;

pub use dumps::{merge, sessions};
pub use error::Error;
pub use exports::{dhat, jeprof, pprof, speedscope};
pub use heap::fold;
pub use heap::located::{self, Located};
pub use heap::symbolized::{self, Symbolized};
pub use numbers::metric::{self, Metric};
pub use numbers::rate::{self, Rate};
pub use numbers::units;
pub use symbolize::symbolizer::{self, Symbolizer};
pub use symbolize::{cache, leaks, packages};
pub use views::top::{self, By};
pub use views::{diff, flamegraph, info};
