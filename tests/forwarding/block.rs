//! Blocks that know what is in them.

use std::alloc::{GlobalAlloc, Layout};

use crate::ALLOC;

/// Which method makes a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum By {
    Alloc,
    AllocZeroed,
}

/// A block of the allocator under test, with contents that are checked on every occasion.
#[derive(Debug)]
pub(crate) struct Block {
    start: *mut u8,
    pub(crate) layout: Layout,
    pub(crate) mark: u8,
}

impl Block {
    /// `None` where the allocator returned null.
    pub(crate) fn try_new(by: By, size: usize, align: usize, mark: u8) -> Option<Self> {
        let layout = Layout::from_size_align(size, align).unwrap();
        assert!(size > 0);
        let start = match by {
            // SAFETY: the size is not zero.
            By::Alloc => unsafe { ALLOC.alloc(layout) },
            // SAFETY: the size is not zero.
            By::AllocZeroed => unsafe { ALLOC.alloc_zeroed(layout) },
        };
        if start.is_null() {
            return None;
        }
        let mut block = Self { start, layout, mark };
        assert_eq!(start.addr() % align, 0, "{layout:?}");
        if by == By::AllocZeroed {
            assert!(block.bytes().iter().all(|byte| *byte == 0), "{layout:?} is not zeroed");
        }
        block.fill();
        Some(block)
    }

    pub(crate) fn new(by: By, size: usize, align: usize, mark: u8) -> Self {
        Self::try_new(by, size, align, mark).expect("memory")
    }

    pub(crate) fn small(size: usize) -> Self {
        Self::new(By::Alloc, size, 8, size as u8)
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the block has that many bytes and belongs to `self`. What `alloc` returned was
        // never written, but is memory of this process that any value of `u8` fits.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.layout.size()) }
    }

    /// The byte of each stretch of 64.
    fn byte(&self, index: usize) -> u8 {
        self.mark ^ (index / 64) as u8
    }

    fn fill(&mut self) {
        let mark = self.mark;
        for (stretch, bytes) in self.bytes().chunks_mut(64).enumerate() {
            bytes.fill(mark ^ stretch as u8);
        }
    }

    /// Looks at every byte of small blocks, and at some of each page of others.
    pub(crate) fn check(&mut self, up_to: usize) {
        let step = if up_to > 16 << 10 { 1021 } else { 1 };
        for i in (0..up_to).step_by(step).chain(up_to.checked_sub(1)) {
            let expected = self.byte(i);
            let found = self.bytes()[i];
            assert_eq!(found, expected, "byte {i} of {:?}", self.layout);
        }
    }

    /// `false`, and nothing changed, where the allocator returned null.
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
        // SAFETY: a live block of that layout, which nobody uses any more.
        unsafe { ALLOC.dealloc(self.start, self.layout) };
    }

    pub(crate) fn address(&self) -> usize {
        self.start.addr()
    }
}

// SAFETY: a block is memory that its owner alone uses; the allocator is shared between threads.
unsafe impl Send for Block {}
