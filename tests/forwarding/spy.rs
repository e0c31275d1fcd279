//! The inner allocator of these tests.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The system allocator with a log of its calls; it can be made to fail.
pub(crate) struct Spy;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Call {
    Alloc(Layout),
    AllocZeroed(Layout),
    Dealloc(usize, Layout),
    Realloc(usize, Layout, usize),
}

static LOG: Mutex<Vec<Call>> = Mutex::new(Vec::new());
pub(crate) static FAILS: AtomicBool = AtomicBool::new(false);

/// Called before memory is freed or reallocated.
pub(crate) static ON_RELEASE: Mutex<Option<Box<dyn FnMut() + Send>>> = Mutex::new(None);

impl Spy {
    /// Logs a call, and returns whether it may succeed.
    fn note(call: Call) -> bool {
        if let (Call::Dealloc(..) | Call::Realloc(..), Some(look)) =
            (call, &mut *ON_RELEASE.lock().unwrap())
        {
            look();
        }
        LOG.lock().unwrap().push(call);
        !FAILS.load(Ordering::Relaxed)
    }
}

// SAFETY: forwards to `System`, or returns null.
unsafe impl GlobalAlloc for Spy {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !Self::note(Call::Alloc(layout)) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller upholds the contract of this method, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !Self::note(Call::AllocZeroed(layout)) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller upholds the contract of this method, which is that of `System`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        Self::note(Call::Dealloc(block.addr(), layout));
        // SAFETY: the caller upholds the contract of this method, which is that of `System`.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !Self::note(Call::Realloc(block.addr(), layout, new_size)) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller upholds the contract of this method, which is that of `System`.
        unsafe { System.realloc(block, layout, new_size) }
    }
}

/// Takes the calls that were logged since the last time.
pub(crate) fn log() -> Vec<Call> {
    std::mem::take(&mut LOG.lock().unwrap())
}

/// Runs `scope` while the inner allocator fails.
pub(crate) fn failing<R>(scope: impl FnOnce() -> R) -> R {
    FAILS.store(true, Ordering::Relaxed);
    let result = scope();
    FAILS.store(false, Ordering::Relaxed);
    result
}
