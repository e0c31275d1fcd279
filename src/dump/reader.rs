//! Reading: from a file, no byte of which is trusted, to a valid snapshot.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::unpacking::{Limited, ReadError, check_header, parse};
use crate::Snapshot;

/// Reads the dump at `path`.
///
/// # Errors
/// See [`ReadError`]. The message does not name `path`: the caller knows it.
pub fn read(path: &Path) -> Result<Snapshot, ReadError> {
    let open = || File::open(path).map_err(ReadError::Io);
    match from_reader(open()?) {
        // A document of another format or version may lack any field. Saying that it is one is the
        // better message, and costs a second pass only in this case.
        Err(error @ ReadError::NotJson(_)) => {
            let header = parse(open()?).ok();
            Err(header.and_then(Header::error).unwrap_or(error))
        }
        result => result,
    }
}

/// Reads a dump from its bytes: gzip over JSON.
///
/// # Errors
/// See [`ReadError`]. A document that lacks fields of a dump is [`ReadError::NotJson`] here;
/// [`read`] and [`from_json`] also find out whether it is of another format or a newer version.
pub fn from_reader<R: Read>(reader: R) -> Result<Snapshot, ReadError> {
    parse::<Document, _>(reader)?.snapshot()
}

/// Unpacks a dump into `document`, for [`from_json`]. The buffer is emptied first and its memory is
/// reused: with new memory for each of many dumps, an eighth of all time went into it.
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

/// Reads a dump from the document that [`unpack`] has made. For a dump of 19 MB this takes 57 ms,
/// and [`from_reader`], which sees one byte at a time, 99 ms; but the whole document is in memory
/// meanwhile. The tools read this way, and a service reads its baseline the other way.
///
/// # Errors
/// As [`read`].
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
    leaks: Option<crate::LeakReport>,
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

/// The two keys that identify a document.
#[derive(Deserialize)]
struct Header {
    format: Option<serde_json::Value>,
    version: Option<serde_json::Value>,
}

impl Header {
    /// What is wrong with them, if anything is.
    fn error(self) -> Option<ReadError> {
        let format = self.format.map(|f| f.as_str().map_or_else(|| f.to_string(), str::to_owned));
        check_header(format, self.version.and_then(|v| v.as_u64())).err()
    }
}
