//! Stacks: return addresses of the calling thread, without allocation, locks or frame pointers.
//!
//! On Linux, FreeBSD and macOS the walk follows the unwind tables that the compiler put into every
//! module ([`dwarf`]): it applies cached rules to ordinary frames and asks framehop for all others.
//! It reads the tables where the loader mapped them, or from a copy if the module may be unloaded.
//! It reads the stack only between the stack pointer and the end of the thread's own stack, so a
//! wrong rule ends the walk but never the process. Stacks that the thread does not own (coroutines,
//! signal stacks) are walked by the unwinder of the standard library (`dwarf/system.rs`). On other
//! platforms the `backtrace` crate walks all stacks ([`no_tables`]).
//!
//! A captured address is a return address minus one, so it lies inside the call instruction.

mod captured;
#[cfg(all(
    any(target_os = "linux", target_os = "freebsd", target_vendor = "apple"),
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod dwarf;
mod module_info;
#[cfg(not(all(
    any(target_os = "linux", target_os = "freebsd", target_vendor = "apple"),
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
mod no_tables;
mod size;

use std::io;
use std::ops::Range;

pub(crate) use backend::Modules;
pub(crate) use captured::{Captured, UnwindMethod};
#[cfg(all(
    any(target_os = "linux", target_os = "freebsd", target_vendor = "apple"),
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
use dwarf as backend;
pub(crate) use module_info::ModuleInfo;
#[cfg(not(all(
    any(target_os = "linux", target_os = "freebsd", target_vendor = "apple"),
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
use no_tables as backend;
pub(crate) use size::Size;

use crate::engine::recording::arena::Budget;
use crate::snapshot::MAX_STACK_DEPTH;

/// Captures stacks. Many threads may use one unwinder at once.
#[derive(Debug)]
pub(crate) struct Unwinder {
    walker: backend::Walker,
    modules: Modules,
    depth: usize,
}

impl Unwinder {
    /// Bytes that one engine takes.
    pub(crate) const ENGINE_BYTES: u64 = backend::Walker::ENGINE_BYTES;

    /// Charges copies of unwind tables to `budget`.
    pub(crate) fn new(size: &Size, budget: &'static Budget) -> io::Result<Self> {
        let modules = Modules::with_budget(budget)?;
        // The fallback allocates and takes locks on its first walk, so that walk must not happen in
        // the hook.
        backend::warm_up();
        let walker = backend::Walker::new(size, &modules)?;
        Ok(Self { walker, modules, depth: size.depth })
    }

    /// Bytes that one memo takes for stacks of up to `depth` frames.
    pub(crate) const fn memo_bytes(depth: usize) -> u64 {
        backend::Walker::MEMO_FRAME_BYTES * (depth as u64 + 1)
    }

    /// Bytes that an unwinder of this size allocates when it is created.
    pub(crate) const fn bytes(size: &Size) -> u64 {
        size.engines as u64 * Self::ENGINE_BYTES
            + size.rules as u64 * backend::Walker::RULE_BYTES
            + size.memos as u64 * Self::memo_bytes(size.depth)
    }

    pub(crate) fn modules(&self) -> &Modules {
        &self.modules
    }

    /// Captures the caller's stack into `captured`, which must be new. `stack` is the thread's own
    /// stack, or empty if its bounds are unknown; `lane` is the index of the thread's lane.
    ///
    /// Leading frames may belong to the profiler and the allocator; readers cut them by name.
    #[inline(never)]
    pub(crate) fn capture(&self, captured: &mut Captured, stack: Range<usize>, lane: usize) {
        captured.limit = self.depth.min(MAX_STACK_DEPTH);
        self.walker.capture(captured, stack, lane, &self.modules);
    }
}
