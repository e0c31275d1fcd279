//! The inner allocator of these tests.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The system's allocator, with a log of calls; it fails on demand.
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

/// Called when memory is about to be given back or moved.
pub(crate) static ON_RELEASE: Mutex<Option<Box<dyn FnMut() + Send>>> = Mutex::new(None);

impl Spy {
    /// Whether the call should go through.
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
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !Self::note(Call::AllocZeroed(layout)) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        Self::note(Call::Dealloc(block.addr(), layout));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !Self::note(Call::Realloc(block.addr(), layout, new_size)) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(block, layout, new_size) }
    }
}

/// The calls since the last look.
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
