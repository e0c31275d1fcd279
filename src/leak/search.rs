//! The search for the nodes of the call tree that leak.

use std::cell::RefCell;

use super::naming::{self, Names};
use super::nodes::LeakingNode;
use super::path::{Direction, Paths, Step};
use super::tally::Tally;
use super::tree::{self, Item, Judge, Node};
use super::view::{SUSPECT_LEVEL, TickView};
use crate::blame::Frame;
use crate::hash::NumberSet;
use crate::names::machinery::{self, Role};

/// Sites whose places in the call tree are searched: those with most old objects.
const MAX_SEARCHED: usize = 2048;

/// How many functions may be between one that a leak is named by and those that allocate.
const NEAR: usize = 4;

/// Sites that are looked at to see that.
const MAX_NAMED: usize = 16;

/// What is searched, and by which names.
pub(super) struct NodeSearch<'a> {
    view: &'a TickView<'a>,
    paths: &'a Paths,
    names: RefCell<&'a mut dyn Names>,
}

impl<'a> NodeSearch<'a> {
    pub(super) fn new(view: &'a TickView<'a>, paths: &'a Paths, names: &'a mut dyn Names) -> Self {
        Self { view, paths, names: RefCell::new(names) }
    }

    fn path(&self, site: u32, direction: Direction) -> Vec<Step> {
        self.paths.path(self.view.live(), site, direction)
    }

    fn is_below(&self, site: u32, direction: Direction, prefix: &[Step]) -> bool {
        self.paths.is_below(self.view.live(), site, direction, prefix)
    }

    /// The nodes that leak by the survival of their objects.
    pub(super) fn nodes(&self) -> Vec<LeakingNode> {
        let item = |site: &u32, direction: Direction| Item {
            site: *site,
            path: self.path(*site, direction),
            tally: self.view.tally(*site),
        };
        let searched = self.searched();
        let items: Vec<Item> =
            searched.iter().map(|site| item(site, Direction::BottomUp)).collect();
        let bottom_up = Side { search: self, direction: Direction::BottomUp, others: None };
        let nodes = self.of_one_function(tree::explain(items, &bottom_up));
        // What is left, by where it is called from.
        let explained: NumberSet<u32> = nodes.iter().flat_map(|node| node.sites.clone()).collect();
        let rest: Vec<Item> = searched
            .iter()
            .filter(|site| !explained.contains(site))
            .map(|site| item(site, Direction::TopDown))
            .collect();
        let top_down = Side { search: self, direction: Direction::TopDown, others: None };
        let mut below = tree::explain(rest, &top_down);
        // What is enough by itself may still be a part of what is not.
        let mut nodes = nodes;
        for node in &mut below {
            let is_part = |other: &mut Node| {
                let mut sites = other.sites.iter();
                sites.all(|site| self.is_below(*site, Direction::TopDown, &node.prefix))
            };
            for part in nodes.extract_if(.., is_part).collect::<Vec<_>>() {
                node.sites.extend(part.sites);
                node.tally.add(&part.tally);
            }
        }
        let taken: NumberSet<u32> =
            nodes.iter().chain(&below).flat_map(|node| node.sites.clone()).collect();
        let others = searched.into_iter().filter(|site| !taken.contains(site)).collect();
        let mut found: Vec<LeakingNode> = self.together(nodes, others, &explained);
        found.extend(
            below.into_iter().map(|node| LeakingNode::new(node, Direction::TopDown, self.view)),
        );
        found
    }

    /// The sites with most old objects, of those whose births go on: where they have stopped,
    /// nothing is explained, whatever is held. That those without old objects may be left out does
    /// not flatter the nodes above them: what died there is looked at before a node is believed.
    fn searched(&self) -> Vec<u32> {
        let old = |site: u32| {
            let births = self.view.births(site);
            (!self.view.has_stopped(&births)).then_some((births.old(self.view.uptime()), site))
        };
        let mut sites: Vec<(u32, u32)> =
            self.view.items().iter().filter_map(|site| old(*site)).collect();
        if sites.len() > MAX_SEARCHED {
            sites.select_nth_unstable_by_key(MAX_SEARCHED, |(old, _)| std::cmp::Reverse(*old));
            sites.truncate(MAX_SEARCHED);
        }
        sites.into_iter().map(|(_, site)| site).collect()
    }

    /// Nodes of one function, with the same labels, become one: it leaks several things at a time.
    fn of_one_function(&self, nodes: Vec<Node>) -> Vec<Node> {
        let main: Vec<u32> = nodes.iter().map(|node| self.view.main_site(&node.sites)).collect();
        let functions = self.allocating_functions(&main);
        let mut merged: Vec<(Option<String>, u32, Node)> = Vec::new();
        for ((node, main), function) in nodes.into_iter().zip(main).zip(functions) {
            let labels = self.view.live().label_set(main);
            let same = |(other, set, _): &&mut (Option<String>, u32, Node)| {
                function.is_some() && *other == function && *set == labels
            };
            match merged.iter_mut().find(same) {
                None => merged.push((function, labels, node)),
                Some((.., together)) => {
                    together.sites.extend(node.sites);
                    together.tally.add(&node.tally);
                    // What they share from the innermost function on does not end in that function.
                    // They are named by the site with most of it.
                    let main = self.view.main_site(&together.sites);
                    together.prefix = self.path(main, Direction::BottomUp);
                }
            }
        }
        merged.into_iter().map(|(.., node)| node).collect()
    }

