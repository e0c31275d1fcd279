//! The search for the nodes of the call tree that leak.
//!
//! 1. The sites with the most old objects form a bottom-up tree. Its nodes are leaks that share the
//!    allocating functions. Nodes of one function become one.
//! 2. The sites that this leaves unexplained form a top-down tree. Its nodes are leaks that are
//!    spread over many sites below one function.
//! 3. Nodes of the first tree are merged if they make up all that happens below a common function.

use std::cell::RefCell;

use super::naming::{self, Names};
use super::nodes::LeakingNode;
use super::path::{Direction, PathStep, Paths};
use super::tally::Tally;
use super::tree::{self, LeakCriteria, TreeLeaf, TreeNode};
use super::view::{SUSPECT_LEVEL, TickView};
use crate::blame::Frame;
use crate::hash::NumberSet;
use crate::names::machinery::{self, Role};

/// The most sites that are searched: those with the most old objects. This bounds the cost of a
/// tick.
const MAX_SEARCHED_SITES: usize = 2048;

/// The most functions between the one that a leak is named after and the ones that allocate.
const MAX_NAMING_DISTANCE: usize = 4;

/// The most sites for which that distance is checked.
const MAX_DISTANCE_CHECKS: usize = 16;

/// A search of the sites of one tick.
pub(super) struct NodeSearch<'a> {
    view: &'a TickView<'a>,
    paths: &'a Paths,
    names: RefCell<&'a mut dyn Names>,
}

impl<'a> NodeSearch<'a> {
    pub(super) fn new(view: &'a TickView<'a>, paths: &'a Paths, names: &'a mut dyn Names) -> Self {
        Self { view, paths, names: RefCell::new(names) }
    }

    /// The path of a site.
    fn path(&self, site: u32, direction: Direction) -> Vec<PathStep> {
        self.paths.path(self.view.live(), site, direction)
    }

    /// Whether the path of a site begins with `prefix`.
    fn has_prefix(&self, site: u32, direction: Direction, prefix: &[PathStep]) -> bool {
        self.paths.has_prefix(self.view.live(), site, direction, prefix)
    }

    /// The nodes that leak by the survival test.
    pub(super) fn leaking_nodes(&self) -> Vec<LeakingNode> {
        let leaf = |site: &u32, direction: Direction| TreeLeaf {
            site: *site,
            path: self.path(*site, direction),
            tally: self.view.tally(*site),
        };
        let searched = self.searched_sites();
        let leaves: Vec<TreeLeaf> =
            searched.iter().map(|site| leaf(site, Direction::BottomUp)).collect();
        let bottom_up =
            NodeCriteria { search: self, direction: Direction::BottomUp, leaking: None };
        let nodes = self.merge_by_function(tree::explain(leaves, &bottom_up));
        // The remaining sites, arranged by their callers.
        let explained: NumberSet<u32> = nodes.iter().flat_map(|node| node.sites.clone()).collect();
        let rest: Vec<TreeLeaf> = searched
            .iter()
            .filter(|site| !explained.contains(site))
            .map(|site| leaf(site, Direction::TopDown))
            .collect();
        let top_down = NodeCriteria { search: self, direction: Direction::TopDown, leaking: None };
        let mut below = tree::explain(rest, &top_down);
        // A node that leaks by itself may be part of a leak below a function whose other sites have
        // too little evidence alone.
        let mut nodes = nodes;
        for node in &mut below {
            let is_part = |other: &mut TreeNode| {
                let mut sites = other.sites.iter();
                sites.all(|site| self.has_prefix(*site, Direction::TopDown, &node.prefix))
            };
            for part in nodes.extract_if(.., is_part).collect::<Vec<_>>() {
                node.sites.extend(part.sites);
                node.tally.merge(&part.tally);
            }
        }
        let taken: NumberSet<u32> =
            nodes.iter().chain(&below).flat_map(|node| node.sites.clone()).collect();
        let others = searched.into_iter().filter(|site| !taken.contains(site)).collect();
        let mut found: Vec<LeakingNode> = self.merge_by_caller(nodes, others, &explained);
        found.extend(
            below.into_iter().map(|node| LeakingNode::new(node, Direction::TopDown, self.view)),
        );
        found
    }

