//! Allocators as a program calls them.
//!
//! A process has one `#[global_allocator]`, and a comparison wants several in one process, interleaved. So
//! each stands behind functions that are never inlined and take what `__rust_alloc` and `__rust_dealloc`
//! take, in the same order: the code behind them is the code behind those.

use std::alloc::System;

use heapdrift::Alloc;
use mimalloc::MiMalloc;

pub(crate) trait Door {
    fn allocate(size: usize, align: usize) -> *mut u8;
    fn free(block: *mut u8, size: usize, align: usize);
}

macro_rules! door {
    ($(#[$doc:meta])* $name:ident, $allocator:ty, $value:expr) => {
        $(#[$doc])*
        pub(crate) struct $name;

        #[allow(unsafe_code)]
        impl $crate::door::Door for $name {
            #[inline(never)]
            fn allocate(size: usize, align: usize) -> *mut u8 {
                static ALLOC: $allocator = $value;
                use std::alloc::Layout;
                // SAFETY: sizes and alignments in these benchmarks make a layout, and none is empty.
                let layout = unsafe { Layout::from_size_align_unchecked(size, align) };
                // SAFETY: the layout is not empty.
                unsafe { std::alloc::GlobalAlloc::alloc(&ALLOC, layout) }
            }

            #[inline(never)]
            fn free(block: *mut u8, size: usize, align: usize) {
                static ALLOC: $allocator = $value;
                use std::alloc::Layout;
                // SAFETY: as above.
                let layout = unsafe { Layout::from_size_align_unchecked(size, align) };
                // SAFETY: only `Block` calls this, with what `allocate` gave it.
                unsafe { std::alloc::GlobalAlloc::dealloc(&ALLOC, block, layout) }
            }
        }
    };
}

door!(BareSystem, System, System);
door!(OverSystem, Alloc, Alloc::system());
door!(BareMimalloc, MiMalloc, MiMalloc);
door!(OverMimalloc, Alloc<MiMalloc>, Alloc::new(MiMalloc));

const ALIGN: usize = 8;

/// A block that goes back to where it came from.
pub(crate) struct Block<D: Door> {
    address: usize,
    size: usize,
    door: std::marker::PhantomData<fn() -> D>,
}

impl<D: Door> Block<D> {
    #[inline]
    pub(crate) fn new(size: usize) -> Self {
        let address = std::hint::black_box(D::allocate(size, ALIGN)).expose_provenance();
        Self { address, size, door: std::marker::PhantomData }
    }
}

impl<D: Door> Drop for Block<D> {
    #[inline]
    fn drop(&mut self) {
        D::free(std::ptr::with_exposed_provenance_mut(self.address), self.size, ALIGN);
    }
}

/// Sizes and places by chance that costs three instructions (xorshift; Marsaglia, 2003).
pub(crate) struct Random(pub(crate) usize);

impl Random {
    #[inline]
    pub(crate) fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Replaces `count` random blocks of a table by others of 16 to 527 bytes.
#[inline(never)]
pub(crate) fn churn<D: Door>(table: &mut [Block<D>], random: &mut Random, count: usize) {
    for _ in 0..count {
        let bits = random.next();
        let slot = (bits >> 32) % table.len();
        table[slot] = Block::new(16 + (bits & 511));
    }
}

/// A table of blocks of 16 to 527 bytes.
pub(crate) fn table<D: Door>(len: usize) -> Vec<Block<D>> {
    // Whoever has their addresses might call them with any alignment: so none is compiled in.
    std::hint::black_box((D::allocate as fn(_, _) -> _, D::free as fn(_, _, _)));
    let mut random = Random(1);
    (0..len).map(|_| Block::new(16 + (random.next() & 511))).collect()
}
