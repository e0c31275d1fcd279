//! `heapdrift report`

use super::{stdin_once, warn, write};
use crate::cli;
use crate::dumps::ticks;
use crate::error::Error;
use crate::output::progress;
use crate::report::{self, History, Report};
use crate::symbolize::leaks;
use crate::symbolize::packages;

/// Draws the page of a dump or a series.
pub(crate) fn run(args: cli::Report) -> Result<(), Error> {
    stdin_once(args.dumps.iter().chain(&args.candidates.baseline))?;
    let name_options = args.names.in_shell();
    let mut symbolizer = args.names.symbolizer();
    let mut dumps = ticks::in_order(args.dumps)?;
    let mut history = History::default();
    let bar = progress::bar(dumps.len(), "dumps");
    let last = dumps.pop().expect("there is at least one dump");
    for dump in dumps {
        let path = dump.path.clone();
        history.add(&path, &dump.read()?);
        bar.inc(1);
    }
    let path = last.path.clone();
    let last = last.read()?;
    history.add(&path, &last);
    bar.finish_and_clear();
    let heap = symbolizer.symbolize(&last);
    let packages = packages::of_dump(&mut symbolizer, &last, &args.candidates.own_crates);
    let mut leaks = leaks::embedded(&mut symbolizer, &last, &args.candidates.own_crates);
    if let (Some(report), Some(baseline)) = (&mut leaks, &args.candidates.baseline) {
        super::leaks::compare(
            report,
            &path,
            &last,
            baseline,
            &mut symbolizer,
            &args.candidates.own_crates,
        )?;
    }
    let warnings = warn(&mut symbolizer);
    write(&args.output, |output| {
        let report = Report {
            dump: &last,
            heap: &heap,
            packages: &packages,
            history: &history,
            leaks: leaks.as_ref(),
            memory_limit: args.memory_limit,
            name_options: &name_options,
            warnings: &warnings,
        };
        report::write(&report, output)
    })
}
