//! `heapdrift symbolize`

use std::path::PathBuf;

use super::options::NameOptions;
use crate::dumps::read;
use crate::error::Error;
use crate::output::{file, terminal};

/// Put names into a dump, so that it can be read without the binaries
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    heapdrift symbolize app.heap.json.gz -o named.heap.json.gz\n  \
    heapdrift symbolize app.heap.json.gz --binary target/release/app -o named.heap.json.gz\n  \
    heapdrift symbolize app.heap.json.gz --debug-dir /mnt/image -o - | ssh laptop heapdrift top -\n\n\
    A file is used only if its build-id is the recorded one. Separate debug files are found by\n\
    .gnu_debuglink and .build-id, packages of split debug information as NAME.dwp; a debug\n\
    directory may also be the root of the file system of the container that was recorded.")]
pub(crate) struct Args {
    /// The dump, or - for standard input
    dump: PathBuf,
    /// The dump to write, or - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    names: NameOptions,
}

/// Writes a dump with names in it.
pub(crate) fn run(args: Args) -> Result<(), Error> {
    let mut snapshot = read::dump(&args.dump)?;
    let mut symbolizer = args.names.symbolizer();
    snapshot.frames.symbols = Some(symbolizer.symbols(&snapshot));
    terminal::warn_all(&symbolizer.take_warnings());
    terminal::write_result(&args.output, |path| {
        file::write_private(path, |out| heapdrift::dump::to_writer(&snapshot, out))
    })
}
