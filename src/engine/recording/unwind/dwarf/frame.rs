//! A frame of the walk, and the memory that its caller is found in.

use super::arch;
use super::rules::Rule;

/// Where a function is, and where its variables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Of the innermost frame the current instruction, of others inside the call.
    pub(super) ip: u64,
    pub(super) sp: u64,
    pub(super) fp: u64,
}

impl Frame {
    /// The stack pointer of the caller by a rule that says it is that far away.
    #[inline]
    pub(super) fn caller_sp(&self, rule: Rule, distance: u64) -> u64 {
        let base = if rule.uses_frame_pointer() { self.fp } else { self.sp };
        base.wrapping_add(distance)
    }

    /// The caller, whose stack pointer is `sp`; its `ip` is the return address. `None` when that
    /// asks for memory outside the bounds.
    #[inline]
    pub(super) fn out(&self, rule: Rule, sp: u64, bounds: Bounds) -> Option<Self> {
        let ip = arch::strip(bounds.read(rule.return_address_below(sp)?)?);
        let restored = rule.frame_pointer_below(sp);
        let fp = restored.map_or(Some(self.fp), |slot| bounds.read(slot))?;
        Some(Self { ip, sp, fp })
    }
}

/// The part of the own stack that is in use: all that a walk may read, word by word.
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

    /// One comparison: whatever is below, or not at a whole word, becomes a large number.
    #[inline]
    pub(super) fn contain(self, address: u64) -> bool {
        address.wrapping_sub(self.bottom).rotate_right(3) < self.words
    }

    #[inline]
    pub(super) fn read(self, address: u64) -> Option<u64> {
        if !self.contain(address) {
            return None;
        }
        // SAFETY: it is within.
        Some(unsafe { self.read_within(address) })
    }

    /// # Safety
    /// The address is of a whole word within the bounds.
    #[inline]
    pub(super) unsafe fn read_within(self, address: u64) -> u64 {
        debug_assert!(self.contain(address));
        // SAFETY: between the stack pointer and the end of this thread's stack: mapped, and not
        // written by anybody else.
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
            assert!(bounds.contain(inside));
        }
        for outside in [0, 0xff8, 0x1001, 0x1ff9, 0x1ffc, 0x2000, u64::MAX, u64::MAX - 7] {
            assert_eq!(bounds.read(outside), None);
        }
        assert!(!Bounds::new(0x1001, 0x2000).contain(0x1000));
        assert!(!Bounds::new(0x2000, 0x1000).contain(0x1800));
    }
}
