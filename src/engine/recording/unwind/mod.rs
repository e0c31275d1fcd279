//! Stacks: return addresses of the calling thread, without allocation, locks or frame pointers.
//!
//! On Linux, FreeBSD and macOS the walk follows the unwind tables that the compiler put into every
//! module ([`dwarf`]): by cached rules where a frame is ordinary, otherwise by framehop. Tables are
//! read where the loader mapped them, or from copies where a module may be unloaded. The stack is
//! read only between the stack pointer and the end of the thread's own stack, so that a wrong rule
//! ends a walk and never the process. Stacks that are not the thread's own (coroutines, signal
//! stacks) are walked by the unwinder of the standard library ([`system`]). On other platforms the
//! `backtrace` crate walks all stacks ([`no_tables`]).
//!
//! The addresses of a captured stack lie inside the call instructions (return address − 1).

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
#[cfg(all(
    any(target_os = "linux", target_os = "freebsd", target_vendor = "apple"),
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod system;

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

/// Captures stacks, from many threads at once.
#[derive(Debug)]
pub(crate) struct Unwinder {
    walker: backend::Walker,
    modules: Modules,
    depth: usize,
}

impl Unwinder {
    /// Bytes of an engine.
    pub(crate) const ENGINE_BYTES: u64 = backend::Walker::ENGINE_BYTES;

    /// Copies of the tables of modules are charged to `budget`.
    pub(crate) fn new(size: &Size, budget: &'static Budget) -> io::Result<Self> {
        let modules = Modules::with_budget(budget)?;
        // The first walk of the fallback allocates and takes locks, so it must not be in the hook.
        backend::warm_up();
        let walker = backend::Walker::new(size, &modules)?;
        Ok(Self { walker, modules, depth: size.depth })
    }

    /// Bytes of a memo of stacks of `depth` frames.
    pub(crate) const fn memo_bytes(depth: usize) -> u64 {
        backend::Walker::MEMO_FRAME_BYTES * (depth as u64 + 1)
    }

    /// Bytes that an unwinder of this size takes at once.
    pub(crate) const fn bytes(size: &Size) -> u64 {
        size.engines as u64 * Self::ENGINE_BYTES
            + size.rules as u64 * backend::Walker::RULE_BYTES
            + size.memos as u64 * Self::memo_bytes(size.depth)
    }

    pub(crate) fn modules(&self) -> &Modules {
        &self.modules
    }

    /// Captures the stack of the caller into a new `captured`. `stack` is the thread's own, empty
    /// if it is not known; `lane` is the number of its lane.
    ///
    /// Leading frames may belong to the profiler and the allocator; readers cut them by name.
    #[inline(never)]
    pub(crate) fn capture(&self, captured: &mut Captured, stack: Range<usize>, lane: usize) {
        captured.limit = self.depth.min(MAX_STACK_DEPTH);
        self.walker.capture(captured, stack, lane, &self.modules);
    }
}
