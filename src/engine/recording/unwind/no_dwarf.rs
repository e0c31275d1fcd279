//! Platforms without the DWARF walk: every stack goes to the `backtrace` crate.

use std::io;
use std::ops::Range;

use super::{Captured, Modules, Size};

#[derive(Debug)]
pub(super) struct Dwarf;

impl Dwarf {
    pub(super) const ENGINE_BYTES: u64 = 0;
    pub(super) const RULE_BYTES: u64 = 0;
    pub(super) const MEMO_FRAME_BYTES: u64 = 0;

    pub(super) fn new(_size: &Size, _modules: &Modules) -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) fn capture(
        &self,
        _captured: &mut Captured,
        _stack: Range<usize>,
        _lane: usize,
        _modules: &Modules,
    ) -> bool {
        false
    }
}
