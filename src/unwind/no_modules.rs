//! Platforms without a list of modules: every address is outside of all modules.

use std::io;

use super::module_info::ModuleInfo;
use crate::arena::Budget;

#[derive(Debug)]
pub(crate) struct Modules;

impl Modules {
    pub(crate) fn with_budget(_budget: &'static Budget) -> io::Result<Self> {
        Ok(Self)
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
