//! The capacities of an unwinder.

/// The capacities of an unwinder's tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Number of threads that can unwind frames with complex rules at the same time.
    pub(crate) engines: usize,
    /// Number of cached unwind rules.
    pub(crate) rules: usize,
    /// Number of lanes whose last walk is cached.
    pub(crate) memos: usize,
    /// Maximum number of frames in a stack.
    pub(crate) depth: usize,
}
