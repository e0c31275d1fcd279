//! Allocators behind the entry points that a program calls.
//!
//! A process has one `#[global_allocator]`, but a comparison needs several allocators in one
//! process, interleaved. So each of them is called through functions that are never inlined and
//! take the same arguments in the same order as `__rust_alloc` and `__rust_dealloc`, and compile to
//! the same code.

use std::alloc::System;

use heapdrift::Alloc;
use mimalloc::MiMalloc;

/// The entry points of an allocator.
pub(crate) trait EntryPoints {
    fn allocate(size: usize, align: usize) -> *mut u8;
    fn free(block: *mut u8, size: usize, align: usize);
}

macro_rules! entry_points {
    ($(#[$doc:meta])* $name:ident, $allocator:ty, $value:expr) => {
        $(#[$doc])*
        pub(crate) struct $name;

        #[allow(unsafe_code)]
        impl $crate::entry_points::EntryPoints for $name {
            #[inline(never)]
            fn allocate(size: usize, align: usize) -> *mut u8 {
                static ALLOC: $allocator = $value;
                use std::alloc::Layout;
                // SAFETY: these benchmarks only have valid sizes and alignments, and no size is 0.
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

entry_points!(BareSystem, System, System);
entry_points!(OverSystem, Alloc, Alloc::system());
entry_points!(BareMimalloc, MiMalloc, MiMalloc);
entry_points!(OverMimalloc, Alloc<MiMalloc>, Alloc::new(MiMalloc));

const ALIGN: usize = 8;

/// A block that frees itself through the allocator that it came from.
pub(crate) struct Block<A: EntryPoints> {
    address: usize,
    size: usize,
    allocator: std::marker::PhantomData<fn() -> A>,
}

impl<A: EntryPoints> Block<A> {
    #[inline]
    pub(crate) fn new(size: usize) -> Self {
        let address = std::hint::black_box(A::allocate(size, ALIGN)).expose_provenance();
        Self { address, size, allocator: std::marker::PhantomData }
    }
}

impl<A: EntryPoints> Drop for Block<A> {
    #[inline]
    fn drop(&mut self) {
        A::free(std::ptr::with_exposed_provenance_mut(self.address), self.size, ALIGN);
    }
}

/// Random sizes and indices for the price of a few instructions (xorshift; Marsaglia, 2003).
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

/// Replaces `count` random blocks of a table with others of 16 to 527 bytes.
#[inline(never)]
pub(crate) fn churn<A: EntryPoints>(table: &mut [Block<A>], random: &mut Random, count: usize) {
    for _ in 0..count {
        let bits = random.next();
        let slot = (bits >> 32) % table.len();
        table[slot] = Block::new(16 + (bits & 511));
    }
}

/// A table of blocks of 16 to 527 bytes.
pub(crate) fn table<A: EntryPoints>(len: usize) -> Vec<Block<A>> {
    // As their addresses are taken, the compiler cannot specialise them for one alignment.
    std::hint::black_box((A::allocate as fn(_, _) -> _, A::free as fn(_, _, _)));
    let mut random = Random(1);
    (0..len).map(|_| Block::new(16 + (random.next() & 511))).collect()
}
