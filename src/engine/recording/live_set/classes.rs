//! The size classes of slots.

use std::alloc::Layout;

/// The size of a span. A span is divided into slots of one class and aligned to its size.
pub(super) const SPAN: usize = 64 << 10;

/// The class of the smallest slots.
pub(super) const SMALLEST: usize = 0;

/// The size classes: every 16 bytes up to 1 KiB, then eight for each doubling up to 32 KiB, so that
/// at most an eighth of a slot is slack; and one of a whole span, for large alignments.
const FINE_STEP: usize = 16;
const FINE_CLASSES: usize = 1024 / FINE_STEP;
pub(super) const CLASSES: usize = FINE_CLASSES + 5 * 8 + 1;

/// The slot size of each class.
pub(super) const SIZES: [u32; CLASSES] = {
    let mut sizes = [SPAN as u32; CLASSES];
    let mut class = 0;
    while class < CLASSES - 1 {
        sizes[class] = if class < FINE_CLASSES {
            ((class + 1) * FINE_STEP) as u32
        } else {
            let (doubling, eighth) = ((class - FINE_CLASSES) / 8, (class - FINE_CLASSES) % 8);
            ((1024 << doubling) + (eighth + 1) * (128 << doubling)) as u32
        };
        class += 1;
    }
    sizes
};

/// 2³² divided by the size of each class, rounded up. For an offset in a span the multiplication
/// gives the same quotient as the division, which takes three times as long.
const RECIPROCALS: [u64; CLASSES] = {
    let mut reciprocals = [0; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        reciprocals[class] = (1_u64 << 32).div_ceil(SIZES[class] as u64);
        class += 1;
    }
    reciprocals
};

/// The smallest class that fits `layout`, if any does.
pub(super) fn class_for(layout: Layout) -> Option<usize> {
    let (size, align) = (layout.size().max(1), layout.align());
    let mut class = if size <= 1024 {
        size.div_ceil(FINE_STEP) - 1
    } else {
        let doubling = (size - 1).ilog2() - 10;
        let eighth = (size - 1 - (1024 << doubling)) >> (7 + doubling);
        FINE_CLASSES + 8 * doubling as usize + eighth
    };
    // Slots are aligned to the largest power of two that divides their size, since spans are. The
    // test uses a mask because the compiler does not know that alignments are powers of two, and
    // would divide.
    while class < CLASSES && SIZES[class] as usize & (align - 1) != 0 {
        class += 1;
    }
    (class < CLASSES).then_some(class)
}

/// The index of the slot that contains the byte at `offset` in a span of `class`.
pub(super) fn slot_in_span(offset: usize, class: usize) -> u32 {
    ((offset as u64 * RECIPROCALS[class]) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::super::window::LARGE;
    use super::*;

    #[test]
    fn every_class_fits_its_sizes_and_wastes_little() {
        for size in 1..LARGE {
            let class = class_for(Layout::from_size_align(size, 8).unwrap()).unwrap();
            let slot = SIZES[class] as usize;
            assert!(slot >= size, "{size} in {slot}");
            assert!(slot - size < 16.max(size / 8 + 1), "{size} in {slot}");
            assert!(class == 0 || (SIZES[class - 1] as usize) < size, "{size} in {slot}");
        }
    }

    #[test]
    fn slot_in_span_equals_division_for_every_byte() {
        for (class, size) in SIZES.iter().enumerate() {
            for offset in 0..SPAN {
                assert_eq!(slot_in_span(offset, class), offset as u32 / size, "{offset}, {size}");
            }
        }
    }

    #[test]
    fn alignments_up_to_a_span_are_honoured() {
        for shift in 0..=16 {
            for size in [1, 17, 100, 1000, 5000, 32_767] {
                let layout = Layout::from_size_align(size, 1 << shift).unwrap();
                let class = class_for(layout).unwrap();
                assert_eq!(SIZES[class] as usize % layout.align(), 0);
            }
        }
        assert_eq!(class_for(Layout::from_size_align(8, 1 << 17).unwrap()), None);
    }
}
