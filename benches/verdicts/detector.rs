//! What is judged: anything that names leaks at ticks.

use std::collections::BTreeMap;

use heapdrift::Profiler;

/// What a detector says about a place in the program at a tick.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) verdict: Verdict,
    /// The function that the place is called by.
    pub(crate) function: String,
    /// The functions of its stack, leaf first.
    pub(crate) stack: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    #[allow(dead_code)]
    Suspect,
    Confirmed,
    #[allow(dead_code)]
    Retracted,
}

/// One tick of heapdrift's own detector. There is none yet, and it claims nothing.
pub(crate) fn tick(_profiler: &Profiler) -> Vec<Claim> {
    Vec::new()
}
