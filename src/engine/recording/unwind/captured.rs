//! A captured stack: its addresses, and how they were obtained.

use std::mem::MaybeUninit;

use crate::snapshot::MAX_STACK_DEPTH;

/// A captured stack.
#[derive(Debug)]
// The field order matters: if the addresses stood between two fields that start at zero, the
// compiler would zero them too, with a `memset` call that takes as long as the rest of a capture.
#[repr(C)]
pub(crate) struct Captured {
    pub(super) len: usize,
    pub(super) limit: usize,
    /// The hash of the frames, if the walk computed it along the way.
    pub(super) hash: Option<u64>,
    /// See [`crate::engine::recording::stack_table::SiteKey::module_mark`].
    pub(crate) module_mark: u32,
    /// The walk did not reach the thread's first function.
    pub(crate) truncated: bool,
    pub(crate) method: UnwindMethod,
    /// The caller knows the site of the lane's previous stack, so a repeated stack need not be
    /// copied.
    pub(super) knows_last: bool,
    /// The stack equals the lane's previous one; `addresses` is then left empty.
    pub(crate) is_last: bool,
    /// Only the first `len` elements are initialized.
    addresses: [MaybeUninit<u64>; MAX_STACK_DEPTH],
}

/// The unwinder that walked a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnwindMethod {
    Framehop,
    Backtrace,
    /// No engine was free.
    None,
}

impl Captured {
    /// Creates an empty stack. `knows_last` says whether the caller knows the site of the lane's
    /// previous stack.
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
        // SAFETY: `push` and `extend` have initialized the first `len` elements, and
        // `MaybeUninit<u64>` has the same layout as `u64`.
        unsafe { std::slice::from_raw_parts(written.as_ptr().cast(), written.len()) }
    }

    /// The hash of the frames.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.unwrap_or_else(|| hash_frames(self.frames()))
    }

    /// Appends a frame. At the depth limit it marks the stack as truncated and returns `false`.
    pub(super) fn push(&mut self, address: u64) -> bool {
        if self.len == self.limit {
            self.truncated = true;
            return false;
        }
        self.addresses[self.len].write(address);
        self.len += 1;
        true
    }

    /// Appends frames. Panics if there is no room for them.
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

/// Extends the hash of a stack by the frame that it calls. It takes one multiplication, so users of
/// the final hash have to mix it.
#[inline]
pub(super) fn hash_frame(hash: u64, frame: u64) -> u64 {
    (hash.rotate_left(5) ^ frame).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The hash of a stack whose innermost frame comes first.
pub(crate) fn hash_frames(frames: &[u64]) -> u64 {
    frames.iter().rev().fold(NO_FRAMES, |hash, frame| hash_frame(hash, *frame))
}
