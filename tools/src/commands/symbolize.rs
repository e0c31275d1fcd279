//! `heapdrift symbolize`

use super::{warn, write};
use crate::cli;
use crate::error::Error;
use crate::output;

/// Puts names into a dump.
pub(crate) fn run(args: cli::Symbolize) -> Result<(), Error> {
    let mut snapshot = Error::read_dump(&args.dump)?;
    let mut symbolizer = args.names.symbolizer();
    snapshot.frames.symbols = Some(symbolizer.symbols(&snapshot));
    warn(&mut symbolizer);
    write(&args.output, |path| {
        output::write_private(path, |out| heapdrift::dump::to_writer(&snapshot, out))
    })
}
