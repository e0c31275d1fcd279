//! The description of a loaded module in snapshots.

use std::ops::Range;

/// A module's path, build-id and addresses, as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModuleInfo {
    pub(crate) path: Vec<u8>,
    pub(crate) build_id: Vec<u8>,
    pub(crate) bias: u64,
    pub(crate) range: Range<u64>,
    pub(crate) file_offset: u64,
    /// The first executable segment, at addresses relative to the module.
    pub(crate) code: Range<u64>,
}
