//! `heapdrift top`

use std::path::PathBuf;

use super::options::{NameOptions, TableOptions};
use crate::dumps::read;
use crate::error::Error;
use crate::output::terminal;
use crate::views::top;

/// Print a table of self and total, each with its standard error
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    heapdrift top app.heap.json.gz\n  \
    heapdrift top app.heap.json.gz --by crate --metric peak-bytes\n  \
    heapdrift top app.heap.json.gz --by label:route -n 5\n  \
    heapdrift top app.heap.json.gz --json | jq '.rows[0]'\n\n\
    self counts the stacks whose innermost function is in the row, once the frames of the allocator\n\
    and the profiler have been removed; total counts every stack that has the row anywhere, once.")]
pub(crate) struct Args {
    /// The dump, or - for standard input
    dump: PathBuf,
    #[command(flatten)]
    table: TableOptions,
    #[command(flatten)]
    names: NameOptions,
}

/// Prints the table of a dump.
pub(crate) fn run(args: Args) -> Result<(), Error> {
    let snapshot = read::dump(&args.dump)?;
    let mut symbolizer = args.names.symbolizer();
    let heap = symbolizer.symbolize(&snapshot);
    terminal::warn_all(&symbolizer.take_warnings());
    let limit = args.table.limit();
    let TableOptions { by, metric, json, .. } = args.table;
    let rows = top::table(&heap, &by, metric);
    if json {
        return terminal::print_json(&top::Document {
            metric: metric.to_string(),
            total: metric.of(&heap.totals),
            rows: &rows[..limit.min(rows.len())],
        });
    }
    terminal::print(&top::render_styled(&heap, &by, metric, &rows, limit))
}
