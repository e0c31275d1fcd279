//! From what a file says about addresses to frames.

use std::collections::HashMap;

use super::debug_info::Place;
use super::functions::Function;
use crate::blame::{Frame, Packages};
use crate::names::{Closures, Kind, Roots, crate_of, demangled, is_closure, readable};

/// The frames of each address, innermost first.
pub(super) fn frames(
    places: &HashMap<u64, Place>,
    module: &str,
    packages: &Packages,
) -> HashMap<u64, Vec<Frame>> {
    let naming = Naming::new(places, module);
    let frames = |address: u64, place: &Place| {
        let functions = place.functions.iter().enumerate().filter_map(|(depth, function)| {
            let name = match naming.whole(place, depth, function) {
                Some(name) => name,
                None if function.name.is_empty() => return None,
                None => naming.roots.qualified(&function.name, function.file.as_deref()),
            };
            Some(packages.frame(name, function.file.as_deref(), function.line, module, address))
        });
        let mut frames: Vec<Frame> = functions.collect();
        if frames.is_empty()
            && let Some(symbol) = &place.symbol
        {
            let name = readable(symbol, None, &naming.closures);
            frames.push(packages.frame(name, None, None, module, address));
        }
        frames
    };
    places.iter().map(|(&address, place)| (address, frames(address, place))).collect()
}

/// What the addresses of a module tell about each other's names.
struct Naming {
    closures: Closures,
    roots: Roots,
}

impl Naming {
    fn new(places: &HashMap<u64, Place>, module: &str) -> Self {
        let mut naming = Self { closures: Closures::default(), roots: Roots::default() };
        for function in places.values().flat_map(|place| &place.functions) {
            if is_closure(&function.name) {
                naming.closures.insert(function.name.clone(), function.kind);
            }
        }
        let mut roots = Roots::default();
        for place in places.values() {
            for (depth, function) in place.functions.iter().enumerate() {
                if let Some(name) = naming.whole(place, depth, function)
                    && let Some(file) = &function.file
                {
                    roots.learn(&name, &crate_of(&name, module), file);
                }
            }
        }
        naming.roots = roots;
        naming
    }

    /// The name of a function of `place`, unless there is only a bare one.
    fn whole(&self, place: &Place, depth: usize, function: &Function) -> Option<String> {
        if demangled(&function.name).is_some() {
            return Some(readable(&function.name, function.kind, &self.closures));
        }
        // The outermost is the one that the linker sees.
        let outermost = depth + 1 == place.functions.len();
        let symbol = place.symbol.as_ref().filter(|_| outermost)?;
        Some(readable(symbol, Kind::of_debug_name(&function.name), &self.closures))
    }
}
