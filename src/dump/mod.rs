//! Dumps: [`Snapshot`](crate::Snapshot)s as files.
//!
//! # Format
//! A file `NAME.heap.json.gz` is one JSON object, compressed by gzip. It has the keys `format`,
//! which is `"heapdrift"`, and `version`, which is 1, and the fields of
//! [`Snapshot`](crate::Snapshot), which are documented there. Addresses are relative to their
//! module and modules carry their build-id, so a dump is independent of address-space randomisation
//! and can be symbolized on another machine.
//!
//! # Versions
//! Readers skip unknown fields, so fields may be added without a new version. [`VERSION`] increases
//! when a field changes its meaning or is removed, and readers reject newer versions than their
//! own.
//!
//! # Files
//! `write` writes to a temporary file in the same folder, syncs it and renames it. A reader
//! never sees half a dump, and a failed write leaves an existing file intact. A dump replaces
//! regular files only: at a path of a symbolic link, a device or a FIFO, the write fails. The mode
//! is 0600 from the start, because a dump reveals what a program does and for whom.

// Dumps with recorded data need serde and a compressor. Without the feature `read` only inert
// sessions write dumps, and these need neither.
#[cfg(feature = "read")]
mod document;
#[cfg(any(test, not(feature = "read")))]
mod empty;
#[cfg(feature = "read")]
mod estimate;
#[cfg(feature = "read")]
mod reader;
mod temporary;
mod writer;

#[cfg(feature = "read")]
pub use document::{to_writer, write};
#[cfg(not(feature = "read"))]
pub(crate) use empty::{read_baseline, write};
#[cfg(feature = "read")]
pub(crate) use reader::read_baseline;
#[cfg(feature = "read")]
pub use reader::{MAX_UNPACKED_BYTES, ReadError, from_json, from_reader, read, unpack};
pub(crate) use temporary::{probe, remove_abandoned, shortened};
pub use writer::WriteError;

/// The value of the key `format` in every dump.
pub const FORMAT: &str = "heapdrift";

/// The version of the format that this crate writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// The suffix of dump files.
pub const EXTENSION: &str = ".heap.json.gz";
