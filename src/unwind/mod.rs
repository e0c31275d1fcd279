//! Stacks: return addresses of the calling thread, without allocation, locks or frame pointers.
//!
//! On Linux the walk follows the DWARF tables that the compiler put into every module, read where
//! the loader mapped them, or from copies where a module may be unloaded: by rules of our own cache
//! where a frame is ordinary, by framehop where not. Besides, memory is read only between the stack
//! pointer and the end of the thread's own stack, so that a wrong rule ends a walk and never the
//! process. On other
//! platforms, and on stacks that are not the thread's own (coroutines, signal stacks), the
//! `backtrace` crate walks.
//!
//! The addresses of a captured stack lie inside the call instructions (return address − 1).

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod arch;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod description;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod dwarf;
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[path = "no_dwarf.rs"]
mod dwarf;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod entry;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod found_object;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod frame;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod memo;
mod module_info;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod modules;
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[path = "no_modules.rs"]
mod modules;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod permanent;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod rules;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod seat;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tables;

use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;

pub(crate) use module_info::ModuleInfo;
pub(crate) use modules::Modules;

use crate::arena::Budget;
use crate::snapshot::MAX_STACK_DEPTH;

/// A captured stack.
#[derive(Debug)]
// In this order: between two zeroes the compiler would fill the addresses with zeroes too, by one call
// that takes as long as the rest of a capture.
#[repr(C)]
pub(crate) struct Captured {
    len: usize,
    limit: usize,
    /// Of the frames, where the walk has found it out by the way.
    hash: Option<u64>,
    /// See [`crate::stack_table::SiteKey::module_mark`].
    pub(crate) module_mark: u32,
    /// The walk did not reach the thread's first function.
    pub(crate) truncated: bool,
    pub(crate) by: By,
    /// The caller knows the last stack of its lane, and need not be told it again.
    knows_last: bool,
    /// It is that of the last capture in the lane, and so it has no frames here.
    pub(crate) is_last: bool,
    /// Written up to `len`.
    addresses: [MaybeUninit<u64>; MAX_STACK_DEPTH],
}

/// Which unwinder walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Framehop,
    Backtrace,
    /// No unwinder was free.
    Nobody,
}

impl Captured {
    /// Room for a stack, for a caller that knows the last one of its lane or does not.
    #[inline(always)]
    pub(crate) fn new(knows_last: bool) -> Self {
        Self {
            addresses: [MaybeUninit::uninit(); MAX_STACK_DEPTH],
            len: 0,
            limit: 0,
            truncated: false,
            module_mark: 0,
            by: By::Nobody,
            hash: None,
            knows_last,
            is_last: false,
        }
    }

    /// The addresses, innermost first.
    pub(crate) fn frames(&self) -> &[u64] {
        // SAFETY: `push` has written the first `len`.
        unsafe { self.addresses[..self.len].assume_init_ref() }
    }

    /// The hash of the frames.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.unwrap_or_else(|| hash_frames(self.frames()))
    }

    /// Adds a frame; `false`, and the stack is marked truncated, at the depth limit.
    fn push(&mut self, address: u64) -> bool {
        if self.len == self.limit {
            self.truncated = true;
            return false;
        }
        self.addresses[self.len].write(address);
        self.len += 1;
        true
    }

    /// Adds frames that there is room for.
    fn extend(&mut self, addresses: &[u64]) {
        self.addresses[self.len..][..addresses.len()].write_copy_of_slice(addresses);
        self.len += addresses.len();
    }
}

/// The hash of a stack without frames.
const NO_FRAMES: u64 = 0;

/// The hash of a stack that calls one more frame. One multiplication; whoever uses it mixes it.
#[inline]
fn hash_frame(hash: u64, frame: u64) -> u64 {
    (hash.rotate_left(5) ^ frame).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The hash of a stack, innermost frame first.
pub(crate) fn hash_frames(frames: &[u64]) -> u64 {
    frames.iter().rev().fold(NO_FRAMES, |hash, frame| hash_frame(hash, *frame))
}

/// How much an unwinder has room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Unusual frames at once.
    pub(crate) engines: usize,
    /// Rules of usual ones.
    pub(crate) rules: usize,
    /// Lanes whose last walk is kept.
    pub(crate) memos: usize,
    /// Frames of a stack.
    pub(crate) depth: usize,
}

impl Size {
    /// Bytes of an engine.
    pub(crate) const ENGINE_BYTES: u64 = dwarf::Dwarf::ENGINE_BYTES;

    /// Bytes of a memo of stacks of `depth` frames.
    pub(crate) const fn memo_bytes(depth: usize) -> u64 {
        dwarf::Dwarf::MEMO_FRAME_BYTES * (depth as u64 + 1)
    }

    /// Bytes of all.
    pub(crate) const fn bytes(&self) -> u64 {
        self.engines as u64 * Self::ENGINE_BYTES
            + self.rules as u64 * dwarf::Dwarf::RULE_BYTES
            + self.memos as u64 * Self::memo_bytes(self.depth)
    }
}

/// Captures stacks, from many threads at once.
#[derive(Debug)]
pub(crate) struct Unwinder {
    dwarf: dwarf::Dwarf,
    modules: Modules,
    depth: usize,
}

impl Unwinder {
    /// Copies of the tables of modules are charged to `budget`.
    pub(crate) fn new(size: &Size, budget: &'static Budget) -> io::Result<Self> {
        let modules = Modules::with_budget(budget)?;
        // The first use of backtrace's unwinder allocates and takes locks: not in the hook.
        backtrace::trace(|_| true);
        Ok(Self { dwarf: dwarf::Dwarf::new(size, &modules)?, modules, depth: size.depth })
    }

    pub(crate) fn modules(&self) -> &Modules {
        &self.modules
    }

    /// The stack of the caller, into a new `captured`. `stack` is the thread's own, empty where that is
    /// not known; `lane` the number of its lane.
    ///
    /// Leading frames may belong to the profiler and the allocator; readers cut them by name.
    #[inline(never)]
    pub(crate) fn capture(&self, captured: &mut Captured, stack: Range<usize>, lane: usize) {
        captured.limit = self.depth.min(MAX_STACK_DEPTH);
        if !self.dwarf.capture(captured, stack, lane, &self.modules) {
            with_backtrace(captured);
        }
    }
}

fn with_backtrace(captured: &mut Captured) {
    captured.by = By::Backtrace;
    // SAFETY: `trace_unsynchronized` asks for no other thread symbolizing with this crate at the
    // same time. Nobody symbolizes here, and the walk itself keeps no state.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            let address = frame.ip() as u64;
            address <= 1 || captured.push(address - 1)
        });
    }
}