    /// The sites with the most old objects, of those whose births go on. A site whose births have
    /// stopped is not part of a leak, however much it holds.
    ///
    /// Leaving out sites without old objects does not make the nodes above them look more like a
    /// leak than they are: [`healthy_deaths`](LeakCriteria::healthy_deaths) counts the deaths at
    /// all sites before a node is accepted.
    fn searched_sites(&self) -> Vec<u32> {
        let with_old_objects = |site: u32| {
            let births = self.view.births(site);
            (!self.view.has_stopped(&births))
                .then_some((births.old_objects(self.view.uptime()), site))
        };
        let mut sites: Vec<(u32, u32)> =
            self.view.tested_sites().iter().filter_map(|site| with_old_objects(*site)).collect();
        if sites.len() > MAX_SEARCHED_SITES {
            sites
                .select_nth_unstable_by_key(MAX_SEARCHED_SITES, |(old, _)| std::cmp::Reverse(*old));
            sites.truncate(MAX_SEARCHED_SITES);
        }
        sites.into_iter().map(|(_, site)| site).collect()
    }

    /// Merges nodes with the same allocating function and the same labels: one function may leak
    /// objects of several sites.
    fn merge_by_function(&self, nodes: Vec<TreeNode>) -> Vec<TreeNode> {
        let main: Vec<u32> = nodes.iter().map(|node| self.view.main_site(&node.sites)).collect();
        let functions = self.allocating_functions(&main);
        let mut merged: Vec<(Option<String>, u32, TreeNode)> = Vec::new();
        for ((node, main), function) in nodes.into_iter().zip(main).zip(functions) {
            let labels = self.view.live().label_set(main);
            let same = |(other, set, _): &&mut (Option<String>, u32, TreeNode)| {
                function.is_some() && *other == function && *set == labels
            };
            match merged.iter_mut().find(same) {
                None => merged.push((function, labels, node)),
                Some((.., together)) => {
                    together.sites.extend(node.sites);
                    together.tally.merge(&node.tally);
                    // The path that the nodes share, from the innermost function on, need not end
                    // in that function. So the node is named by the path of its main site.
                    let main = self.view.main_site(&together.sites);
                    together.prefix = self.path(main, Direction::BottomUp);
                }
            }
        }
        merged.into_iter().map(|(.., node)| node).collect()
    }

    /// Merges nodes that make up all that happens below a common function. They are joined by other
    /// sites there that have too little evidence alone, as long as it is in favour of a leak.
    fn merge_by_caller(
        &self,
        nodes: Vec<TreeNode>,
        others: Vec<u32>,
        explained: &NumberSet<u32>,
    ) -> Vec<LeakingNode> {
        let known = nodes.len();
        if known == 0 {
            return Vec::new();
        }
        let other = |site: u32| {
            let tally = self.view.tally(site);
            let favours_leak = tally.evidence(self.view.uptime()).best_log_e > 0.0;
            favours_leak.then(|| TreeNode { sites: vec![site], prefix: Vec::new(), tally })
        };
        let nodes: Vec<TreeNode> =
            nodes.into_iter().chain(others.into_iter().filter_map(other)).collect();
        let leaves = nodes
            .iter()
            .enumerate()
            .map(|(number, node)| {
                let mut path = self.path(node.sites[0], Direction::TopDown);
                for site in &node.sites[1..] {
                    let other = self.path(*site, Direction::TopDown);
                    let shared = path.iter().zip(&other).take_while(|(a, b)| a == b).count();
                    path.truncate(shared);
                }
                path.push(PathStep::of_site(number as u32));
                TreeLeaf { site: number as u32, path, tally: node.tally }
            })
            .collect();
        let top_down =
            NodeCriteria { search: self, direction: Direction::TopDown, leaking: Some(explained) };
        tree::explain(leaves, &top_down)
            .into_iter()
            .filter(|group| group.sites.iter().any(|number| (*number as usize) < known))
            .map(|group| match group.sites[..] {
                [number] => {
                    let node = nodes[number as usize].clone();
                    LeakingNode::new(node, Direction::BottomUp, self.view)
                }
                _ => {
                    let of = |number: &u32| nodes[*number as usize].sites.clone();
                    let sites = group.sites.iter().flat_map(of).collect();
                    LeakingNode::new(TreeNode { sites, ..group }, Direction::TopDown, self.view)
                }
            })
            .collect()
    }

    /// The functions at each code address, innermost first.
    fn resolve(&self, addresses: &[u64]) -> Vec<Vec<Frame>> {
        naming::resolve(self.view.live(), &mut **self.names.borrow_mut(), addresses)
    }

