//! `heapdrift flamegraph`

use heapdrift::Snapshot;

use super::{stdin_once, warn, write};
use crate::{Error, Symbolized, Symbolizer, cli, flamegraph, series};

/// Draws the sum of several dumps.
pub(crate) fn run(args: cli::Flamegraph) -> Result<(), Error> {
    stdin_once(args.dumps.iter().chain(&args.diff))?;
    let base = args.diff.as_deref().map(Error::read_dump).transpose()?;
    let snapshots =
        args.dumps.iter().map(|path| Error::read_dump(path)).collect::<Result<Vec<_>, _>>()?;
    let mut symbolizer = args.names.symbolizer();
    let heap = sum(&mut symbolizer, &series::last_of_each(snapshots));
    let base = base.map(|base| symbolizer.symbolize(&base));
    warn(&mut symbolizer);
    write(&args.output, |path| match &base {
        Some(base) => flamegraph::write_diff(base, &heap, args.metric, path),
        None => flamegraph::write(&heap, args.metric, path),
    })
}

/// The sum of the snapshots, with names.
fn sum(symbolizer: &mut Symbolizer, snapshots: &[Snapshot]) -> Symbolized {
    let mut heaps: Vec<Symbolized> =
        snapshots.iter().map(|snapshot| symbolizer.symbolize(snapshot)).collect();
    if heaps.len() == 1 { heaps.remove(0) } else { Symbolized::sum(heaps) }
}
