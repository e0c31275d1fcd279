//! A random generator of a few instructions (xorshift; Marsaglia, 2003).

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    #[inline]
    pub(crate) fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize
    }

    /// An index below `len` and a size of 16 to 527 bytes.
    #[inline]
    pub(crate) fn slot_and_size(&mut self, len: usize) -> (usize, usize) {
        let bits = self.next();
        ((bits >> 32) % len, 16 + (bits & 511))
    }
}

/// A block whose first byte is written.
#[inline]
pub(crate) fn block(size: usize) -> Vec<u8> {
    let mut block = Vec::with_capacity(size);
    block.push(1);
    block
}
