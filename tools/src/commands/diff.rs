//! `heapdrift diff`

use std::collections::BTreeSet;
use std::path::PathBuf;

use heapdrift::Snapshot;

use super::options::{NameOptions, TableOptions, stdin_once};
use crate::dumps::read;
use crate::error::Error;
use crate::numbers::rate::Rate;
use crate::output::terminal;
use crate::views::diff::{Side, diff};

/// Compare two dumps: what is new or grew, and whether that can be chance
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    heapdrift diff monday.heap.json.gz tuesday.heap.json.gz\n  \
    heapdrift diff v1.heap.json.gz v2.heap.json.gz --by crate --metric peak-bytes\n  \
    heapdrift diff base.heap.json.gz now.heap.json.gz --json | jq '.rows[] | select(.significant)'\n  \
    heapdrift diff base.heap.json.gz now.heap.json.gz --fail-over 10MiB/h\n\n\
    Each stack belongs to one row, that of its innermost function once the frames of the allocator\n\
    and the profiler have been removed, so the rows add up to the heap. Rows are matched by name: the\n\
    dumps may be of different builds. A change marked * is significant by a z-test, and at most 5%\n\
    of the changes so marked are false (Benjamini and Hochberg). If both dumps are of one process,\n\
    objects that are in both add no uncertainty.\n\n\
    --fail-over: exit with status 1 if the heap, or a row, grew significantly and its growth between\n\
    the times of the two dumps is above RATE at the lower end of its 95% interval.")]
pub(crate) struct Args {
    /// The dump to compare with
    base: PathBuf,
    /// The dump in question
    new: PathBuf,
    #[command(flatten)]
    table: TableOptions,
    /// Exit with status 1 if anything grew faster, for example 10MiB/h
    #[arg(long, value_name = "RATE")]
    fail_over: Option<Rate>,
    #[command(flatten)]
    names: NameOptions,
}

/// Prints the changes from one dump to another.
pub(crate) fn run(args: Args) -> Result<(), Error> {
    let limit = args.table.limit();
    let TableOptions { by, metric, json, .. } = args.table;
    if let Some(rate) = args.fail_over.filter(|rate| !rate.fits(metric)) {
        return Err(Error::Usage(format!(
            "--fail-over: expected a rate of objects like 100/h with --metric {metric}, found {rate}"
        )));
    }
    stdin_once([&args.base, &args.new])?;
    let (base, new) = (read::dump(&args.base)?, read::dump(&args.new)?);
    let mut symbolizer = args.names.symbolizer();
    let heaps = [&base, &new].map(|snapshot| symbolizer.symbolize(snapshot));
    let warnings = symbolizer.take_warnings();
    terminal::warn_all(&warnings);
    if !warnings.is_empty() && builds(&base) != builds(&new) {
        terminal::warn(
            "the dumps are of different builds, and names are missing: call sites that are printed \
             as addresses do not match between them",
        );
    }
    let side = |snapshot, heap| Side { snapshot, heap };
    let mut changes = diff(side(&base, &heaps[0]), side(&new, &heaps[1]), &by, metric);
    // All rows are checked, however many are shown.
    let crossed = match args.fail_over {
        Some(rate) => changes
            .faster_than(rate)
            .map_err(|why| Error::Usage(format!("{}: {why}", args.new.display())))?
            .map(|row| changes.crossing(row, rate, metric)),
        None => None,
    };
    if json {
        changes.rows.truncate(limit);
        terminal::print_json(&changes)?;
    } else {
        terminal::print(&changes.render_styled(&by, metric, limit))?;
    }
    crossed.map_or(Ok(()), |what| Err(Error::FailOver(what)))
}

/// The build-ids of the modules of a dump.
fn builds(snapshot: &Snapshot) -> BTreeSet<&str> {
    snapshot.modules.iter().map(|module| module.build_id.as_str()).collect()
}
