//! Something that one thread at a time works with, and no thread ever waits for.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

/// A value and whether somebody has taken it. A thread that vanishes with it (in a forked child)
/// keeps it: whoever finds a seat taken does without.
#[derive(Debug, Default)]
pub(super) struct Seat<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is touched only between winning `taken` and giving it back.
unsafe impl<T: Send> Sync for Seat<T> {}

impl<T> Seat<T> {
    pub(super) fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// The seat, unless somebody has it.
    pub(super) fn take(&self) -> Option<Taken<'_, T>> {
        // Acquire: pairs with the release in `Taken::drop`.
        let free = !self.taken.load(Ordering::Relaxed) && !self.taken.swap(true, Ordering::Acquire);
        free.then_some(Taken(self))
    }
}

/// A taken seat, given back when dropped.
#[derive(Debug)]
pub(super) struct Taken<'a, T>(&'a Seat<T>);

impl<T> Deref for Taken<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: whoever has taken the seat is alone with it.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: whoever has taken the seat is alone with it.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        // Release: pairs with the acquire in `Seat::take`.
        self.0.taken.store(false, Ordering::Release);
    }
}
