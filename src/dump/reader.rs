//! Reads dumps. No byte of a file is trusted; the result is a valid snapshot.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::{error, fmt};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::{FORMAT, VERSION};
use crate::report::Baseline;
use crate::{LeakReport, Snapshot};

/// The maximum size of an unpacked dump, in bytes. Larger ones are rejected. 1.5 million live
/// samples need about two thirds of it.
///
/// The limit also bounds the memory of the reader to about one gigabyte, whatever the document
/// contains. The worst case found is a table of empty label sets: with 112 MiB of them, reading
/// took 1,045,528 kB, including the document.
pub const MAX_UNPACKED_BYTES: u64 = 96 << 20;

/// The reason why a dump could not be read. The message is one line that says what was expected and
/// what was found.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The file could not be opened or read.
    Io(io::Error),
    /// The file is not gzip, or its compressed stream is damaged or cut short.
    NotGzip(io::Error),
    /// The file is gzip, but does not contain JSON of this format.
    NotJson(serde_json::Error),
    /// The file is JSON, but its `format` is not `"heapdrift"`. Contains the format, if there is
    /// one.
    OtherFormat(Option<String>),
    /// A newer heapdrift wrote the file. Contains the version of the dump.
    NewerVersion(u64),
    /// A value is out of range or contradicts another one. Contains the problem in words.
    Invalid(String),
    /// The file unpacks to more than [`MAX_UNPACKED_BYTES`].
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
                // serde_json quotes text from the file, which must not send control codes to a
                // terminal.
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
/// See [`ReadError`]. The message does not contain `path`, which the caller knows.
// Inlined, like `from_json`, so that the parser of whole dumps is compiled in programs that use it
// and not in every service: it was a fifth of the machine code of this library.
#[inline]
pub fn read(path: &Path) -> Result<Snapshot, ReadError> {
    let open = || File::open(path).map_err(ReadError::Io);
    match from_reader(open()?) {
        // A document of another format or version may lack any field. An error that says so is more
        // helpful than one about the field, and only this case pays for the second pass.
        Err(error @ ReadError::NotJson(_)) => {
            let header = parse(open()?).ok();
            Err(header.and_then(Header::error).unwrap_or(error))
        }
        result => result,
    }
}

/// Reads a baseline from the dump at `path`: the path of the executable, and the leak report if
/// there is one. The tables of stacks and samples are skipped, and neither held nor validated.
///
/// # Errors
/// Those of [`read`].
pub(crate) fn read_baseline(path: &Path) -> Result<(String, Option<Baseline>), ReadError> {
    #[derive(Deserialize)]
    struct Process {
        executable: String,
    }
    #[derive(Deserialize)]
    struct Document {
        format: Option<String>,
        version: Option<u64>,
        // Other formats and newer versions may lack it. The error is then about the format.
        process: Option<Process>,
        leaks: Option<Baseline>,
    }
    let document: Document = parse(File::open(path).map_err(ReadError::Io)?)?;
    check_header(document.format, document.version)?;
    let process = document
        .process
        .ok_or_else(|| ReadError::Invalid("expected a \"process\", found none".into()))?;
    Ok((process.executable, document.leaks))
}

/// Reads a dump from its bytes, JSON under gzip.
///
/// # Errors
/// See [`ReadError`]. A document that lacks a required field gives [`ReadError::NotJson`], even if
/// it has another format or a newer version; [`read`] and [`from_json`] tell these cases apart.
pub fn from_reader<R: Read>(reader: R) -> Result<Snapshot, ReadError> {
    parse::<Document, _>(reader)?.snapshot()
}

/// Unpacks a dump into `document`, for [`from_json`].
///
/// The buffer is cleared first and its memory is reused. With a new buffer for each of many dumps,
/// an eighth of the time went into allocating them.
///
/// # Errors
/// [`ReadError::Io`], [`ReadError::NotGzip`] and [`ReadError::TooLarge`].
pub fn unpack<R: Read>(reader: R, document: &mut Vec<u8>) -> Result<(), ReadError> {
    document.clear();
    let mut json = Limited::new(reader);
    match json.read_to_end(document) {
        Ok(_) => Ok(()),
        Err(error) => Err(json.failure.unwrap_or(ReadError::Io(error))),
    }
}

/// Reads a dump from a document that [`unpack`] has unpacked.
///
/// For a dump of 19 MB this takes 57 ms, and [`from_reader`], which parses byte by byte, takes 99
/// ms; but here the whole document is in memory. The tools read dumps this way.
///
/// # Errors
/// The same as those of [`read`].
#[inline]
pub fn from_json(document: &[u8]) -> Result<Snapshot, ReadError> {
    let parsed: Result<Document, _> = serde_json::from_slice(document);
    match parsed {
        Ok(document) => document.snapshot(),
        Err(error) => {
            let header = serde_json::from_slice(document).ok();
            Err(header.and_then(Header::error).unwrap_or(ReadError::NotJson(error)))
        }
    }
}

/// The fields of a dump.
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
    leaks: Option<LeakReport>,
}

impl Document {
    fn snapshot(self) -> Result<Snapshot, ReadError> {
        check_header(self.format, self.version)?;
        let snapshot = Snapshot {
            process: self.process,
            taken: self.taken,
            sampling: self.sampling,
            unwinder: self.unwinder,
            stats: self.stats,
            totals: self.totals,
            modules: self.modules,
            frames: self.frames,
            label_sets: self.label_sets,
            stacks: self.stacks,
            live: self.live,
            leaks: self.leaks,
        };
        snapshot.validate().map_err(ReadError::Invalid)?;
        Ok(snapshot)
    }
}

/// The two keys that identify the format of a document.
#[derive(Deserialize)]
struct Header {
    format: Option<serde_json::Value>,
    version: Option<serde_json::Value>,
}

impl Header {
    /// Returns the error that the keys cause, if there is one.
    fn error(self) -> Option<ReadError> {
        let format = self.format.map(|f| f.as_str().map_or_else(|| f.to_string(), str::to_owned));
        check_header(format, self.version.and_then(|v| v.as_u64())).err()
    }
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
    let mut json = Limited::new(reader);
    let parsed = serde_json::from_reader(BufReader::with_capacity(64 << 10, &mut json));
    match (json.failure, parsed) {
        (Some(failure), _) => Err(failure),
        (None, Err(error)) => Err(ReadError::NotJson(error)),
        (None, Ok(value)) => Ok(value),
    }
}

/// A reader that unpacks up to a limit and stores the error that stopped it, because serde_json
/// wraps the errors of its reader and does not give them back.
struct Limited<R> {
    inner: R,
    left: u64,
    failure: Option<ReadError>,
}

impl<R: Read> Limited<MultiGzDecoder<BufReader<R>>> {
    fn new(packed: R) -> Self {
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
