//! Why a command gave up: one line that names the file, what was expected and what was found.

use std::path::{Path, PathBuf};
use std::{error, fmt, io};

/// What ends a command with status 2.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A dump could not be read.
    Dump(PathBuf, heapdrift::dump::ReadError),
    /// An output could not be written.
    Output(PathBuf, io::Error),
    /// The arguments make no sense together.
    Usage(String),
}

impl Error {
    /// Reads a dump; the error names it.
    pub(crate) fn read_dump(path: &Path) -> Result<heapdrift::Snapshot, Self> {
        heapdrift::dump::read(path).map_err(|error| Self::Dump(path.to_owned(), error))
    }

    /// Whether the reader of our output went away, as in `heapdrift top … | head`. No fault.
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
            Self::Usage(what) => f.write_str(what),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Dump(_, error) => Some(error),
            Self::Output(_, error) => Some(error),
            Self::Usage(_) => None,
        }
    }
}
