//! `Alloc<A>`: the global allocator wrapper.
//!
//! Invariant: an allocation that is not sampled reaches the inner allocator through the method of
//! the same name, with the same arguments, and what the inner allocator returns is returned. So
//! zeroed memory stays `calloc`, a large `realloc` stays `mremap`, and null stays null.

use std::alloc::{GlobalAlloc, Layout, System};

use crate::engine;

/// A global allocator that hands every call to `A`, and samples allocations on the way while a
/// [`Profiler`](crate::Profiler) is running.
///
/// Without the feature `profiling` this is a zero-sized pass-through (if `A` is zero-sized) whose
/// machine code equals that of `A`.
///
/// # Cost
/// With `profiling`, per allocation: subtract the size from a thread-local number and branch. Per
/// free: compare the address and the size. Neither depends on how many samples are live. The
/// process should have one `Alloc`, as its `#[global_allocator]`: what is recorded is global.
///
/// # Examples
/// ```
/// #[global_allocator]
/// static ALLOC: heapdrift::Alloc = heapdrift::Alloc::system();
/// # fn main() {}
/// ```
/// Over another allocator, for example mimalloc: `heapdrift::Alloc<MiMalloc>` and
/// `heapdrift::Alloc::new(MiMalloc)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alloc<A = System> {
    inner: A,
}

impl Alloc<System> {
    /// Over the system's allocator.
    pub const fn system() -> Self {
        Self::new(System)
    }
}

impl<A> Alloc<A> {
    /// Over any allocator.
    pub const fn new(inner: A) -> Self {
        Self { inner }
    }
}

// Each method is one test and two tail calls. The rare one goes to a function that is never inlined:
// whatever needs registers saved must stay out of here, or the common path pays for it. Its
// arguments stand in the order in which `__rust_alloc` and its like receive them, so that none has
// to be moved on the common path either (5 instructions a pair).
//
// SAFETY: every method either forwards to `A`, which upholds the contract, or lets the recorder
// serve the call, which upholds it too: sampled blocks come from slots that are large and aligned
// enough, are handed out once, and are recognised again when they are freed.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Alloc<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if engine::is_due(layout.size()) {
            // SAFETY: the caller's promises about `layout` are passed on.
            return unsafe { engine::alloc(layout.size(), layout.align(), &self.inner) };
        }
        // SAFETY: as above.
        unsafe { self.inner.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if engine::is_due(layout.size()) {
            // SAFETY: the caller's promises about `layout` are passed on.
            return unsafe { engine::alloc_zeroed(layout.size(), layout.align(), &self.inner) };
        }
        // SAFETY: as above.
        unsafe { self.inner.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if engine::may_be_sampled(block as usize, layout.size()) {
            // SAFETY: the caller's promises about `block` and `layout` are passed on.
            return unsafe { engine::dealloc(block, layout.size(), layout.align(), &self.inner) };
        }
        // SAFETY: as above; a block that cannot be sampled came from the inner allocator.
        unsafe { self.inner.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if engine::may_be_sampled(block as usize, layout.size()) | engine::is_due(new_size) {
            // SAFETY: the caller's promises about the arguments are passed on.
            return unsafe {
                engine::realloc(block, layout.size(), layout.align(), new_size, &self.inner)
            };
        }
        // SAFETY: as above; a block that cannot be sampled came from the inner allocator.
        unsafe { self.inner.realloc(block, layout, new_size) }
    }
}
