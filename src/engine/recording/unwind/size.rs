//! How much an unwinder has room for.

/// The sizes of an unwinder's tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Threads that can unwind unusual frames at the same time.
    pub(crate) engines: usize,
    /// Cached rules of ordinary frames.
    pub(crate) rules: usize,
    /// Lanes whose last walk is kept.
    pub(crate) memos: usize,
    /// Frames of a stack.
    pub(crate) depth: usize,
}
