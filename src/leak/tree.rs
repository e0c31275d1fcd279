//! Which node of the call tree explains a leak.
//!
//! A leak may show at one call site, be spread over the callers of a common function, or over many
//! sites below one. So sites are grouped by their stacks, seen from the innermost function outward
//! and then, what that leaves unexplained, from the outermost inward. In either tree the deepest node
//! is wanted that explains what leaks: evidence adds up towards the root, and a node takes the place of
//! its children where each of them alone has too little of it, or where all of them leak alike.

use super::path::PathStep;
use super::tally::Tally;

/// A call site with evidence.
#[derive(Clone, Debug)]
pub(super) struct TreeLeaf {
    pub(super) site: u32,
    /// The functions from the root of the tree to the site, each once (so that recursion of any
    /// depth is one path), then what tells the site from others with the same functions.
    pub(super) path: Vec<PathStep>,
    pub(super) tally: Tally,
}

/// A node that leaks.
#[derive(Clone, Debug)]
pub(super) struct TreeNode {
    pub(super) sites: Vec<u32>,
    /// The path from the root that all of them share, and nobody else has.
    pub(super) prefix: Vec<PathStep>,
    pub(super) tally: Tally,
}

/// What the search asks.
pub(super) trait LeakCriteria {
    /// Whether this much evidence is a leak.
    fn is_leak(&self, tally: &Tally) -> bool;
    /// Deaths seen at sites below this prefix that do not leak.
    fn healthy_deaths(&self, prefix: &[PathStep]) -> f64;
    /// How many items there are in the program.
    fn total_leaves(&self, leaves: &[TreeLeaf]) -> usize;
    /// Whether the end of a prefix is a place that what leaks at these items can be named by: not the
    /// allocator, nor what runs everything.
    /// `is_root`: everything has this prefix.
    fn is_nameable(&self, prefix: &[PathStep], leaves: &[TreeLeaf], is_root: bool) -> bool;
    /// How many nodes or sites must leak alike to be taken for one leak.
    fn min_parts(&self) -> usize;
    /// Old objects of a tally: what is to be explained.
    fn old_objects(&self, tally: &Tally) -> f64;
}

/// A node in which fewer than this share of all births came and went at sites that do not leak, leaks as
/// a whole.
const MAX_HEALTHY_SHARE: f64 = 0.3;

/// A share of what is to be explained that explains it.
const EXPLAINING_SHARE: f64 = 0.8;

/// The nodes that explain what leaks among the items. Linear in the lengths of all paths, after a
/// sort.
pub(super) fn explain(mut leaves: Vec<TreeLeaf>, criteria: &impl LeakCriteria) -> Vec<TreeNode> {
    leaves.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let all = criteria.total_leaves(&leaves);
    if leaves.is_empty() { Vec::new() } else { explain_subtree(&leaves, all, 0, criteria).1 }
}

