//! The data that a page is made from.

use heapdrift::Snapshot;
use heapdrift::blame::Packages;
use heapdrift::leak::LeakReport;

use super::history::History;
use crate::heap::symbolized::Symbolized;

/// The contents of a page.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The last dump.
    pub dump: &'a Snapshot,
    /// The stacks of `dump` with names, from
    /// [`Symbolizer::symbolize`](crate::Symbolizer::symbolize).
    pub heap: &'a Symbolized,
    /// Whose code its frames are, from [`packages::of_dump`](crate::packages::of_dump).
    pub packages: &'a Packages,
    /// All dumps of the series, including the last.
    pub history: &'a History,
    /// The leak report of `dump`, from [`leaks::embedded`](crate::leaks::embedded).
    pub leaks: Option<&'a LeakReport>,
    /// The bytes that the service may use, which no dump contains. If given, the page says when
    /// they will be reached.
    pub memory_limit: Option<f64>,
    /// Options that the commands on the page need to find the same names, as typed in a shell:
    /// `--binary target/release/web`.
    pub name_options: &'a str,
    /// Warnings for the reader, one line each.
    pub warnings: &'a [String],
}
