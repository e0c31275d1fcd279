//! The errors of starting a session and of changing a setting.

use std::path::PathBuf;
use std::{error, fmt, io};

/// A setting has a value that cannot work.
///
/// The message names the setting, what was expected and what was found.
#[derive(Clone, PartialEq, Eq)]
pub struct SettingError {
    name: &'static str,
    expected: String,
    found: String,
}

impl SettingError {
    pub(crate) fn new(
        name: &'static str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self { name, expected: expected.into(), found: found.to_string() }
    }

    /// The name of the setting: that of its builder method, or its key in `HEAPDRIFT` as it was
    /// written there.
    pub fn name(&self) -> &str {
        self.name
    }

    /// The values that are accepted, in words.
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// The value that was given, as text.
    pub fn found(&self) -> &str {
        &self.found
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} for {}, found {:?}", self.expected, self.name, self.found)
    }
}

/// The message, because a `main` that returns an error prints it in this form.
impl fmt::Debug for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl error::Error for SettingError {}

/// Why a session could not be started.
#[non_exhaustive]
pub enum StartError {
    /// A session is already running in this process.
    AlreadyRunning,
    /// A setting has a value that cannot work.
    BadValue(SettingError),
    /// `HEAPDRIFT` has a key that does not exist.
    #[non_exhaustive]
    UnknownKey {
        /// The key.
        key: String,
        /// The key with the most similar spelling, if one is close.
        nearest: Option<&'static str>,
        /// All keys, with their short forms.
        expected: String,
    },
    /// `HEAPDRIFT` has two values for one setting.
    #[non_exhaustive]
    RepeatedKey {
        /// The key of the first value, as it was written.
        first: &'static str,
        /// The key of the second value: the same key, or another name of the setting.
        second: &'static str,
    },
    /// The dump folder cannot be created or written to.
    #[non_exhaustive]
    DumpDir {
        /// The folder.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The baseline cannot be read, or is a dump of another program.
    #[non_exhaustive]
    Baseline {
        /// The path of the dump.
        path: PathBuf,
        /// The reason, in words.
        reason: String,
    },
    /// The operating system refuses the memory or the address space that recording needs.
    Memory(io::Error),
    /// The reporting thread could not be started, or the signal handler could not be installed.
    Reporter(io::Error),
}

impl StartError {
    pub(crate) fn bad_value(
        name: &'static str,
        found: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        SettingError::new(name, expected, found).into()
    }
}

impl From<SettingError> for StartError {
    fn from(error: SettingError) -> Self {
        Self::BadValue(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyRunning => f.write_str("a heapdrift profiler is already running"),
            Self::BadValue(error) => error.fmt(f),
            Self::UnknownKey { key, nearest, expected } => {
                write!(f, "unknown key {key:?} in HEAPDRIFT")?;
                if let Some(nearest) = nearest {
                    write!(f, " (did you mean {nearest:?}?)")?;
                }
                write!(f, ", expected one of {expected}")
            }
            Self::RepeatedKey { first, second } if first == second => {
                write!(f, "expected each setting once in HEAPDRIFT, found {first:?} twice")
            }
            Self::RepeatedKey { first, second } => write!(
                f,
                "expected each setting once in HEAPDRIFT, found {first:?} and {second:?}, which \
                 are the same setting"
            ),
            Self::DumpDir { path, error } => {
                write!(f, "cannot write to dump_dir {}: {error}", path.display())
            }
            Self::Baseline { path, reason } => {
                write!(f, "cannot use the baseline {}: {reason}", path.display())
            }
            Self::Memory(error) => write!(f, "cannot reserve memory for recording: {error}"),
            Self::Reporter(error) => write!(f, "cannot start the reporting thread: {error}"),
        }
    }
}

/// The message, because a `main` that returns an error prints it in this form.
impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl error::Error for StartError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::DumpDir { error, .. } | Self::Memory(error) | Self::Reporter(error) => {
                Some(error)
            }
            // `BadValue` already prints the message of its `SettingError`, which has no source.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_main_that_returns_an_error_prints_its_message() {
        let error = SettingError::new("interval", "a number of bytes", "64XB");
        assert_eq!(format!("{error:?}"), error.to_string());
        let error = StartError::BadValue(error);
        assert_eq!(format!("{error:?}"), "expected a number of bytes for interval, found \"64XB\"");
    }
}
