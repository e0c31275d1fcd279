//! `Alloc<A>`: the global allocator wrapper.
//!
//! Invariant: an allocation that is not sampled reaches the inner allocator through the method of
//! the same name, with the same arguments, and the inner allocator's result is returned. So zeroed
//! memory stays `calloc`, a large `realloc` stays `mremap`, and null stays null.

use std::alloc::{GlobalAlloc, Layout, System};

use crate::engine;

/// A global allocator that passes every call on to `A`, and samples allocations while a
/// [`Profiler`](crate::Profiler) is running.
///
/// Without the feature `profiling` this is a zero-sized pass-through (if `A` is zero-sized) whose
/// machine code equals that of `A`.
///
/// # Cost
/// With `profiling`, an allocation costs a subtraction from a thread-local number and a branch, and
/// a free costs a comparison of the address with the size. Neither depends on how many samples are
/// live. A process should have one `Alloc`, as its `#[global_allocator]`, because the recorded data
/// is global.
///
/// # Examples
/// ```
/// #[global_allocator]
/// static ALLOC: heapdrift::Alloc = heapdrift::Alloc::system();
/// # fn main() {}
/// ```
/// To wrap another allocator, for example mimalloc, use `heapdrift::Alloc<MiMalloc>` and
/// `heapdrift::Alloc::new(MiMalloc)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alloc<A = System> {
    inner: A,
}

impl Alloc<System> {
    /// Wraps the system's allocator.
    pub const fn system() -> Self {
        Self::new(System)
    }
}

impl<A> Alloc<A> {
    /// Wraps any allocator.
    pub const fn new(inner: A) -> Self {
        Self { inner }
    }
}

// Each method is one test and two tail calls. The rare call goes to a function that is never
// inlined: whatever needs saved registers must stay out of here, or the common path pays for it.
// The arguments of that function are in the order in which `__rust_alloc` and its like receive
// them, so that none has to be moved on the common path either, which saves 5 instructions per
// pair.
//
// SAFETY: every method either forwards to `A`, which upholds the contract, or lets the engine serve
// the call, which upholds it too: sampled blocks come from slots that are large and aligned enough,
// are handed out once, and are recognised when they are freed.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Alloc<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if engine::is_due(layout.size()) {
            // SAFETY: the caller upholds the contract of `alloc` and passes a valid `layout`.
            return unsafe { engine::alloc(layout.size(), layout.align(), &self.inner) };
        }
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { self.inner.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if engine::is_due(layout.size()) {
            // SAFETY: the caller upholds the contract of `alloc_zeroed` and passes a valid
            // `layout`.
            return unsafe { engine::alloc_zeroed(layout.size(), layout.align(), &self.inner) };
        }
        // SAFETY: the caller upholds the contract of `alloc_zeroed`.
        unsafe { self.inner.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if engine::may_be_sampled(block as usize, layout.size()) {
            // SAFETY: the caller upholds the contract of `dealloc`, so the block came from this
            // allocator with this `layout`.
            return unsafe { engine::dealloc(block, layout.size(), layout.align(), &self.inner) };
        }
        // SAFETY: the caller upholds the contract of `dealloc`, and a block that cannot be sampled
        // came from the inner allocator.
        unsafe { self.inner.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if engine::may_be_sampled(block as usize, layout.size()) | engine::is_due(new_size) {
            // SAFETY: the caller upholds the contract of `realloc`, so the block came from this
            // allocator with this `layout`.
            return unsafe {
                engine::realloc(block, layout.size(), layout.align(), new_size, &self.inner)
            };
        }
        // SAFETY: the caller upholds the contract of `realloc`, and a block that cannot be sampled
        // came from the inner allocator.
        unsafe { self.inner.realloc(block, layout, new_size) }
    }
}
