//! Names of functions for code addresses, looked up in batches.

use std::collections::HashMap;

use super::finding::Finding;
use super::observation::Observation;
use crate::blame::{Frame, Packages};
use crate::report::MAX_CANDIDATES;
use crate::snapshot::Module;

/// Resolves code addresses to function names.
pub trait Names {
    /// Resolves each address to its functions, innermost first. There are several where functions
    /// are inlined, and none where no name is known. An address consists of an index into `modules`
    /// and the address relative to that module.
    fn resolve(&mut self, modules: &[Module], addresses: &[(usize, u64)]) -> Vec<Vec<Frame>>;

    /// Where the crates of the program come from, as far as is known from the modules in which
    /// addresses were resolved.
    fn packages(&self) -> &Packages;
}

/// The functions at each address, innermost first. There is always at least one; without a name it
/// is called `module+0xaddress`.
pub(super) fn resolve(
    live: &dyn Observation,
    names: &mut dyn Names,
    addresses: &[u64],
) -> Vec<Vec<Frame>> {
    let mut modules: Vec<Module> = Vec::new();
    let locations: Vec<(usize, u64)> = addresses
        .iter()
        .map(|address| {
            let module = live.module(*address).unwrap_or_else(|| Module::named("[unknown]"));
            let relative = address.wrapping_sub(module.load_bias);
            let at = modules.iter().position(|other| *other == module).unwrap_or_else(|| {
                modules.push(module);
                modules.len() - 1
            });
            (at, relative)
        })
        .collect();
    let frames =
        if locations.is_empty() { Vec::new() } else { names.resolve(&modules, &locations) };
    let packages = names.packages();
    locations
        .iter()
        .zip(frames.into_iter().chain(std::iter::repeat(Vec::new())))
        .map(|((module, relative), frames)| {
            if !frames.is_empty() {
                return frames;
            }
            let path = &modules[*module].path;
            let function = format!("{}+{relative:#x}", crate::names::file_name(path));
            vec![packages.frame(function, None, None, path, *relative)]
        })
        .collect()
}

/// The resolved functions of all code addresses in a report's findings.
pub(super) struct ResolvedFrames<'a> {
    frames: HashMap<u64, Vec<Frame>>,
    pub(super) packages: &'a Packages,
}

impl<'a> ResolvedFrames<'a> {
    pub(super) fn new(
        findings: &[Finding],
        live: &dyn Observation,
        names: &'a mut dyn Names,
    ) -> Self {
        let shown = findings.iter().take(MAX_CANDIDATES);
        let mut addresses: Vec<u64> = shown
            .flat_map(|finding| finding.frames.iter().chain(&finding.callees))
            .copied()
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        let frames = resolve(live, names, &addresses);
        Self { frames: addresses.into_iter().zip(frames).collect(), packages: names.packages() }
    }

    /// The functions at a code address of the findings, innermost first. There is at least one.
    pub(super) fn at(&self, address: u64) -> &[Frame] {
        self.frames.get(&address).map_or(&[], Vec::as_slice)
    }
}
