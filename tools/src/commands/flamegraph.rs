//! `heapdrift flamegraph`

use std::path::PathBuf;

use super::options::{NameOptions, stdin_once};
use crate::dumps::{read, sessions};
use crate::error::Error;
use crate::heap::symbolized::Symbolized;
use crate::numbers::metric::Metric;
use crate::output::terminal;
use crate::symbolize::symbolizer::Symbolizer;
use crate::views::flamegraph;

/// Draw an SVG flamegraph; labels are the frames next to the root
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    heapdrift flamegraph app.heap.json.gz -o out.svg\n  \
    heapdrift flamegraph app.heap.json.gz --metric peak-bytes -o peak.svg\n  \
    heapdrift flamegraph host1/*.gz host2/*.gz -o both.svg\n  \
    heapdrift flamegraph now.heap.json.gz --diff base.heap.json.gz -o diff.svg\n\n\
    Of several dumps of one process (one session) only the last is drawn, because it includes what\n\
    the earlier ones held. Dumps of different processes are added up.")]
pub(crate) struct Args {
    /// The dumps
    #[arg(required = true, value_name = "DUMP")]
    dumps: Vec<PathBuf>,
    /// The file to write, or - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What is counted
    #[arg(long, value_enum, default_value_t)]
    metric: Metric,
    /// Colour frames by how their self value changed since this dump: red has grown, blue has
    /// shrunk
    #[arg(long, value_name = "BASE")]
    diff: Option<PathBuf>,
    #[command(flatten)]
    names: NameOptions,
}

/// Draws the sum of the dumps.
pub(crate) fn run(args: Args) -> Result<(), Error> {
    stdin_once(args.dumps.iter().chain(&args.diff))?;
    let base = args.diff.as_deref().map(read::dump).transpose()?;
    let mut symbolizer = args.names.symbolizer();
    let heap = sum(&mut symbolizer, &sessions::last_paths(args.dumps))?;
    let base = base.map(|base| symbolizer.symbolize(&base));
    terminal::warn_all(&symbolizer.take_warnings());
    terminal::write_result(&args.output, |path| match &base {
        Some(base) => flamegraph::write_diff(base, &heap, args.metric, path),
        None => flamegraph::write(&heap, args.metric, path),
    })
}

/// Adds up the dumps with their names. Only one dump is in memory at a time.
fn sum(symbolizer: &mut Symbolizer, dumps: &[PathBuf]) -> Result<Symbolized, Error> {
    let mut heap = |path: &PathBuf| Ok(symbolizer.symbolize(&read::dump(path)?));
    if let [dump] = dumps {
        return heap(dump);
    }
    let mut failed = None;
    let heaps =
        dumps.iter().map_while(|path| heap(path).map_err(|error| failed = Some(error)).ok());
    let sum = Symbolized::sum(heaps);
    failed.map_or(Ok(sum), Err)
}
