//! The detector's input: a live set at the end of a tick.

use std::collections::BTreeMap;

use crate::Snapshot;
use crate::snapshot::{LiveSample, Module};

/// A live set at the end of a tick, from the tables of the running session or from a snapshot.
pub(crate) trait Observation {
    /// The tick that ended. The first tick of a session is 1.
    fn tick(&self) -> u32;
    /// Milliseconds since recording started.
    fn uptime_ms(&self) -> u64;
    /// Calls `visit` with each live sample, in any order. [`LiveSample::stack`] holds the number of
    /// the sample's site, which is the same at every tick.
    fn for_each(&self, visit: &mut dyn FnMut(LiveSample));
    /// The number of sites. Sites are numbered from 0.
    fn sites(&self) -> u32;
    /// Replaces the contents of `frames` with the code addresses of a site's stack in the recorded
    /// process, innermost first.
    fn frames(&self, site: u32, frames: &mut Vec<u64>);
    /// The module that contains an address.
    fn module(&self, address: u64) -> Option<Module>;
    /// The start of the function that contains an address, or the address itself if it is unknown.
    fn function(&self, address: u64) -> u64;
    /// The number of a site's set of labels.
    fn label_set(&self, site: u32) -> u32;
    /// The labels of a set.
    fn labels(&self, set: u32) -> BTreeMap<String, String>;
}

/// A snapshot, which stands for the end of the last tick before it was taken.
pub(crate) struct SnapshotObservation<'a> {
    snapshot: &'a Snapshot,
    /// For each site: 1 + the index of its stack in the snapshot, or 0 if there is none.
    stack_of: Vec<u32>,
    /// The start of the function at each code address.
    functions: std::collections::HashMap<u64, u64>,
}

/// No session has more sites than this. Bounds the memory that a damaged dump can ask for.
const MAX_SITES: u32 = 1 << 22;

impl<'a> SnapshotObservation<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        let sites = snapshot.stacks.iter().map(|stack| stack.site).filter(|s| *s < MAX_SITES);
        let mut stack_of = vec![0; sites.max().map_or(0, |last| last as usize + 1)];
        for (index, stack) in snapshot.stacks.iter().enumerate() {
            if let Some(entry) = stack_of.get_mut(stack.site as usize) {
                *entry = index as u32 + 1;
            }
        }
        let frames = &snapshot.frames;
        let functions = (0..frames.address.len())
            .map(|frame| {
                let bias = snapshot.modules[frames.module[frame] as usize].load_bias;
                let absolute = |address: u64| bias.wrapping_add(address);
                (absolute(frames.address[frame]), absolute(frames.function[frame]))
            })
            .collect();
        Self { snapshot, stack_of, functions }
    }

    fn stack(&self, site: u32) -> Option<&'a crate::snapshot::Stack> {
        let index = self.stack_of.get(site as usize)?.checked_sub(1)?;
        self.snapshot.stacks.get(index as usize)
    }
}

impl Observation for SnapshotObservation<'_> {
    fn tick(&self) -> u32 {
        self.snapshot.taken.tick
    }

    fn uptime_ms(&self) -> u64 {
        self.snapshot.taken.uptime_ms
    }

    fn for_each(&self, visit: &mut dyn FnMut(LiveSample)) {
        for sample in self.snapshot.live.iter() {
            let site = self.snapshot.stacks[sample.stack as usize].site;
            visit(LiveSample { stack: site, ..sample });
        }
    }

    fn sites(&self) -> u32 {
        self.stack_of.len() as u32
    }

    fn frames(&self, site: u32, addresses: &mut Vec<u64>) {
        addresses.clear();
        let Some(stack) = self.stack(site) else { return };
        let frames = &self.snapshot.frames;
        addresses.extend(stack.frames.iter().map(|frame| {
            let module = frames.module[*frame as usize] as usize;
            self.snapshot.modules[module].load_bias.wrapping_add(frames.address[*frame as usize])
        }));
    }

    fn module(&self, address: u64) -> Option<Module> {
        let covers = |module: &&Module| (module.start..module.end).contains(&address);
        self.snapshot.modules.iter().rev().find(covers).cloned()
    }

    fn function(&self, address: u64) -> u64 {
        self.functions.get(&address).copied().unwrap_or(address)
    }

    fn label_set(&self, site: u32) -> u32 {
        self.stack(site).map_or(0, |stack| stack.labels)
    }

    fn labels(&self, set: u32) -> BTreeMap<String, String> {
        self.snapshot.label_sets.get(set as usize).cloned().unwrap_or_default()
    }
}
