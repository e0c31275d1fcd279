//! The nodes of the call tree that leak, and what can be shown of them.

use std::collections::BTreeMap;

use super::naming;
use super::path::{SITE, is_function};
use super::scene::{FEWEST_CERTAIN, SUSPECT_LEVEL, Scene};
use super::tally::Tally;
use super::tree::{self, Item, Judge, Node};
use crate::blame::Frame;
use crate::hash::NumberSet;
use crate::names::machinery::{self, Role};

/// Sites whose places in the call tree are searched: those with most old objects.
const MAX_SEARCHED: usize = 2048;

/// How many functions may be between one that a leak is named by and those that allocate.
const NEAR: usize = 4;

/// Sites that are looked at to see that.
const MAX_NAMED: usize = 16;

/// A node that leaks, as it is followed from tick to tick.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) sites: Vec<u32>,
    pub(super) main_site: u32,
    pub(super) below: Option<u64>,
    pub(super) shared: Option<Vec<u64>>,
    /// The path that all of its sites share, from the innermost function or from the outermost.
    prefix: Vec<u64>,
    is_inward: bool,
    pub(super) tally: Tally,
}

impl Found {
    /// A single site.
    pub(super) fn site(site: u32) -> Self {
        let tally = Tally::default();
        let (prefix, is_inward) = (Vec::new(), false);
        Self {
            sites: vec![site],
            main_site: site,
            below: None,
            shared: None,
            prefix,
            is_inward,
            tally,
        }
    }

    fn outward(node: Node, scene: &Scene<'_>) -> Self {
        let main_site = main_site(&node.sites, scene);
        let functions = node.prefix.iter().copied().filter(|step| is_function(*step)).collect();
        let shared = (node.sites.len() > 1).then_some(functions);
        let Node { sites, prefix, tally } = node;
        Self { main_site, sites, below: None, shared, prefix, is_inward: false, tally }
    }

    fn inward(node: Node, scene: &Scene<'_>) -> Self {
        let below = node.prefix.iter().rev().find(|step| is_function(**step)).copied();
        let main_site = main_site(&node.sites, scene);
        let Node { sites, prefix, tally } = node;
        Self { main_site, sites, below, shared: None, prefix, is_inward: true, tally }
    }
}

fn main_site(sites: &[u32], scene: &Scene<'_>) -> u32 {
    let old = |site: &u32| scene.births(*site).old(scene.uptime());
    sites.iter().copied().max_by_key(old).unwrap_or_default()
}

