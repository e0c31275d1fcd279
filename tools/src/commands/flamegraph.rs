//! `heapdrift flamegraph`

use std::path::PathBuf;

use super::{stdin_once, warn, write};
use crate::cli;
use crate::dumps::sessions;
use crate::error::Error;
use crate::heap::symbolized::Symbolized;
use crate::symbolize::symbolizer::Symbolizer;
use crate::views::flamegraph;

/// Draws the sum of several dumps.
pub(crate) fn run(args: cli::Flamegraph) -> Result<(), Error> {
    stdin_once(args.dumps.iter().chain(&args.diff))?;
    let base = args.diff.as_deref().map(Error::read_dump).transpose()?;
    let mut symbolizer = args.names.symbolizer();
    let heap = sum(&mut symbolizer, &sessions::last_paths(args.dumps))?;
    let base = base.map(|base| symbolizer.symbolize(&base));
    warn(&mut symbolizer);
    write(&args.output, |path| match &base {
        Some(base) => flamegraph::write_diff(base, &heap, args.metric, path),
        None => flamegraph::write(&heap, args.metric, path),
    })
}

/// The sum of the dumps, with names; no more than one of them is held.
fn sum(symbolizer: &mut Symbolizer, dumps: &[PathBuf]) -> Result<Symbolized, Error> {
    let mut heap = |path: &PathBuf| Ok(symbolizer.symbolize(&Error::read_dump(path)?));
    if let [dump] = dumps {
        return heap(dump);
    }
    let mut failed = None;
    let heaps =
        dumps.iter().map_while(|path| heap(path).map_err(|error| failed = Some(error)).ok());
    let sum = Symbolized::sum(heaps);
    failed.map_or(Ok(sum), Err)
}
