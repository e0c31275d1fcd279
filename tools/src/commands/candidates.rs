//! The leak report of a dump, as `heapdrift leaks` and `heapdrift report` show it.

use std::path::{Path, PathBuf};

use heapdrift::Snapshot;
use heapdrift::leak::LeakReport;
use heapdrift::names::file_name;

use crate::dumps::read;
use crate::error::Error;
use crate::symbolize::leaks;
use crate::symbolize::symbolizer::Symbolizer;

/// What the user adds to the leak candidates of a dump.
#[derive(clap::Args, Debug)]
pub(super) struct CandidateOptions {
    /// A dump of the previous release: each candidate is then marked as new, worse or known
    #[arg(long, value_name = "DUMP")]
    pub(super) baseline: Option<PathBuf>,
    /// A crate to count as the service's own, besides those of its workspace; may be repeated
    #[arg(long = "own-crate", value_name = "NAME")]
    pub(super) own_crates: Vec<String>,
}

impl CandidateOptions {
    /// The report in a dump, read from `path`, or an error if there is none.
    pub(super) fn embedded(
        &self,
        symbolizer: &mut Symbolizer,
        path: &Path,
        dump: &Snapshot,
    ) -> Result<LeakReport, Error> {
        leaks::embedded(symbolizer, dump, &self.own_crates).ok_or_else(|| {
            Error::Usage(format!(
                "{}: expected a dump with a leak report, found none: no tick had ended (all dumps of \
                 the session make a report)",
                path.display()
            ))
        })
    }

    /// Marks each candidate of `dump`, read from `path`, by what the baseline says of it, if a
    /// baseline was given.
    pub(super) fn compare_with_baseline(
        &self,
        report: &mut LeakReport,
        symbolizer: &mut Symbolizer,
        path: &Path,
        dump: &Snapshot,
    ) -> Result<(), Error> {
        let Some(baseline) = &self.baseline else { return Ok(()) };
        let before = read::dump(baseline)?;
        let program = |dump: &Snapshot| file_name(&dump.process.executable).to_owned();
        let (expected, found) = (program(dump), program(&before));
        if expected != found {
            return Err(Error::Usage(format!(
                "{}: expected a dump of {expected}, as {} is, found one of {found}",
                baseline.display(),
                path.display()
            )));
        }
        report.compare_with_baseline(&self.embedded(symbolizer, baseline, &before)?);
        Ok(())
    }
}
