//! Reads heapdrift dumps: tables, flamegraphs, exports.
//!
//! The `heapdrift` command is a thin layer over this library. Data flows like this:
//!
//! ```text
//! dump ── heapdrift::dump::read ──> Snapshot        addresses and estimates
//! Snapshot ── Symbolizer::symbolize ──> Symbolized  names and estimates
//! Snapshot ── Symbolizer::locate ──> Located        addresses and names
//! Located ── pprof::write, dhat::write, jeprof::write ──> files for other programs
//! Symbolized ── top::table ──> rows ── top::render ──> text
//!            ── fold::lines ──> folded stacks
//!            ── speedscope::write ──> speedscope
//!            ── flamegraph::write ──> SVG
//! two Snapshots with their Symbolized ── diff::diff ──> rows
//! Snapshot, Symbolized, and report::History of the series ── report::write ──> HTML
//! Snapshot ── leaks::embedded ──> LeakReport        as the service wrote it
//! series ── heapdrift::leak::Replay with leaks::DumpNames ──> LeakReport
//! ```
//!
//! Everything after [`Symbolizer`] is a pure function of a [`Symbolized`], so a program can also
//! draw its own heap without writing a file first:
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
//!
//! # Layers
//!
//! Each layer imports only from the layers below it:
//!
//! ```text
//! cli                 the commands, and how their errors end the process
//! commands            the arguments and the work of each command
//! report              the HTML page
//! views               what heapdrift shows itself: tables, differences, flamegraphs
//! symbolize, exports  names for addresses; the formats of other programs
//! dumps               reading dumps, putting a series in order, merging
//! heap                stacks with names: plain data
//! output              files, standard output and standard error
//! numbers, intern, error
//! ```
#![forbid(unsafe_code)]

pub mod cli;
mod commands;
mod dumps;
mod error;
mod exports;
mod heap;
mod intern;
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
pub use views::by::By;
pub use views::{diff, flamegraph, info, top};
