//! Dumps: a [`Snapshot`](crate::Snapshot) as a file.
//!
//! # Format
//! `NAME.heap.json.gz` is gzip over one JSON object: `"format": "heapdrift"`, `"version": 1`, and
//! the fields of [`Snapshot`](crate::Snapshot), each documented there. Addresses are relative to
//! their module and modules carry their build-id, so that a dump does not depend on where the
//! loader put things and can be symbolized on another machine.
//!
//! # Versions
//! Fields may be added without a new version: readers skip what they do not know. [`VERSION`] goes
//! up when a field changes its meaning or goes away, and a reader refuses versions above its own.
//!
//! # Files
//! [`write()`] writes to a temporary file in the target's folder, syncs it and renames it. The mode
//! is 0600 from the start, because a dump reveals what a program does and for whom. A reader never
//! sees half a dump, and a failed write leaves the old file as it was.

// A dump of what was recorded takes serde and a compressor. Where nothing is recorded or read the
// only dumps are those of inert sessions, which take neither.
#[cfg(feature = "analysis")]
mod document;
#[cfg(any(all(test, feature = "read"), not(feature = "analysis")))]
mod empty;
#[cfg(feature = "analysis")]
mod estimate;
#[cfg(feature = "read")]
mod reader;
#[cfg(feature = "analysis")]
pub(crate) mod unpacking;
mod writer;

#[cfg(feature = "analysis")]
pub use document::{to_writer, write};
#[cfg(not(feature = "analysis"))]
pub(crate) use empty::write;
#[cfg(feature = "read")]
pub use reader::{from_json, from_reader, read, unpack};
#[cfg(feature = "analysis")]
pub use unpacking::{MAX_UNPACKED_BYTES, ReadError};
pub use writer::WriteError;

/// The value of the key `format` in every dump.
pub const FORMAT: &str = "heapdrift";

/// The version that this crate writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// The suffix of the names of dump files.
pub const EXTENSION: &str = ".heap.json.gz";
