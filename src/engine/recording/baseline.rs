//! The report of an earlier release, with which the candidates of this one are compared.
//!
//! Of its dump only the program and the leak report are read. The tables of stacks and samples are
//! skipped, neither held nor checked.

use std::fs::File;
use std::path::Path;

use serde::Deserialize;

use super::local::muted;
use crate::dump::unpacking::{ReadError, check_header, parse};
use crate::error::StartError;
use crate::report::LeakReport;
use crate::report::baseline::BaselineCandidate;

/// What the dump of the earlier release says.
#[derive(Debug)]
pub(crate) enum Baseline {
    /// The candidates of its last report.
    Candidates(Vec<BaselineCandidate>),
    /// The dump has no report; the message says so.
    Useless(String),
}

#[derive(Deserialize)]
struct Document {
    format: Option<String>,
    version: Option<u64>,
    // A document of another format may have none, and the format is what is to be reported then.
    process: Option<Process>,
    leaks: Option<Report>,
}

#[derive(Deserialize)]
struct Process {
    executable: String,
}

#[derive(Deserialize)]
struct Report {
    candidates: Vec<BaselineCandidate>,
}

impl Baseline {
    /// Reads a dump, which must be of a program of the same name.
    pub(crate) fn read(path: &Path) -> Result<Self, StartError> {
        let refuse = |reason: String| StartError::Baseline { path: path.to_owned(), reason };
        muted(|| {
            let (process, report) = open(path).map_err(|error| refuse(error.to_string()))?;
            let own = std::env::current_exe().unwrap_or_default();
            let (own, other) = (file_name(&own), file_name(Path::new(&process.executable)));
            if own != other {
                return Err(refuse(format!("expected a dump of {own}, found one of {other}")));
            }
            Ok(match report {
                Some(report) => Self::Candidates(report.candidates),
                None => Self::Useless(format!(
                    "expected a dump with a leak report, found none in {}",
                    path.display()
                )),
            })
        })
    }

    /// Compares the candidates of a report with it.
    pub(crate) fn compare(&self, report: &mut LeakReport) {
        match self {
            Self::Candidates(candidates) => report.compare_with(candidates),
            Self::Useless(why) => report.baseline_problem = Some(why.clone()),
        }
    }
}

fn open(path: &Path) -> Result<(Process, Option<Report>), ReadError> {
    let document: Document = parse(File::open(path).map_err(ReadError::Io)?)?;
    check_header(document.format, document.version)?;
    let process = document
        .process
        .ok_or_else(|| ReadError::Invalid("expected a \"process\", found none".into()))?;
    Ok((process, document.leaks))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
