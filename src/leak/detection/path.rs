//! Paths: how the call tree sees the stack of a site.
//!
//! A path lists the functions of the stack, each once, so that recursion of any depth is one path.
//! Then come the set of labels and the site itself, which tell apart sites with the same functions.

use std::cell::RefCell;

use super::observation::Observation;
use crate::hash::NumberMap;

/// The most code addresses whose function is cached.
const MAX_FUNCTIONS: usize = 1 << 16;

/// Tag bits of the steps that are not functions.
const LABELS: u64 = 1 << 63;
const SITE: u64 = 1 << 62;

/// One step of a path: a function, a set of labels, or a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PathStep(u64);

impl PathStep {
    /// The function that starts at this address.
    pub(super) fn of_function(start: u64) -> Self {
        Self(start)
    }

    fn of_labels(set: u32) -> Self {
        Self(LABELS | u64::from(set))
    }

    pub(super) fn of_site(site: u32) -> Self {
        Self(SITE | u64::from(site))
    }

    /// The start address of the function, if the step is one.
    pub(super) fn function(self) -> Option<u64> {
        (self.0 & (LABELS | SITE) == 0).then_some(self.0)
    }
}

/// The end of the stacks at which the call tree has its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// The root is the innermost function, the one that allocates.
    BottomUp,
    /// The root is the outermost function, such as `main`.
    TopDown,
}

/// Turns sites into paths. Caches the function at each code address over the session.
#[derive(Debug, Default)]
pub(super) struct Paths {
    functions: RefCell<NumberMap<u64, u64>>,
}

impl Paths {
    /// The start address of the function that contains a code address.
    pub(super) fn function_start(&self, live: &dyn Observation, address: u64) -> u64 {
        let mut known = self.functions.borrow_mut();
        if known.len() >= MAX_FUNCTIONS {
            known.clear();
        }
        *known.entry(address).or_insert_with(|| live.function(address))
    }

    /// Calls `visit` with the steps of a site's path in order, until it returns false.
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

    /// The path of a site.
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

    /// Whether the path of a site begins with `prefix`, that is, whether the site is in that
    /// subtree.
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
