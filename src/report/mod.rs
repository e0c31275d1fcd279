//! The leak report: plain data that is shown, stored in dumps and sent.

pub(crate) mod baseline;
mod candidate;
mod frame;
mod json;
mod leak_report;
mod text;
mod verdict;

pub use candidate::{AgeGroup, BaselineStatus, Evidence, EvidenceKind, LeakCandidate};
pub use frame::{Blame, Frame, Kind};
pub use leak_report::{LeakReport, MAX_CANDIDATES};
pub use verdict::Verdict;
