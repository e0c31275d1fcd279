//! Snapshots as the bytes of dumps, for the tests that read dumps.

use heapdrift::{Snapshot, dump};

/// A snapshot, encoded as a dump.
pub(crate) fn bytes(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = Vec::new();
    dump::to_writer(snapshot, &mut bytes).unwrap();
    bytes
}
