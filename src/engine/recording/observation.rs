//! The tables of the session as the leak detector reads them, without a snapshot in between.

use std::collections::BTreeMap;

use super::live::Live;
use super::snapshot::module;
use crate::engine::recording::sys;
use crate::leak::detection::observation::Observation;
use crate::snapshot::{LiveSample, Module};

/// The live samples at the end of a tick. Threads go on sampling meanwhile.
pub(super) struct LiveObservation<'a> {
    live: &'a Live<'a>,
    tick: u32,
    uptime_ms: u64,
}

impl<'a> LiveObservation<'a> {
    pub(super) fn new(live: &'a Live<'a>, tick: u32) -> Self {
        let uptime_ms = sys::monotonic_ms().saturating_sub(live.started_ms);
        Self { live, tick, uptime_ms }
    }
}

impl Observation for LiveObservation<'_> {
    fn tick(&self) -> u32 {
        self.tick
    }

    fn uptime_ms(&self) -> u64 {
        self.uptime_ms
    }

    fn for_each(&self, look: &mut dyn FnMut(LiveSample)) {
        for sample in (0..self.live.records.created()).filter_map(|at| self.live.records.read(at)) {
            look(sample.to_live(self.live.started_ms));
        }
    }

    fn sites(&self) -> u32 {
        self.live.stacks.len()
    }

    fn frames(&self, site: u32, frames: &mut Vec<u64>) {
        frames.clear();
        self.live.stacks.frames(site, frames);
    }

    fn module(&self, address: u64) -> Option<Module> {
        let modules = self.live.unwinder.modules();
        Some(module(modules.info(modules.newest_at(address, modules.len())?)))
    }

    fn function(&self, address: u64) -> u64 {
        let modules = self.live.unwinder.modules();
        let module = modules.newest_at(address, modules.len());
        module.and_then(|module| modules.function_start(module, address)).unwrap_or(address)
    }

    fn label_set(&self, site: u32) -> u32 {
        self.live.stacks.labels(site)
    }

    fn labels(&self, set: u32) -> BTreeMap<String, String> {
        self.live.labels.view(set)
    }
}
