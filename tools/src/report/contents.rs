//! What a page is made from.

use heapdrift::Snapshot;
use heapdrift::blame::Packages;
use heapdrift::leak::LeakReport;

use super::history::History;
use crate::heap::symbolized::Symbolized;

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
