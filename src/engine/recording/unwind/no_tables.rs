//! Platforms whose unwind tables are not read. The `backtrace` crate walks every stack, and no
//! address belongs to a known module.

use std::io;
use std::ops::Range;

use super::captured::{Captured, UnwindMethod};
use super::module_info::ModuleInfo;
use super::size::Size;
use crate::engine::recording::arena::Budget;

/// Performs the first walk, which allocates and takes locks.
pub(super) fn warm_up() {
    backtrace::trace(|_| true);
}

#[derive(Debug)]
pub(super) struct Walker;

impl Walker {
    pub(super) const ENGINE_BYTES: u64 = 0;
    pub(super) const RULE_BYTES: u64 = 0;
    pub(super) const MEMO_FRAME_BYTES: u64 = 0;

    pub(super) fn new(_size: &Size, _modules: &Modules) -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) fn capture(
        &self,
        captured: &mut Captured,
        _stack: Range<usize>,
        _lane: usize,
        _modules: &Modules,
    ) {
        captured.method = UnwindMethod::Backtrace;
        // SAFETY: `trace_unsynchronized` requires that no other thread symbolizes with the
        // `backtrace` crate at the same time. This crate never symbolizes with it, and the walk
        // itself keeps no state.
        unsafe {
            backtrace::trace_unsynchronized(|frame| {
                let address = frame.ip() as u64;
                address <= 1 || captured.push(address - 1)
            });
        }
    }
}

/// The registry of modules on such platforms: it is always empty.
#[derive(Debug)]
pub(crate) struct Modules;

impl Modules {
    pub(crate) fn with_budget(_budget: &'static Budget) -> io::Result<Self> {
        Ok(Self)
    }

    #[cfg(test)]
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn len(&self) -> u32 {
        0
    }

    pub(crate) fn refresh(&self) {}

    pub(crate) fn newest_at(&self, _address: u64, _limit: u32) -> Option<u32> {
        None
    }

    pub(crate) fn function_start(&self, _module: u32, _address: u64) -> Option<u64> {
        None
    }

    pub(crate) fn bias(&self, _module: u32) -> u64 {
        0
    }

    pub(crate) fn info(&self, _module: u32) -> ModuleInfo {
        ModuleInfo::default()
    }
}
