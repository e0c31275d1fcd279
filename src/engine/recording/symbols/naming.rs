//! Turns what the files say about addresses into frames with readable names.

use std::collections::HashMap;

use super::functions::Function;
use super::lookup::CodeLocation;
use crate::blame::{Frame, Packages};
use crate::names::{Closures, Kind, Roots, crate_of, demangled, is_closure, readable};

/// The frames of each address, innermost first.
pub(super) fn frames(
    locations: &HashMap<u64, CodeLocation>,
    module: &str,
    packages: &Packages,
) -> HashMap<u64, Vec<Frame>> {
    let naming = Naming::new(locations, module);
    let frames = |address: u64, location: &CodeLocation| {
        let functions = location.functions.iter().enumerate().filter_map(|(depth, function)| {
            let name = match naming.full_name(location, depth, function) {
                Some(name) => name,
                None if function.name.is_empty() => return None,
                None => naming.roots.qualified(&function.name, function.file.as_deref()),
            };
            Some(packages.frame(name, function.file.as_deref(), function.line, module, address))
        });
        let mut frames: Vec<Frame> = functions.collect();
        if frames.is_empty()
            && let Some(symbol) = &location.symbol
        {
            let name = readable(symbol, None, &naming.closures);
            frames.push(packages.frame(name, None, None, module, address));
        }
        frames
    };
    locations.iter().map(|(&address, location)| (address, frames(address, location))).collect()
}

/// What the addresses of a module say about each other's names.
struct Naming {
    closures: Closures,
    roots: Roots,
}

impl Naming {
    fn new(locations: &HashMap<u64, CodeLocation>, module: &str) -> Self {
        let mut naming = Self { closures: Closures::default(), roots: Roots::default() };
        for function in locations.values().flat_map(|location| &location.functions) {
            if is_closure(&function.name) {
                naming.closures.insert(function.name.clone(), function.kind);
            }
        }
        let mut roots = Roots::default();
        for location in locations.values() {
            for (depth, function) in location.functions.iter().enumerate() {
                if let Some(name) = naming.full_name(location, depth, function)
                    && let Some(file) = &function.file
                {
                    roots.learn(&name, &crate_of(&name, module), file);
                }
            }
        }
        naming.roots = roots;
        naming
    }

    /// The full name of a function of `location`, unless only a bare name is known.
    fn full_name(
        &self,
        location: &CodeLocation,
        depth: usize,
        function: &Function,
    ) -> Option<String> {
        if demangled(&function.name).is_some() {
            return Some(readable(&function.name, function.kind, &self.closures));
        }
        // The outermost function is the one that the linker sees.
        let outermost = depth + 1 == location.functions.len();
        let symbol = location.symbol.as_ref().filter(|_| outermost)?;
        Some(readable(symbol, Kind::of_debug_name(&function.name), &self.closures))
    }
}
