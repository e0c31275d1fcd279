//! Allocations under any number of different stacks.

use std::hint::black_box;

pub(crate) type Object = Box<[u8; 48]>;

/// Allocates under a stack of `2 * depth` frames, one of `2^depth`, which the bits of `path`
/// select.
#[inline(never)]
pub(crate) fn allocate(path: u32, depth: u32) -> Object {
    #[inline(never)]
    fn left(path: u32, depth: u32) -> Object {
        // The code of the two functions must differ, or the linker merges them.
        black_box("left");
        black_box(allocate(path, depth))
    }
    #[inline(never)]
    fn right(path: u32, depth: u32) -> Object {
        black_box("right");
        black_box(allocate(path, depth))
    }
    match (depth, path & 1) {
        (0, _) => Box::new([0; 48]),
        (_, 0) => left(path >> 1, depth - 1),
        _ => right(path >> 1, depth - 1),
    }
}
