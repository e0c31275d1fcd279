//! Writes the dumps of inert sessions without serde or a compressor, so that a service which is
//! built without recording needs neither.

use std::io::{self, Write};
#[cfg(not(feature = "read"))]
use std::path::Path;

#[cfg(not(feature = "read"))]
use super::writer::{WriteError, write_file};
use super::{FORMAT, VERSION};
use crate::Snapshot;
#[cfg(not(feature = "read"))]
use crate::report::Baseline;

/// Writes the dump of an inert session to `path`, atomically, with mode 0600.
#[cfg(not(feature = "read"))]
pub(crate) fn write(snapshot: &Snapshot, path: &Path) -> Result<(), WriteError> {
    write_file(path, |file| to_writer(snapshot, file))
}

/// Writes the dump of an inert session, JSON with empty tables under gzip.
fn to_writer(snapshot: &Snapshot, mut writer: impl Write) -> io::Result<()> {
    debug_assert!(snapshot.stacks.is_empty(), "an inert session records no stacks");
    let json = document(snapshot);
    // RFC 1952: deflate, no flags, no modification time, unknown operating system.
    writer.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
    // RFC 1951: one stored (uncompressed) block, which is also the last.
    let length = u16::try_from(json.len()).map_err(io::Error::other)?;
    writer.write_all(&[1])?;
    writer.write_all(&length.to_le_bytes())?;
    writer.write_all(&(!length).to_le_bytes())?;
    writer.write_all(json.as_bytes())?;
    writer.write_all(&crc32(json.as_bytes()).to_le_bytes())?;
    writer.write_all(&u32::from(length).to_le_bytes())?;
    writer.flush()
}

/// Replaces the reader where it is compiled out. Only sessions that record read dumps.
#[cfg(not(feature = "read"))]
pub(crate) fn read_baseline(_path: &Path) -> io::Result<(String, Option<Baseline>)> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "built without the feature `read`"))
}

/// Returns the JSON document. The strings in an inert snapshot are the crate's own and need no
/// escaping.
fn document(snapshot: &Snapshot) -> String {
    let Snapshot { process, taken, sampling, unwinder, .. } = snapshot;
    let metrics =
        ["live_bytes", "live_count", "alloc_bytes", "alloc_count", "peak_bytes", "peak_count"];
    let totals = metrics.map(|name| format!(r#""{name}":{{"value":0,"std_error":0}}"#)).join(",");
    format!(
        r#"{{"format":"{FORMAT}","version":{VERSION},"process":{{"id":{},"executable":"","session":0,"started_unix_ms":0,"heapdrift_version":"{}"}},"taken":{{"unix_ms":0,"uptime_ms":0,"sequence":0,"tick":0,"reason":"{}"}},"sampling":{{"interval_bytes":0,"initial_interval_bytes":0,"seed":null,"state":"{}"}},"unwinder":"{unwinder}","stats":{{}},"totals":{{{totals}}},"modules":[],"frames":{{"module":[],"address":[],"function":[]}},"label_sets":[],"stacks":[],"live":{{"id":[],"stack":[],"size":[],"interval":[],"birth_ms":[],"birth_tick":[],"reallocs":[]}}}}"#,
        process.id, process.heapdrift_version, taken.reason, sampling.state,
    )
}

/// The checksum of gzip. It is computed bit by bit, since the document is short.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xEDB8_8320;
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_gzip() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[cfg(feature = "read")]
    #[test]
    fn an_empty_dump_reads_as_the_snapshot_that_was_written() {
        let mut snapshot = Snapshot::default();
        snapshot.process.id = 4711;
        snapshot.process.heapdrift_version = env!("CARGO_PKG_VERSION").into();
        snapshot.taken.reason = "call".into();
        snapshot.sampling.state = "off".into();
        snapshot.unwinder = "none".into();
        let mut bytes = Vec::new();
        to_writer(&snapshot, &mut bytes).unwrap();
        assert_eq!(crate::dump::from_reader(&bytes[..]).unwrap(), snapshot);
    }
}
