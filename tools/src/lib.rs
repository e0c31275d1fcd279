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

mod async_names;
mod binary;
pub mod cache;
pub mod cli;
mod commands;
mod cpp;
pub mod dhat;
pub mod diff;
mod dwarf;
mod dwo;
mod error;
pub mod flamegraph;
pub mod fold;
mod head;
pub mod info;
pub mod jeprof;
pub mod leaks;
pub mod located;
mod lookup;
pub mod merge;
pub mod metric;
pub mod output;
pub mod packages;
pub mod pprof;
mod progress;
pub mod rate;
pub mod report;
pub mod series;
pub mod speedscope;
pub mod symbolized;
pub mod symbolizer;
mod ticks;
pub mod top;
pub mod units;

pub use error::Error;
pub use located::Located;
pub use metric::Metric;
pub use rate::Rate;
pub use symbolized::Symbolized;
pub use symbolizer::Symbolizer;
pub use top::By;
