//! An allocator with as many extra instructions as the fast path of heapdrift's hook has, which do
//! nothing. They touch no memory and do not branch, so they show what any hook of that length costs
//! at least.

#![allow(unsafe_code, reason = "a global allocator is unsafe to write")]

use std::alloc::{GlobalAlloc, Layout};

pub(crate) struct Idle<A>(pub(crate) A);

/// Copies a number and does the given additions to the copy: three or five instructions in all.
macro_rules! idle {
    ($number:expr, $($addition:literal)+) => {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: changes only a register that is declared as an output, and the flags.
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

// SAFETY: every method forwards to the inner allocator.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Idle<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        three(layout.size());
        // SAFETY: the caller upholds the contract of this method, which is that of the inner one.
        unsafe { self.0.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        three(layout.size());
        // SAFETY: the caller upholds the contract of this method, which is that of the inner one.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        five(layout.size());
        // SAFETY: the caller upholds the contract of this method, which is that of the inner one.
        unsafe { self.0.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        five(layout.size());
        three(new_size);
        // SAFETY: the caller upholds the contract of this method, which is that of the inner one.
        unsafe { self.0.realloc(block, layout, new_size) }
    }
}
