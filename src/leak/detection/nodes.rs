//! A node of the call tree that leaks, and the stack and labels by which it is shown.

use std::collections::BTreeMap;

use super::observation::Observation;
use super::path::{Direction, PathStep, Paths};
use super::tally::Tally;
use super::tree::TreeNode;
use super::view::{MIN_OBJECTS_TO_CONFIRM, TickView};
use crate::hash::NumberSet;

/// The most sites of a node whose callees are collected.
const MAX_CALLEES: usize = 8;

/// A node that leaks, as it is followed from tick to tick.
#[derive(Clone, Debug)]
pub(super) struct LeakingNode {
    pub(super) sites: Vec<u32>,
    /// The site with the most old objects.
    pub(super) main_site: u32,
    /// The path that its sites share in the tree it was found in. After nodes of one function were
    /// merged it is the path of the main site.
    prefix: Vec<PathStep>,
    /// The direction of that tree.
    direction: Direction,
    /// The evidence on all of its sites.
    pub(super) tally: Tally,
}

impl LeakingNode {
    /// A node found in the tree of this direction.
    pub(super) fn new(node: TreeNode, direction: Direction, view: &TickView<'_>) -> Self {
        let main_site = view.main_site(&node.sites);
        let TreeNode { sites, prefix, tally } = node;
        Self { sites, main_site, prefix, direction, tally }
    }

    /// A single site, without evidence from the tree.
    pub(super) fn of_site(site: u32) -> Self {
        Self {
            sites: vec![site],
            main_site: site,
            prefix: Vec::new(),
            direction: Direction::BottomUp,
            tally: Tally::default(),
        }
    }

    /// The function that all of its stacks pass through, if it was found in the top-down tree.
    fn enclosing_function(&self) -> Option<u64> {
        match self.direction {
            Direction::BottomUp => None,
            Direction::TopDown => self.prefix.iter().rev().find_map(|step| step.function()),
        }
    }

    /// Whether the leak has continued since a tick: more objects were born, or objects are so few
    /// and large that no birth was to be expected yet.
    ///
    /// Births of this tick at any site below the node count, because a new caller has no evidence
    /// yet.
    pub(super) fn has_continued_since(
        &self,
        since: u32,
        view: &TickView<'_>,
        paths: &Paths,
    ) -> bool {
        let births = &self.tally.births;
        let is_below =
            |site: &u32| paths.has_prefix(view.live(), *site, self.direction, &self.prefix);
        births.old_objects(view.uptime()) < MIN_OBJECTS_TO_CONFIRM
            && births.missing_births(view.uptime()) < 1.0
            || self.sites.iter().any(|site| view.has_births_since(*site, since))
            || self.sites.len() > 1 && view.sites_with_births().iter().any(is_below)
    }

    /// The stack of its main site, innermost frame first, and how many of the innermost frames all
    /// of its sites share. For a node of the top-down tree the stack begins at the enclosing
    /// function.
    pub(super) fn frames(&self, live: &dyn Observation, paths: &Paths) -> (Vec<u64>, usize) {
        let mut frames = Vec::new();
        live.frames(self.main_site, &mut frames);
        if let Some(function) = self.enclosing_function() {
            let at =
                frames.iter().position(|address| paths.function_start(live, *address) == function);
            frames.drain(..at.unwrap_or(0));
            let shared = frames.len();
            return (frames, shared);
        }
        let mut shared = frames.len();
        if self.direction == Direction::BottomUp && self.sites.len() > 1 {
            let functions: Vec<u64> =
                self.prefix.iter().filter_map(|step| step.function()).collect();
            let is_shared =
                |address: &&u64| functions.contains(&paths.function_start(live, **address));
            shared = frames.iter().take_while(is_shared).count();
        }
        (frames, shared)
    }

    /// The code addresses in the callees of the enclosing function at some of its sites, the main
    /// site's first.
    pub(super) fn callees(&self, live: &dyn Observation, paths: &Paths) -> Vec<u64> {
        let Some(function) = self.enclosing_function() else { return Vec::new() };
        let mut frames = Vec::new();
        let others = self.sites.iter().filter(|site| **site != self.main_site);
        std::iter::once(&self.main_site)
            .chain(others)
            .take(MAX_CALLEES)
            .filter_map(|site| {
                live.frames(*site, &mut frames);
                let at = frames
                    .iter()
                    .position(|address| paths.function_start(live, *address) == function)?;
                frames.get(at.checked_sub(1)?).copied()
            })
            .collect()
    }

    /// The labels that all of its sites have in common.
    pub(super) fn labels(&self, live: &dyn Observation) -> BTreeMap<String, String> {
        let sets: NumberSet<u32> = self.sites.iter().map(|site| live.label_set(*site)).collect();
        let mut sets = sets.into_iter().map(|set| live.labels(set));
        let mut shared = sets.next().unwrap_or_default();
        for other in sets {
            shared.retain(|key, value| other.get(key) == Some(value));
        }
        shared
    }
}
