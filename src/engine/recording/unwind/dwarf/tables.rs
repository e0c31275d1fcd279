//! The unwind tables of a module.

/// Where the unwind tables of a module are, for the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnwindTables {
    pub(super) range: (u64, u64),
    pub(super) bias: u64,
    pub(super) eh_frame_hdr: Section,
    pub(super) eh_frame: Section,
}

/// One of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// Where the loader has mapped it.
    pub(super) start: u64,
    pub(super) len: u64,
    /// Where its bytes are: there, or in a copy.
    pub(super) bytes: u64,
}

impl Section {
    /// The bytes; `None` where there are none.
    pub(super) fn bytes(self) -> Option<&'static [u8]> {
        // SAFETY: made by `Modules::tables` only, of a permanent module's memory, which stays while
        // this code can run, or of a copy, which stays as long as the registry and so as the walks.
        // Both are read-only.
        (self.len > 0).then(|| unsafe {
            std::slice::from_raw_parts(self.bytes as *const u8, self.len as usize)
        })
    }
}
