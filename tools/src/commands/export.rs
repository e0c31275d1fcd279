//! `heapdrift export`

use super::{warn, write};
use crate::cli;
use crate::error::Error;
use crate::exports::dhat;
use crate::exports::jeprof;
use crate::exports::pprof;
use crate::exports::speedscope;
use crate::heap::fold;
use crate::output;

/// Writes a heap for another program.
pub(crate) fn run(args: cli::Export) -> Result<(), Error> {
    let metric = args.metric.unwrap_or_default();
    if args.metric.is_some() && args.format != cli::Format::Folded {
        return Err(Error::Usage(
            "--metric: expected with --format folded only, other formats have all metrics".into(),
        ));
    }
    let snapshot = Error::read_dump(&args.dump)?;
    let mut symbolizer = args.names.symbolizer();
    let heap = symbolizer.locate(&snapshot);
    warn(&mut symbolizer);
    write(&args.output, |path| {
        output::write(path, |out| match args.format {
            cli::Format::Folded => fold::write(&heap.into_symbolized(), metric, out),
            cli::Format::Pprof => pprof::write(&snapshot, &heap, out),
            cli::Format::Dhat => dhat::write(&snapshot, &heap, out),
            cli::Format::Speedscope => speedscope::write(&heap.into_symbolized(), out),
            cli::Format::Jeprof => jeprof::write(&heap, out),
        })
    })
}
