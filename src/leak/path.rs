//! How the tree sees a stack: as a path of functions, then its labels, then the site itself.

use std::cell::RefCell;

use super::observation::Observation;
use crate::hash::NumberMap;

/// Addresses whose function is remembered.
const MAX_FUNCTIONS: usize = 1 << 16;

/// Marks what is no function: a set of labels, a site.
const LABELS: u64 = 1 << 63;
const SITE: u64 = 1 << 62;

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PathStep(u64);

impl PathStep {
    /// A function, by where it begins.
    pub(super) fn of_function(start: u64) -> Self {
        Self(start)
    }

    fn of_labels(set: u32) -> Self {
        Self(LABELS | u64::from(set))
    }

    pub(super) fn of_site(site: u32) -> Self {
        Self(SITE | u64::from(site))
    }

    /// Where the function begins, if the step is one.
    pub(super) fn function(self) -> Option<u64> {
        (self.0 & (LABELS | SITE) == 0).then_some(self.0)
    }
}

/// From which end a stack is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the innermost function outward.
    BottomUp,
    /// From the outermost function inward.
    TopDown,
}

/// Turns sites into paths, and remembers functions by address.
#[derive(Debug, Default)]
pub(super) struct Paths {
    functions: RefCell<NumberMap<u64, u64>>,
}

impl Paths {
    /// Where the function at an address begins.
    pub(super) fn function_start(&self, live: &dyn Observation, address: u64) -> u64 {
        let mut known = self.functions.borrow_mut();
        if known.len() >= MAX_FUNCTIONS {
            known.clear();
        }
        *known.entry(address).or_insert_with(|| live.function(address))
    }

    /// The functions of a site, each once, then labels and site. Each is shown to `visit` as it
    /// comes, which may end it.
    fn walk(
        &self,
        live: &dyn Observation,
        site: u32,
        direction: Direction,
        mut visit: impl FnMut(PathStep) -> bool,
    ) {
        let mut frames = Vec::new();
        live.frames(site, &mut frames);
        if direction == Direction::TopDown {
            frames.reverse();
        }
        let mut seen: Vec<u64> = Vec::with_capacity(frames.len());
        for address in frames {
            let function = self.function_start(live, address);
            if !seen.contains(&function) {
                seen.push(function);
                if !visit(PathStep::of_function(function)) {
                    return;
                }
            }
        }
        let _ = visit(PathStep::of_labels(live.label_set(site))) && visit(PathStep::of_site(site));
    }

    pub(super) fn path(
        &self,
        live: &dyn Observation,
        site: u32,
        direction: Direction,
    ) -> Vec<PathStep> {
        let mut path = Vec::new();
        self.walk(live, site, direction, |step| {
            path.push(step);
            true
        });
        path
    }

    /// Whether the path of a site begins with a prefix.
    pub(super) fn has_prefix(
        &self,
        live: &dyn Observation,
        site: u32,
        direction: Direction,
        prefix: &[PathStep],
    ) -> bool {
        let mut left = prefix;
        self.walk(live, site, direction, |step| match left.split_first() {
            Some((first, rest)) if *first == step => {
                left = rest;
                !left.is_empty()
            }
            _ => false,
        });
        left.is_empty()
    }
}