    /// Whether a leak can be named after each of these functions. `None` if the function has no
    /// name.
    fn are_nameable(&self, functions: &[u64]) -> Vec<Option<bool>> {
        let is_nameable = |frames: Vec<Frame>| {
            // The last frame is the function itself; the ones before are inlined into it.
            let frame = frames.last().filter(|frame| frame.crate_name.is_some())?;
            Some(machinery::role(&frame.function) == Role::Other)
        };
        self.resolve(functions).into_iter().map(is_nameable).collect()
    }

    /// The name of the function that allocates at each of these sites: the innermost one that does
    /// not belong to the allocator or a container.
    fn allocating_functions(&self, sites: &[u32]) -> Vec<Option<String>> {
        let stacks: Vec<Vec<u64>> = sites
            .iter()
            .map(|site| {
                let mut frames = Vec::new();
                self.view.live().frames(*site, &mut frames);
                frames
            })
            .collect();
        let addresses: Vec<u64> = stacks.iter().flatten().copied().collect();
        let mut named = self.resolve(&addresses).into_iter();
        let function = |stack: &Vec<u64>| {
            let frames: Vec<Frame> = named.by_ref().take(stack.len()).flatten().collect();
            let roles = frames.iter().map(|frame| machinery::role(&frame.function));
            frames.get(machinery::depth(roles)).map(|frame| frame.function.clone())
        };
        stacks.iter().map(function).collect()
    }
}

/// The criteria for the tree of one direction.
struct NodeCriteria<'s, 'a> {
    search: &'s NodeSearch<'a>,
    direction: Direction,
    /// Set when the leaves are known to leak: the sites that are explained. Deaths at all other
    /// sites are then deaths at healthy ones.
    leaking: Option<&'s NumberSet<u32>>,
}

/// The functions of a path, without labels and sites.
fn functions_of(path: &[PathStep]) -> Vec<u64> {
    path.iter().filter_map(|step| step.function()).collect()
}

impl LeakCriteria for NodeCriteria<'_, '_> {
    fn is_leak(&self, tally: &Tally) -> bool {
        self.leaking.is_some() || self.search.view.leaks_at_level(tally, SUSPECT_LEVEL)
    }

    fn healthy_deaths(&self, prefix: &[PathStep]) -> f64 {
        let view = self.search.view;
        view.sites()
            // Only deaths count, because the live objects may still turn out to be leaked.
            .filter(|site| view.deaths(*site) > 0)
            .filter(|site| !self.leaking.is_some_and(|sites| sites.contains(site)))
            .filter(|site| self.search.has_prefix(*site, self.direction, prefix))
            // A site with too little evidence, but in favour of a leak, does not count as healthy.
            .filter(|site| {
                let tally = view.tally(*site);
                tally.evidence(view.uptime()).best_log_e <= 0.0 || view.has_stopped(&tally.births)
            })
            .map(|site| f64::from(view.deaths(site)))
            .sum()
    }

    fn min_parts(&self) -> usize {
        match self.direction {
            Direction::BottomUp => 2,
            // Two callees of a function that does nothing else may still be two leaks.
            Direction::TopDown => 3,
        }
    }

    fn total_leaves(&self, leaves: &[TreeLeaf]) -> usize {
        if self.leaking.is_some() { usize::MAX } else { leaves.len() }
    }

    fn is_nameable(&self, prefix: &[PathStep], leaves: &[TreeLeaf], is_root: bool) -> bool {
        let functions = functions_of(prefix);
        let Some(function) = functions.last() else { return false };
        if self.direction == Direction::BottomUp {
            // The leak is named after the innermost function that can name it.
            let are_nameable = self.search.are_nameable(&functions);
            return are_nameable.into_iter().any(|is_nameable| is_nameable.unwrap_or(!is_root));
        }
        // A function far outside is not specific enough: it runs all requests, while the leak is in
        // what one of them does.
        let inside = |leaf: &TreeLeaf| functions_of(&leaf.path[prefix.len()..]);
        let inside: Vec<Vec<u64>> = leaves.iter().take(MAX_DISTANCE_CHECKS).map(inside).collect();
        let mut all = inside.concat();
        all.push(*function);
        let are_nameable = self.search.are_nameable(&all);
        let mut rest = are_nameable.as_slice();
        let is_near = |functions: &Vec<u64>| {
            let these;
            (these, rest) = rest.split_at(functions.len());
            these.iter().filter(|is_nameable| is_nameable.unwrap_or(true)).count()
                <= MAX_NAMING_DISTANCE
        };
        are_nameable[all.len() - 1].unwrap_or(!is_root) && inside.iter().all(is_near)
    }

    fn old_objects(&self, tally: &Tally) -> f64 {
        tally.births.old_objects(self.search.view.uptime()).into()
    }
}
