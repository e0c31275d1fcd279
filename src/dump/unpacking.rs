//! What all reading shares: the limit, the two keys that identify a document, and errors.

use std::io::{self, BufReader, Read};
use std::{error, fmt};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::{FORMAT, VERSION};

/// Dumps that unpack to more than this are refused. 1.5 million live samples need about two thirds
/// of it.
///
/// The limit also bounds the memory of the reader by one gigabyte, whatever the document holds. The
/// worst case that was found is a table of empty label sets: 112 MiB of them took 1,045,528 kB, the
/// document included.
pub const MAX_UNPACKED_BYTES: u64 = 96 << 20;

/// Why a dump could not be read. The message is one line: what was expected, and what was found.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The file could not be opened or read.
    Io(io::Error),
    /// The file is not gzip, or its compressed stream is damaged or cut short.
    NotGzip(io::Error),
    /// It is gzip, but what is inside is not JSON of this format.
    NotJson(serde_json::Error),
    /// It is JSON, but its `format` is not `"heapdrift"`. Holds the format, if there is one.
    OtherFormat(Option<String>),
    /// It was written by a newer heapdrift. Holds the version of the dump.
    NewerVersion(u64),
    /// A value is out of range or contradicts another one. Says which, in words.
    Invalid(String),
    /// It unpacks to more than [`MAX_UNPACKED_BYTES`].
    TooLarge,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot be read: {error}"),
            Self::NotGzip(error) => {
                write!(
                    f,
                    "expected a heapdrift dump (gzip), found a damaged or other file: {error}"
                )
            }
            Self::NotJson(error) => {
                // serde_json quotes text of the file, which must not control a terminal.
                let error = error.to_string().replace(char::is_control, "\u{fffd}");
                write!(f, "expected the JSON of a heapdrift dump, found something else: {error}")
            }
            Self::OtherFormat(Some(found)) => {
                write!(f, "expected \"format\": \"{FORMAT}\", found {found:?}")
            }
            Self::OtherFormat(None) => {
                write!(f, "expected \"format\": \"{FORMAT}\", found JSON without that key")
            }
            Self::NewerVersion(found) => write!(
                f,
                "expected a dump of version {VERSION} or older, found version {found}: \
                 written by a newer heapdrift, please update this one"
            ),
            Self::Invalid(what) => write!(f, "damaged dump: {what}"),
            Self::TooLarge => {
                write!(f, "expected at most {} MiB unpacked, found more", MAX_UNPACKED_BYTES >> 20)
            }
        }
    }
}

impl error::Error for ReadError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Io(error) | Self::NotGzip(error) => Some(error),
            Self::NotJson(error) => Some(error),
            _ => None,
        }
    }
}

pub(crate) fn check_header(format: Option<String>, version: Option<u64>) -> Result<(), ReadError> {
    if format.as_deref() != Some(FORMAT) {
        return Err(ReadError::OtherFormat(format));
    }
    match version {
        None => Err(ReadError::Invalid("expected a \"version\", found none".into())),
        Some(0) => Err(ReadError::Invalid("expected a version of at least 1, found 0".into())),
        Some(version) if version > u64::from(VERSION) => Err(ReadError::NewerVersion(version)),
        Some(_) => Ok(()),
    }
}

/// Parses the document that a dump unpacks to, byte by byte, so that it is never held as a whole.
pub(crate) fn parse<T: for<'a> Deserialize<'a>, R: Read>(reader: R) -> Result<T, ReadError> {
    let mut json = Limited::new(reader);
    let parsed = serde_json::from_reader(BufReader::with_capacity(64 << 10, &mut json));
    match (json.failure, parsed) {
        (Some(failure), _) => Err(failure),
        (None, Err(error)) => Err(ReadError::NotJson(error)),
        (None, Ok(value)) => Ok(value),
    }
}

/// Unpacks up to a limit and remembers why it stopped: serde_json wraps the errors of its reader in
/// its own, which does not give them back.
pub(super) struct Limited<R> {
    inner: R,
    left: u64,
    pub(super) failure: Option<ReadError>,
}

impl<R: Read> Limited<MultiGzDecoder<BufReader<R>>> {
    pub(super) fn new(packed: R) -> Self {
        let inner = MultiGzDecoder::new(BufReader::new(packed));
        Self { inner, left: MAX_UNPACKED_BYTES, failure: None }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(read) if read as u64 > self.left => {
                self.failure = Some(ReadError::TooLarge);
                Err(io::Error::other("too large"))
            }
            Ok(read) => {
                self.left -= read as u64;
                Ok(read)
            }
            Err(error) => {
                let kind = error.kind();
                self.failure = Some(match kind {
                    io::ErrorKind::InvalidInput
                    | io::ErrorKind::InvalidData
                    | io::ErrorKind::UnexpectedEof => ReadError::NotGzip(error),
                    _ => ReadError::Io(error),
                });
                Err(kind.into())
            }
        }
    }
}
