//! The unwind tables of a module.

/// The addresses of a module and of its unwind tables, for the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnwindTables {
    pub(super) range: (u64, u64),
    pub(super) bias: u64,
    pub(super) eh_frame_hdr: Section,
    pub(super) eh_frame: Section,
}

/// One of the two unwind tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// The address at which the loader mapped it.
    pub(super) start: u64,
    pub(super) len: u64,
    /// The address of its bytes: `start`, or that of a copy.
    pub(super) bytes: u64,
}

impl Section {
    /// The bytes of the table, or `None` if it is empty.
    pub(super) fn bytes(self) -> Option<&'static [u8]> {
        // SAFETY: only `Modules::tables` and, on Apple's systems, `dyld::framehop_module` create
        // non-empty sections of which the bytes are read. They point into a permanent module, which
        // stays mapped while this code can run, or into a copy, which lives as long as the registry
        // and therefore longer than the walks. Nothing writes to either.
        (self.len > 0).then(|| unsafe {
            std::slice::from_raw_parts(self.bytes as *const u8, self.len as usize)
        })
    }
}
