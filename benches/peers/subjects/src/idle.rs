//! As many instructions as heapdrift's hook has on its common path, that do nothing: what any hook of that
//! length costs, and so the limit of what one can be brought down to. They touch no memory and do not branch.

#![allow(unsafe_code, reason = "a global allocator is unsafe to write")]

use std::alloc::{GlobalAlloc, Layout};

pub(crate) struct Idle<A>(pub(crate) A);

/// `$count` additions to a copy of a number; three or five.
macro_rules! idle {
    ($number:expr, $($addition:literal)+) => {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: changes one register, which is given up.
        unsafe {
            std::arch::asm!(
                "mov {copy}, {number}",
                $($addition,)+
                copy = out(reg) _,
                number = in(reg) $number,
                options(nomem, nostack),
            );
        }
    };
}

fn three(number: usize) {
    idle!(number, "add {copy}, 3" "add {copy}, {number}");
}

fn five(number: usize) {
    idle!(number, "add {copy}, 3" "add {copy}, {number}" "add {copy}, 5" "add {copy}, {number}");
}

// SAFETY: every method is that of the inner allocator.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Idle<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        three(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { self.0.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        three(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        five(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { self.0.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        five(layout.size());
        three(new_size);
        // SAFETY: the caller's promises are passed on.
        unsafe { self.0.realloc(block, layout, new_size) }
    }
}
