//! The report: one HTML page that shows a heap, or a series of dumps of it, to somebody who was not there.
//!
//! ```text
//! dumps ── History::add ──> moments, runs ┐
//! last dump ── Symbolizer ──> Symbolized ─┼─ Report ── document ──> JSON ┐
//! report in it ── leaks::embedded ────────┘            page/ ────────────┴─ page ──> one file
//! ```
//! The page holds the numbers as JSON, packed if it is long, stacks as a tree of frames, and scripts that
//! draw from them: nothing is worked out twice and nothing is loaded. What may run in it is said by a policy with the
//! digests of those scripts, so that a name which looks like HTML stays text even if its escape failed.

mod document;
mod history;
mod html;
mod next_commands;

use std::io;
use std::path::Path;

use heapdrift::Snapshot;
use heapdrift::blame::Packages;
use heapdrift::leak::LeakReport;

use crate::heap::symbolized::Symbolized;
use crate::output;
pub use history::History;

/// What is on a page.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The last dump.
    pub dump: &'a Snapshot,
    /// Its stacks with names, from [`Symbolizer::symbolize`](crate::Symbolizer::symbolize).
    pub heap: &'a Symbolized,
    /// Whose code its frames are, from [`packages::of_dump`](crate::packages::of_dump).
    pub packages: &'a Packages,
    /// All dumps, the last one included.
    pub history: &'a History,
    /// The candidates, from [`leaks::embedded`](crate::leaks::embedded).
    pub leaks: Option<&'a LeakReport>,
    /// Bytes that the service may use, where the reader is to be told when they are reached: a dump does
    /// not know.
    pub memory_limit: Option<f64>,
    /// The options by which the commands on the page find the names again, as in a shell:
    /// `--binary target/release/web`.
    pub name_options: &'a str,
    /// What was not as it should be, in lines for the reader.
    pub warnings: &'a [String],
}

impl Report<'_> {
    /// The page.
    pub fn html(&self) -> String {
        html::html(self.title(), &document::json(self))
    }

    fn title(&self) -> &str {
        match self.heap.origin.binary.as_str() {
            "" => "heap",
            binary => binary,
        }
    }
}

/// Writes the page to `path`, atomically; `-` is standard output.
///
/// # Errors
/// Those of the file system.
pub fn write(report: &Report<'_>, path: &Path) -> io::Result<()> {
    let html = report.html();
    output::write(path, |out| out.write_all(html.as_bytes()))
}
