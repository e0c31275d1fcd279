//! Leak candidates with verdicts, derived from the diffs of live sets.
//!
//! ```text
//!   live set ── diff ──► births and deaths by cohort ──► evidence on each call site
//!                                                         │  survival: do old objects still die?
//!                                                         │  births: do new ones keep coming?
//!                                                         ▼  container: does it only grow?
//!   report ◄── names, blame ◄── tracks ◄── the node of the call tree that explains it
//! ```
//! Everything up to the tracks is a pure function of a series of live sets, so the same code runs
//! in the service and, offline, over dumps. Verdicts depend on ticks and on the identity of
//! samples, never on the clock, which only the rates per hour use.
//!
//! # What is called a leak
//! Growth alone is not a leak. A call site, or a node of the call tree, is *suspected* when
//! 1. its old objects do not die: an e-value over the ages at which objects died or survived
//!    exceeds a threshold that is corrected for the number of sites; and
//! 2. more of them keep coming: the births of the live objects are spread over the whole time since
//!    the first birth, and do not dry up as they do when something warms up or fills up.
//!
//! It is *confirmed* when the stricter threshold is exceeded at three ticks, each of which brought
//! more objects, while hardly any old object died. The first tick that counts is the 22nd after the
//! start, or the 22nd after a tick in which most of what the site held was freed at once; three of
//! them confirm. So a leak of many objects is confirmed at tick 24 at the earliest. A verdict is
//! *retracted* automatically when the objects die after all or no more of them accumulate. A
//! bounded cache that is still filling cannot be distinguished from a leak before its first
//! eviction; the evictions then retract the verdict.
//!
//! A few large blocks that only grow, by `realloc` or by moving to larger blocks, are a container.
//! A rule of its own confirms it, at tick 22 at the earliest.
//!
//! # Limits
//! - Objects whose usual lifetime exceeds the time that the process has run look like leaked ones.
//! - A leak of fewer than about thirty samples is not confirmed, unless it holds a large part of
//!   all live memory.
//! - A leak whose objects share a call site with others that live long, but not forever, is found
//!   late: only when its objects have outlived the others.

// The detector also works on dumps, so `read` includes it. A report is plain data, which exists
// without any feature.
#[cfg(feature = "read")]
pub(crate) mod detection;

pub use crate::report::{
    AgeGroup, BaselineStatus, Blame, Evidence, EvidenceKind, Frame, Kind, LeakCandidate,
    LeakReport, MAX_CANDIDATES, Verdict,
};
// These are hidden because only the tools of the same version use them: `Names` refers to `blame`
// and `names`, which semantic versioning does not cover.
#[cfg(feature = "read")]
#[doc(hidden)]
pub use detection::{Names, Replay};
