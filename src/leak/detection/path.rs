//! How the tree sees a stack: as a path of functions, then its labels, then the site itself.

use super::scene::Scene;

/// Addresses whose function is remembered.
const MAX_FUNCTIONS: usize = 1 << 16;

/// Marks in paths what is no function: a set of labels, a site.
const LABELS: u64 = 1 << 63;
pub(super) const SITE: u64 = 1 << 62;

/// Whether a step of a path is a function.
pub(super) fn is_function(step: u64) -> bool {
    step & (LABELS | SITE) == 0
}

impl Scene<'_> {
    pub(super) fn function(&self, address: u64) -> u64 {
        let mut known = self.functions.borrow_mut();
        if known.len() >= MAX_FUNCTIONS {
            known.clear();
        }
        *known.entry(address).or_insert_with(|| self.live.function(address))
    }

    /// The functions of a site, each once, from the innermost outward or from the outermost inward;
    /// then labels and site. Each is shown to `go_on` as it comes, which may end it.
    fn walk(&self, site: u32, is_inward: bool, mut go_on: impl FnMut(u64) -> bool) {
        let mut frames = Vec::new();
        self.live.frames(site, &mut frames);
        if is_inward {
            frames.reverse();
        }
        let mut seen: Vec<u64> = Vec::with_capacity(frames.len());
        for address in frames {
            let function = self.function(address);
            if !seen.contains(&function) {
                seen.push(function);
                if !go_on(function) {
                    return;
                }
            }
        }
        let _ =
            go_on(LABELS | u64::from(self.live.label_set(site))) && go_on(SITE | u64::from(site));
    }

    pub(super) fn path(&self, site: u32, is_inward: bool) -> Vec<u64> {
        let mut path = Vec::new();
        self.walk(site, is_inward, |step| {
            path.push(step);
            true
        });
        path
    }

    pub(super) fn is_below(&self, site: u32, is_inward: bool, prefix: &[u64]) -> bool {
        let mut left = prefix;
        self.walk(site, is_inward, |step| match left.split_first() {
            Some((first, rest)) if *first == step => {
                left = rest;
                !left.is_empty()
            }
            _ => false,
        });
        left.is_empty()
    }
}
