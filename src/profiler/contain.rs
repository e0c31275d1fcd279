//! Keeps panics from reaching the service.

use std::panic::{self, AssertUnwindSafe};

/// Runs `work` and catches its panic; `None` then. The panic hook has reported it.
///
/// What `work` leaves half done must be sound: locks of this crate ignore poisoning.
pub(super) fn contain<R>(work: impl FnOnce() -> R) -> Option<R> {
    match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => Some(result),
        Err(payload) => {
            // The payload is a value of the service, and its destructor may panic as well. What
            // that panic carries is leaked, or this would never end.
            if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(payload);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic::resume_unwind(Box::new(PanicsWhenDropped));
        }
    }

    #[test]
    fn a_panic_whose_payload_panics_is_contained() {
        assert_eq!(contain(|| 7), Some(7));
        assert_eq!(contain::<i32>(|| panic::resume_unwind(Box::new("plain"))), None);
        assert_eq!(contain::<i32>(|| panic::resume_unwind(Box::new(PanicsWhenDropped))), None);
    }
}
