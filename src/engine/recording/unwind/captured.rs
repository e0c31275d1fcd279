//! A captured stack: the addresses, and how they were found.

use std::mem::MaybeUninit;

use crate::snapshot::MAX_STACK_DEPTH;

/// A captured stack.
#[derive(Debug)]
// The order matters: between two fields that start at zero, the compiler zeroes the addresses too,
// by a call of `memset` that takes as long as the rest of a capture.
#[repr(C)]
pub(crate) struct Captured {
    pub(super) len: usize,
    pub(super) limit: usize,
    /// The hash of the frames, if the walk has computed it on its way.
    pub(super) hash: Option<u64>,
    /// See [`crate::engine::recording::stack_table::SiteKey::module_mark`].
    pub(crate) module_mark: u32,
    /// The walk did not reach the thread's first function.
    pub(crate) truncated: bool,
    pub(crate) method: UnwindMethod,
    /// The caller knows the site of the last stack of its lane, so that stack is not copied again.
    pub(super) knows_last: bool,
    /// The stack is the last one of the lane; then `addresses` is left empty.
    pub(crate) is_last: bool,
    /// Written up to `len`.
    addresses: [MaybeUninit<u64>; MAX_STACK_DEPTH],
}

/// Which unwinder walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnwindMethod {
    Framehop,
    Backtrace,
    /// No unwinder was free.
    None,
}

impl Captured {
    /// An empty stack. `knows_last` says whether the caller knows the last one of its lane.
    #[inline(always)]
    pub(crate) fn new(knows_last: bool) -> Self {
        Self {
            addresses: [MaybeUninit::uninit(); MAX_STACK_DEPTH],
            len: 0,
            limit: 0,
            truncated: false,
            module_mark: 0,
            method: UnwindMethod::None,
            hash: None,
            knows_last,
            is_last: false,
        }
    }

    /// The addresses, innermost first.
    pub(crate) fn frames(&self) -> &[u64] {
        let written = &self.addresses[..self.len];
        // SAFETY: `push` and `extend` have written the first `len`, and a `MaybeUninit<u64>` is
        // laid out like the `u64` in it.
        unsafe { std::slice::from_raw_parts(written.as_ptr().cast(), written.len()) }
    }

    /// The hash of the frames.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.unwrap_or_else(|| hash_frames(self.frames()))
    }

    /// Adds a frame; `false`, and the stack is marked truncated, at the depth limit.
    pub(super) fn push(&mut self, address: u64) -> bool {
        if self.len == self.limit {
            self.truncated = true;
            return false;
        }
        self.addresses[self.len].write(address);
        self.len += 1;
        true
    }

    /// Adds frames, for which there must be room.
    pub(super) fn extend(&mut self, addresses: &[u64]) {
        for (slot, address) in
            self.addresses[self.len..][..addresses.len()].iter_mut().zip(addresses)
        {
            slot.write(*address);
        }
        self.len += addresses.len();
    }
}

/// The hash of a stack without frames.
pub(super) const NO_FRAMES: u64 = 0;

/// The hash of a stack that calls one more frame: one multiplication. Users of the final hash mix
/// it.
#[inline]
pub(super) fn hash_frame(hash: u64, frame: u64) -> u64 {
    (hash.rotate_left(5) ^ frame).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The hash of a stack, innermost frame first.
pub(crate) fn hash_frames(frames: &[u64]) -> u64 {
    frames.iter().rev().fold(NO_FRAMES, |hash, frame| hash_frame(hash, *frame))
}
