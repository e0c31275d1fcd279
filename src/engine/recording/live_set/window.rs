//! How a free recognises that its block was never sampled: by one comparison, without a lookup.
//!
//! Large objects are recognised by their size and small ones by their address, both at once: after
//! XOR with [`START`], addresses of slots are small numbers and all others are large ones.
//!
//! ```text
//!                        (address ^ START) >> SHIFT          may be sampled if below the size:
//!   a slot               its offset: 0 to 15                 always, see below
//!   a heap at 0x00…      14,336                              from 14 KiB on, and so never if small
//!   mimalloc's, 0x02…    14,848 and more
//!   a heap at 0x55…      27,904
//!   mappings, 0x7f…      18,176
//!   any address          at most 32,767                      from LARGE on
//! ```
//! The table is for x86_64, where mimalloc begins at 2 TiB. A block that may be sampled but is not
//! costs a few instructions more.
//!
//! An object of 1 byte is recognised in the first 4 GiB of the slots, one of 16 bytes in the first
//! 64 GiB.

/// Objects of at least this size are large: they stay with the inner allocator.
pub(crate) const LARGE: usize = 32 << 10;

/// The number of bits in a user-space address.
const ADDRESS_BITS: u32 = if cfg!(target_arch = "aarch64") { 48 } else { 47 };

/// Chosen so that no user-space address is [`LARGE`] units of this shift or more away from
/// [`START`].
const SHIFT: u32 = ADDRESS_BITS - LARGE.ilog2();

/// Where slots begin: far from where the kernel, an executable, a heap, valgrind or a sanitizer
/// place anything by themselves.
pub(super) const START: usize = 0x38 << 40;

/// Whether a block may be sampled. There are false positives, but no false negatives.
#[inline(always)]
pub(crate) fn may_be_sampled(address: usize, size: usize) -> bool {
    (address ^ START) >> SHIFT < size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_block_may_be_sampled_at_any_address() {
        for bit in 0..ADDRESS_BITS {
            for address in [1 << bit, (1 << ADDRESS_BITS) - (1 << bit), START ^ (1 << bit)] {
                assert!(may_be_sampled(address, LARGE), "{address:x}");
            }
        }
    }

    #[test]
    fn blocks_in_slots_may_be_sampled_and_small_blocks_elsewhere_are_not() {
        let gib = 1 << 30;
        for (offset, size) in [(0, 1), (4 * gib - 1, 1), (4 * gib, 16), (64 * gib - 1, 16)] {
            assert!(may_be_sampled(START + offset, size), "{size} at {offset}");
        }
        let heaps = [0x40_0000, 0x0200_0000_0000, 0x1e00_0000_0000, 0x5555_5555_0000];
        for address in heaps.into_iter().chain([0x7f00_0000_0000, 0x7fff_ffff_f000]) {
            assert!(!may_be_sampled(address, 4096), "{address:x}");
        }
    }
}
