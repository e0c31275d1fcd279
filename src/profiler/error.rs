//! Why a session does not start.

use std::path::PathBuf;
use std::{error, fmt, io};

/// Why a profiler could not be started or set.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A session is running in this process already.
    AlreadyRunning,
    /// A setting has a value that cannot work.
    BadValue {
        /// The setting, by the name of its builder method or its key in `HEAPDRIFT`.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// What would be accepted.
        expected: String,
    },
    /// `HEAPDRIFT` has a key that does not exist.
    UnknownKey(String),
    /// The dump folder cannot be made or written to.
    DumpDir(PathBuf, io::Error),
    /// The baseline cannot be read, or is of another program.
    Baseline(PathBuf, String),
    /// The system refuses the memory or the address space that recording needs.
    Memory(io::Error),
    /// The reporting thread could not be started, or the signal not be handled.
    Reporter(io::Error),
}

impl StartError {
    pub(crate) fn bad_value(
        name: &'static str,
        value: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        Self::BadValue { name, value: value.to_string(), expected: expected.into() }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyRunning => f.write_str("a heapdrift profiler is running already"),
            Self::BadValue { name, value, expected } => {
                write!(f, "expected {expected} for {name}, found {value:?}")
            }
            Self::UnknownKey(key) => write!(
                f,
                "unknown key {key:?} in {}, expected one of {}",
                super::environment::VARIABLE,
                super::environment::KEYS.join(", ")
            ),
            Self::DumpDir(path, error) => {
                write!(f, "cannot write to dump_dir {}: {error}", path.display())
            }
            Self::Baseline(path, why) => {
                write!(f, "cannot use the baseline {}: {why}", path.display())
            }
            Self::Memory(error) => write!(f, "cannot reserve memory for recording: {error}"),
            Self::Reporter(error) => write!(f, "cannot start the reporting thread: {error}"),
        }
    }
}

impl error::Error for StartError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::DumpDir(_, error) | Self::Memory(error) | Self::Reporter(error) => Some(error),
            _ => None,
        }
    }
}
