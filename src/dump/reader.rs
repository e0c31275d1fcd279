//! From a file to a snapshot, believing nothing.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::{error, fmt};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::{FORMAT, VERSION};
use crate::Snapshot;

/// Dumps that unpack to more than this are refused. 1.5 million live samples take about half of
/// it; and no document of this length makes the reader hold more than a gigabyte.
pub const MAX_UNPACKED_BYTES: u64 = 112 << 20;

/// Why a dump could not be read: one line, what was expected and what was found.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The file could not be opened or read.
    Io(io::Error),
    /// The file is not gzip, or its compressed stream is damaged or cut short.
    NotGzip(io::Error),
    /// It is gzip, but what is inside is not JSON of this format.
    NotJson(serde_json::Error),
    /// It is JSON, but `format` is not `"heapdrift"`; what it is, if it is there.
    OtherFormat(Option<String>),
    /// It was written by a newer heapdrift; the version of the dump.
    NewerVersion(u64),
    /// A value is out of range; which, in words.
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
                // It may quote text of the file.
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

/// Reads the dump at `path`.
///
/// # Errors
/// See [`ReadError`]. The message does not name `path`: the caller knows it.
pub fn read(path: &Path) -> Result<Snapshot, ReadError> {
    let open = || File::open(path).map_err(ReadError::Io);
    match from_reader(open()?) {
        // Of another format or version it may lack any field. That is the better message, and
        // costs a second pass only here.
        Err(error @ ReadError::NotJson(_)) => Err(header_error(open()?).unwrap_or(error)),
        result => result,
    }
}

/// Reads a dump from its bytes: gzip over JSON.
///
/// # Errors
/// See [`ReadError`]. Of a document that lacks fields of a dump it says so; [`read`] also tells
/// other formats and newer versions in that case.
pub fn from_reader<R: Read>(reader: R) -> Result<Snapshot, ReadError> {
    #[derive(Deserialize)]
    struct Document {
        format: Option<String>,
        version: Option<u64>,
        process: crate::snapshot::Process,
        taken: crate::snapshot::Taken,
        sampling: crate::snapshot::Sampling,
        unwinder: String,
        stats: crate::Stats,
        totals: crate::snapshot::Metrics,
        modules: Vec<crate::snapshot::Module>,
        frames: crate::snapshot::Frames,
        label_sets: Vec<std::collections::BTreeMap<String, String>>,
        stacks: Vec<crate::snapshot::Stack>,
        live: crate::snapshot::LiveSamples,
        leaks: Option<crate::LeakReport>,
    }
    let document: Document = parse(reader)?;
    check_header(document.format, document.version)?;
    let snapshot = Snapshot {
        process: document.process,
        taken: document.taken,
        sampling: document.sampling,
        unwinder: document.unwinder,
        stats: document.stats,
        totals: document.totals,
        modules: document.modules,
        frames: document.frames,
        label_sets: document.label_sets,
        stacks: document.stacks,
        live: document.live,
        leaks: document.leaks,
    };
    snapshot.validate().map_err(ReadError::Invalid)?;
    Ok(snapshot)
}

/// The error in the two keys that tell what a document is, if that is what is wrong with it.
fn header_error<R: Read>(reader: R) -> Option<ReadError> {
    #[derive(Deserialize)]
    struct Header {
        format: Option<serde_json::Value>,
        version: Option<serde_json::Value>,
    }
    let header: Header = parse(reader).ok()?;
    let format = header.format.map(|f| f.as_str().map_or_else(|| f.to_string(), str::to_owned));
    check_header(format, header.version.and_then(|v| v.as_u64())).err()
}

fn check_header(format: Option<String>, version: Option<u64>) -> Result<(), ReadError> {
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

fn parse<T: for<'a> Deserialize<'a>, R: Read>(reader: R) -> Result<T, ReadError> {
    let mut json = Limited {
        inner: MultiGzDecoder::new(BufReader::new(reader)),
        left: MAX_UNPACKED_BYTES,
        failure: None,
    };
    let parsed = serde_json::from_reader(BufReader::with_capacity(64 << 10, &mut json));
    match (json.failure, parsed) {
        (Some(failure), _) => Err(failure),
        (None, Err(error)) => Err(ReadError::NotJson(error)),
        (None, Ok(value)) => Ok(value),
    }
}

/// Unpacks up to a limit, and remembers why it stopped: serde_json wraps errors of its reader in
/// its own, from which the reason could only be guessed.
struct Limited<R> {
    inner: R,
    left: u64,
    failure: Option<ReadError>,
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
