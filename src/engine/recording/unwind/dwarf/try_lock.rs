//! Something that one thread at a time works with, and no thread ever waits for.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

/// A value and whether somebody has taken it. A thread that vanishes with it (in a forked child)
/// keeps it: whoever finds a seat taken does without.
#[derive(Debug, Default)]
pub(super) struct TryLock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is touched only between winning `taken` and giving it back.
unsafe impl<T: Send> Sync for TryLock<T> {}

impl<T> TryLock<T> {
    pub(super) fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// The seat, unless somebody has it.
    pub(super) fn take(&self) -> Option<TryLockGuard<'_, T>> {
        // Acquire: pairs with the release in `TryLockGuard::drop`.
        let free = !self.taken.load(Ordering::Relaxed) && !self.taken.swap(true, Ordering::Acquire);
        free.then_some(TryLockGuard(self))
    }
}

/// A taken seat, given back when dropped.
#[derive(Debug)]
pub(super) struct TryLockGuard<'a, T>(&'a TryLock<T>);

impl<T> Deref for TryLockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: whoever has taken the seat is alone with it.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for TryLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: whoever has taken the seat is alone with it.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for TryLockGuard<'_, T> {
    fn drop(&mut self) {
        // Release: pairs with the acquire in `TryLock::take`.
        self.0.taken.store(false, Ordering::Release);
    }
}
