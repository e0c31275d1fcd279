//! What is known of a loaded module.

use std::ops::Range;

/// What a module is, as plain numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModuleInfo {
    pub(crate) path: Vec<u8>,
    pub(crate) build_id: Vec<u8>,
    pub(crate) bias: u64,
    pub(crate) range: Range<u64>,
    pub(crate) file_offset: u64,
    /// Of the first executable segment, relative to the module.
    pub(crate) code: Range<u64>,
}