/// All evidence of items that share a prefix of this length, and the nodes among them that leak.
fn explain_subtree(
    leaves: &[TreeLeaf],
    all: usize,
    length: usize,
    criteria: &impl LeakCriteria,
) -> (Tally, Vec<TreeNode>) {
    let mut length = length;
    // Where nothing branches the deepest node is meant.
    let (first, last) = (&leaves[0].path, &leaves[leaves.len() - 1].path);
    while first.get(length).is_some() && first.get(length) == last.get(length) {
        length += 1;
    }
    let prefix = &first[..length];
    let node = |tally: Tally| TreeNode {
        sites: leaves.iter().map(|leaf| leaf.site).collect(),
        prefix: prefix.to_vec(),
        tally,
    };
    if let [leaf] = leaves {
        let found = if criteria.is_leak(&leaf.tally) { vec![node(leaf.tally)] } else { Vec::new() };
        return (leaf.tally, found);
    }
    let mut tally = Tally::default();
    let mut found = Vec::new();
    for group in leaves.chunk_by(|a, b| a.path.get(length) == b.path.get(length)) {
        let (sum, nodes) = explain_subtree(group, all, length + 1, criteria);
        tally.merge(&sum);
        found.extend(nodes);
    }
    if length == 0 || !criteria.is_leak(&tally) {
        return (tally, found);
    }
    let explained: f64 = found.iter().map(|node| criteria.old_objects(&node.tally)).sum();
    let is_explained =
        found.len() == 1 && explained >= EXPLAINING_SHARE * criteria.old_objects(&tally);
    let parts = if found.is_empty() { leaves.len() } else { found.len() };
    let are_enough = parts >= criteria.min_parts();
    if is_explained || !are_enough {
        return (tally, found);
    }
    if !criteria.is_nameable(prefix, leaves, leaves.len() >= all) {
        return (tally, found);
    }
    let healthy = criteria.healthy_deaths(prefix);
    if healthy < MAX_HEALTHY_SHARE * (healthy + f64::from(tally.born)) {
        found = vec![node(tally)];
    }
    (tally, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten births are a leak. Odd functions are the program's.
    struct Threshold {
        deaths: f64,
    }

    impl LeakCriteria for Threshold {
        fn is_leak(&self, tally: &Tally) -> bool {
            tally.born >= 10.0
        }

        fn healthy_deaths(&self, _prefix: &[PathStep]) -> f64 {
            self.deaths
        }

        fn total_leaves(&self, leaves: &[TreeLeaf]) -> usize {
            leaves.len() + 1
        }

        fn is_nameable(&self, prefix: &[PathStep], _items: &[TreeLeaf], is_root: bool) -> bool {
            let function = prefix.last().and_then(|step| step.function());
            !is_root && function.is_some_and(|function| function % 2 == 1)
        }

        fn min_parts(&self) -> usize {
            3
        }

        fn old_objects(&self, tally: &Tally) -> f64 {
            tally.born.into()
        }
    }

    /// The prefixes and the sites of what explains sites with these paths and births; a site's number is
    /// its place.
    fn explained(sites: &[(&[u64], u16)], deaths: f64) -> Vec<(Vec<u64>, Vec<u32>)> {
        let leaf = |(site, (path, born)): (usize, &(&[u64], u16))| TreeLeaf {
            site: site as u32,
            path: path.iter().copied().map(PathStep::of_function).collect(),
            tally: Tally { born: (*born).into(), ..Tally::default() },
        };
        let leaves = sites.iter().enumerate().map(leaf).collect();
        let nodes = explain(leaves, &Threshold { deaths });
        let sorted = |mut node: TreeNode| {
            node.sites.sort_unstable();
            let functions = node.prefix.into_iter().filter_map(PathStep::function).collect();
            (functions, node.sites)
        };
        nodes.into_iter().map(sorted).collect()
    }

    #[test]
    fn a_site_that_leaks_alone_is_its_own_explanation() {
        let found = explained(&[(&[1, 3, 5], 20), (&[1, 3, 7], 0), (&[9], 0)], 0.0);
        assert_eq!(found, [(vec![1, 3, 5], vec![0])]);
    }

    #[test]
    fn what_is_too_little_in_each_site_is_explained_by_the_deepest_function_they_share() {
        let found = explained(&[(&[1, 3, 5], 5), (&[1, 3, 7], 5), (&[1, 3, 9], 5)], 0.0);
        assert_eq!(found, [(vec![1, 3], vec![0, 1, 2])]);
    }

    #[test]
    fn what_leaks_in_enough_sites_alike_is_one_leak_and_in_fewer_several() {
        let all: [(&[u64], u16); 3] = [(&[1, 5], 20), (&[1, 7], 20), (&[1, 9], 20)];
        assert_eq!(explained(&all, 0.0), [(vec![1], vec![0, 1, 2])]);
        assert_eq!(explained(&all[..2], 0.0), [(vec![1, 5], vec![0]), (vec![1, 7], vec![1])]);
    }

    #[test]
    fn one_site_with_nearly_all_of_it_explains_it() {
        let found = explained(&[(&[1, 5], 90), (&[1, 7], 4), (&[1, 9], 4)], 0.0);
        assert_eq!(found, [(vec![1, 5], vec![0])]);
    }

    #[test]
    fn a_function_below_which_much_comes_and_goes_explains_nothing() {
        let all: [(&[u64], u16); 3] = [(&[1, 5], 20), (&[1, 7], 20), (&[1, 9], 20)];
        assert_eq!(explained(&all, 20.0).len(), 1);
        assert_eq!(explained(&all, 30.0).len(), 3);
    }

    #[test]
    fn what_is_no_place_explains_nothing() {
        let all: [(&[u64], u16); 3] = [(&[2, 5], 20), (&[2, 7], 20), (&[2, 9], 20)];
        assert_eq!(explained(&all, 0.0).len(), 3);
    }

    #[test]
    fn nothing_explains_nothing() {
        assert_eq!(explained(&[], 0.0), []);
        assert_eq!(explained(&[(&[1, 3], 0), (&[1, 5], 9)], 0.0), []);
    }
}
