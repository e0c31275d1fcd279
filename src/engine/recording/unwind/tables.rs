//! The unwind tables of a module, where the loader mapped them.

/// Where the unwind tables of a module are, for the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnwindTables {
    pub(super) range: (u64, u64),
    pub(super) bias: u64,
    pub(super) eh_frame_hdr: (u64, u64),
    pub(super) eh_frame: (u64, u64),
}

impl UnwindTables {
    /// One of the two tables, where it is mapped; `None` where there is none.
    pub(super) fn mapped(&self, (start, end): (u64, u64)) -> Option<&'static [u8]> {
        // SAFETY: a read-only part of a loaded module. A permanent module stays; a dynamic one is
        // looked at only while one of its functions is on the stack.
        (end > start).then(|| unsafe {
            std::slice::from_raw_parts(start as *const u8, (end - start) as usize)
        })
    }
}
