//! Platforms without a list of modules: every address is outside of all modules.

use std::io;
use std::ops::Range;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModuleInfo {
    pub(crate) path: Vec<u8>,
    pub(crate) build_id: Vec<u8>,
    pub(crate) bias: u64,
    pub(crate) range: Range<u64>,
    pub(crate) file_offset: u64,
    pub(crate) code: Range<u64>,
}

#[derive(Debug)]
pub(crate) struct Modules;

impl Modules {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn refresh(&self) {}

    pub(crate) fn newest_at(&self, _address: u64, _limit: u32) -> Option<u32> {
        None
    }

    pub(crate) fn function_start(&self, _address: u64) -> Option<u64> {
        None
    }

    pub(crate) fn bias(&self, _module: u32) -> u64 {
        0
    }

    pub(crate) fn info(&self, _module: u32) -> ModuleInfo {
        ModuleInfo::default()
    }
}
