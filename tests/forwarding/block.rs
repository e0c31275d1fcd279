//! Blocks that verify their own contents.

use std::alloc::{GlobalAlloc, Layout};

use crate::ALLOC;

/// The allocator method that makes a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Method {
    Alloc,
    AllocZeroed,
}

/// A block of the allocator under test, whose contents are checked before it is resized or freed.
#[derive(Debug)]
pub(crate) struct Block {
    start: *mut u8,
    pub(crate) layout: Layout,
    pub(crate) mark: u8,
}

impl Block {
    /// Returns `None` if the allocator returned null.
    pub(crate) fn try_new(method: Method, size: usize, align: usize, mark: u8) -> Option<Self> {
        let layout = Layout::from_size_align(size, align).unwrap();
        assert!(size > 0);
        let start = match method {
            // SAFETY: the size is not zero.
            Method::Alloc => unsafe { ALLOC.alloc(layout) },
            // SAFETY: the size is not zero.
            Method::AllocZeroed => unsafe { ALLOC.alloc_zeroed(layout) },
        };
        if start.is_null() {
            return None;
        }
        let mut block = Self { start, layout, mark };
        assert_eq!(start.addr() % align, 0, "{layout:?}");
        if method == Method::AllocZeroed {
            assert!(block.bytes().iter().all(|byte| *byte == 0), "{layout:?} is not zeroed");
        }
        block.fill();
        Some(block)
    }

    pub(crate) fn new(method: Method, size: usize, align: usize, mark: u8) -> Self {
        Self::try_new(method, size, align, mark).expect("the allocator has memory")
    }

    pub(crate) fn small(size: usize) -> Self {
        Self::new(Method::Alloc, size, 8, size as u8)
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the block has that many bytes and belongs to `self`. Memory from `alloc` was not
        // written yet, but any byte is a valid `u8`.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.layout.size()) }
    }

    /// The expected byte at an index; it is the same within each 64 bytes.
    fn byte(&self, index: usize) -> u8 {
        self.mark ^ (index / 64) as u8
    }

    fn fill(&mut self) {
        let mark = self.mark;
        for (chunk, bytes) in self.bytes().chunks_mut(64).enumerate() {
            bytes.fill(mark ^ chunk as u8);
        }
    }

    /// Checks every byte of a small block; of a larger one, some of each page and the last.
    pub(crate) fn check(&mut self, up_to: usize) {
        let step = if up_to > 16 << 10 { 1021 } else { 1 };
        for i in (0..up_to).step_by(step).chain(up_to.checked_sub(1)) {
            let expected = self.byte(i);
            let found = self.bytes()[i];
            assert_eq!(found, expected, "byte {i} of {:?}", self.layout);
        }
    }

    /// Returns `false` and changes nothing if the allocator returned null.
    pub(crate) fn try_resize(&mut self, size: usize) -> bool {
        let old = self.layout.size();
        self.check(old);
        // SAFETY: a live block of that layout; the size is not zero and far below `isize::MAX`.
        let start = unsafe { ALLOC.realloc(self.start, self.layout, size) };
        if !start.is_null() {
            assert_eq!(start.addr() % self.layout.align(), 0, "{:?}", self.layout);
            self.start = start;
            self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
            self.check(old.min(size));
            self.fill();
        }
        !start.is_null()
    }

    pub(crate) fn resize(&mut self, size: usize) {
        assert!(self.try_resize(size), "memory");
    }

    pub(crate) fn free(mut self) {
        self.check(self.layout.size());
        // SAFETY: a live block of that layout, which is not used any more.
        unsafe { ALLOC.dealloc(self.start, self.layout) };
    }

    pub(crate) fn address(&self) -> usize {
        self.start.addr()
    }
}

// SAFETY: a block is memory that its owner alone uses; the allocator is shared between threads.
unsafe impl Send for Block {}
