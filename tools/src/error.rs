//! Why a command did not end with status 0: one line that names the file, what was expected and what was found.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::{error, fmt, io};

use heapdrift::dump::{self, ReadError};

/// What ends a command with status 1 or 2.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A dump could not be read.
    Dump(PathBuf, ReadError),
    /// An output could not be written.
    Output(PathBuf, io::Error),
    /// The arguments make no sense together.
    Usage(String),
    /// Growth beyond the bound that was given by `--fail-over`: what grew, how fast.
    FailOver(String),
}

impl Error {
    /// Reads a dump, from standard input where `path` is `-`; the error names it.
    pub(crate) fn read_dump(path: &Path) -> Result<heapdrift::Snapshot, Self> {
        Self::read_dump_by(path, &mut Vec::new())
    }

    /// Reads one of many dumps, by way of a buffer for all of them.
    pub(crate) fn read_dump_by(
        path: &Path,
        document: &mut Vec<u8>,
    ) -> Result<heapdrift::Snapshot, Self> {
        let unpacked = if path == Path::new("-") {
            dump::unpack(io::stdin().lock(), document)
        } else {
            File::open(path).map_err(ReadError::Io).and_then(|file| dump::unpack(file, document))
        };
        let read = unpacked.and_then(|()| dump::from_json(document));
        read.map_err(|error| Self::Dump(path.to_owned(), error))
    }

    /// The exit status: 1 when a bound was crossed, 2 when something is wrong.
    pub(crate) fn exit_status(&self) -> u8 {
        if matches!(self, Self::FailOver(_)) { 1 } else { 2 }
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
