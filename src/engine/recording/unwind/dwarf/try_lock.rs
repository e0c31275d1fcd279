//! A try-lock: a value that one thread at a time may use, and that no thread ever waits for.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

/// A value that is locked or free. A thread that does not exist in a forked child keeps its locks
/// locked there for ever; other threads do without the value.
#[derive(Debug, Default)]
pub(super) struct TryLock<T> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: only the thread that has set `locked` accesses the value, until it clears `locked`; so
// the value is sent between threads but never shared.
unsafe impl<T: Send> Sync for TryLock<T> {}

impl<T> TryLock<T> {
    pub(super) fn new(value: T) -> Self {
        Self { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Locks the value, unless it is locked already.
    pub(super) fn try_lock(&self) -> Option<TryLockGuard<'_, T>> {
        // Acquire: pairs with the release in `TryLockGuard::drop`. The relaxed load only avoids
        // writing to the cache line of a locked value.
        let free =
            !self.locked.load(Ordering::Relaxed) && !self.locked.swap(true, Ordering::Acquire);
        // `then_some` would build a guard in any case, and dropping it unlocks what another holds.
        free.then(|| TryLockGuard(self))
    }
}

/// A locked value, which is unlocked when this is dropped.
#[derive(Debug)]
pub(super) struct TryLockGuard<'a, T>(&'a TryLock<T>);

impl<T> Deref for TryLockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard exists, so this thread has set `locked` and no other thread accesses
        // the value.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for TryLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard exists, so this thread has set `locked` and no other thread accesses
        // the value.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for TryLockGuard<'_, T> {
    fn drop(&mut self) {
        // Release: pairs with the acquire in `TryLock::try_lock`.
        self.0.locked.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_fails_does_not_unlock() {
        let lock = TryLock::new(1);
        let held = lock.try_lock();
        assert!(held.is_some());
        assert!(lock.try_lock().is_none());
        assert!(lock.try_lock().is_none(), "the attempt before has unlocked it");
        drop(held);
        assert!(lock.try_lock().is_some());
    }
}
