//! Names for leak reports, from files on this machine.
//!
//! [`DumpNames`] names what [`Replay`](heapdrift::leak::Replay) finds in a series of dumps.
//! [`embedded`] returns the report that the service itself put into a dump, with the names that the
//! service lacked.

use std::collections::HashMap;

use heapdrift::blame::{self, Packages};
use heapdrift::leak::{LeakCandidate, LeakReport};
use heapdrift::snapshot::Module;
use heapdrift::{Snapshot, leak};

use crate::heap::symbolized::Frame;
use crate::symbolize::embedded::embedded_frames;
use crate::symbolize::modules::recorded_path;
use crate::symbolize::packages;
use crate::symbolize::symbolizer::Symbolizer;

/// Names for the addresses in the dumps of one session.
pub struct DumpNames<'a> {
    symbolizer: &'a mut Symbolizer,
    packages: Packages,
    own_crates: Vec<String>,
    /// A snapshot with the process and the modules of the dump, and nothing else.
    dump: Snapshot,
    known: HashMap<(u32, u64), Vec<blame::Frame>>,
}

impl<'a> DumpNames<'a> {
    /// Names come from the dump itself if it has them, otherwise from `symbolizer`. `own_crates`
    /// count as the service's own, besides those that are recognised.
    pub fn new(symbolizer: &'a mut Symbolizer, dump: &Snapshot, own_crates: &[String]) -> Self {
        let packages = packages::of_dump(symbolizer, dump, own_crates.iter().cloned());
        let mut context = Snapshot::default();
        context.process = dump.process.clone();
        context.modules = dump.modules.clone();
        let own_crates = own_crates.iter().map(|name| name.replace('-', "_")).collect();
        let mut names =
            Self { symbolizer, packages, own_crates, dump: context, known: HashMap::new() };
        names.learn(dump);
        names
    }

    fn learn(&mut self, dump: &Snapshot) {
        let frames = &dump.frames;
        let addresses = frames.module.iter().zip(&frames.address).zip(&frames.function);
        for (((&module, &address), &function), named) in addresses.zip(embedded_frames(dump)) {
            let Some(named) = named else { continue };
            let named = self.frames((module, address), &named);
            // The detector also asks for the addresses where functions begin. Which functions are
            // inlined there is not known.
            if let Some(outermost) = named.last() {
                let begin = || vec![outermost.clone()];
                self.known.entry((module, function)).or_insert_with(begin);
            }
            self.known.insert((module, address), named);
        }
    }

    fn frames(&self, (module, address): (u32, u64), frames: &[Frame]) -> Vec<blame::Frame> {
        let path = recorded_path(&self.dump.modules[module as usize]);
        let frame = |frame: &Frame| {
            let file = frame.file.as_deref();
            self.packages.frame(frame.function.clone(), file, frame.line, path, address)
        };
        frames.iter().map(frame).collect()
    }

    /// Adds all of `addresses` to `known`.
    fn look_up(&mut self, addresses: &[(u32, u64)]) {
        let mut missing: Vec<(u32, u64)> =
            addresses.iter().copied().filter(|address| !self.known.contains_key(address)).collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return;
        }
        let found = self.symbolizer.functions(&self.dump, &missing);
        for (address, frames) in missing.into_iter().zip(found) {
            self.known.insert(address, self.frames(address, &frames));
        }
    }

    /// The index of a module. It is added if it is new: earlier dumps may have had other modules.
    fn module(&mut self, module: &Module) -> u32 {
        let modules = &mut self.dump.modules;
        let same =
            |other: &Module| (&other.path, &other.build_id) == (&module.path, &module.build_id);
        let known = modules.iter().position(same).unwrap_or_else(|| {
            modules.push(module.clone());
            modules.len() - 1
        });
        known as u32
    }

    /// The module and the address of a frame of a report, if the frame has no name.
    fn unnamed_address(&self, frame: &blame::Frame) -> Option<(u32, u64)> {
        let unnamed = frame.crate_name.is_none()
            && frame.function.ends_with(&format!("+{:#x}", frame.address));
        let path = frame.module.strip_suffix(" (deleted)").unwrap_or(&frame.module);
        let mut modules = self.dump.modules.iter().filter(|_| unnamed);
        Some((modules.position(|module| recorded_path(module) == path)? as u32, frame.address))
    }

    fn is_own(&self, frame: &blame::Frame) -> bool {
        frame.own || frame.crate_name.as_ref().is_some_and(|name| self.own_crates.contains(name))
    }
}

impl leak::Names for DumpNames<'_> {
    fn resolve(
        &mut self,
        modules: &[Module],
        addresses: &[(usize, u64)],
    ) -> Vec<Vec<blame::Frame>> {
        let modules: Vec<u32> = modules.iter().map(|module| self.module(module)).collect();
        let addresses: Vec<(u32, u64)> =
            addresses.iter().map(|(module, address)| (modules[*module], *address)).collect();
        self.look_up(&addresses);
        addresses.iter().map(|address| self.known[address].clone()).collect()
    }

    fn packages(&self) -> &Packages {
        &self.packages
    }
}

/// The report of the last tick before a dump, with names for the frames that the service could not
/// name. `None` if there was no tick.
pub fn embedded(
    symbolizer: &mut Symbolizer,
    dump: &Snapshot,
    own_crates: &[String],
) -> Option<LeakReport> {
    let mut report = dump.leaks.clone()?;
    let mut frames = report.candidates.iter().flat_map(|candidate| &candidate.stack);
    if !own_crates.is_empty() || frames.any(|frame| frame.crate_name.is_none()) {
        let mut names = DumpNames::new(symbolizer, dump, own_crates);
        let stacks = report.candidates.iter().flat_map(|candidate| &candidate.stack);
        let addresses: Vec<_> = stacks.filter_map(|frame| names.unnamed_address(frame)).collect();
        names.look_up(&addresses);
        report.candidates.iter_mut().for_each(|candidate| apply_names(candidate, &names));
    }
    Some(report)
}

/// Replaces the stack and the blame of a candidate, if names or own crates have become known.
fn apply_names(candidate: &mut LeakCandidate, names: &DumpNames<'_>) {
    let mut stack = Vec::with_capacity(candidate.stack.len());
    let (mut shared, mut is_new) = (0, false);
    for (at, frame) in candidate.stack.iter().enumerate() {
        let found = names.unnamed_address(frame).and_then(|address| names.known.get(&address));
        match found.filter(|frames| !frames.is_empty()) {
            Some(frames) => {
                is_new = true;
                stack.extend_from_slice(frames);
            }
            None => {
                let mut frame = frame.clone();
                is_new |= frame.own != names.is_own(&frame);
                frame.own = names.is_own(&frame);
                stack.push(frame);
            }
        }
        if at < candidate.shared_frames {
            shared = stack.len();
        }
    }
    if !is_new {
        return;
    }
    let before = std::mem::take(&mut candidate.blame);
    candidate.set_stack(stack, shared, &names.packages);
    // The service may have known a version that is unknown here.
    if candidate.blame.crate_name == before.crate_name && candidate.blame.version.is_none() {
        candidate.blame.version = before.version;
    }
}