impl Scene<'_> {
    /// The nodes that leak by the survival of their objects.
    pub(super) fn nodes(&self) -> Vec<Found> {
        let item = |site: &u32, is_inward: bool| Item {
            site: *site,
            path: self.path(*site, is_inward),
            tally: self.tally(*site),
        };
        let searched = self.searched();
        let items: Vec<Item> = searched.iter().map(|site| item(site, false)).collect();
        let outward = Direction { scene: self, is_inward: false, others: None };
        let nodes = self.of_one_function(tree::explain(items, &outward));
        // What is left, by where it is called from.
        let explained: NumberSet<u32> = nodes.iter().flat_map(|node| node.sites.clone()).collect();
        let rest: Vec<Item> = searched
            .iter()
            .filter(|site| !explained.contains(site))
            .map(|site| item(site, true))
            .collect();
        let inward = Direction { scene: self, is_inward: true, others: None };
        let mut below = tree::explain(rest, &inward);
        // What is enough by itself may still be a part of what is not.
        let mut nodes = nodes;
        for node in &mut below {
            let is_part = |other: &mut Node| {
                other.sites.iter().all(|site| self.is_below(*site, true, &node.prefix))
            };
            for part in nodes.extract_if(.., is_part).collect::<Vec<_>>() {
                node.sites.extend(part.sites);
                node.tally.add(&part.tally);
            }
        }
        let taken: NumberSet<u32> =
            nodes.iter().chain(&below).flat_map(|node| node.sites.clone()).collect();
        let others = searched.into_iter().filter(|site| !taken.contains(site)).collect();
        let mut found: Vec<Found> = self.together(nodes, others, &explained);
        found.extend(below.into_iter().map(|node| Found::inward(node, self)));
        found
    }

    /// The sites with most old objects, of those whose births go on: where they have stopped,
    /// nothing is explained, whatever is held. That those without old objects may be left out does
    /// not flatter the nodes above them: what died there is looked at before a node is believed.
    fn searched(&self) -> Vec<u32> {
        let old = |site: u32| {
            let births = self.births(site);
            (!self.has_stopped(&births)).then_some((births.old(self.uptime()), site))
        };
        let mut sites: Vec<(u32, u32)> = self.items.iter().filter_map(|site| old(*site)).collect();
        if sites.len() > MAX_SEARCHED {
            sites.select_nth_unstable_by_key(MAX_SEARCHED, |(old, _)| std::cmp::Reverse(*old));
            sites.truncate(MAX_SEARCHED);
        }
        sites.into_iter().map(|(_, site)| site).collect()
    }

    /// Nodes of one function, with the same labels, become one: it leaks several things at a time.
    fn of_one_function(&self, nodes: Vec<Node>) -> Vec<Node> {
        let main: Vec<u32> = nodes.iter().map(|node| main_site(&node.sites, self)).collect();
        let functions = self.allocating_functions(&main);
        let mut merged: Vec<(Option<String>, u32, Node)> = Vec::new();
        for ((node, main), function) in nodes.into_iter().zip(main).zip(functions) {
            let labels = self.live.label_set(main);
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
                    together.prefix = self.path(main_site(&together.sites, self), false);
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
    ) -> Vec<Found> {
        let known = nodes.len();
        if known == 0 {
            return Vec::new();
        }
        let other = |site: u32| {
            let tally = self.tally(site);
            let speaks_for_it = tally.evidence(self.uptime()).best > 0.0;
            speaks_for_it.then(|| Node { sites: vec![site], prefix: Vec::new(), tally })
        };
        let nodes: Vec<Node> =
            nodes.into_iter().chain(others.into_iter().filter_map(other)).collect();
        let items = nodes
            .iter()
            .enumerate()
            .map(|(number, node)| {
                let mut path = self.path(node.sites[0], true);
                for site in &node.sites[1..] {
                    let other = self.path(*site, true);
                    let shared = path.iter().zip(&other).take_while(|(a, b)| a == b).count();
                    path.truncate(shared);
                }
                path.push(SITE | number as u64);
                Item { site: number as u32, path, tally: node.tally }
            })
            .collect();
        let inward = Direction { scene: self, is_inward: true, others: Some(explained) };
        tree::explain(items, &inward)
            .into_iter()
            .filter(|group| group.sites.iter().any(|number| (*number as usize) < known))
            .map(|group| match group.sites[..] {
                [number] => Found::outward(nodes[number as usize].clone(), self),
                _ => {
                    let of = |number: &u32| nodes[*number as usize].sites.clone();
                    let sites = group.sites.iter().flat_map(of).collect();
                    Found::inward(Node { sites, ..group }, self)
                }
            })
            .collect()
    }

    /// Whether more of it came after a tick, or of a few large ones, was not to be expected yet. New
    /// callers of a node have no evidence yet, but in this tick they count.
    pub(super) fn goes_on(&self, found: &Found, since: u32) -> bool {
        let births = &found.tally.births;
        let came =
            |site: &u32| self.history.cohorts.of_site(*site).any(|cohort| cohort.birth > since);
        let is_below = |site: &u32| self.is_below(*site, found.is_inward, &found.prefix);
        births.old(self.uptime()) < FEWEST_CERTAIN && births.missing(self.uptime()) < 1.0
            || found.sites.iter().any(came)
            || found.sites.len() > 1 && self.fresh.iter().any(is_below)
    }

    /// The frames of a finding's main site, and how many of them all of its sites share.
    pub(super) fn frames(&self, found: &Found) -> (Vec<u64>, usize) {
        let mut frames = Vec::new();
        self.live.frames(found.main_site, &mut frames);
        if let Some(function) = found.below {
            let at = frames.iter().position(|address| self.function(*address) == function);
            frames.drain(..at.unwrap_or(0));
            let shared = frames.len();
            return (frames, shared);
        }
        let is_shared = |address: &&u64| match &found.shared {
            Some(functions) => functions.contains(&self.function(**address)),
            None => true,
        };
        let shared = frames.iter().take_while(is_shared).count();
        (frames, shared)
    }

    /// What is called by the function that a finding is below, at some of its sites.
    pub(super) fn inner(&self, found: &Found) -> Vec<u64> {
        let Some(function) = found.below else { return Vec::new() };
        let mut frames = Vec::new();
        let others = found.sites.iter().filter(|site| **site != found.main_site);
        std::iter::once(&found.main_site)
            .chain(others)
            .take(8)
            .filter_map(|site| {
                self.live.frames(*site, &mut frames);
                let at = frames.iter().position(|address| self.function(*address) == function)?;
                frames.get(at.checked_sub(1)?).copied()
            })
            .collect()
    }

    /// The labels that all of these sites have.
    pub(super) fn labels(&self, sites: &[u32]) -> BTreeMap<String, String> {
        let sets: NumberSet<u32> = sites.iter().map(|site| self.live.label_set(*site)).collect();
        let mut sets = sets.into_iter().map(|set| self.live.labels(set));
        let mut shared = sets.next().unwrap_or_default();
        for other in sets {
            shared.retain(|key, value| other.get(key) == Some(value));
        }
        shared
    }

    /// Whether functions are such that a leak can be in them; `None` of one without a name.
    fn are_places(&self, functions: &[u64]) -> Vec<Option<bool>> {
        let named = naming::resolve(self.live, &mut **self.names.borrow_mut(), functions);
        let is_place = |frames: Vec<Frame>| {
            // The function itself is the outermost of those inlined into it.
            let frame = frames.last().filter(|frame| frame.crate_name.is_some())?;
            Some(machinery::role(&frame.function) == Role::Other)
        };
        named.into_iter().map(is_place).collect()
    }

    /// The functions that allocate at these sites: the innermost of each that is one a leak can be
    /// in, by name.
    fn allocating_functions(&self, sites: &[u32]) -> Vec<Option<String>> {
        let stacks: Vec<Vec<u64>> = sites
            .iter()
            .map(|site| {
                let mut frames = Vec::new();
                self.live.frames(*site, &mut frames);
                frames
            })
            .collect();
        let addresses: Vec<u64> = stacks.iter().flatten().copied().collect();
        let named = naming::resolve(self.live, &mut **self.names.borrow_mut(), &addresses);
        let mut named = named.into_iter();
        let function = |stack: &Vec<u64>| {
            let frames: Vec<Frame> = named.by_ref().take(stack.len()).flatten().collect();
            let roles = frames.iter().map(|frame| machinery::role(&frame.function));
            frames.get(machinery::depth(roles)).map(|frame| frame.function.clone())
        };
        stacks.iter().map(function).collect()
    }
}

