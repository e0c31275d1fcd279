//! Arguments that several commands have in common.

use std::path::PathBuf;

use crate::error::Error;
use crate::numbers::metric::Metric;
use crate::output::{file, shell};
use crate::symbolize::cache;
use crate::symbolize::symbolizer::{Options, Symbolizer};
use crate::views::by::By;

/// Where names come from.
#[derive(clap::Args, Debug)]
pub(super) struct NameOptions {
    /// An executable or library of the recorded process, used only if its build-id is the
    /// recorded one; may be repeated
    #[arg(long = "binary", value_name = "PATH", help_heading = "Names")]
    binaries: Vec<PathBuf>,
    /// A directory with separate debug files, besides /usr/lib/debug; may be repeated
    #[arg(long = "debug-dir", value_name = "DIR", help_heading = "Names")]
    debug_dirs: Vec<PathBuf>,
    /// Keep the frames of the allocator and the profiler at the innermost end of each stack
    #[arg(long, help_heading = "Names")]
    full_stacks: bool,
    /// Look every name up again instead of reading the cache in $XDG_CACHE_HOME/heapdrift
    #[arg(long, help_heading = "Names")]
    no_cache: bool,
}

impl NameOptions {
    /// The options that another command line needs to find the same names.
    pub(super) fn in_shell(&self) -> String {
        let binaries = self.binaries.iter().map(|path| ("--binary", path));
        let folders = self.debug_dirs.iter().map(|path| ("--debug-dir", path));
        let options = binaries.chain(folders);
        let words = options.map(|(option, path)| format!("{option} {}", shell::word(path)));
        words.collect::<Vec<_>>().join(" ")
    }

    /// A symbolizer with these options.
    pub(super) fn symbolizer(self) -> Symbolizer {
        Symbolizer::new(Options {
            binaries: self.binaries,
            debug_dirs: self.debug_dirs,
            full_stacks: self.full_stacks,
            cache: cache::default_folder().filter(|_| !self.no_cache),
            progress: true,
        })
    }
}

/// The contents of a table.
#[derive(clap::Args, Debug)]
pub(super) struct TableOptions {
    /// What each row is: function, crate, line, stack or label:KEY
    #[arg(long, default_value = "function", value_name = "WHAT")]
    pub(super) by: By,
    /// What is counted
    #[arg(long, value_enum, default_value_t)]
    pub(super) metric: Metric,
    /// How many rows to show, 0 for all [default: 20, with --json all]
    #[arg(short = 'n', value_name = "N")]
    limit: Option<usize>,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
}

impl TableOptions {
    /// How many rows are shown.
    pub(super) fn limit(&self) -> usize {
        match self.limit {
            Some(0) => usize::MAX,
            Some(limit) => limit,
            None if self.json => usize::MAX,
            None => 20,
        }
    }
}

/// Refuses a command line that names standard input more than once: it can be read only once.
pub(super) fn stdin_once<'a>(dumps: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), Error> {
    if dumps.into_iter().filter(|path| file::is_dash(path)).nth(1).is_some() {
        let what = "-: expected one dump from standard input, found it named more than once";
        return Err(Error::Usage(what.into()));
    }
    Ok(())
}
