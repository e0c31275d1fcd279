//! A frame of the walk, and the stack memory in which its caller is found.

use super::arch;
use super::rules::Rule;

/// The registers of a frame: where its code and its local variables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The current instruction of the innermost frame; for other frames an address inside the call
    /// instruction.
    pub(super) ip: u64,
    pub(super) sp: u64,
    pub(super) fp: u64,
}

impl Frame {
    /// The caller's stack pointer, by a rule that puts it `distance` bytes above the rule's base
    /// register.
    #[inline]
    pub(super) fn caller_sp(&self, rule: Rule, distance: u64) -> u64 {
        let base = if rule.uses_frame_pointer() { self.fp } else { self.sp };
        base.wrapping_add(distance)
    }

    /// The caller, whose stack pointer is `sp`; its `ip` is the return address. Returns `None` if
    /// that requires memory outside the bounds.
    #[inline]
    pub(super) fn caller(&self, rule: Rule, sp: u64, bounds: Bounds) -> Option<Self> {
        let ip = arch::strip_pac(bounds.read(rule.return_address_below(sp)?)?);
        let restored = rule.frame_pointer_below(sp);
        let fp = restored.map_or(Some(self.fp), |slot| bounds.read(slot))?;
        Some(Self { ip, sp, fp })
    }
}

/// The used part of the thread's own stack: the only memory that a walk may read, one aligned word
/// at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    bottom: u64,
    words: u64,
}

impl Bounds {
    pub(super) fn new(bottom: u64, top: u64) -> Self {
        let bottom = bottom.next_multiple_of(8);
        Self { bottom, words: top.saturating_sub(bottom) / 8 }
    }

    /// Needs a single comparison: an address below the bounds or not aligned to a word becomes a
    /// large number.
    #[inline]
    pub(super) fn contains(self, address: u64) -> bool {
        address.wrapping_sub(self.bottom).rotate_right(3) < self.words
    }

    #[inline]
    pub(super) fn read(self, address: u64) -> Option<u64> {
        if !self.contains(address) {
            return None;
        }
        // SAFETY: `contains` has just confirmed the address.
        Some(unsafe { self.read_unchecked(address) })
    }

    /// # Safety
    /// `contains` is true of the address: it is an aligned word within the bounds, which are those
    /// of the current thread's stack.
    #[inline]
    pub(super) unsafe fn read_unchecked(self, address: u64) -> u64 {
        debug_assert!(self.contains(address));
        // SAFETY: by this function's contract the word is aligned and lies between the stack
        // pointer and the end of this thread's stack: it is mapped, and no other thread writes to
        // it.
        unsafe { (address as *const u64).read_volatile() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_bounds_is_read() {
        let bounds = Bounds::new(0x1000, 0x2000);
        for inside in [0x1000, 0x1008, 0x1ff8] {
            assert!(bounds.contains(inside));
        }
        for outside in [0, 0xff8, 0x1001, 0x1ff9, 0x1ffc, 0x2000, u64::MAX, u64::MAX - 7] {
            assert_eq!(bounds.read(outside), None);
        }
        assert!(!Bounds::new(0x1001, 0x2000).contains(0x1000));
        assert!(!Bounds::new(0x2000, 0x1000).contains(0x1800));
    }
}
