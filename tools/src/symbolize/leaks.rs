//! Leak reports with names from files on this machine.
//!
//! [`DumpNames`] names what [`Replay`](heapdrift::leak::Replay) finds in a series of dumps;
//! [`embedded`] is the report that the service itself put into a dump, with the names that it lacked.

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

/// Names for the addresses of a dump's session.
pub struct DumpNames<'a> {
    symbolizer: &'a mut Symbolizer,
    packages: Packages,
    own_crates: Vec<String>,
    /// Of the dump, its process and modules only.
    dump: Snapshot,
    known: HashMap<(u32, u64), Vec<blame::Frame>>,
}

impl<'a> DumpNames<'a> {
    /// Takes names from the dump itself, where it has them, otherwise from `symbolizer`. Of
    /// `own_crates` it is said that they are the service's own; the others are recognised.
    pub fn new(symbolizer: &'a mut Symbolizer, dump: &Snapshot, own_crates: &[String]) -> Self {
        let packages = packages::of_dump(symbolizer, dump, own_crates.iter().cloned());
        let mut facts = Snapshot::default();
        facts.process = dump.process.clone();
        facts.modules = dump.modules.clone();
        let own_crates = own_crates.iter().map(|name| name.replace('-', "_")).collect();
        let mut names =
            Self { symbolizer, packages, own_crates, dump: facts, known: HashMap::new() };
        names.learn(dump);
        names
    }

    fn learn(&mut self, dump: &Snapshot) {
        let frames = &dump.frames;
        let places = frames.module.iter().zip(&frames.address).zip(&frames.function);
        for (((&module, &address), &function), named) in places.zip(embedded_frames(dump)) {
            let Some(named) = named else { continue };
            let named = self.frames((module, address), &named);
            // The detector asks where functions begin, too. What is inlined there is not known.
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

    /// Fills `known` for all of `places`.
    fn look_up(&mut self, places: &[(u32, u64)]) {
        let mut missing: Vec<(u32, u64)> =
            places.iter().copied().filter(|place| !self.known.contains_key(place)).collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return;
        }
        let found = self.symbolizer.functions(&self.dump, &missing);
        for (place, frames) in missing.into_iter().zip(found) {
            self.known.insert(place, self.frames(place, &frames));
        }
    }

    /// The number of a module, which dumps before the last one may have had, too.
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

    /// The place of a frame of a report that has no name.
    fn nameless(&self, frame: &blame::Frame) -> Option<(u32, u64)> {
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
        let places: Vec<(u32, u64)> =
            addresses.iter().map(|(module, address)| (modules[*module], *address)).collect();
        self.look_up(&places);
        places.iter().map(|place| self.known[place].clone()).collect()
    }

    fn packages(&self) -> &Packages {
        &self.packages
    }
}

/// The report of the last tick before a dump, with names for the frames that the service had none
/// for. `None` if there was no tick.
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
        let places: Vec<_> = stacks.filter_map(|frame| names.nameless(frame)).collect();
        names.look_up(&places);
        report.candidates.iter_mut().for_each(|candidate| name(candidate, &names));
    }
    Some(report)
}

/// Names and blames a candidate anew, if there is anything new to say.
fn name(candidate: &mut LeakCandidate, names: &DumpNames<'_>) {
    let mut stack = Vec::with_capacity(candidate.stack.len());
    let (mut shared, mut is_new) = (0, false);
    for (at, frame) in candidate.stack.iter().enumerate() {
        let found = names.nameless(frame).and_then(|place| names.known.get(&place));
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
    // The service may have known more.
    if candidate.blame.crate_name == before.crate_name && candidate.blame.version.is_none() {
        candidate.blame.version = before.version;
    }
}
