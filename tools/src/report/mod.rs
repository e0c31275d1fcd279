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

mod contents;
mod document;
mod history;
mod html;
mod next_commands;

use std::io;
use std::path::Path;

use crate::output::file;
pub use contents::Report;
pub use history::History;

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
    file::write(path, |out| out.write_all(html.as_bytes()))
}
