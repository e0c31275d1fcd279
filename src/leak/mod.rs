//! Leak candidates with verdicts, from the diffs of live sets.
//!
//! ```text
//!   live set ── diff ──► births and deaths by cohort ──► evidence on each call site
//!                                                         │  survival: do old objects still die?
//!                                                         │  births: do new ones keep coming?
//!                                                         ▼  container: does it only grow?
//!   report ◄── names, blame ◄── tracks ◄── the node of the call tree that explains it
//! ```
//! Everything up to the tracks is a pure function of a series of live sets. So the same code runs
//! in the service and offline, over dumps. Verdicts depend on ticks and on the identity of samples,
//! never on the clock; only rates per hour use it.
//!
//! # What is called a leak
//! Growth alone is not a leak. A call site, or a node of the call tree, is *suspected* when
//! 1. its old objects do not die: an e-value over the ages at which objects died or survived
//!    exceeds a threshold that is corrected for the number of sites;
//! 2. more of them keep coming: the births of the live objects are spread over the whole time since
//!    the first, and do not dry up like those of anything that warms up or fills up.
//!
//! It is *confirmed* when the stricter threshold is exceeded at three ticks, each of which brought
//! more objects, while hardly any old object died. Ticks count from the 22nd of the session on, and
//! from the 22nd after one in which most of what the site held was freed at once. A verdict is
//! *retracted* automatically when the objects die after all or no more of them accumulate. A
//! bounded cache that is still filling cannot be distinguished from a leak before its first
//! eviction; the evictions then retract the verdict.
//!
//! A few large blocks that only grow, by `realloc` or by moving, are a container, which has a rule
//! of its own.
//!
//! # Limits
//! - Objects whose usual lifetime is longer than the process has run look like leaked ones.
//! - A leak of fewer than about thirty samples is not confirmed, unless it holds a large part of
//!   all live memory.
//! - A leak whose objects share a call site with others that live long, but not forever, is found
//!   late: only when its objects have outlived the others.

// The detector comes with recording and with reading. A report is plain data and always there.
#[cfg(feature = "analysis")]
pub(crate) mod detection;

pub use crate::report::{
    AgeGroup, BaselineStatus, Blame, Evidence, EvidenceKind, Frame, Kind, LeakCandidate,
    LeakReport, MAX_CANDIDATES, Verdict,
};
// Hidden, because only the tools of the same version use it: `Names` needs `blame` and `names`, which
// are not part of the public API.
#[cfg(feature = "analysis")]
#[doc(hidden)]
pub use detection::Names;
#[cfg(feature = "read")]
#[doc(hidden)]
pub use detection::Replay;