    /// Nodes that are all that happens below a common function become one, together with other sites
    /// there of which too little is known yet, as long as it speaks for a leak.
    fn together(
        &self,
        nodes: Vec<Node>,
        others: Vec<u32>,
        explained: &NumberSet<u32>,
    ) -> Vec<LeakingNode> {
        let known = nodes.len();
        if known == 0 {
            return Vec::new();
        }
        let other = |site: u32| {
            let tally = self.view.tally(site);
            let speaks_for_it = tally.evidence(self.view.uptime()).best > 0.0;
            speaks_for_it.then(|| Node { sites: vec![site], prefix: Vec::new(), tally })
        };
        let nodes: Vec<Node> =
            nodes.into_iter().chain(others.into_iter().filter_map(other)).collect();
        let items = nodes
            .iter()
            .enumerate()
            .map(|(number, node)| {
                let mut path = self.path(node.sites[0], Direction::TopDown);
                for site in &node.sites[1..] {
                    let other = self.path(*site, Direction::TopDown);
                    let shared = path.iter().zip(&other).take_while(|(a, b)| a == b).count();
                    path.truncate(shared);
                }
                path.push(Step::of_site(number as u32));
                Item { site: number as u32, path, tally: node.tally }
            })
            .collect();
        let top_down =
            Side { search: self, direction: Direction::TopDown, others: Some(explained) };
        tree::explain(items, &top_down)
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
                    LeakingNode::new(Node { sites, ..group }, Direction::TopDown, self.view)
                }
            })
            .collect()
    }

    fn resolve(&self, addresses: &[u64]) -> Vec<Vec<Frame>> {
        naming::resolve(self.view.live(), &mut **self.names.borrow_mut(), addresses)
    }

    /// Whether functions are such that a leak can be in them; `None` of one without a name.
    fn are_places(&self, functions: &[u64]) -> Vec<Option<bool>> {
        let is_place = |frames: Vec<Frame>| {
            // The function itself is the outermost of those inlined into it.
            let frame = frames.last().filter(|frame| frame.crate_name.is_some())?;
            Some(machinery::role(&frame.function) == Role::Other)
        };
        self.resolve(functions).into_iter().map(is_place).collect()
    }

    /// The functions that allocate at these sites: the innermost of each that is one a leak can be
    /// in, by name.
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

/// A search from one of the two ends of stacks.
struct Side<'s, 'a> {
    search: &'s NodeSearch<'a>,
    direction: Direction,
    /// Sites that leak, when all others count as clean.
    others: Option<&'s NumberSet<u32>>,
}

fn functions_of(path: &[Step]) -> Vec<u64> {
    path.iter().filter_map(|step| step.function()).collect()
}

impl Judge for Side<'_, '_> {
    fn leaks(&self, tally: &Tally) -> bool {
        self.others.is_some() || self.search.view.exceeds(tally, SUSPECT_LEVEL)
    }

    fn clean_deaths(&self, prefix: &[Step]) -> f64 {
        let view = self.search.view;
        view.sites()
            // What is alive may leak yet.
            .filter(|site| view.dead(*site) > 0)
            .filter(|site| !self.others.is_some_and(|leaking| leaking.contains(site)))
            .filter(|site| self.search.is_below(*site, self.direction, prefix))
            // One that leaks too, but of which there is too little to tell, is not clean.
            .filter(|site| {
                let tally = view.tally(*site);
                tally.evidence(view.uptime()).best <= 0.0 || view.has_stopped(&tally.births)
            })
            .map(|site| f64::from(view.dead(site)))
            .sum()
    }

    fn fewest(&self) -> usize {
        match self.direction {
            Direction::BottomUp => 2,
            // Two functions called by one that has nothing else to do may still be two leaks.
            Direction::TopDown => 3,
        }
    }

    fn all(&self, items: &[Item]) -> usize {
        if self.others.is_some() { usize::MAX } else { items.len() }
    }

    fn is_place(&self, prefix: &[Step], items: &[Item], is_root: bool) -> bool {
        let functions = functions_of(prefix);
        let Some(function) = functions.last() else { return false };
        if self.direction == Direction::BottomUp {
            // Named by the innermost of them that is one.
            let are_places = self.search.are_places(&functions);
            return are_places.into_iter().any(|is_place| is_place.unwrap_or(!is_root));
        }
        // From far outside one sees too much: what runs all requests, not what one of them does.
        let inside = |item: &Item| functions_of(&item.path[prefix.len()..]);
        let inside: Vec<Vec<u64>> = items.iter().take(MAX_NAMED).map(inside).collect();
        let mut all = inside.concat();
        all.push(*function);
        let are_places = self.search.are_places(&all);
        let mut rest = are_places.as_slice();
        let is_near = |functions: &Vec<u64>| {
            let these;
            (these, rest) = rest.split_at(functions.len());
            these.iter().filter(|is_place| is_place.unwrap_or(true)).count() <= NEAR
        };
        are_places[all.len() - 1].unwrap_or(!is_root) && inside.iter().all(is_near)
    }

    fn mass(&self, tally: &Tally) -> f64 {
        tally.births.old(self.search.view.uptime()).into()
    }
}
