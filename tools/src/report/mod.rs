//! The report: one HTML page that shows a heap, or a series of dumps of it.
//!
//! ```text
//! dumps ── History::add ──> moments, runs ┐
//! last dump ── Symbolizer ──> Symbolized ─┼─ Report ── document ──> JSON ┐
//! report in it ── leaks::embedded ────────┘            page/ ────────────┴─ html ──> one file
//! ```
//!
//! The page contains the numbers as JSON, compressed if it is long, with stacks as a tree of
//! frames, and the scripts that draw them. It loads nothing. A content security policy allows only
//! scripts with the digests of these, so a name that looks like HTML cannot run even if escaping it
//! failed.

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
    /// The page as HTML.
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

/// Writes the page to `path` atomically; `-` is standard output.
///
/// # Errors
/// The errors of the file system.
pub fn write(report: &Report<'_>, path: &Path) -> io::Result<()> {
    let html = report.html();
    file::write(path, |out| out.write_all(html.as_bytes()))
}
