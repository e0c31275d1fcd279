//! `heapdrift info`

use std::path::PathBuf;

use super::options::NameOptions;
use crate::dumps::read;
use crate::error::Error;
use crate::output::terminal;
use crate::views::info::Info;

/// Show what a dump is: its binary, interval, samples, losses, and totals with their ±
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    heapdrift info app.heap.json.gz\n  \
    heapdrift info --json app.heap.json.gz | jq .live_bytes.value")]
pub(crate) struct Args {
    /// The dump, or - for standard input
    dump: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    names: NameOptions,
}

/// Prints what a dump is.
pub(crate) fn run(args: Args) -> Result<(), Error> {
    let snapshot = read::dump(&args.dump)?;
    let mut symbolizer = args.names.symbolizer();
    let modules = symbolizer.match_modules(&snapshot);
    // What is wrong with a module is part of the result. The warnings that remain are about
    // binaries that were given and match no module.
    terminal::warn_all(&symbolizer.take_warnings());
    let info = Info::new(&snapshot, modules);
    if args.json { terminal::print_json(&info) } else { terminal::print(&info.render_styled()) }
}
