//! The library that `tests/off_is_off.rs` compiles for each allocator, by `--cfg allocator="…"`.
//!
//! The functions have the same names whatever the allocator, so that their machine code can be
//! compared one by one. They are compiled separately, because within one crate the compiler would
//! merge equal functions, and nothing would be left to compare.

use std::alloc::{GlobalAlloc, Layout};

// Linked for every allocator, so that all of them reuse the generic instances in this crate.
use heapdrift as _;

#[cfg(allocator = "bare")]
#[global_allocator]
static ALLOC: std::alloc::System = std::alloc::System;

#[cfg(allocator = "wrapped")]
#[global_allocator]
static ALLOC: heapdrift::Alloc<std::alloc::System> = heapdrift::Alloc::system();

#[cfg(allocator = "one_load_more")]
#[global_allocator]
static ALLOC: OneLoadMore = OneLoadMore;

#[cfg(must_be_zero_sized)]
const _: () = assert!(size_of::<heapdrift::Alloc<std::alloc::System>>() == 0);

#[unsafe(no_mangle)]
pub unsafe fn probe_alloc(layout: Layout) -> *mut u8 {
    unsafe { ALLOC.alloc(layout) }
}

#[unsafe(no_mangle)]
pub unsafe fn probe_alloc_zeroed(layout: Layout) -> *mut u8 {
    unsafe { ALLOC.alloc_zeroed(layout) }
}

#[unsafe(no_mangle)]
pub unsafe fn probe_dealloc(block: *mut u8, layout: Layout) {
    unsafe { ALLOC.dealloc(block, layout) }
}

#[unsafe(no_mangle)]
pub unsafe fn probe_realloc(block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
    unsafe { ALLOC.realloc(block, layout, new_size) }
}

/// Uses the global allocator as a program does: allocates, grows and frees a block.
#[unsafe(no_mangle)]
pub fn probe_global(first: u64, second: u64) -> u64 {
    let mut numbers = std::hint::black_box(vec![first]);
    numbers.push(second);
    numbers.iter().sum()
}

/// The smallest possible hook: each method loads an atomic, relaxed, and tests its value.
#[cfg(allocator = "one_load_more")]
pub struct OneLoadMore;

#[cfg(allocator = "one_load_more")]
mod one_load_more {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicBool, Ordering};

    static REFUSE: AtomicBool = AtomicBool::new(false);

    unsafe impl GlobalAlloc for super::OneLoadMore {
        #[inline]
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            if REFUSE.load(Ordering::Relaxed) {
                return std::ptr::null_mut();
            }
            unsafe { System.alloc(layout) }
        }

        #[inline]
        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            if REFUSE.load(Ordering::Relaxed) {
                return std::ptr::null_mut();
            }
            unsafe { System.alloc_zeroed(layout) }
        }

        #[inline]
        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            if REFUSE.load(Ordering::Relaxed) {
                return;
            }
            unsafe { System.dealloc(block, layout) }
        }

        #[inline]
        unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            if REFUSE.load(Ordering::Relaxed) {
                return std::ptr::null_mut();
            }
            unsafe { System.realloc(block, layout, new_size) }
        }
    }
}
