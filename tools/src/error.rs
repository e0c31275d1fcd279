//! Why a command did not end with status 0.
//!
//! An error is one line that names the file, what was expected and what was found.

use std::path::PathBuf;
use std::{error, fmt, io};

use heapdrift::dump::ReadError;

/// The reason why a command ends with status 1 or 2.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A dump could not be read.
    Dump(PathBuf, ReadError),
    /// An output could not be written.
    Output(PathBuf, io::Error),
    /// The arguments contradict each other, or do not fit the dumps.
    Usage(String),
    /// Growth exceeded the bound given by `--fail-over`; the text says what grew and how fast.
    FailOver(String),
}

impl Error {
    /// The exit status: 1 if a bound was crossed, 2 for every other error.
    pub(crate) fn exit_status(&self) -> u8 {
        if matches!(self, Self::FailOver(_)) { 1 } else { 2 }
    }

    /// Whether the reader of our output has closed it, as in `heapdrift top … | head`, which is no
    /// failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(_, error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dump(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Output(path, error) => {
                write!(f, "{}: cannot be written: {error}", path.display())
            }
            Self::Usage(what) | Self::FailOver(what) => f.write_str(what),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Dump(_, error) => Some(error),
            Self::Output(_, error) => Some(error),
            Self::Usage(_) | Self::FailOver(_) => None,
        }
    }
}