/// One of the two ways to look at stacks.
struct Direction<'s, 'a> {
    scene: &'s Scene<'a>,
    is_inward: bool,
    /// Sites that leak, when all others count as clean.
    others: Option<&'s NumberSet<u32>>,
}

impl Judge for Direction<'_, '_> {
    fn leaks(&self, tally: &Tally) -> bool {
        self.others.is_some() || self.scene.exceeds(tally, SUSPECT_LEVEL)
    }

    fn clean_deaths(&self, prefix: &[u64]) -> f64 {
        let scene = self.scene;
        // What is alive may leak yet.
        let dead = |site: usize| scene.history.born[site].saturating_sub(scene.alive[site]);
        (0..scene.bytes.len())
            .filter(|site| dead(*site) > 0)
            .filter(|site| !self.others.is_some_and(|leaking| leaking.contains(&(*site as u32))))
            .filter(|site| scene.is_below(*site as u32, self.is_inward, prefix))
            // One that leaks too, but of which there is too little to tell, is not clean.
            .filter(|site| {
                let tally = scene.tally(*site as u32);
                tally.evidence(scene.uptime()).best <= 0.0 || scene.has_stopped(&tally.births)
            })
            .map(|site| f64::from(dead(site)))
            .sum()
    }

    fn fewest(&self) -> usize {
        // Two functions called by one that has nothing else to do may still be two leaks.
        if self.is_inward { 3 } else { 2 }
    }

    fn all(&self, items: &[Item]) -> usize {
        if self.others.is_some() { usize::MAX } else { items.len() }
    }

    fn is_place(&self, prefix: &[u64], items: &[Item], is_root: bool) -> bool {
        let functions_of = |path: &[u64]| -> Vec<u64> {
            path.iter().copied().filter(|step| is_function(*step)).collect()
        };
        let functions = functions_of(prefix);
        let Some(function) = functions.last() else { return false };
        if !self.is_inward {
            // Named by the innermost of them that is one.
            let are_places = self.scene.are_places(&functions);
            return are_places.into_iter().any(|is_place| is_place.unwrap_or(!is_root));
        }
        // From far outside one sees too much: what runs all requests, not what one of them does.
        let inside = |item: &Item| functions_of(&item.path[prefix.len()..]);
        let inside: Vec<Vec<u64>> = items.iter().take(MAX_NAMED).map(inside).collect();
        let mut all = inside.concat();
        all.push(*function);
        let are_places = self.scene.are_places(&all);
        let mut rest = are_places.as_slice();
        let is_near = |functions: &Vec<u64>| {
            let these;
            (these, rest) = rest.split_at(functions.len());
            these.iter().filter(|is_place| is_place.unwrap_or(true)).count() <= NEAR
        };
        are_places[all.len() - 1].unwrap_or(!is_root) && inside.iter().all(is_near)
    }

    fn mass(&self, tally: &Tally) -> f64 {
        tally.births.old(self.scene.uptime()).into()
    }
}
