//! Leak candidates with verdicts, from the diffs of live sets.
//!
//! ```text
//!   live set ── diff ──► births and deaths by cohort ──► evidence of each call site
//!                                                         │  survival: do old objects still die?
//!                                                         │  births: do new ones keep coming?
//!                                                         ▼  container: does it only grow?
//!   report ◄── names, blame ◄── tracks ◄── the node of the call tree that explains it
//! ```
//! Everything up to the tracks is a pure function of a series of live sets: the same in the service
//! and offline, from dumps. Ticks and the identity of samples decide, never the clock; only rates
//! per hour use it.
//!
//! # What is called a leak
//! Growth alone is not. A call site, or a node of the call tree, is *suspected* when
//! 1. its old objects do not die: an e-value over the ages at which objects died or survived exceeds a
//!    bound that is corrected for the number of sites;
//! 2. more of them keep coming: births of the objects that are alive are spread over the whole time
//!    since the first, and do not dry up, as those of anything that warms up or fills would.
//!
//! It is *confirmed* when the stricter bound is exceeded at three ticks, each of which brought more of
//! it, while hardly an old object went; and not within 22 ticks of the start, or of a tick in which
//! most of what the site held went at once. It is *retracted* by itself when its objects die after all
//! or no more are kept. A bounded cache that is still filling cannot be told from a leak before its
//! first eviction; the evictions then retract it.
//!
//! A few large blocks that only grow, by `realloc` or by moving, are a container, and have a rule of
//! their own.
//!
//! # Limits
//! - Objects whose usual lifetime is longer than the process has run look like leaked ones.
//! - A leak of fewer than about thirty samples is not confirmed, unless it holds a large part of all
//!   live memory.
//! - A leak whose objects share a call site with others that live long, but not for ever, is found
//!   late: only once it has outlived them.

mod births;
mod container;
mod detector;
mod finding;
mod history;
mod naming;
mod nodes;
mod observation;
mod path;
mod replay;
mod report;
mod search;
mod survival;
mod tally;
mod text;
mod track;
mod tree;
mod verdict;
mod view;

pub(crate) use detector::Detector;
pub use finding::MAX_CANDIDATES;
pub use naming::Names;
pub(crate) use observation::{Observation, SnapshotObservation};
pub use replay::Replay;
pub use report::{AgeGroup, Evidence, EvidenceKind, LeakCandidate, LeakReport, Standing};
pub use verdict::Verdict;
