//! The deepest nodes of a call tree that explain a leak.
//!
//! A leak may show at one call site, be spread over the callers of a common function, or be spread
//! over many sites below one function. So the sites are arranged in a call tree by their paths:
//! first bottom-up, with the allocating functions at the root, and then top-down for the sites that
//! this leaves unexplained. In either tree the search looks for the deepest node that explains what
//! leaks. Evidence adds up towards the root. A node replaces its children if each of them alone has
//! too little evidence, or if all of them leak alike.

use super::path::PathStep;
use super::tally::Tally;

/// A leaf of the tree: a call site, or a group of sites, with its evidence.
#[derive(Clone, Debug)]
pub(super) struct TreeLeaf {
    /// The number of the site or group.
    pub(super) site: u32,
    /// The steps from the root of the tree to the leaf. No two leaves have the same path.
    pub(super) path: Vec<PathStep>,
    pub(super) tally: Tally,
}

/// A node of the tree that leaks.
#[derive(Clone, Debug)]
pub(super) struct TreeNode {
    /// The leaves below it.
    pub(super) sites: Vec<u32>,
    /// The path from the root that exactly these leaves share.
    pub(super) prefix: Vec<PathStep>,
    pub(super) tally: Tally,
}

/// What the search has to know about the program.
pub(super) trait LeakCriteria {
    /// Whether this evidence suffices for a leak.
    fn is_leak(&self, tally: &Tally) -> bool;
    /// Number of deaths seen at sites below this prefix that do not leak.
    fn healthy_deaths(&self, prefix: &[PathStep]) -> f64;
    /// Number of leaves that the whole program has, when these are searched.
    fn total_leaves(&self, leaves: &[TreeLeaf]) -> usize;
    /// Whether the leak at these leaves can be named after the function at the end of the prefix.
    /// The allocator says nothing about a leak, and neither does a function that runs everything.
    /// `is_root` says that all leaves of the program have this prefix.
    fn is_nameable(&self, prefix: &[PathStep], leaves: &[TreeLeaf], is_root: bool) -> bool;
    /// The least number of nodes or sites that are taken for one leak if they leak alike.
    fn min_parts(&self) -> usize;
    /// Number of old objects in a tally. These are what a node has to explain.
    fn old_objects(&self, tally: &Tally) -> f64;
}

/// A node leaks as a whole if less than this share of the objects born below it died at sites that
/// do not leak.
const MAX_HEALTHY_SHARE: f64 = 0.3;

/// A single node within another explains it if it has this share of its old objects.
const EXPLAINING_SHARE: f64 = 0.8;

/// The nodes that explain what leaks among the leaves. The cost is a sort, and then linear in the
/// total length of the paths.
pub(super) fn explain(mut leaves: Vec<TreeLeaf>, criteria: &impl LeakCriteria) -> Vec<TreeNode> {
    leaves.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let total = criteria.total_leaves(&leaves);
    if leaves.is_empty() { Vec::new() } else { explain_subtree(&leaves, total, 0, criteria).1 }
}

/// The sum of the evidence on leaves that share a prefix of this length, and the nodes among them
/// that leak.
fn explain_subtree(
    leaves: &[TreeLeaf],
    total: usize,
    length: usize,
    criteria: &impl LeakCriteria,
) -> (Tally, Vec<TreeNode>) {
    let mut length = length;
    // Of a chain of nodes without branches the deepest one is meant.
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
        let (sum, nodes) = explain_subtree(group, total, length + 1, criteria);
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
    if !criteria.is_nameable(prefix, leaves, leaves.len() >= total) {
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

    /// Ten births are a leak, and functions with odd numbers can be named.
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

    /// The prefixes and the sites of the nodes that explain sites with these paths and births.
    /// Sites are numbered from 0.
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
    fn sites_with_too_little_evidence_alone_are_explained_by_the_deepest_function_they_share() {
        let found = explained(&[(&[1, 3, 5], 5), (&[1, 3, 7], 5), (&[1, 3, 9], 5)], 0.0);
        assert_eq!(found, [(vec![1, 3], vec![0, 1, 2])]);
    }

    #[test]
    fn sites_that_leak_alike_are_one_leak_if_there_are_enough_of_them() {
        let all: [(&[u64], u16); 3] = [(&[1, 5], 20), (&[1, 7], 20), (&[1, 9], 20)];
        assert_eq!(explained(&all, 0.0), [(vec![1], vec![0, 1, 2])]);
        assert_eq!(explained(&all[..2], 0.0), [(vec![1, 5], vec![0]), (vec![1, 7], vec![1])]);
    }

    #[test]
    fn one_site_with_nearly_all_old_objects_explains_the_leak() {
        let found = explained(&[(&[1, 5], 90), (&[1, 7], 4), (&[1, 9], 4)], 0.0);
        assert_eq!(found, [(vec![1, 5], vec![0])]);
    }

    #[test]
    fn a_function_below_which_many_objects_die_explains_nothing() {
        let all: [(&[u64], u16); 3] = [(&[1, 5], 20), (&[1, 7], 20), (&[1, 9], 20)];
        assert_eq!(explained(&all, 20.0).len(), 1);
        assert_eq!(explained(&all, 30.0).len(), 3);
    }

    #[test]
    fn a_function_that_cannot_be_named_explains_nothing() {
        let all: [(&[u64], u16); 3] = [(&[2, 5], 20), (&[2, 7], 20), (&[2, 9], 20)];
        assert_eq!(explained(&all, 0.0).len(), 3);
    }

    #[test]
    fn without_a_leak_there_are_no_nodes() {
        assert_eq!(explained(&[], 0.0), []);
        assert_eq!(explained(&[(&[1, 3], 0), (&[1, 5], 9)], 0.0), []);
    }
}
