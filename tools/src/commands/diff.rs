//! `heapdrift diff`

use std::collections::BTreeSet;

use anstyle::AnsiColor;
use heapdrift::Snapshot;

use super::{print, print_json, stdin_once, warn};
use crate::cli;
use crate::error::Error;
use crate::views::diff::{Side, diff};

/// Compares two dumps.
pub(crate) fn run(args: cli::Diff) -> Result<(), Error> {
    let (cli::Table { by, metric, json, .. }, limit) = (&args.table, args.table.limit());
    let metric = *metric;
    if let Some(rate) = args.fail_over.filter(|rate| !rate.fits(metric)) {
        return Err(Error::Usage(format!(
            "--fail-over: expected a rate of objects like 100/h with --metric {metric}, found {rate}"
        )));
    }
    stdin_once([&args.base, &args.new])?;
    let (base, new) = (Error::read_dump(&args.base)?, Error::read_dump(&args.new)?);
    let mut symbolizer = args.names.symbolizer();
    let heaps = [&base, &new].map(|snapshot| symbolizer.symbolize(snapshot));
    if !warn(&mut symbolizer).is_empty() && builds(&base) != builds(&new) {
        let what = "the dumps are of different builds, and without names: sites that are printed as \
                    addresses are not the same in both";
        cli::say("warning", AnsiColor::Yellow, what);
    }
    let side = |snapshot, heap| Side { snapshot, heap };
    let mut found = diff(side(&base, &heaps[0]), side(&new, &heaps[1]), by, metric);
    // Found in all rows, whatever is shown.
    let crossed = match args.fail_over {
        Some(rate) => found
            .faster_than(rate)
            .map_err(|why| Error::Usage(format!("{}: {why}", args.new.display())))?
            .map(|row| found.crossing(row, rate, metric)),
        None => None,
    };
    if *json {
        found.rows.truncate(limit);
        print_json(&found)?;
    } else {
        print(&found.render_styled(by, metric, limit))?;
    }
    crossed.map_or(Ok(()), |what| Err(Error::FailOver(what)))
}

/// What the modules of a dump were built from.
fn builds(snapshot: &Snapshot) -> BTreeSet<&str> {
    snapshot.modules.iter().map(|module| module.build_id.as_str()).collect()
}
